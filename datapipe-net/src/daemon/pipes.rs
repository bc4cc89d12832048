//! Which pipes there are, whose they are, how they stand and how they have ended.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Instant;

use datapipe::pool::Activity as CoreActivity;
use datapipe::{Canceller, Direction, Error, Pipe, Status};
use parking_lot::{Condvar, Mutex, RwLock};

use super::requests::LONG;
use super::{Shared, explain};
use crate::config::{Limits, User};
use crate::limits::KEPT_ENDED;
use crate::protocol::{
    Activity, EventKind, Initiate, InstanceStatus, PipeEntry, PipeEvent, PipeState, PipeStatus,
    Refusal, RefusalCode, StageStatus,
};

/// All pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    state: Mutex<State>,
    /// One is finished.
    fewer: Condvar,
}

#[derive(Debug, Default)]
struct State {
    live: Vec<Arc<Live>>,
    over: VecDeque<Over>,
    /// Pipes that live or are being started.
    count: u32,
    /// Their shared memory, in bytes.
    memory: u64,
    /// These, and those of whose end not everybody has been told.
    unfinished: u32,
    closing: bool,
}

/// A pipe that has not ended.
#[derive(Debug)]
pub(super) struct Live {
    name: String,
    label: String,
    owner: User,
    direction: Direction,
    memory: u64,
    since: Instant,
    canceller: Canceller,
    stopping: Mutex<bool>,
    /// Nothing any more when it is over.
    pipe: RwLock<Option<Pipe>>,
}

#[derive(Debug)]
struct Over {
    since: Instant,
    status: Arc<PipeStatus>,
}

/// A pipe that somebody may know of.
pub(super) enum Found {
    Live(Arc<Live>),
    Over(Arc<PipeStatus>),
}

/// Room for a pipe that is being started. Dropping it gives the room back.
pub(super) struct Reservation<'p> {
    pipes: &'p Pipes,
    memory: u64,
    filled: bool,
}

impl Pipes {
    /// Sets room aside for a pipe with so much shared memory.
    pub(super) fn reserve(&self, memory: u64, limits: &Limits) -> Result<Reservation<'_>, Refusal> {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let limit = |why: String| Err(Refusal::new(RefusalCode::LIMIT, why));
        let mut state = self.state.lock();
        if state.closing {
            return Err(Refusal::new(
                RefusalCode::STOPPING,
                "the daemon is stopping",
            ));
        }
        if state.count >= limits.pipes {
            return limit(format!(
                "there are {} pipes, as many as there may be",
                state.count
            ));
        }
        if memory > limits.memory_per_pipe {
            let (asked, most) = (mib(memory), mib(limits.memory_per_pipe));
            return limit(format!(
                "the pipe would take {asked} MiB of shared memory; one may take {most} MiB: ask for fewer or smaller \
                 buffers"
            ));
        }
        let left = limits.memory.saturating_sub(state.memory);
        if memory > left {
            let (asked, left, all) = (mib(memory), left >> 20, mib(limits.memory));
            return limit(format!(
                "the pipe would take {asked} MiB of shared memory, and {left} MiB of {all} MiB are left: wait for a \
                 pipe to end, or ask for fewer or smaller buffers"
            ));
        }
        state.count += 1;
        state.unfinished += 1;
        state.memory += memory;
        Ok(Reservation {
            pipes: self,
            memory,
            filled: false,
        })
    }

    /// The pipe of that name, if `user` may know it.
    pub(super) fn find(&self, name: &str, user: User) -> Result<Found, Refusal> {
        let state = self.state.lock();
        let live = state
            .live
            .iter()
            .find(|live| live.name == name)
            .map(|live| (live.owner, Found::Live(live.clone())));
        let over = || {
            let over = state
                .over
                .iter()
                .find(|over| over.status.entry.name == name)?;
            Some((
                User(over.status.entry.owner),
                Found::Over(Arc::clone(&over.status)),
            ))
        };
        let Some((owner, found)) = live.or_else(over) else {
            let why = format!("there is no pipe \"{name}\" here");
            return Err(Refusal::new(RefusalCode::NO_SUCH_PIPE, why));
        };
        if owner != user && !user.is_privileged() {
            let why = format!("the pipe {name} belongs to another user");
            return Err(Refusal::new(RefusalCode::NOT_ALLOWED, why));
        }
        Ok(found)
    }

    /// The pipes that `user` may know, the oldest first.
    pub(super) fn list(&self, user: User) -> Vec<PipeEntry> {
        let (live, over) = {
            let state = self.state.lock();
            let over = state
                .over
                .iter()
                .map(|over| (over.since, over.status.entry.clone()));
            (state.live.clone(), over.collect::<Vec<_>>())
        };
        let live = live.iter().map(|live| {
            (
                live.since,
                live.entry(live.with_pipe(Pipe::status).as_ref()),
            )
        });
        let mut all: Vec<_> = live.chain(over).collect();
        all.retain(|(_, entry)| User(entry.owner) == user || user.is_privileged());
        all.sort_by_key(|(since, _)| *since);
        // One that was over in the meantime is there twice, alive first.
        all.dedup_by(|(_, second), (_, first)| second.name == first.name);
        all.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Stops all pipes, waits until they are over, and lets none begin any more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.live.iter().for_each(|live| live.stop());
        self.fewer
            .wait_while(&mut state, |state| state.unfinished > 0);
    }

    /// Everybody has been told of the end of one.
    fn finish(&self) {
        let mut state = self.state.lock();
        state.unfinished = state.unfinished.saturating_sub(1);
        self.fewer.notify_all();
    }

    /// From now on the pipe is one that has ended, and its room is free.
    fn bury(&self, live: &Arc<Live>, status: PipeStatus) {
        let mut state = self.state.lock();
        state.put_back(live.memory);
        state.live.retain(|other| !Arc::ptr_eq(other, live));
        if state.over.len() >= KEPT_ENDED {
            state.over.pop_front();
        }
        state.over.push_back(Over {
            since: live.since,
            status: Arc::new(status),
        });
    }
}

impl State {
    fn put_back(&mut self, memory: u64) {
        self.count = self.count.saturating_sub(1);
        self.memory = self.memory.saturating_sub(memory);
    }
}

impl Reservation<'_> {
    /// The pipe is there.
    pub(super) fn fill(mut self, pipe: Pipe, ask: &Initiate, owner: User) -> Arc<Live> {
        self.filled = true;
        let live = Arc::new(Live {
            name: pipe.name().to_string(),
            label: ask.label.clone(),
            owner,
            direction: ask.direction,
            memory: self.memory,
            since: Instant::now(),
            canceller: pipe.canceller(),
            stopping: Mutex::new(false),
            pipe: RwLock::new(Some(pipe)),
        });
        let mut state = self.pipes.state.lock();
        state.live.push(Arc::clone(&live));
        if state.closing {
            live.stop();
        }
        live
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.pipes.state.lock().put_back(self.memory);
            self.pipes.finish();
        }
    }
}

impl Live {
    pub(super) fn owner(&self) -> User {
        self.owner
    }

    /// Tells it to stop.
    pub(super) fn stop(&self) {
        *self.stopping.lock() = true;
        self.canceller.cancel();
    }

    /// What everybody in it is doing.
    pub(super) fn status(&self) -> PipeStatus {
        let status = self.with_pipe(Pipe::status);
        told(self.entry(status.as_ref()), status.as_ref())
    }

    /// Asks the pipe, if it is not over.
    pub(super) fn with_pipe<T>(&self, ask: impl FnOnce(&Pipe) -> T) -> Option<T> {
        self.pipe.read().as_ref().map(ask)
    }

    fn entry(&self, status: Option<&Status>) -> PipeEntry {
        let mut entry = PipeEntry::new(&*self.name, self.owner.0);
        entry.label.clone_from(&self.label);
        entry.direction = self.direction;
        entry.elapsed = self.since.elapsed();
        let awaited = |stage: &&datapipe::controller::StageStatus| {
            stage
                .instances
                .iter()
                .any(|instance| instance.activity == CoreActivity::Unattached)
        };
        let awaited: Vec<_> = status
            .iter()
            .flat_map(|status| &status.stages)
            .filter(awaited)
            .map(|stage| &*stage.name)
            .collect();
        if *self.stopping.lock() {
            entry.state = PipeState::STOPPING;
        } else if !awaited.is_empty() {
            entry.state = PipeState::WAITING;
            entry.explanation = format!(
                "waits for a process to attach as \"{}\"",
                awaited.join("\" and \"")
            );
        }
        entry
    }
}

impl Shared {
    /// Waits for the end of a pipe, on a thread of its own.
    pub(super) fn watch_over(self: &Arc<Self>, live: Arc<Live>) -> Result<(), Refusal> {
        let (shared, watched) = (Arc::clone(self), Arc::clone(&live));
        let watch = Builder::new()
            .name("pipe".to_owned())
            .spawn(move || shared.wait_for(&watched));
        watch.map(drop).map_err(|error| {
            let why = format!("cannot start the thread that waits for the pipe: {error}");
            self.end(&live, Err(why.clone()));
            Refusal::new(RefusalCode::SYSTEM, why)
        })
    }

    fn wait_for(&self, live: &Arc<Live>) {
        // Others look at it meanwhile.
        live.with_pipe(|pipe| while pipe.status_every(LONG).is_some() {});
        self.end(live, Ok(()));
    }

    /// Takes the pipe down, if it is not over, and tells how it ended: why it was not watched, or
    /// else as it says.
    fn end(&self, live: &Arc<Live>, watched: Result<(), String>) {
        let pipe = live.pipe.write().take();
        let status = pipe.as_ref().map(Pipe::status);
        let mut entry = live.entry(None);
        let outcome = match watched {
            // A controller that panics is a mistake of ours, and takes nobody along.
            Ok(()) => pipe.map_or(Ok(Ok(())), |pipe| {
                catch_unwind(AssertUnwindSafe(|| pipe.wait().map(drop)))
                    .map_err(|_| "its controller panicked".to_owned())
            }),
            Err(why) => {
                drop(pipe);
                Err(why)
            }
        };
        (entry.state, entry.explanation) = match outcome {
            Ok(Ok(())) => (PipeState::ENDED, String::new()),
            Ok(Err(Error::Cancelled)) => (PipeState::STOPPED, String::new()),
            Ok(Err(error)) => (PipeState::FAILED, explain(&error)),
            Err(why) => (PipeState::FAILED, why),
        };
        let (name, state, text) = (&live.name, entry.state, entry.explanation.clone());
        self.log(&match &*text {
            "" => format!("{name}: {state}"),
            why => format!("{name}: {state}: {why}"),
        });
        let text = Some(text).filter(|text| !text.is_empty());
        self.pipes.bury(live, told(entry, status.as_ref()));
        let event = PipeEvent {
            state: Some(state),
            text,
            ..PipeEvent::new(EventKind::OVER, &**name)
        };
        self.subscribers.tell(live.owner, event);
        self.pipes.finish();
    }
}

/// A status, as it is told.
fn told(entry: PipeEntry, status: Option<&Status>) -> PipeStatus {
    let Some(status) = status else {
        return PipeStatus::without_stages(entry);
    };
    let stages = status.stages.iter().map(|stage| StageStatus {
        name: stage.name.clone(),
        queued: stage.queued,
        instances: stage.instances.iter().map(instance).collect(),
    });
    PipeStatus {
        entry,
        buffers: status.buffers,
        free: status.free,
        stages: stages.collect(),
    }
}

fn instance(instance: &datapipe::controller::InstanceStatus) -> InstanceStatus {
    InstanceStatus {
        // The numbers of the segment, which its page fixes.
        activity: Activity(instance.activity as u8),
        blocks_in: instance.blocks_in,
        bytes_in: instance.bytes_in,
        blocks_out: instance.blocks_out,
        bytes_out: instance.bytes_out,
        held: instance.held,
        outstanding: instance.outstanding,
        waited_for_buffer: instance.waited_for_buffer,
        waited_for_input: instance.waited_for_input,
        working: instance.working,
        process: instance.process,
        processes: u32::try_from(instance.processes).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activities_are_told_as_the_segment_numbers_them() {
        for (core, told) in [
            (CoreActivity::Idle, Activity::IDLE),
            (CoreActivity::Working, Activity::WORKING),
            (CoreActivity::WaitingForBuffer, Activity::WAITING_FOR_BUFFER),
            (CoreActivity::WaitingForInput, Activity::WAITING_FOR_INPUT),
            (CoreActivity::Ended, Activity::ENDED),
            (CoreActivity::Unattached, Activity::UNATTACHED),
        ] {
            assert_eq!(Activity(core as u8), told);
        }
    }

    #[test]
    fn room_is_limited_and_given_back() {
        let limits = Limits {
            pipes: 2,
            memory_per_pipe: 64 << 20,
            memory: 96 << 20,
            ..Limits::default()
        };
        let pipes = Pipes::default();
        let code = |memory| {
            pipes
                .reserve(memory, &limits)
                .map(drop)
                .map_err(|refusal| refusal.code)
        };
        let text = |memory| pipes.reserve(memory, &limits).map(drop).unwrap_err().text;
        assert!(text(65 << 20).contains("65 MiB of shared memory; one may take 64 MiB"));
        let first = pipes.reserve(64 << 20, &limits).unwrap();
        assert!(text(33 << 20).contains("33 MiB of shared memory, and 32 MiB of 96 MiB are left"));
        let second = pipes.reserve(32 << 20, &limits).unwrap();
        assert!(text(0).contains("there are 2 pipes"));
        drop((first, second));
        assert_eq!(code(64 << 20), Ok(()));
        pipes.close();
        assert_eq!(code(0), Err(RefusalCode::STOPPING));
    }
}
