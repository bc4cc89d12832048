//! Several instances in turn on one thread: for stages too small for a thread, and for programs
//! that cannot start any.

use std::rc::Rc;

use super::task::{Step, Task};
use super::thread::{catch_panic, drop_task};
use super::worker::Worker;
use crate::error::{StageError, WaitingInstance, WaitsFor};
use crate::memory::event_count::EventCount;
use crate::pool::{Blocked, PortCore, Seat, tally};

/// One instance that is to run inline, and its identity.
pub(crate) struct InlineInstance<'a, I> {
    pub(crate) id: I,
    pub(crate) worker: Worker<'a>,
    pub(crate) seat: Seat,
}

/// An instance that has started.
struct InlineTask<'a, I> {
    id: I,
    task: Box<dyn Task + 'a>,
    /// Result of its last step, if that was blocked.
    blocked: Option<Blocked>,
}

/// Runs all instances to their ends, and calls `ended` for each as it ends. They should come tail
/// first: then blocks in the pipe move on before more come in.
///
/// With `alone`, no other thread or process works on the pipe: if all instances are blocked, that
/// is a deadlock, reported as an error of each, and not a reason to sleep.
pub(crate) fn run<I: Copy>(
    instances: Vec<InlineInstance<'_, I>>,
    alone: bool,
    mut ended: impl FnMut(I, Result<(), StageError>),
) {
    let mut tasks = Vec::new();
    for InlineInstance { id, worker, seat } in instances {
        let Worker::Stepped(make) = worker else {
            ended(
                id,
                Err(StageError::new("a loop over a port cannot run inline")),
            );
            continue;
        };
        match catch_panic(|| make(&seat)) {
            Ok(task) => tasks.push(InlineTask {
                id,
                task,
                blocked: None,
            }),
            Err(error) => ended(id, Err(error)),
        }
    }
    while !tasks.is_empty() {
        if step_all(&mut tasks, &mut ended) || tasks.is_empty() {
            continue;
        }
        if alone {
            for InlineTask { id, task, blocked } in tasks.drain(..) {
                // Counts the task's buffers, so it comes before the task is dropped.
                let waiting = waiting_instance(task.core(), blocked);
                let deadlock: Result<(), _> = Err(StageError::deadlock(waiting));
                let last = drop_task(task);
                ended(id, deadlock.and(last));
            }
            return;
        }
        sleep_on_all(&mut tasks, &mut ended);
    }
}

/// Describes a task in a deadlock: what it waits for, and the buffers that it holds.
fn waiting_instance(core: &PortCore, blocked: Option<Blocked>) -> WaitingInstance {
    let waits_for = match blocked {
        Some(Blocked::AtLimit | Blocked::NoneFree) => WaitsFor::Buffer,
        // A task does not wait for anything outside: only a loop does, which is not inline.
        Some(Blocked::NoInput | Blocked::Outside) | None => WaitsFor::Input,
    };
    WaitingInstance::of(&tally(&core.tables), core.id(), waits_for)
}

/// Steps every task once, and removes those that end. Returns true if any moved or ended.
fn step_all<I: Copy>(
    tasks: &mut Vec<InlineTask<'_, I>>,
    ended: &mut impl FnMut(I, Result<(), StageError>),
) -> bool {
    let mut moved = false;
    let mut at = 0;
    while let Some(current) = tasks.get_mut(at) {
        let result = match catch_panic(|| current.task.step()) {
            Ok(Step::Moved) => {
                current.blocked = None;
                moved = true;
                at += 1;
                continue;
            }
            Ok(Step::Blocked(blocked)) => {
                current.blocked = Some(blocked);
                at += 1;
                continue;
            }
            Ok(Step::Ended) => Ok(()),
            Err(error) => Err(error),
        };
        moved = true;
        let InlineTask { id, task, .. } = tasks.remove(at);
        // An error of the stage's drop does not hide why the task ended.
        let last = drop_task(task);
        ended(id, result.and(last));
    }
    moved
}

/// Sleeps until something may have changed for one of the tasks, all of which are blocked.
///
/// A change between the last round of steps and the sleep must not be missed. So the order is that
/// of an event count: mark the event of every task, step all tasks once more, and sleep only if no
/// task moved and each is still blocked on the event that was marked for it.
fn sleep_on_all<I: Copy>(
    tasks: &mut Vec<InlineTask<'_, I>>,
    ended: &mut impl FnMut(I, Result<(), StageError>),
) {
    let cores: Vec<_> = tasks
        .iter()
        .map(|current| (Rc::clone(current.task.core()), current.blocked))
        .collect();
    let marked: Vec<_> = cores
        .iter()
        .filter_map(|(core, blocked)| Some(core.prepare_wait((*blocked)?)))
        .collect();
    // The second round, after the marks. A task may now be blocked on something else, which was not
    // marked.
    let changed = step_all(tasks, ended)
        || tasks
            .iter()
            .zip(&cores)
            .any(|(current, (_, blocked))| current.blocked != *blocked);
    if !changed {
        // All tasks wait at once, so each port counts the whole time as its own: the sleep is
        // wrapped in the time measurement of one port after the other.
        let mut nap: Box<dyn FnOnce() + '_> = Box::new(|| EventCount::sleep_any(&marked, None));
        for (core, blocked) in &cores {
            if let Some(blocked) = *blocked {
                nap = Box::new(move || core.sleep_with(blocked, false, nap));
            }
        }
        nap();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::memory::{Backing, HugePages, PipeName, Segment, Shape, StageId, StageShape};
    use crate::pool::{Block, HeadPort, TailPort, TryError};

    /// Allocates every buffer that it can, and sends none.
    struct AllocatingTask {
        port: HeadPort,
        held: Vec<Block>,
    }

    impl Task for AllocatingTask {
        fn step(&mut self) -> Result<Step, StageError> {
            match self.port.try_alloc() {
                Ok(block) => self.held.push(block),
                Err(TryError::Blocked(blocked)) => return Ok(Step::Blocked(blocked)),
                Err(error) => return Err(error.into()),
            }
            Ok(Step::Moved)
        }

        fn core(&self) -> &Rc<PortCore> {
            self.port.core()
        }
    }

    struct ReceivingTask(TailPort);

    impl Task for ReceivingTask {
        fn step(&mut self) -> Result<Step, StageError> {
            match self.0.try_receive() {
                Ok(Some(_)) => Ok(Step::Moved),
                Ok(None) => Ok(Step::Ended),
                Err(TryError::Blocked(blocked)) => Ok(Step::Blocked(blocked)),
                Err(error) => Err(error.into()),
            }
        }

        fn core(&self) -> &Rc<PortCore> {
            self.0.core()
        }
    }

    #[test]
    fn deadlock_reports_what_each_instance_waits_for_and_holds() {
        let shape = Shape::builder(3, 512)
            .stages([StageShape::new(1).share(3), StageShape::new(1)])
            .build()
            .unwrap();
        let (name, no) = (PipeName::new(), HugePages::No);
        let segment = Segment::create(&name, shape, &[], Backing::Anonymous, no).unwrap();
        let head = Worker::Stepped(Box::new(|seat: &Seat| {
            Ok(Box::new(AllocatingTask {
                port: seat.head()?,
                held: Vec::new(),
            }) as Box<dyn Task>)
        }));
        let tail = Worker::Stepped(Box::new(|seat: &Seat| {
            Ok(Box::new(ReceivingTask(seat.tail()?)) as Box<dyn Task>)
        }));
        let instances = vec![
            InlineInstance {
                id: 1,
                worker: tail,
                seat: Seat::new(&segment, StageId::new(1).instance(0)),
            },
            InlineInstance {
                id: 0,
                worker: head,
                seat: Seat::new(&segment, StageId::HEAD.instance(0)),
            },
        ];
        let mut all = Vec::new();
        run(instances, true, |id, result| {
            all.push((id, result.unwrap_err().waiting().unwrap()))
        });
        let waiting = |waits_for, outputs| WaitingInstance {
            waits_for,
            inputs: 0,
            outputs,
        };
        let (for_input, for_buffer) = (waiting(WaitsFor::Input, 0), waiting(WaitsFor::Buffer, 3));
        assert_eq!(all, [(1, for_input), (0, for_buffer)]);
        assert_eq!(segment.free_buffers(), 3, "the held buffers are free again");
    }
}
