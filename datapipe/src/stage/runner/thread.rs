//! One instance on a thread of its own: steps until it is blocked, then sleeps on what it is
//! blocked on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Step, Task, Worker};
use crate::error::StageError;
use crate::pool::Seat;

/// Runs an instance to its end. A panic becomes an error; whatever blocks it held are back in the
/// pool by then.
pub(crate) fn run(worker: Worker<'_>, seat: &Seat) -> Result<(), StageError> {
    // Nothing that a panic left half-done is looked at again: the instance is gone, and the pipe
    // stops.
    match worker {
        Worker::Looped(run) => caught(|| run(seat)),
        Worker::Stepped(make) => {
            let mut task = caught(|| make(seat))?;
            let result = caught(|| {
                loop {
                    let core = std::rc::Rc::clone(task.core());
                    if core.wait(None, || task.step())? == Some(Step::Ended) {
                        return Ok(());
                    }
                }
            });
            // What the stage does when it is dropped does not hide why it ended.
            let last = dropped(task);
            result.and(last)
        }
    }
}

/// Drops a task, and with it the caller's stage, which may panic.
pub(crate) fn dropped(task: Box<dyn Task + '_>) -> Result<(), StageError> {
    caught(|| {
        drop(task);
        Ok(())
    })
}

/// Turns a panic of `work` into an error.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, StageError>) -> Result<T, StageError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(StageError::panic(payload.as_ref())))
}
