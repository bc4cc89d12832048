//! A pipe that runs in the background.

#[cfg(feature = "processes")]
use std::os::fd::{AsFd as _, OwnedFd};
#[cfg(feature = "processes")]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::Error;
#[cfg(feature = "processes")]
use crate::host::attach_socket;
#[cfg(feature = "processes")]
use crate::memory::Process;
use crate::memory::{PipeName, Segment};
use crate::stage::ProblemCount;
#[cfg(feature = "processes")]
use crate::stage::Role;

#[cfg(feature = "processes")]
use super::admission::AdmitError;
use super::builder::PipeBuilder;
use super::cancel::Canceller;
use super::event::Event;
use super::plan::Plan;
use super::processes::AttachPoint;
use super::progress::Progress;
use super::report::Report;
use super::status::Status;
use super::supervise::PreparedPipe;
use super::work_watch::WorkWatch;

/// A running pipe. Dropping it cancels the pipe, and waits until it has stopped.
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
    attach_point: Arc<AttachPoint>,
    watch: Arc<WorkWatch>,
    problems: ProblemCount,
    ended: Arc<EndFlag>,
    controller: Option<JoinHandle<Result<Report, Error>>>,
}

/// Set when the controller has ended.
#[derive(Debug, Default)]
struct EndFlag {
    is_set: Mutex<bool>,
    changed: Condvar,
}

/// Sets the flag when dropped, so that it is set however the controller ends.
struct SetOnDrop(Arc<EndFlag>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        *self.0.is_set.lock() = true;
        self.0.changed.notify_all();
    }
}

/// Compiles only if the handles of a pipe, and its results, can be shared between threads.
const _: () = {
    const fn assert_send_and_sync<T: Send + Sync>() {}
    assert_send_and_sync::<Pipe>();
    assert_send_and_sync::<Canceller>();
    assert_send_and_sync::<Plan>();
    assert_send_and_sync::<Status>();
    assert_send_and_sync::<Report>();
    assert_send_and_sync::<Event>();
    assert_send_and_sync::<Error>();
};

impl Pipe {
    /// Returns the description of a new pipe, to be filled in.
    pub fn builder<'a>() -> PipeBuilder<'a> {
        PipeBuilder::new()
    }

    pub(super) fn start(prepared: PreparedPipe<'static>) -> Result<Self, Error> {
        let (plan, segment) = (prepared.plan.clone(), prepared.segment.clone());
        let canceller = prepared.canceller.clone();
        let attach_point = Arc::clone(&prepared.attach_point);
        let watch = Arc::clone(&prepared.watch);
        let problems = prepared.problems.clone();
        let ended = Arc::new(EndFlag::default());
        let set_on_drop = SetOnDrop(Arc::clone(&ended));
        let run = move || {
            let _set_on_drop = set_on_drop;
            prepared.run()
        };
        let controller = Builder::new().name("controller".to_owned()).spawn(run);
        let controller = controller.map_err(|source| Error::System {
            what: "cannot start the controller's thread; the user may have reached the limit of \
                   threads (ulimit -u)",
            source,
        })?;
        Ok(Self {
            plan,
            segment,
            canceller,
            attach_point,
            watch,
            problems,
            ended,
            controller: Some(controller),
        })
    }

    /// The pipe's name, which no other pipe has.
    pub fn name(&self) -> &PipeName {
        self.plan.name()
    }

    /// The plan that the pipe was started with.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The pipe's shared memory. Its descriptor lets another process read the status of the pipe,
    /// or take part in it. A process that gets it is trusted with everything that passes through.
    #[doc(hidden)]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Reads the activity and the counters of every instance, without stopping anything.
    pub fn status(&self) -> Status {
        Status::of(&self.segment).with(&self.plan.label, &self.segment, &self.watch)
    }

    /// Number of problems that the stages have counted so far, as in
    /// [`Report::problems`]. It is final when the pipe has ended, also if it failed.
    pub fn problem_count(&self) -> u64 {
        self.problems.get()
    }

    /// Waits for `interval`, then reads the status. Returns `None` as soon as the pipe has ended.
    pub fn status_every(&self, interval: Duration) -> Option<Status> {
        (!self.has_ended_within(interval)).then(|| self.status())
    }

    /// Waits for the end of the pipe, for `time` at most. Returns true if it has ended.
    fn has_ended_within(&self, interval: Duration) -> bool {
        let deadline = Instant::now().checked_add(interval);
        let changed = &self.ended.changed;
        let mut ended = self.ended.is_set.lock();
        while !*ended {
            match deadline {
                Some(deadline) => {
                    if changed.wait_until(&mut ended, deadline).timed_out() {
                        return *ended;
                    }
                }
                None => changed.wait(&mut ended), // an interval that no clock reaches
            }
        }
        true
    }

    /// True if the pipe has ended: [`wait`](Self::wait) then returns at once.
    pub fn is_finished(&self) -> bool {
        *self.ended.is_set.lock()
    }

    /// Shows the progress of the pipe to `progress` every `interval` and once at its end, and
    /// returns its outcome.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait). A panic of `progress` cancels the pipe.
    pub fn watch(
        self,
        interval: Duration,
        progress: &mut (impl Progress + ?Sized),
    ) -> Result<Report, Error> {
        let mut before = self.status();
        while let Some(now) = self.status_every(interval) {
            progress.update(&now, &now.since(&before));
            before = now;
        }
        let last = self.status();
        progress.update(&last, &last.since(&before));
        self.wait()
    }

    /// Returns the outcome of the pipe if it has ended, and otherwise the pipe. Does not wait.
    ///
    /// # Errors
    ///
    /// The pipe, if it has not ended.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(self) -> Result<Result<Report, Error>, Box<Self>> {
        self.wait_timeout(Duration::ZERO)
    }

    /// As [`try_wait`](Self::try_wait), but waits up to `timeout` for the end of the pipe.
    ///
    /// ```
    /// use datapipe::prelude::*;
    /// use std::time::Duration;
    ///
    /// let pipe = Pipe::builder()
    ///     .head(StreamHead::new(&b"some data"[..]))
    ///     .tail(StreamTail::new(std::io::sink()))
    ///     .start()?;
    /// let report = match pipe.wait_timeout(Duration::from_secs(60)) {
    ///     Ok(outcome) => outcome?,
    ///     Err(pipe) => {
    ///         pipe.cancel();
    ///         pipe.wait()?
    ///     }
    /// };
    /// assert_eq!(report.bytes_in(), 9);
    /// # Ok::<(), datapipe::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The pipe, if it has not ended by then.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<Report, Error>, Box<Self>> {
        if self.has_ended_within(timeout) {
            Ok(self.wait())
        } else {
            Err(Box::new(self))
        }
    }

    /// Gives the seat of an unbound head or tail to the process that asks for it at the other end
    /// of `socket`, by [`Attachment::receive`](crate::host::Attachment::receive). The process need
    /// not be the one that connected the socket. Afterwards the socket is the caller's again.
    ///
    /// Waits for the process as long as the socket's [read timeout](UnixStream::set_read_timeout),
    /// until it closes the socket, or until the pipe stops. The process gets access to the pipe's
    /// shared memory. Therefore the other end of the socket must belong to the user of this
    /// process; for other users, decide yourself and call [`admit`](Self::admit).
    ///
    /// ```no_run
    /// use datapipe::controller::Role;
    /// use datapipe::prelude::*;
    /// use std::os::unix::net::UnixListener;
    /// use std::time::Duration;
    ///
    /// let pipe = Pipe::builder()
    ///     .head(Stage::unbound_head("feed", Duration::from_secs(60)))
    ///     .tail(StreamTail::new(std::io::sink()))
    ///     .start()?;
    /// let listener = UnixListener::bind("/run/backup/feed")?;
    /// pipe.admit_over(Role::Head, &listener.accept()?.0)?;
    /// pipe.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`AdmitError`], as [`admit`](Self::admit); [`AdmitError::OtherUser`]; and
    /// [`AdmitError::Socket`] if the socket fails, the time is over, or the other side does not ask
    /// as it should. The other side is then refused. If the answer itself cannot be sent, the seat
    /// is taken, and the pipe stops.
    #[cfg(feature = "processes")]
    pub fn admit_over(&self, role: Role, socket: &UnixStream) -> Result<(), AdmitError> {
        let admitted = self.attach_point.admit_over(role, socket, &self.segment);
        let control = admitted.as_ref().ok().map(|control| control.as_fd());
        let answered = attach_socket::answer(socket, control);
        // If the process is refused, that reason says more than a socket that failed.
        admitted?;
        answered.map_err(AdmitError::Socket)
    }

    /// Gives the seat of an unbound head or tail to a process. Returns the process's end of the
    /// control connection: send it to the process, for
    /// [`Attachment::open`](crate::host::Attachment::open). [`admit_over`](Self::admit_over) does
    /// both over a socket. The caller decides whether the process may attach: it gets access to the
    /// pipe's shared memory.
    ///
    /// # Errors
    ///
    /// [`AdmitError`] if there is no such seat, if it is taken, or the pipe has ended.
    #[cfg(feature = "processes")]
    pub fn admit(&self, role: Role, process: Process) -> Result<OwnedFd, AdmitError> {
        self.attach_point.admit(role, process, &self.segment)
    }

    /// Stops the pipe. [`wait`](Self::wait) then returns [`Error::Cancelled`], unless the pipe had
    /// ended before.
    pub fn cancel(&self) {
        self.canceller.cancel();
    }

    /// Returns a handle that stops the pipe from another thread.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Waits until the pipe has ended and everything it used is released.
    ///
    /// # Errors
    ///
    /// As [`PipeBuilder::run`].
    ///
    /// # Panics
    ///
    /// If the function given to [`PipeBuilder::on_event`] panics: the panic of the controller's
    /// thread goes on in this one. Panics in stages are errors.
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
            // A caller who drops the pipe does not ask for its outcome.
            let _ = controller.join();
        }
    }
}
