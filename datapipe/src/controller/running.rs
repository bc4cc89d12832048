//! A pipe that works in the background.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::Error;
use crate::memory::{PipeName, Process, Segment};

use super::builder::PipeBuilder;
use super::cancel::Canceller;
use super::door::{AdmitError, Door, Role};
use super::plan::Plan;
use super::status::{Report, Status};
use super::supervise::Prepared;

/// A running pipe. Dropping it cancels it, and waits until it has stopped.
///
/// ```
/// use datapipe::prelude::*;
/// use std::time::Duration;
///
/// let pipe = Pipe::builder()
///     .head(StreamHead::new(&b"some data"[..]))
///     .tail(StreamTail::new(std::io::sink()))
///     .start()?;
/// while let Some(status) = pipe.status_every(Duration::from_millis(500)) {
///     println!("{status}");
/// }
/// assert_eq!(pipe.wait()?.bytes_out(), 9);
/// # Ok::<(), datapipe::Error>(())
/// ```
#[derive(Debug)]
pub struct Pipe {
    plan: Plan,
    segment: Segment,
    canceller: Canceller,
    door: Arc<Door>,
    ended: Arc<Ended>,
    controller: Option<JoinHandle<Result<Report, Error>>>,
}

/// Whether the controller has ended.
#[derive(Debug, Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

struct Signal(Arc<Ended>);

impl Drop for Signal {
    fn drop(&mut self) {
        *self.0.flag.lock() = true;
        self.0.changed.notify_all();
    }
}

impl Pipe {
    /// Describes a new pipe.
    pub fn builder<'a>() -> PipeBuilder<'a> {
        PipeBuilder::new()
    }

    pub(super) fn start(prepared: Prepared<'static>) -> Result<Self, Error> {
        let (plan, segment) = (prepared.plan.clone(), prepared.segment.clone());
        let (canceller, door) = (prepared.canceller.clone(), Arc::clone(&prepared.door));
        let ended = Arc::new(Ended::default());
        let signal = Signal(Arc::clone(&ended));
        let run = move || {
            let _signal = signal; // given however it ends
            prepared.supervise()
        };
        let controller = Builder::new().name("controller".to_owned()).spawn(run);
        let controller = controller.map_err(|source| Error::System {
            what: "cannot start the controller's thread",
            source,
        })?;
        Ok(Self {
            plan,
            segment,
            canceller,
            door,
            ended,
            controller: Some(controller),
        })
    }

    /// The pipe's name, different from every other pipe's.
    pub fn name(&self) -> &PipeName {
        self.plan.name()
    }

    /// What the pipe was started with.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The pipe's shared memory: its descriptor lets another process look at the pipe, or take part
    /// in it. Whoever gets it is trusted with everything that passes through.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// What everybody is doing, without stopping anything.
    pub fn status(&self) -> Status {
        Status::of(&self.segment)
    }

    /// Waits for `interval`, then says what everybody is doing; `None` as soon as the pipe has
    /// ended.
    pub fn status_every(&self, interval: Duration) -> Option<Status> {
        let deadline = Instant::now().checked_add(interval);
        let mut ended = self.ended.flag.lock();
        while !*ended {
            match deadline {
                Some(deadline)
                    if self
                        .ended
                        .changed
                        .wait_until(&mut ended, deadline)
                        .timed_out() =>
                {
                    return Some(self.status());
                }
                Some(_) => {}
                None => self.ended.changed.wait(&mut ended), // an interval that no clock reaches
            }
        }
        None
    }

    /// Lets a process take the seat of an unbound head or tail. What is returned is its end of the
    /// control connection: send it there, for [`Attachment::take`](crate::host::Attachment::take).
    /// Whether the process may is for the caller to know: it gets the pipe's shared memory.
    ///
    /// # Errors
    ///
    /// [`AdmitError`] if there is no such seat, if it is taken, or the pipe has ended.
    pub fn admit(&self, role: Role, process: Process) -> Result<OwnedFd, AdmitError> {
        self.door.admit(role, process, &self.segment)
    }

    /// Stops the pipe. [`wait`](Self::wait) then returns [`Error::Cancelled`], unless it had ended
    /// before.
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// What stops the pipe from another thread.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Waits until the pipe has ended and everything is given back.
    ///
    /// # Errors
    ///
    /// As [`PipeBuilder::run`].
    pub fn wait(mut self) -> Result<Report, Error> {
        let controller = self.controller.take().expect("taken here and in drop only");
        controller
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Some(controller) = self.controller.take() {
            self.canceller.cancel();
            // Its outcome is of no interest to somebody who lets go of the pipe.
            let _ = controller.join();
        }
    }
}
