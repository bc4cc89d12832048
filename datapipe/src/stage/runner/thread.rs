//! One instance on its own thread: steps until it is blocked, then sleeps on the event that it is
//! blocked on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::task::{Step, Task};
use super::worker::Worker;
use crate::error::StageError;
use crate::pool::Seat;

/// Runs an instance to its end. A panic becomes an error, after every block that the instance held
/// has returned to the pool.
pub(crate) fn run(worker: Worker<'_>, seat: &Seat) -> Result<(), StageError> {
    // Catching a panic is sound: nothing uses the state that it left half-changed, because the
    // instance is gone and the pipe stops.
    match worker {
        Worker::Looped(run) => catch_panic(|| run(seat)),
        Worker::Stepped(make) => {
            let mut task = catch_panic(|| make(seat))?;
            let result = catch_panic(|| {
                loop {
                    let core = Rc::clone(task.core());
                    let step = || {
                        Ok::<_, StageError>(match task.step()? {
                            Step::Blocked(blocked) => Err(blocked),
                            step => Ok(step),
                        })
                    };
                    if core.wait(None, step)? == Ok(Step::Ended) {
                        return Ok(());
                    }
                }
            });
            // An error of the stage's drop does not hide why the task ended.
            let last = drop_task(task);
            result.and(last)
        }
    }
}

/// Drops a task, and with it the caller's stage, which may panic.
pub(crate) fn drop_task(task: Box<dyn Task + '_>) -> Result<(), StageError> {
    catch_panic(|| {
        drop(task);
        Ok(())
    })
}

/// Turns a panic of `work` into an error.
pub(crate) fn catch_panic<T>(
    work: impl FnOnce() -> Result<T, StageError>,
) -> Result<T, StageError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(StageError::panic(payload.as_ref())))
}
