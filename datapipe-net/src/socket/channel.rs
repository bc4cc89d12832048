//! Whole messages over a connection. Every wait has a deadline, and ends with [`Stop`].

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use zeroize::Zeroizing;

use super::stop::Stop;
use crate::limits::{BODY_PIECE, MAX_BODY};
use crate::protocol::{DecodeError, HEAD_LEN, MessageHead};

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    stop: Option<Stop>,
    /// Descriptor that accompanied received bytes, until the caller takes it.
    descriptor: Option<OwnedFd>,
}

/// Time at which a wait ends without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

/// Failure to send or receive a message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelError {
    /// The peer closed the connection between two messages.
    Closed,
    /// The deadline passed before the peer sent or read all bytes.
    TooSlow,
    /// The [`Stop`] of the channel was given.
    Stopped,
    /// The received bytes are not a message.
    Malformed(DecodeError),
    /// The connection failed.
    System(io::Error),
}

/// Descriptors that can be read from after a wait.
///
/// Exhaustive: a wait has these two descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// True if the connection can be read from, or has ended.
    pub socket: bool,
    /// True if the other descriptor can be read from.
    pub other: bool,
}

impl Deadline {
    /// A deadline that never passes.
    pub const NEVER: Self = Self(None);

    /// A deadline `time` from now; it never passes if the clock cannot represent it.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now().checked_add(time))
    }

    /// True if the time is over.
    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|end| end <= Instant::now())
    }

    /// Remaining time; `None` without end.
    pub(crate) fn left(self) -> Option<Timespec> {
        let left = self.0?.saturating_duration_since(Instant::now());
        Some(Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        })
    }
}

impl Channel {
    /// A channel over a connected, non-blocking socket. Every wait ends when `stop` is given.
    pub fn new(socket: OwnedFd, stop: Option<Stop>) -> Self {
        Self {
            socket,
            stop,
            descriptor: None,
        }
    }

    /// Waits until the connection, or `other`, can be read from.
    ///
    /// # Errors
    ///
    /// [`ChannelError::TooSlow`] if neither can be read from in time, [`ChannelError::Stopped`] if
    /// the stop signal was given.
    pub fn wait(
        &self,
        other: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<Ready, ChannelError> {
        self.wait_for(PollFlags::IN, other, deadline)
    }

    /// Fills `bytes` from the connection.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Closed`] if the peer closed the connection before the first byte, and an
    /// end of file if it closed it later. Otherwise as [`wait`](Self::wait).
    pub fn read(&mut self, bytes: &mut [u8], deadline: Deadline) -> Result<(), ChannelError> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.receive(rest) {
                Ok(0) if done == 0 => return Err(ChannelError::Closed),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => done += count,
                Err(Errno::AGAIN) => {
                    self.wait(None, deadline)?;
                }
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) if done == 0 => return Err(ChannelError::Closed),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        Ok(())
    }

    /// Reads one message: its head and its body, which is erased from memory when it is dropped.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and [`ChannelError::Malformed`] for an invalid head. The beginning
    /// of the next message is then unknown, so the connection is of no further use.
    pub fn read_message(
        &mut self,
        deadline: Deadline,
    ) -> Result<(MessageHead, Zeroizing<Vec<u8>>), ChannelError> {
        let mut head = [0; HEAD_LEN];
        self.read(&mut head, deadline)?;
        let head = MessageHead::decode(&head).map_err(ChannelError::Malformed)?;
        // The length is only announced: the memory grows with the bytes that arrive. They may
        // contain a key, so they are moved by hand: a growing vector leaves a copy.
        let mut body = Zeroizing::new(Vec::new());
        while body.len() < head.len {
            let start = body.len();
            let mut larger = Zeroizing::new(vec![0; head.len.min((2 * start).max(BODY_PIECE))]);
            larger[..start].copy_from_slice(&body);
            body = larger;
            self.read(&mut body[start..], deadline)
                .map_err(|error| match error {
                    ChannelError::Closed => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
                    other => other,
                })?;
        }
        Ok((head, body))
    }

    /// Takes the descriptor that accompanied the bytes read last.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptor.take()
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// If the peer does not read in time, or has closed the connection.
    pub fn write(&self, bytes: &[u8], deadline: Deadline) -> Result<(), ChannelError> {
        self.write_with(bytes, None, deadline)
    }

    /// Writes one message. A descriptor accompanies the first byte of its head.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and if the body exceeds [`MAX_BODY`]; then nothing is written.
    pub fn write_message(
        &self,
        kind: u16,
        request: u32,
        body: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<(), ChannelError> {
        if body.len() > MAX_BODY {
            let why = format!(
                "the message has a body of {} bytes, more than {MAX_BODY}",
                body.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why).into());
        }
        let head = MessageHead {
            len: body.len(),
            kind,
            request,
        };
        let bytes = Zeroizing::new([&head.encode(), body].concat());
        self.write_with(&bytes, descriptor, deadline)
    }

    /// Writes all of `bytes`. The descriptor goes with the first part that the socket accepts.
    fn write_with(
        &self,
        bytes: &[u8],
        mut descriptor: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<(), ChannelError> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.send(rest, descriptor) {
                Ok(count) => {
                    done += count;
                    descriptor = None;
                }
                Err(Errno::AGAIN) => {
                    self.wait_for(PollFlags::OUT, None, deadline)?;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(Errno::NOBUFS);
        }
        sendmsg(
            &self.socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
    }

    /// Receives into `bytes`, once. The descriptor of a previous call is closed if the caller did
    /// not take it and another arrives, and so are all but the first of one message.
    fn receive(&mut self, bytes: &mut [u8]) -> rustix::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(bytes)];
        let got = recvmsg(
            &self.socket,
            slices,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                self.descriptor = descriptors.next();
            }
        }
        Ok(got.bytes)
    }

    /// Waits for `events` of the connection, for the stop signal, or until `other` can be read
    /// from.
    ///
    /// The results are in the order of the descriptors: the socket, the stop signal if the channel
    /// has one, and `other`.
    fn wait_for(
        &self,
        events: PollFlags,
        other: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<Ready, ChannelError> {
        let mut polled = vec![PollFd::new(&self.socket, events)];
        polled.extend(
            self.stop
                .as_ref()
                .map(|stop| PollFd::new(stop, PollFlags::IN)),
        );
        polled.extend(other.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN)));
        loop {
            match poll(&mut polled, deadline.left().as_ref()) {
                Ok(0) => return Err(ChannelError::TooSlow),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let socket = ready.next().unwrap_or_default();
        if self.stop.is_some() && ready.next().unwrap_or_default() {
            return Err(ChannelError::Stopped);
        }
        Ok(Ready {
            socket,
            other: ready.next().unwrap_or_default(),
        })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::TooSlow => f.write_str("the peer did not send or read in time"),
            Self::Stopped => f.write_str("the wait was stopped"),
            Self::Malformed(error) => error.fmt(f),
            Self::System(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            Self::System(error) => Some(error),
            Self::Closed | Self::TooSlow | Self::Stopped => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const LONG: Deadline = Deadline::NEVER;

    fn pair(stop: Option<&Stop>) -> (Channel, Channel) {
        let (a, b) = UnixStream::pair().unwrap();
        for socket in [&a, &b] {
            socket.set_nonblocking(true).unwrap();
        }
        (
            Channel::new(a.into(), stop.cloned()),
            Channel::new(b.into(), None),
        )
    }

    #[test]
    fn messages_and_their_descriptor_arrive_whole() {
        let (a, mut b) = pair(None);
        let body = vec![7; MAX_BODY];
        let file = tempfile::tempfile().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                a.write_message(1, 2, &[], None, LONG).unwrap();
                a.write_message(3, 4, &body, Some(file.as_fd()), LONG)
                    .unwrap();
            });
            let (head, empty) = b.read_message(LONG).unwrap();
            assert_eq!((head.kind, head.request, empty.len()), (1, 2, 0));
            assert!(b.take_descriptor().is_none());
            let (head, got) = b.read_message(LONG).unwrap();
            assert_eq!((head.kind, head.request), (3, 4));
            assert!(*got == body);
        });
        let descriptor = b.take_descriptor().unwrap();
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(descriptor.as_fd()), inode(file.as_fd()));
        drop(a);
        assert!(matches!(b.read_message(LONG), Err(ChannelError::Closed)));
    }

    #[test]
    fn bodies_over_the_limit_are_refused_by_writer_and_reader() {
        let (a, mut b) = pair(None);
        let long = a
            .write_message(1, 1, &vec![0; MAX_BODY + 1], None, LONG)
            .unwrap_err();
        assert!(
            long.to_string()
                .contains("1048577 bytes, more than 1048576"),
            "{long}"
        );
        a.write(&[255; HEAD_LEN], LONG).unwrap();
        assert!(matches!(
            b.read_message(LONG),
            Err(ChannelError::Malformed(_))
        ));
    }

    #[test]
    fn incomplete_messages_are_an_error() {
        let (a, mut b) = pair(None);
        let head = MessageHead {
            len: 100,
            kind: 1,
            request: 1,
        }
        .encode();
        a.write(&head, LONG).unwrap();
        let soon = Deadline::after(Duration::from_millis(1));
        assert!(matches!(b.read_message(soon), Err(ChannelError::TooSlow)));
        let (a, mut b) = pair(None);
        a.write(&[&head[..], &[1; 99]].concat(), LONG).unwrap();
        drop(a);
        assert!(matches!(b.read_message(LONG), Err(ChannelError::System(_))));
    }

    #[test]
    fn waits_end_when_stop_is_given() {
        let stop = Stop::new().unwrap();
        let (mut a, _b) = pair(Some(&stop));
        stop.stop();
        assert!(matches!(a.read_message(LONG), Err(ChannelError::Stopped)));
        let full = vec![0; MAX_BODY];
        let ended = (0..64).find_map(|_| a.write_message(1, 1, &full, None, LONG).err());
        assert!(matches!(ended, Some(ChannelError::Stopped)), "{ended:?}");
        assert!(matches!(a.wait(None, LONG), Err(ChannelError::Stopped)));
    }
}
