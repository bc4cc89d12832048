//! A process that attaches to another process's pipe as its head or its tail.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::attach_error::AttachError;
use super::attach_socket;
use super::launch_request::LaunchRequest;
use super::message;
use super::message_sources::MessageSources;
use super::watch::{OnControllerDeath, Watch};
use crate::error::StageError;
use crate::memory::{Process, Segment, StageId};
use crate::pool::{HeadPort, PortError, Seat, TailPort};
use crate::stage::Role;

/// A seat in a pipe that another process controls, to which this process has attached as its head
/// or its tail.
///
/// The control connection comes from the pipe's controller, over a connected socket
/// ([`Attachment::receive`]) or by any other means ([`Attachment::open`]). If the controller dies,
/// the pipe stops, and every wait ends with [`PortError::Stopped`].
///
/// ```no_run
/// use datapipe::host::Attachment;
/// use std::os::unix::net::UnixStream;
///
/// let attachment = Attachment::receive(&UnixStream::connect("/run/backup/feed")?)?;
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
    /// Asks the program at the other end of `socket` for a seat, and takes it. That program calls
    /// [`Pipe::admit_over`](crate::Pipe::admit_over). Afterwards the socket is the caller's again,
    /// to use or to close.
    ///
    /// Waits for the answer as long as the socket's
    /// [read timeout](UnixStream::set_read_timeout), or until the other side closes the socket.
    ///
    /// # Errors
    ///
    /// [`AttachError::Refused`] if the program does not admit this process,
    /// [`AttachError::Socket`] if the socket fails or the time is over, and the errors of
    /// [`open`](Self::open).
    pub fn receive(socket: &UnixStream) -> Result<Self, AttachError> {
        Self::open(attach_socket::request(socket)?)
    }

    /// Takes the seat that the controller assigned at the other end of the control connection,
    /// which [`Pipe::admit`](crate::Pipe::admit) returned.
    ///
    /// # Errors
    ///
    /// [`AttachError`] if the controller does not send a launch request to attach, if its segment
    /// cannot be mapped, or if the controller has died.
    pub fn open(control: OwnedFd) -> Result<Self, AttachError> {
        // First the request: it must ask for one instance and no module. Then the seat: it must
        // exist, and be the head's or the tail's. Last the controller: the watch starts before the
        // seat is used, so that its death stops the pipe from then on.
        let (request, segment) =
            LaunchRequest::recv(&control).map_err(|error| AttachError::Request(error.into()))?;
        let LaunchRequest {
            first: instance,
            instances: 1,
            at_limit,
            job: None,
        } = request
        else {
            return Err(AttachError::NotToAttach);
        };
        let (shape, stage) = (segment.shape(), instance.stage());
        let is_end = stage == StageId::HEAD || stage == shape.tail();
        if !(shape.has_instance(instance) && is_end) {
            return Err(AttachError::NoSuchSeat(instance));
        }
        let controller =
            rustix::net::sockopt::socket_peercred(&control).map_err(io::Error::from)?;
        let controller = Process::watch(controller.pid.as_raw_nonzero().get().unsigned_abs())?;
        // If the controller has died, its process id may belong to another process by now. In that
        // case the connection has hung up as well.
        let mut polled = [PollFd::new(&control, PollFlags::empty())];
        let polled = poll(&mut polled, Some(&Timespec::default()));
        let hung_up = polled.map_err(io::Error::from)? > 0;
        if hung_up {
            return Err(AttachError::Ended);
        }
        let watch = Watch::start(
            controller,
            &segment,
            &MessageSources::new(control.try_clone()?),
            OnControllerDeath::GoOn,
        )?;
        let seat = Seat::new(&segment, instance).at_limit(at_limit);
        Ok(Self {
            segment,
            seat,
            control,
            watch: Some(watch),
        })
    }

    /// The pipe's shared memory.
    #[doc(hidden)]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Role of the seat: [`Role::Head`] or [`Role::Tail`].
    pub fn role(&self) -> Role {
        if self.seat.is_head() {
            Role::Head
        } else {
            Role::Tail
        }
    }

    /// The primitives of the head. Only one port can exist at a time.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`] if the port exists already.
    ///
    /// # Panics
    ///
    /// If the seat is the tail's.
    pub fn head(&self) -> Result<HeadPort, PortError> {
        self.seat.head()
    }

    /// The primitives of the tail. Only one port can exist at a time.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`] if the port exists already.
    ///
    /// # Panics
    ///
    /// If the seat is the head's.
    pub fn tail(&self) -> Result<TailPort, PortError> {
        self.seat.tail()
    }

    /// Reports the result to the controller. Call it when the port has finished or is dropped.
    /// After an error the pipe stops. An attachment dropped without this call counts as failed.
    #[allow(clippy::needless_pass_by_value, reason = "a result is reported once")]
    pub fn end(mut self, result: Result<(), StageError>) {
        self.report(&result);
    }

    fn report(&mut self, result: &Result<(), StageError>) {
        if let Some(watch) = self.watch.take() {
            watch.end();
            message::send_result(&self.control, 0, result);
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.report(&Err(StageError::new(
            "it dropped its attachment without reporting a result",
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
