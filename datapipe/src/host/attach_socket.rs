//! The exchange by which a process gets its control connection over a connected socket.
//!
//! ```text
//!   process that attaches                              program that has the pipe
//!     request: version, its own pidfd      --------->  admits the process
//!     control connection                   <---------  answer: accepted, descriptor; or refused
//! ```
//!
//! The pidfd names the process, also if another one connected the socket or made the pair, and the
//! process cannot be mistaken for one that gets its id later. `docs/host-protocol.md` has the
//! bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::attach_error::AttachError;
use crate::memory::Process;

/// First byte of a request: the version of the exchange.
const REQUEST: u8 = 1;
/// Answer: the control connection comes with this byte.
const ACCEPTED: u8 = 1;
/// Answer: the program does not admit the process.
const REFUSED: u8 = 0;

/// Asks the program at the other end of `socket` for a seat. Returns the control connection.
pub(super) fn request(socket: &UnixStream) -> Result<OwnedFd, AttachError> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(io::Error::from)?;
    send(socket, REQUEST, Some(own.as_fd())).map_err(AttachError::Socket)?;
    loop {
        let timeout = socket.read_timeout().map_err(AttachError::Socket)?;
        if !wait(socket, timeout).map_err(AttachError::Socket)? {
            return Err(AttachError::Socket(io::ErrorKind::TimedOut.into()));
        }
        return match recv(socket).map_err(AttachError::Socket)? {
            Some((ACCEPTED, Some(control))) => Ok(control),
            Some((REFUSED, _)) => Err(AttachError::Refused),
            Some((byte, control)) => {
                let with = if control.is_some() { "with" } else { "without" };
                let what = format!("it answered with byte {byte} {with} a descriptor");
                Err(AttachError::Socket(io::Error::new(
                    io::ErrorKind::InvalidData,
                    what,
                )))
            }
            None => continue, // not readable after all
        };
    }
}

/// Receives the request of the process at the other end of `socket`, if it arrives within
/// `timeout`.
pub(crate) fn receive_request(
    socket: &UnixStream,
    timeout: Duration,
) -> io::Result<Option<Process>> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if !wait(socket, Some(timeout))? {
        return Ok(None);
    }
    match recv(socket)? {
        None => Ok(None),
        Some((REQUEST, Some(process))) => Process::of_descriptor(process).map(Some),
        Some((REQUEST, None)) => Err(invalid("its request has no descriptor".to_owned())),
        Some((byte, _)) => Err(invalid(format!(
            "it sent byte {byte}, but a request begins with {REQUEST}"
        ))),
    }
}

/// Answers a request: with the process's end of the control connection, or with a refusal.
pub(crate) fn answer(socket: &UnixStream, control: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let byte = if control.is_some() { ACCEPTED } else { REFUSED };
    send(socket, byte, control)
}

/// Sends one byte, with a descriptor if there is one.
fn send(socket: &UnixStream, byte: u8, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        let has_room = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        debug_assert!(has_room, "there is space for one descriptor");
    }
    let bytes = [byte];
    retry_on_intr(|| {
        let slices = [IoSlice::new(&bytes)];
        rustix::net::sendmsg(socket, &slices, &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one byte and its descriptor, if it has one; `None` if there is no byte yet.
///
/// Reads nothing beyond the byte: what follows it belongs to the caller.
fn recv(socket: &UnixStream) -> io::Result<Option<(u8, Option<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = retry_on_intr(|| {
        let slices = &mut [IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(socket, slices, &mut ancillary, flags)
    });
    let received = match received {
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        other => other?,
    };
    // Taken before any check, so that an error closes them.
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the other side closed the socket",
        ));
    }
    Ok(Some((byte[0], descriptors.pop())))
}

/// Waits until the socket can be read, or the other side has closed it. Returns false if neither
/// happens within `timeout`; `None` waits without a limit.
fn wait(socket: &UnixStream, timeout: Option<Duration>) -> io::Result<bool> {
    // A timeout that the kernel cannot count is none.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    match poll(&mut polled, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(true), // the caller reads, and finds nothing
        Err(error) => Err(error.into()),
    }
}
