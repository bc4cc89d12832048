//! Makes every instance of a pipe, then starts them: from the tail to the head, so that no instance
//! sends to a stage that is not there yet.

use std::thread::{Builder, Scope};

use crossbeam_channel::Sender;

use crate::error::{Error, StageError};
use crate::memory::{InstanceId, Segment, StageId};
use crate::pool::{Activity, AtLimit, HeadPort, Seat};
use crate::stage::runner::inline::{self, InlineInstance};
use crate::stage::runner::{Worker, thread};
use crate::stage::{HeadStage, MiddleStage, Placement, Role, Settings, StageKind, TailStage};
use crate::words::limit_advice;

use super::instance::InstanceExit;
use super::processes::{self, ProcessSpec, UnboundSeat};
use super::supervisor_context::SupervisorContext;

/// Every instance of a pipe, made and not yet started, tail first.
#[derive(Default)]
pub(super) struct Instances<'a> {
    /// Those that get a thread each.
    threads: Vec<ThreadInstance<'a>>,
    /// Those that run in turn on one thread.
    inline: Vec<InlineInstance<'a, InstanceId>>,
    processes: Vec<ProcessSpec>,
}

/// An instance that gets a thread.
struct ThreadInstance<'a> {
    /// Name of the thread.
    name: String,
    turn: InlineInstance<'a, InstanceId>,
    /// The stage can do without it.
    is_dispensable: bool,
}

impl<'a> Instances<'a> {
    /// Makes every instance of every stage. Calls the caller's factories; a panic in one is
    /// returned as an error, with the instance that was being made.
    pub(super) fn new(
        mut head: HeadStage<'a>,
        middles: Vec<MiddleStage<'a>>,
        mut tail: TailStage<'a>,
        segment: &Segment,
        at_limit: AtLimit,
    ) -> Result<Self, (InstanceId, StageError)> {
        let mut maker = InstanceMaker {
            segment,
            at_limit,
            made: Self::default(),
        };
        let shape = segment.shape();
        let (settings, kind) = (tail.settings.clone(), tail.kind());
        maker.add_stage(shape.tail(), Role::Tail, &settings, kind, |id| {
            tail.worker(id)
        })?;
        let stages = shape.stage_ids().skip(1);
        for (stage, mut middle) in stages.zip(middles).rev() {
            let (settings, kind) = (middle.settings.clone(), middle.kind());
            maker.add_stage(stage, Role::Middle, &settings, kind, |id| middle.worker(id))?;
        }
        let (settings, kind) = (head.settings.clone(), head.kind());
        maker.add_stage(StageId::HEAD, Role::Head, &settings, kind, |id| {
            head.worker(id)
        })?;
        Ok(maker.made)
    }

    /// Adds the processes of a stage. Returns true if there are any.
    fn add_processes(&mut self, specs: Vec<ProcessSpec>) -> bool {
        let any = !specs.is_empty();
        self.processes.extend(specs);
        any
    }

    /// Adds an instance that runs in this process.
    fn add(&mut self, settings: &Settings, kind: StageKind, turn: InlineInstance<'a, InstanceId>) {
        if settings.placement == Placement::Inline {
            self.inline.push(turn);
        } else {
            self.threads.push(ThreadInstance {
                name: format!("{}/{}", settings.name, turn.id.index()),
                is_dispensable: turn.id.index() > 0 && is_shared_work(settings, kind),
                turn,
            });
        }
    }

    /// Returns the seats that a process may attach to, each with the launch request for that
    /// process.
    pub(super) fn unbound(&self) -> Vec<UnboundSeat> {
        let specs = self.processes.iter();
        specs.filter_map(ProcessSpec::unbound).collect()
    }

    /// Starts every instance in `scope`. Each sends one [`InstanceExit`], however it ends.
    ///
    /// The processes get one thread that starts and supervises them, the instances on threads one
    /// thread each, and the inline instances one thread together. If all are inline, no thread is
    /// started, and they have run to their ends when this returns.
    pub(super) fn start<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        context: &'scope SupervisorContext<'scope>,
        exits: &Sender<InstanceExit>,
    ) -> Result<(), Error>
    where
        'a: 'scope,
    {
        let segment = context.segment;
        let alone = self.threads.is_empty() && self.processes.is_empty();
        if !self.processes.is_empty() {
            let (specs, exits) = (self.processes, exits.clone());
            let run = move || context.span.run(|| processes::run(specs, context, exits));
            spawn(scope, "processes".to_owned(), run)?;
        }
        for ThreadInstance {
            name,
            turn,
            is_dispensable,
        } in self.threads
        {
            let sender = exits.clone();
            let (id, span) = (turn.id, context.span.stage(&name));
            let run = move || span.run(|| run_on_thread(turn, segment, &sender));
            match spawn(scope, name, run) {
                Ok(()) => context.announce(id),
                Err(error) if is_dispensable => leave_out(id, &error, context, exits),
                Err(error) => return Err(error),
            }
        }
        let (turns, exits) = (self.inline, exits.clone());
        turns.iter().for_each(|turn| context.announce(turn.id));
        if alone {
            run_inline(turns, alone, segment, &exits);
        } else if !turns.is_empty() {
            let run = move || run_inline(turns, alone, segment, &exits);
            spawn(scope, "inline".to_owned(), run)?;
        }
        Ok(())
    }
}

/// Makes the instances of one stage after the other.
struct InstanceMaker<'a, 's> {
    segment: &'s Segment,
    at_limit: AtLimit,
    made: Instances<'a>,
}

impl<'a> InstanceMaker<'a, '_> {
    /// Adds the instances of `stage`: specifications of its processes, or else workers that
    /// `make_worker` makes, each with its seat.
    fn add_stage(
        &mut self,
        stage: StageId,
        role: Role,
        settings: &Settings,
        kind: StageKind,
        mut make_worker: impl FnMut(InstanceId) -> Worker<'a>,
    ) -> Result<(), (InstanceId, StageError)> {
        let specs = ProcessSpec::all_of(settings, kind, stage, role, self.at_limit);
        let specs = specs.map_err(|error| {
            let advice = limit_advice(&error);
            let what = format!("cannot keep the arguments of its module{advice}");
            (stage.instance(0), StageError::with_source(what, error))
        })?;
        if self.made.add_processes(specs) {
            return Ok(());
        }
        let before = self.made.threads.len();
        for index in 0..settings.instances {
            let id = stage.instance(index);
            let seat = Seat::new(self.segment, id).at_limit(self.at_limit);
            let worker =
                thread::catch_panic(|| Ok(make_worker(id))).map_err(|error| (id, error))?;
            self.made
                .add(settings, kind, InlineInstance { id, worker, seat });
        }
        // The first instance starts last: it cannot be left out, so one that is left out is never
        // the last to end.
        self.made.threads[before..].reverse();
        Ok(())
    }
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    run: impl FnOnce() + Send + 'scope,
) -> Result<(), Error> {
    let thread = Builder::new().name(name).spawn_scoped(scope, run);
    thread.map(drop).map_err(|source| Error::System {
        // The system has the same error for too many threads as for a stack without memory.
        what: "cannot start a thread for a stage; the user may have reached the limit of threads \
               (ulimit -u), or this process that of its memory (ulimit -d, ulimit -v); fewer \
               instances need less of both",
        source,
    })
}

/// True if each instance of a stage does what the others leave: each takes the next block, or the
/// next files of a tree. The instances of other heads may be different sources, loops may count on
/// each other, and a tail may have an output for each.
fn is_shared_work(settings: &Settings, kind: StageKind) -> bool {
    let takes_blocks = matches!(
        kind,
        StageKind::Transform | StageKind::InPlace | StageKind::Analyze | StageKind::FlatMap
    );
    takes_blocks || settings.sends_tree
}

/// Ends an instance that has no thread: it has nothing to send. The first instance of its stage has
/// not started, so this one is not the last to end, and waits for nothing.
fn leave_out(
    id: InstanceId,
    error: &Error,
    context: &SupervisorContext<'_>,
    exits: &Sender<InstanceExit>,
) {
    context.report_left_out(id, error);
    let segment = context.segment;
    let result = if id.stage() == StageId::HEAD {
        let seat = Seat::new(segment, id);
        seat.head()
            .and_then(HeadPort::finish)
            .map_err(StageError::from)
    } else {
        segment.mark_done(id);
        Ok(())
    };
    segment.note_activity(id, Activity::Ended);
    // The controller receives until the last instance has ended.
    let _ = exits.send(InstanceExit {
        id,
        result,
        after_stop: false,
    });
}

/// Runs one instance to its end on the current thread.
fn run_on_thread(
    turn: InlineInstance<'_, InstanceId>,
    segment: &Segment,
    exits: &Sender<InstanceExit>,
) {
    let InlineInstance { id, worker, seat } = turn;
    let result = thread::run(worker, &seat);
    let after_stop = segment.is_stopped();
    drop(seat);
    // The controller receives until the last instance has ended.
    let _ = exits.send(InstanceExit {
        id,
        result,
        after_stop,
    });
}

/// Runs the inline instances to their ends on the current thread.
fn run_inline(
    turns: Vec<InlineInstance<'_, InstanceId>>,
    alone: bool,
    segment: &Segment,
    exits: &Sender<InstanceExit>,
) {
    inline::run(turns, alone, |id, result: Result<(), StageError>| {
        let after_stop = segment.is_stopped();
        if result.is_err() {
            // The controller does not receive while all run in turn on its own thread: the first
            // failure stops the rest here.
            segment.stop();
        }
        let _ = exits.send(InstanceExit {
            id,
            result,
            after_stop,
        });
    });
}
