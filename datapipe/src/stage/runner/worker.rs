//! One instance of one stage, ready to be moved to the thread where it runs.
//!
//! A port belongs to the thread that uses it, so a worker takes its port from the seat only there.

use crate::error::StageError;
use crate::pool::{HeadPort, MiddlePort, PortError, Seat, TailPort};
use crate::stage::outputs::Outputs;
use crate::stage::traits::{Analyze, FlatMap, Head, InPlace, Tail, Transform};

use super::task::{
    AnalyzeInPlace, CopyThenInPlace, HeadTask, InPlaceTask, TailTask, Task, TransformTask,
};

/// One instance of one stage, ready to be moved to the thread where it runs.
pub(crate) enum Worker<'a> {
    /// Makes a task that is called step by step: on a thread, or inline.
    Stepped(OnSeat<'a, Result<Box<dyn Task + 'a>, StageError>>),
    /// Runs its own loop, and needs a thread.
    Looped(OnSeat<'a, Result<(), StageError>>),
}

/// A function of the seat, called on the thread where the instance runs.
type OnSeat<'a, T> = Box<dyn FnOnce(&Seat) -> T + Send + 'a>;
/// A stage's own loop over its port.
type Loop<'a, P> = Box<dyn FnOnce(&P) -> Result<(), StageError> + Send + 'a>;

impl<'a> Worker<'a> {
    pub(in crate::stage) fn head(head: Box<dyn Head + 'a>) -> Self {
        stepped(|seat| Ok(HeadTask::new(seat.head()?, head)))
    }

    pub(in crate::stage) fn transform(stage: Box<dyn Transform + 'a>) -> Self {
        stepped(|seat| Ok(TransformTask::new(seat.middle()?, stage)))
    }

    pub(in crate::stage) fn in_place(stage: Box<dyn InPlace + 'a>) -> Self {
        stepped(|seat| Ok(InPlaceTask::new(seat.middle()?, stage)))
    }

    /// A stage that works in place, on a copy of each block.
    pub(in crate::stage) fn on_copies(stage: Box<dyn InPlace + 'a>) -> Self {
        Self::transform(Box::new(CopyThenInPlace(stage)))
    }

    pub(in crate::stage) fn analyze(stage: Box<dyn Analyze + 'a>) -> Self {
        Self::in_place(Box::new(AnalyzeInPlace(stage)))
    }

    /// A stage that makes several blocks from one. It waits for their buffers within its calls, so
    /// it needs a thread. It does not see vacant blocks, control blocks, nor those that have lost
    /// their content.
    pub(in crate::stage) fn flat_map(mut stage: Box<dyn FlatMap + 'a>) -> Self {
        Self::Looped(Box::new(move |seat| {
            let port = seat.middle()?;
            while let Some(input) = port.receive()? {
                let mut outputs = Outputs::new(&port, &input);
                let info = input.info();
                if !input.is_vacant() && (info.is_control() || info.has_lost_content()) {
                    outputs.pass_on()?;
                } else if !input.is_vacant() {
                    outputs.check_input()?;
                    stage.flat_map(&input, &mut outputs)?;
                }
                outputs.end()?;
            }
            Ok(port.finish()?)
        }))
    }

    /// A tail that does not see vacant blocks, and control blocks only if it asks for them.
    pub(in crate::stage) fn tail(tail: Box<dyn Tail + 'a>) -> Self {
        stepped(|seat| {
            let port = seat.tail()?;
            port.core().skip_vacant(true);
            if tail.takes_control_blocks() {
                port.core().take_control_blocks();
            }
            Ok(TailTask::new(port, tail))
        })
    }

    pub(in crate::stage) fn head_loop(run: Loop<'a, HeadPort>) -> Self {
        Self::Looped(Box::new(move |seat| {
            let port = seat.head()?;
            run(&port)?;
            Ok(port.finish()?)
        }))
    }

    /// A loop that does not see vacant blocks, nor control blocks.
    pub(in crate::stage) fn middle_loop(run: Loop<'a, MiddlePort>) -> Self {
        Self::Looped(Box::new(move |seat| {
            let port = seat.middle()?;
            port.core().skip_vacant(true);
            run(&port)?;
            Ok(port.finish()?)
        }))
    }

    /// A loop that does not see vacant blocks, nor control blocks.
    pub(in crate::stage) fn tail_loop(run: Loop<'a, TailPort>) -> Self {
        Self::Looped(Box::new(move |seat| {
            let port = seat.tail()?;
            port.core().skip_vacant(true);
            run(&port)?;
            Ok(port.finish()?)
        }))
    }

    /// A worker that fails at once. The controller's plan rejects such a stage before it comes to
    /// that.
    pub(in crate::stage) fn without_code() -> Self {
        Self::Looped(Box::new(|_| {
            Err(StageError::new(
                "this program does not have the stage's code",
            ))
        }))
    }
}

fn stepped<'a, T: Task + 'a>(
    make: impl FnOnce(&Seat) -> Result<T, PortError> + Send + 'a,
) -> Worker<'a> {
    Worker::Stepped(Box::new(move |seat| {
        Ok(Box::new(make(seat)?) as Box<dyn Task + 'a>)
    }))
}
