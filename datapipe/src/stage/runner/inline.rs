//! Many instances in turn on one thread: for stages too small for a thread, and for places that
//! have none.

use std::rc::Rc;

use super::thread::{caught, dropped};
use super::{Step, Task, Worker};
use crate::error::{StageError, WaitingInstance, WaitsFor};
use crate::memory::event_count::EventCount;
use crate::pool::{Blocked, PortCore, Seat, tally};

/// One instance, and who it is.
pub(crate) struct Turn<'a, I> {
    pub(crate) id: I,
    pub(crate) worker: Worker<'a>,
    pub(crate) seat: Seat,
}

struct Running<'a, I> {
    id: I,
    task: Box<dyn Task + 'a>,
    blocked: Option<Blocked>,
}

/// Runs all instances to their ends, and tells `ended` of each as it ends. They should come tail
/// first: then what is in the pipe moves on before more comes in.
///
/// If `alone`, nobody else works on the pipe, and that all are blocked is an error and not a reason
/// to sleep.
pub(crate) fn run<I: Copy>(
    turns: Vec<Turn<'_, I>>,
    alone: bool,
    mut ended: impl FnMut(I, Result<(), StageError>),
) {
    let mut tasks = Vec::new();
    for Turn { id, worker, seat } in turns {
        let Worker::Stepped(make) = worker else {
            ended(
                id,
                Err(StageError::new("a loop over a port cannot run inline")),
            );
            continue;
        };
        match caught(|| make(&seat)) {
            Ok(task) => tasks.push(Running {
                id,
                task,
                blocked: None,
            }),
            Err(error) => ended(id, Err(error)),
        }
    }
    while !tasks.is_empty() {
        if round(&mut tasks, &mut ended) || tasks.is_empty() {
            continue;
        }
        if alone {
            for Running { id, task, blocked } in tasks.drain(..) {
                // Before it is dropped, and with it what it holds.
                let stuck: Result<(), _> = Err(StageError::deadlock(stuck(task.core(), blocked)));
                let last = dropped(task);
                ended(id, stuck.and(last));
            }
            return;
        }
        sleep(&mut tasks, &mut ended);
    }
}

/// What a task waits for that nobody will ever give it.
fn stuck(core: &PortCore, blocked: Option<Blocked>) -> WaitingInstance {
    let waits_for = match blocked {
        Some(Blocked::AtLimit | Blocked::NoneFree) => WaitsFor::Buffer,
        Some(Blocked::NoInput) | None => WaitsFor::Input,
    };
    WaitingInstance::of(&tally(&core.tables), core.id(), waits_for)
}

/// Steps every task once. Returns whether any moved or ended.
fn round<I: Copy>(
    tasks: &mut Vec<Running<'_, I>>,
    ended: &mut impl FnMut(I, Result<(), StageError>),
) -> bool {
    let mut moved = false;
    let mut at = 0;
    while let Some(running) = tasks.get_mut(at) {
        let result = match caught(|| running.task.step()) {
            Ok(Ok(Step::Moved)) => {
                running.blocked = None;
                moved = true;
                at += 1;
                continue;
            }
            Ok(Err(blocked)) => {
                running.blocked = Some(blocked);
                at += 1;
                continue;
            }
            Ok(Ok(Step::Ended)) => Ok(()),
            Err(error) => Err(error),
        };
        moved = true;
        let Running { id, task, .. } = tasks.remove(at);
        // What the stage does when it is dropped does not hide why it ended.
        let last = dropped(task);
        ended(id, result.and(last));
    }
    moved
}

/// Sleeps until something may have changed for one of the tasks, all of which are blocked.
fn sleep<I: Copy>(
    tasks: &mut Vec<Running<'_, I>>,
    ended: &mut impl FnMut(I, Result<(), StageError>),
) {
    let cores: Vec<_> = tasks
        .iter()
        .map(|running| (Rc::clone(running.task.core()), running.blocked))
        .collect();
    let marked: Vec<_> = cores
        .iter()
        .filter_map(|(core, blocked)| Some(core.prepare_wait((*blocked)?)))
        .collect();
    // The second look, after the marks. What a task is blocked on may have changed: then that was
    // not marked.
    let changed = round(tasks, ended)
        || tasks
            .iter()
            .zip(&cores)
            .any(|(running, (_, blocked))| running.blocked != *blocked);
    if !changed {
        // All wait at once, so each counts the time as its own.
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
    use crate::memory::{Backing, HugePages, PipeName, Segment, Shape, StageShape};
    use crate::pool::{Block, HeadPort, TailPort};

    /// Takes what it can get, and sends none of it.
    struct Hoarder {
        port: HeadPort,
        hoard: Vec<Block>,
    }

    impl Task for Hoarder {
        fn step(&mut self) -> Result<Result<Step, Blocked>, StageError> {
            Ok(self.port.try_alloc()?.map(|block| {
                self.hoard.push(block);
                Step::Moved
            }))
        }

        fn core(&self) -> &Rc<PortCore> {
            self.port.core()
        }
    }

    struct Waiter(TailPort);

    impl Task for Waiter {
        fn step(&mut self) -> Result<Result<Step, Blocked>, StageError> {
            let got = self.0.try_receive()?;
            Ok(got.map(|block| {
                if block.is_some() {
                    Step::Moved
                } else {
                    Step::Ended
                }
            }))
        }

        fn core(&self) -> &Rc<PortCore> {
            self.0.core()
        }
    }

    #[test]
    fn who_waits_for_what_with_how_much_is_told_when_nobody_can_go_on() {
        let stages = [StageShape::new(1, 3), StageShape::new(1, 0)];
        let shape = Shape::new(3, 512, 0, 0, &stages).unwrap();
        let (name, no) = (PipeName::new(), HugePages::No);
        let segment = Segment::create(&name, shape, &[], Backing::Anonymous, no).unwrap();
        let hoarder = Worker::Stepped(Box::new(|seat: &Seat| {
            Ok(Box::new(Hoarder {
                port: seat.head()?,
                hoard: Vec::new(),
            }) as Box<dyn Task>)
        }));
        let waiter = Worker::Stepped(Box::new(|seat: &Seat| {
            Ok(Box::new(Waiter(seat.tail()?)) as Box<dyn Task>)
        }));
        let turns = vec![
            Turn {
                id: 1,
                worker: waiter,
                seat: Seat::new(&segment, 1, 0),
            },
            Turn {
                id: 0,
                worker: hoarder,
                seat: Seat::new(&segment, 0, 0),
            },
        ];
        let mut all = Vec::new();
        run(turns, true, |id, result| {
            all.push((id, result.unwrap_err().waiting().unwrap()))
        });
        let stuck = |waits_for, outputs| WaitingInstance {
            waits_for,
            inputs: 0,
            outputs,
        };
        let (for_input, for_buffer) = (stuck(WaitsFor::Input, 0), stuck(WaitsFor::Buffer, 3));
        assert_eq!(all, [(1, for_input), (0, for_buffer)]);
        assert_eq!(segment.free_buffers(), 3, "what was hoarded is back");
    }
}
