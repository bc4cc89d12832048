//! A pipe from its description to its outcome.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use datapipe::prelude::*;
use datapipe::stage::InspectionLog;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::cancel_slots::{CANCEL_CHECKS, CancelToken};
use crate::failure::Failure;
use crate::handle_bits::HandleKind;
use crate::handle_table::HandleTable;
use crate::log_sink::log;
use crate::status::{DP_ERR_STATE, DP_LOG_INFO};

use super::foreign::{ForeignStage, StageFunctions};
use super::placement::Placement;

/// The pipes of this process.
pub(crate) static PIPES: HandleTable<PipeEntry> = HandleTable::new(HandleKind::Pipe, "the pipe");

/// Receives the events of a pipe.
pub(crate) type EventSink = Box<dyn Fn(&Event) + Send + Sync>;

/// Pause before another attempt to take the outcome of a pipe that another thread uses.
const FINISH_PAUSE: Duration = Duration::from_millis(1);

/// Settings of a pipe.
#[derive(Default)]
pub(crate) struct PipeSettings {
    pub(crate) label: Option<String>,
    pub(crate) buffers: Option<u32>,
    pub(crate) buffer_size: Option<u32>,
    pub(crate) token: Option<CancelToken>,
}

/// A stage that was added.
pub(crate) enum PipeStage {
    Head(ForeignStage),
    ReadDescriptor(OwnedFd),
    Transform(ForeignStage),
    InPlace(ForeignStage),
    Inspect(ForeignStage),
    UnboundHead(UnboundStage),
    UnboundTail(UnboundStage),
    /// Makes up to that many blocks from one.
    FlatMap(ForeignStage, u32),
    Analyze(ForeignStage),
    Zstd(i32, u32),
    Deflate(u32, u32),
    Decompress(u32),
    Tail(ForeignStage),
    WriteDescriptor(OwnedFd),
}

/// A stage that was added, with its place.
pub(crate) struct PlacedStage {
    pub(crate) stage: PipeStage,
    pub(crate) placement: Placement,
}

/// A head or tail whose place another process takes.
#[derive(Clone, Debug)]
pub(crate) struct UnboundStage {
    pub(crate) name: String,
    /// Time in which a process must attach.
    pub(crate) patience: Duration,
}

/// Result of a pipe that has ended well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) problems: u64,
    pub(crate) marked: u64,
    pub(crate) rejected: u64,
    pub(crate) elapsed: Duration,
}

/// A pipe of the program.
pub(crate) struct PipeEntry {
    settings: PipeSettings,
    /// Receiver of events, until the pipe is started.
    event: Mutex<Option<EventSink>>,
    inspections: InspectionLog,
    /// Stages until the pipe is started.
    described: Mutex<Option<Vec<PlacedStage>>>,
    state: RwLock<State>,
    /// Locked while a thread starts the pipe.
    starting: Mutex<()>,
    /// Stops the pipe, without a lock that a wait holds.
    canceller: Mutex<Option<Canceller>>,
}

enum State {
    NotStarted,
    Running(Arc<Pipe>),
    Ended(Result<Outcome, Failure>, Box<Status>),
    /// The pipe could not be started.
    Refused(Failure),
}

impl PipeEntry {
    /// A pipe without stages. `event` receives its events.
    pub(crate) fn new(settings: PipeSettings, event: Option<EventSink>) -> Self {
        Self {
            event: Mutex::new(event),
            settings,
            inspections: InspectionLog::new(),
            described: Mutex::new(Some(Vec::new())),
            state: RwLock::new(State::NotStarted),
            starting: Mutex::new(()),
            canceller: Mutex::new(None),
        }
    }

    /// Adds a stage: the head first, the tail last.
    pub(crate) fn add(&self, stage: PlacedStage) -> Result<(), Failure> {
        let mut described = self.described.lock();
        let Some(stages) = described.as_mut() else {
            return Err(Failure::new(
                DP_ERR_STATE,
                "the pipe was started, and gets no more stages",
            ));
        };
        let is_head = stage.stage.is_head();
        let ends = is_complete(stages);
        match (stages.is_empty(), is_head, ends) {
            (true, true, _) | (false, false, false) => {
                stages.push(stage);
                Ok(())
            }
            (true, false, _) => Err(Failure::new(
                DP_ERR_STATE,
                "the first stage of a pipe is a head: add one that fills blocks first",
            )),
            (_, _, true) => Err(Failure::new(
                DP_ERR_STATE,
                "the pipe has a tail, its last stage",
            )),
            (_, true, _) => Err(Failure::new(DP_ERR_STATE, "the pipe has a head already")),
        }
    }

    /// Starts the pipe.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let (stages, _starting) = self.take_stages()?;
        let event = self.event.lock().take();
        // No lock is held but `starting`, for which `stop` alone waits: a function that makes the
        // state of an instance may call the library.
        let started = self.build(stages, event).and_then(|builder| {
            *self.canceller.lock() = Some(builder.canceller());
            Ok(builder.start()?)
        });
        match started {
            Ok(pipe) => {
                *self.state.write() = State::Running(Arc::new(pipe));
                Ok(())
            }
            Err(failure) => {
                *self.state.write() = State::Refused(failure.clone());
                Err(failure)
            }
        }
    }

    /// Takes the stages of a pipe that is complete and was not started, and locks its start: before
    /// another thread finds that it has no stages any more, so that `stop` sees the start.
    fn take_stages(&self) -> Result<(Vec<PlacedStage>, MutexGuard<'_, ()>), Failure> {
        let mut described = self.described.lock();
        match described.as_ref() {
            None => Err(Failure::new(
                DP_ERR_STATE,
                "the pipe was started before, or is freed",
            )),
            Some(stages) if !is_complete(stages) => Err(Failure::new(
                DP_ERR_STATE,
                "the pipe has no tail: add a stage that writes blocks last",
            )),
            Some(_) => {
                let stages = described.take().unwrap_or_default();
                Ok((stages, self.starting.lock()))
            }
        }
    }

    fn build(
        &self,
        stages: Vec<PlacedStage>,
        event: Option<EventSink>,
    ) -> Result<PipeBuilder<'static>, Failure> {
        let settings = &self.settings;
        let mut pipe: PipeBuilder<'static> = Pipe::builder();
        if let Some(label) = &settings.label {
            pipe = pipe.label(label.clone());
        }
        if let Some(buffers) = settings.buffers {
            pipe = pipe.buffers(buffers);
        }
        if let Some(size) = settings.buffer_size {
            pipe = pipe.buffer_size(size);
        }
        pipe = pipe.on_event(move |happened| {
            log(DP_LOG_INFO, &happened.to_string());
            if let Some(event) = &event {
                event(happened);
            }
        });
        for PlacedStage { stage, placement } in stages {
            let middle = match stage {
                PipeStage::Head(stage) => {
                    pipe = pipe.head(placement.place(stage.head()));
                    continue;
                }
                PipeStage::ReadDescriptor(from) => {
                    pipe = pipe.head(placement.place(StreamHead::file(from).into()));
                    continue;
                }
                PipeStage::UnboundHead(UnboundStage { name, patience }) => {
                    pipe = pipe.head(Stage::unbound_head(name, patience));
                    continue;
                }
                PipeStage::UnboundTail(UnboundStage { name, patience }) => {
                    pipe = pipe.tail(Stage::unbound_tail(name, patience));
                    continue;
                }
                PipeStage::Tail(stage) => {
                    pipe = pipe.tail(placement.place(stage.tail()));
                    continue;
                }
                PipeStage::WriteDescriptor(to) => {
                    pipe = pipe.tail(placement.place(StreamTail::file(to).into()));
                    continue;
                }
                PipeStage::Transform(stage) => stage.transform(),
                PipeStage::InPlace(stage) => stage.in_place(),
                PipeStage::Inspect(stage) => stage.inspect(&self.inspections),
                PipeStage::FlatMap(stage, most) => stage.flat_map(most),
                PipeStage::Analyze(stage) => stage.analyze(),
                PipeStage::Zstd(level, instances) => zstd(level).instances(instances),
                PipeStage::Deflate(level, instances) => deflate(level).instances(instances),
                PipeStage::Decompress(instances) => decompress().instances(instances),
            };
            pipe = pipe.stage(placement.place_middle(middle));
        }
        Ok(pipe)
    }

    /// Stops the pipe. One that was not started cannot be.
    pub(crate) fn cancel(&self) -> Result<(), Failure> {
        match &*self.canceller.lock() {
            Some(canceller) => {
                canceller.cancel();
                Ok(())
            }
            None => Err(not_started()),
        }
    }

    /// Waits for the end of the pipe. Returns nothing if the time is over before.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<Option<Outcome>, Failure> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let pipe = match &*self.state.read() {
                State::NotStarted => return Err(not_started()),
                State::Ended(outcome, _) => return outcome.clone().map(Some),
                State::Refused(failure) => return Err(failure.clone()),
                State::Running(pipe) => Arc::clone(pipe),
            };
            if self.settings.token.is_some_and(CancelToken::is_cancelled) {
                pipe.cancel();
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let pause = left.map_or(CANCEL_CHECKS, |left| left.min(CANCEL_CHECKS));
            let runs = pipe.status_every(pause).is_some();
            drop(pipe);
            match (runs, left) {
                (false, _) => {
                    if !self.finish() {
                        // A thread that admits a process is about to return.
                        thread::sleep(FINISH_PAUSE);
                    }
                }
                (true, Some(left)) if left.is_zero() => return Ok(None),
                (true, _) => {}
            }
        }
    }

    /// Takes the outcome of a pipe that has ended. Returns false if another thread uses the pipe.
    fn finish(&self) -> bool {
        let mut state = self.state.write();
        let pipe = match std::mem::replace(&mut *state, State::NotStarted) {
            State::Running(pipe) => pipe,
            // Another thread was first.
            other => {
                *state = other;
                return true;
            }
        };
        let last = Box::new(pipe.status());
        match Arc::try_unwrap(pipe) {
            Ok(pipe) => *state = State::Ended(self.outcome_of(pipe), last),
            // Another thread looks at it for a moment, and then comes here.
            Err(pipe) => {
                *state = State::Running(pipe);
                return false;
            }
        }
        true
    }

    fn outcome_of(&self, pipe: Pipe) -> Result<Outcome, Failure> {
        let report = pipe.wait()?;
        let found = self.inspections.snapshot();
        Ok(Outcome {
            bytes_in: report.bytes_in(),
            bytes_out: report.bytes_out(),
            problems: report.problems,
            marked: found.marked_count,
            rejected: found.rejected_count,
            elapsed: report.status.elapsed,
        })
    }

    /// The pipe, if it runs. Drop it soon: a wait for the pipe waits for that, too.
    pub(crate) fn running(&self) -> Result<Arc<Pipe>, Failure> {
        match &*self.state.read() {
            State::NotStarted => Err(not_started()),
            State::Running(pipe) => Ok(Arc::clone(pipe)),
            State::Ended(..) => Err(Failure::new(DP_ERR_STATE, "the pipe has ended")),
            State::Refused(failure) => Err(failure.clone()),
        }
    }

    /// The status of the pipe, and whether it runs.
    pub(crate) fn status(&self) -> Result<(Status, bool), Failure> {
        match &*self.state.read() {
            State::NotStarted => Err(not_started()),
            State::Running(pipe) => Ok((pipe.status(), !pipe.is_finished())),
            State::Ended(_, status) => Ok((Status::clone(status), false)),
            State::Refused(failure) => Err(failure.clone()),
        }
    }

    /// Stops the pipe if it runs or is being started, and waits for its end. It cannot be started
    /// any more.
    pub(crate) fn stop(&self) {
        drop(self.described.lock().take());
        // A start that has come this far ends early.
        let _ = self.cancel();
        drop(self.starting.lock());
        if self.cancel().is_ok() {
            // The outcome of a pipe that is freed is not asked for.
            let _ = self.wait(None);
        }
    }
}

impl PipeStage {
    /// The functions of a stage of the program; `None` for one of the library.
    pub(crate) fn functions(&self) -> Option<StageFunctions> {
        match self {
            Self::Head(stage)
            | Self::Transform(stage)
            | Self::InPlace(stage)
            | Self::Inspect(stage)
            | Self::FlatMap(stage, _)
            | Self::Analyze(stage)
            | Self::Tail(stage) => Some(stage.functions),
            _ => None,
        }
    }

    fn is_head(&self) -> bool {
        matches!(
            self,
            Self::Head(_) | Self::ReadDescriptor(_) | Self::UnboundHead(_)
        )
    }

    fn is_tail(&self) -> bool {
        matches!(
            self,
            Self::Tail(_) | Self::WriteDescriptor(_) | Self::UnboundTail(_)
        )
    }
}

/// True if the last stage is a tail.
fn is_complete(stages: &[PlacedStage]) -> bool {
    stages.last().is_some_and(|last| last.stage.is_tail())
}

fn not_started() -> Failure {
    Failure::new(DP_ERR_STATE, "the pipe was not started")
}
