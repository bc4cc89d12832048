//! The stop of a pipe, for a stage that waits for something outside of the pipe.
//!
//! A stage that blocks in a system call of its own does not notice that the pipe stops. Here it
//! waits for its descriptor and for the stop together. The stop is a word in shared memory that any
//! process of the pipe may set, so no descriptor announces it: the wait looks at the word
//! [`STOP_CHECKS`] apart.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::limits::STOP_CHECKS;
use crate::memory::atomic::Ordering;
use crate::memory::tables::{CANCELLED, Tables};
use crate::memory::{ParticipantId, now};

use super::activity::Activity;
use super::port_error::PortError;

/// Handle to notice that the pipe stops, for a stage that waits for something outside of the pipe:
/// a socket, a device, a time.
///
/// [`Block::stop`](super::Block::stop) and the ports' `stop` return one. It works in the same way
/// on threads and in processes. A stop ends its waits within 50 ms. They return an
/// [`io::Error`] that contains [`PortError::Stopped`]; a stage returns it with `?`, and it does not
/// count as a failure of the stage. While the instance waits here, the status shows
/// [`Activity::WaitingOutside`].
///
/// The handle can be cloned and sent to other threads. It keeps the memory of the pipe mapped.
///
/// ```
/// use datapipe::prelude::*;
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// /// The data that arrives on a socket.
/// struct Received(UnixStream);
///
/// impl Head for Received {
///     fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
///         block.stop().wait_readable(&self.0)?; // returns when there is data, or the pipe stops
///         let n = self.0.read(block.spare())?;
///         block.grow(n)?;
///         Ok(if n == 0 { Fill::End } else { Fill::Block })
///     }
/// }
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// theirs.write_all(b"some data")?;
/// drop(theirs);
/// let report = Pipe::builder()
///     .head(Received(ours))
///     .tail(StreamTail::new(std::io::sink()))
///     .run()?;
/// assert_eq!(report.bytes_in(), 9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stop {
    tables: Arc<Tables>,
    id: ParticipantId,
}

/// State of a descriptor that [`Stop::wait_any`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// It can be read: there is data, or its end, or an error.
    Readable,
    /// It can be written: there is room, or the other end is closed.
    Writable,
}

impl Stop {
    pub(super) fn new(tables: Arc<Tables>, id: ParticipantId) -> Self {
        Self { tables, id }
    }

    /// True if the pipe has been stopped: cancelled, or failed elsewhere.
    pub fn is_stopped(&self) -> bool {
        self.tables.header().stop.word.load(Ordering::Relaxed) != 0
    }

    /// True if the pipe has been stopped because its job was interrupted, and not because it
    /// failed: the data in its buffers are as good as those before.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.tables.header().stop.word.load(Ordering::Relaxed) == CANCELLED
    }

    /// Fails if the pipe has been stopped. For stages that work on one block for long.
    ///
    /// # Errors
    ///
    /// [`PortError::Stopped`].
    pub fn check(&self) -> Result<(), PortError> {
        if self.is_stopped() {
            Err(PortError::Stopped)
        } else {
            Ok(())
        }
    }

    /// Waits until `descriptor` has data to read, or its end.
    ///
    /// # Errors
    ///
    /// An error that contains [`PortError::Stopped`] when the pipe stops; the kernel's, if it
    /// cannot poll the descriptor.
    pub fn wait_readable(&self, descriptor: &impl AsFd) -> io::Result<()> {
        self.wait_any(&[(descriptor.as_fd(), Readiness::Readable)], None)
            .map(drop)
    }

    /// Waits until `descriptor` takes data. A write of more than 4096 bytes to a pipe may block all
    /// the same, unless the descriptor is non-blocking.
    ///
    /// # Errors
    ///
    /// As [`wait_readable`](Self::wait_readable).
    pub fn wait_writable(&self, descriptor: &impl AsFd) -> io::Result<()> {
        self.wait_any(&[(descriptor.as_fd(), Readiness::Writable)], None)
            .map(drop)
    }

    /// Waits until one of several descriptors is ready, `timeout` at most. Returns the position of
    /// the first that is ready; `None` after `timeout`. A descriptor on which an error or a hang-up
    /// is pending is ready.
    ///
    /// # Errors
    ///
    /// As [`wait_readable`](Self::wait_readable).
    pub fn wait_any(
        &self,
        descriptors: &[(BorrowedFd<'_>, Readiness)],
        timeout: Option<Duration>,
    ) -> io::Result<Option<usize>> {
        let mut polled: Vec<_> = descriptors
            .iter()
            .map(|(descriptor, readiness)| {
                let flags = match readiness {
                    Readiness::Readable => PollFlags::IN,
                    Readiness::Writable => PollFlags::OUT,
                };
                PollFd::from_borrowed_fd(*descriptor, flags)
            })
            .collect();
        // A deadline that no clock reaches is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // Most waits end at once, and cost one call.
        let mut slice = Duration::ZERO;
        let mut waiting = None;
        loop {
            self.check().map_err(io::Error::other)?;
            if let Some(ready) = poll_for(&mut polled, slice)? {
                return Ok(Some(ready));
            }
            slice = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Ok(None),
                left => left.map_or(STOP_CHECKS, |left| left.min(STOP_CHECKS)),
            };
            waiting.get_or_insert_with(|| WaitingOutside::begin(self));
        }
    }

    /// Sleeps for `time`: between two looks at a source that can only be polled.
    ///
    /// # Errors
    ///
    /// An error that contains [`PortError::Stopped`] when the pipe stops.
    pub fn sleep(&self, time: Duration) -> io::Result<()> {
        self.wait_any(&[], Some(time)).map(drop)
    }
}

/// Polls for `timeout` at most. Returns the position of the first descriptor that is ready.
fn poll_for(polled: &mut [PollFd<'_>], timeout: Duration) -> io::Result<Option<usize>> {
    let timeout = Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(polled, Some(&timeout)) {
        // A signal is a reason to look again.
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
        Ok(_) => Ok(polled.iter().position(|fd| !fd.revents().is_empty())),
        Err(errno) => Err(errno.into()),
    }
}

/// Shows in the status that the instance waits outside of the pipe, until it is dropped.
struct WaitingOutside<'s>(&'s Stop);

impl<'s> WaitingOutside<'s> {
    fn begin(stop: &'s Stop) -> Self {
        stop.tables.participants[stop.id]
            .since
            .store(now(), Ordering::Relaxed);
        Activity::Working.replace(Activity::WaitingOutside, &stop.tables, stop.id);
        Self(stop)
    }
}

impl Drop for WaitingOutside<'_> {
    fn drop(&mut self) {
        Activity::WaitingOutside.replace(Activity::Working, &self.0.tables, self.0.id);
    }
}
