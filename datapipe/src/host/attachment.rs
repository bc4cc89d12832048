//! A process that attaches to somebody else's pipe as its head or its tail.

use std::fmt;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::modules::Notes;
use super::order::{self, LaunchRequest};
use super::report;
use super::watch::{OnControllerDeath, Watch};
use crate::error::StageError;
use crate::memory::{Process, Segment};
use crate::pool::{HeadPort, PortError, Seat, TailPort};

/// A seat in a pipe that another process controls: this one has attached as its head or its tail.
///
/// The control connection comes from the pipe's controller ([`Pipe::admit`](crate::Pipe::admit)).
/// If that dies, the pipe stops, and every wait ends with [`PortError::Stopped`].
///
/// ```no_run
/// use datapipe::host::Attachment;
///
/// # fn get_control() -> std::os::fd::OwnedFd { unimplemented!() }
/// let attachment = Attachment::take(get_control())?;
/// let port = attachment.head()?;
/// for line in std::io::stdin().lines() {
///     let mut block = port.alloc()?;
///     block.put(line?.as_bytes())?;
///     port.send(block)?;
/// }
/// port.finish()?;
/// attachment.end(Ok(()));
/// # Ok::<(), datapipe::StageError>(())
/// ```
pub struct Attachment {
    segment: Segment,
    seat: Seat,
    control: OwnedFd,
    watch: Option<Watch>,
}

impl Attachment {
    /// Takes the seat that the control connection's other end gave.
    ///
    /// # Errors
    ///
    /// If what comes over it is no order to attach, if its segment cannot be mapped, or the
    /// controller has died.
    pub fn take(control: OwnedFd) -> Result<Self, StageError> {
        let (order, segment) = order::take(&control)?;
        let LaunchRequest {
            stage,
            instance,
            instances: 1,
            terminate_at_limit,
            job: None,
        } = order
        else {
            return Err(StageError::new("this is no order to attach"));
        };
        let is_there = segment
            .shape()
            .stages()
            .get(stage as usize)
            .is_some_and(|at| instance < at.instances);
        let is_end = stage == 0 || stage.checked_add(1) == Some(segment.shape().stage_count());
        if !(is_there && is_end) {
            return Err(StageError::new(format!(
                "the pipe has no instance {instance} of a head or tail {stage}"
            )));
        }
        let controller = rustix::net::sockopt::socket_peercred(&control)?;
        let controller = Process::watch(controller.pid.as_raw_nonzero().get().unsigned_abs())?;
        // Its number may be another's by now, if it died: then it has hung up as well.
        let mut polled = [PollFd::new(&control, PollFlags::empty())];
        let hung_up = poll(&mut polled, Some(&Timespec::default()))? > 0;
        if hung_up {
            return Err(StageError::new("the pipe has ended"));
        }
        let watch = Watch::start(
            controller,
            &segment,
            &Notes::new(control.try_clone()?),
            OnControllerDeath::GoOn,
        )?;
        let seat = Seat::new(&segment, stage, instance).terminate_at_limit(terminate_at_limit);
        Ok(Self {
            segment,
            seat,
            control,
            watch: Some(watch),
        })
    }

    /// The pipe's shared memory.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Whether the seat is the head's; otherwise it is the tail's.
    pub fn is_head(&self) -> bool {
        self.seat.is_head()
    }

    /// The primitives of the head. They can be had once at a time.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`] if somebody has them.
    ///
    /// # Panics
    ///
    /// If the seat is the tail's.
    pub fn head(&self) -> Result<HeadPort, PortError> {
        self.seat.head()
    }

    /// The primitives of the tail. They can be had once at a time.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`] if somebody has them.
    ///
    /// # Panics
    ///
    /// If the seat is the head's.
    pub fn tail(&self) -> Result<TailPort, PortError> {
        self.seat.tail()
    }

    /// Tells the controller how it ended. To be called when the port has finished, or is dropped:
    /// after an error the pipe stops. One that is dropped without this has failed.
    #[allow(clippy::needless_pass_by_value, reason = "an outcome is told once")]
    pub fn end(mut self, result: Result<(), StageError>) {
        self.tell(&result);
    }

    fn tell(&mut self, result: &Result<(), StageError>) {
        if let Some(watch) = self.watch.take() {
            watch.end();
            report::tell(&self.control, 0, result);
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.tell(&Err(StageError::new(
            "it let go of the pipe without an end",
        )));
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("segment", &self.segment)
            .finish_non_exhaustive()
    }
}
