//! Whole messages over a connection. Every wait has its deadline, or ends with [`Stop`].

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

use super::stop::Stop;
use crate::limits::{BODY_PIECE, MAX_BODY};
use crate::protocol::{DecodeError, HEAD, Head};

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    stop: Option<Stop>,
    /// What came along with the bytes that were read, and was not asked for yet.
    descriptor: Option<OwnedFd>,
}

/// When a wait ends in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

/// Why there is no message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelError {
    /// The other side has closed the connection, between two messages.
    Closed,
    /// The other side has taken too long.
    TooSlow,
    /// The wait was ended.
    Stopped,
    /// The bytes are no message.
    Malformed(DecodeError),
    /// The connection has broken.
    System(io::Error),
}

/// What a wait has ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The connection can be read from, or has ended.
    pub socket: bool,
    /// The other descriptor can be read from.
    pub other: bool,
}

impl Deadline {
    /// Never.
    pub const NEVER: Self = Self(None);

    /// So long from now; never, if no clock reaches that.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now().checked_add(time))
    }

    /// The time that is left.
    fn left(self) -> Option<Timespec> {
        let left = self.0?.saturating_duration_since(Instant::now());
        Some(Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        })
    }
}

impl Channel {
    /// Over a connected socket that does not block. Every wait ends when `stop` is given.
    pub fn new(socket: OwnedFd, stop: Option<Stop>) -> Self {
        Self {
            socket,
            stop,
            descriptor: None,
        }
    }

    /// Waits until something can be read from the connection, or from `other`.
    ///
    /// # Errors
    ///
    /// If nothing came in time, or the wait was ended.
    pub fn wait(
        &self,
        other: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<Ready, ChannelError> {
        self.wait_for(PollFlags::IN, other, deadline)
    }

    /// Reads exactly as much as fits in `bytes`.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Closed`] if the other side has closed before the first byte.
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

    /// Reads one message: its head and its body.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and if the head is not as it should be; then nothing that follows
    /// can be read.
    pub fn read_message(&mut self, deadline: Deadline) -> Result<(Head, Vec<u8>), ChannelError> {
        let mut head = [0; HEAD];
        self.read(&mut head, deadline)?;
        let head = Head::decode(&head).map_err(ChannelError::Malformed)?;
        let mut body = Vec::new();
        while body.len() < head.len {
            let start = body.len();
            body.resize(head.len.min(start + BODY_PIECE), 0);
            self.read(&mut body[start..], deadline)
                .map_err(|error| match error {
                    ChannelError::Closed => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
                    other => other,
                })?;
        }
        Ok((head, body))
    }

    /// The descriptor that came along with what was read last.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptor.take()
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// If the other side does not read in time, or has closed.
    pub fn write(&self, bytes: &[u8], deadline: Deadline) -> Result<(), ChannelError> {
        self.write_with(bytes, None, deadline)
    }

    /// Writes one message. A descriptor comes along with the first byte of its head.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and if the body is longer than [`MAX_BODY`]: then nothing was
    /// written.
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
                "a message has a body of {} bytes, more than {MAX_BODY}",
                body.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why).into());
        }
        let head = Head {
            len: body.len(),
            kind,
            request,
        };
        self.write_with(&[&head.encode(), body].concat(), descriptor, deadline)
    }

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

    /// Descriptors that nobody has asked for are closed at once.
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

    fn wait_for(
        &self,
        what: PollFlags,
        other: Option<BorrowedFd<'_>>,
        deadline: Deadline,
    ) -> Result<Ready, ChannelError> {
        let mut polled = vec![PollFd::new(&self.socket, what)];
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
            Self::Closed => f.write_str("the other side has closed the connection"),
            Self::TooSlow => f.write_str("the other side has taken too long"),
            Self::Stopped => f.write_str("stopped"),
            Self::Malformed(error) => error.fmt(f),
            Self::System(error) => write!(f, "the connection: {error}"),
        }
    }
}

impl std::error::Error for ChannelError {}

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
    fn messages_and_a_descriptor_arrive_whole() {
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
            assert!(got == body);
        });
        let descriptor = b.take_descriptor().unwrap();
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(descriptor.as_fd()), inode(file.as_fd()));
        drop(a);
        assert!(matches!(b.read_message(LONG), Err(ChannelError::Closed)));
    }

    #[test]
    fn what_is_too_long_is_refused_on_both_sides() {
        let (a, mut b) = pair(None);
        let long = a
            .write_message(1, 1, &vec![0; MAX_BODY + 1], None, LONG)
            .unwrap_err();
        assert!(
            long.to_string()
                .contains("1048577 bytes, more than 1048576"),
            "{long}"
        );
        a.write(&[255; HEAD], LONG).unwrap();
        assert!(matches!(
            b.read_message(LONG),
            Err(ChannelError::Malformed(_))
        ));
    }

    #[test]
    fn half_a_message_is_no_message() {
        let (a, mut b) = pair(None);
        let head = Head {
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
    fn every_wait_can_be_ended() {
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
