//! Client of a daemon.
//!
//! ```no_run
//! use datapipe::stage::Arguments;
//! use datapipe_net::{Client, Initiate, StageRequest};
//!
//! let level = Arguments::new().with("level", "3");
//! let mut client = Client::connect("/run/datapiped/socket")?;
//! let started = client.initiate(
//!     &Initiate::new("nightly")
//!         .stage(StageRequest::module("files").read("/srv/data"))
//!         .stage(StageRequest::module("zstd").arguments(level).instances(2))
//!         .stage(StageRequest::module("tape").write("/backup/nightly.tap")),
//! )?;
//! println!("{} is {}", started.pipe, client.status(&started.pipe)?.entry.state);
//! # Ok::<(), datapipe_net::ClientError>(())
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapipe::host::{AttachError, Attachment};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::limits::{CLIENT_PATIENCE, MAX_WAITING_EVENTS};
use crate::protocol::{
    AttachRole, ClientHello, CloseReason, DecodeError, EventKind, HELLO_LEN, Initiate, MessageHead,
    PastPipe, PipeEntry, PipeEvent, PipeProblems, PipeStatus, Refusal, Reply, Request, ServerHello,
    ServerMessage, VERSIONS, Versions,
};
use crate::socket::{Channel, ChannelError, Deadline, Stop};

/// Connection to a daemon.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    /// Number of the last request.
    number: u32,
    /// Events that arrived while the client waited for a reply.
    events: VecDeque<PipeEvent>,
    /// Number of further events that arrived then and did not fit in `events`.
    lost: u64,
}

/// Pipe that the daemon started.
#[derive(Debug)]
#[non_exhaustive]
pub struct Started {
    /// Name of the pipe.
    pub pipe: String,
    /// Seat of this process, if it takes part.
    pub attachment: Option<Attachment>,
}

/// Failure of a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// No daemon can be reached.
    Unreachable {
        /// Path of the socket.
        socket: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The daemon does not accept the connection.
    Closed {
        /// Reason of the daemon.
        reason: CloseReason,
        /// Versions of the protocol that the daemon supports.
        versions: Versions,
    },
    /// The daemon refuses the request.
    Refused(Refusal),
    /// The connection failed, or the daemon did not answer in time.
    Channel(ChannelError),
    /// The daemon sent bytes that are not a message.
    Malformed(DecodeError),
    /// The daemon sent a message that violates the protocol.
    Misbehaved(String),
    /// The daemon gave this process a seat, and the process failed to take it.
    Attachment(AttachError),
}

impl Client {
    /// Connects to the daemon that listens at `socket`.
    ///
    /// # Errors
    ///
    /// If no daemon listens there, it does not let this user connect, or it has no version of the
    /// protocol in common with this client.
    pub fn connect(socket: impl AsRef<Path>) -> Result<Self, ClientError> {
        Self::open(socket.as_ref(), None)
    }

    /// Connects as [`connect`](Self::connect) does. Every wait of the client ends when `stop` is
    /// given.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and [`ChannelError::Stopped`] once `stop` is given.
    pub fn connect_until(socket: impl AsRef<Path>, stop: Stop) -> Result<Self, ClientError> {
        Self::open(socket.as_ref(), Some(stop))
    }

    fn open(socket: &Path, stop: Option<Stop>) -> Result<Self, ClientError> {
        let connection = connect(socket).map_err(|source| ClientError::Unreachable {
            socket: socket.to_owned(),
            source,
        })?;
        let mut channel = Channel::new(connection, stop);
        greet(&mut channel)?;
        Ok(Self {
            channel,
            number: 0,
            events: VecDeque::new(),
            lost: 0,
        })
    }

    /// Starts a pipe.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, the connection fails, or this process takes part and fails to take
    /// its seat.
    pub fn initiate(&mut self, pipe: &Initiate) -> Result<Started, ClientError> {
        match self.request(&Request::Initiate(pipe.clone()))? {
            (Reply::Initiated { pipe, control }, descriptor) => {
                let attachment = control.then(|| attach(descriptor)).transpose()?;
                Ok(Started { pipe, attachment })
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Attaches this process to a pipe as its unbound head or tail.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, the connection fails, or this process fails to take the seat.
    pub fn identify(&mut self, pipe: &str, role: AttachRole) -> Result<Attachment, ClientError> {
        match self.request(&Request::Identify {
            pipe: pipe.to_owned(),
            role,
        })? {
            (Reply::Identified, descriptor) => attach(descriptor),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Begins to stop a pipe. The pipe has ended when its event or its status says so.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection fails.
    pub fn stop(&mut self, pipe: &str) -> Result<(), ClientError> {
        match self.request(&Request::Stop {
            pipe: pipe.to_owned(),
        })? {
            (Reply::Stopping, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Returns the status of a pipe.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection fails.
    pub fn status(&mut self, pipe: &str) -> Result<PipeStatus, ClientError> {
        match self.request(&Request::Status {
            pipe: pipe.to_owned(),
        })? {
            (Reply::Status(status), _) => Ok(status),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Returns the pipes that this user may see, the oldest first.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn list(&mut self) -> Result<Vec<PipeEntry>, ClientError> {
        match self.request(&Request::List)? {
            (Reply::List(entries), _) => Ok(entries),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Returns the last problems of a pipe, which may have ended.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection fails.
    pub fn problems(&mut self, pipe: &str) -> Result<PipeProblems, ClientError> {
        match self.request(&Request::Problems {
            pipe: pipe.to_owned(),
        })? {
            (Reply::Problems(problems), _) => Ok(problems),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Returns the last pipes that have ended and that this user may see, the newest first: at most
    /// `limit`, or all that the daemon remembers.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn history(&mut self, limit: Option<u32>) -> Result<Vec<PastPipe>, ClientError> {
        match self.request(&Request::History { limit })? {
            (Reply::History(pipes), _) => Ok(pipes),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Returns the metrics of the daemon as OpenMetrics text. Root, the daemon's own user, and
    /// users whom the configuration names may have them.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection fails.
    pub fn metrics(&mut self) -> Result<String, ClientError> {
        match self.request(&Request::Metrics)? {
            (Reply::Metrics(text), _) => Ok(text),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Subscribes to the events of one pipe, or of all pipes that this user may see.
    ///
    /// # Errors
    ///
    /// If the daemon refuses, or the connection fails.
    pub fn subscribe(&mut self, pipe: Option<&str>) -> Result<(), ClientError> {
        match self.request(&Request::Subscribe {
            pipe: pipe.map(str::to_owned),
        })? {
            (Reply::Subscribed, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Waits up to `timeout` for an event; `None` if none arrives.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub fn next_event(&mut self, timeout: Duration) -> Result<Option<PipeEvent>, ClientError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        if self.lost > 0 {
            let lost = Some(std::mem::take(&mut self.lost));
            return Ok(Some(PipeEvent {
                lost,
                ..PipeEvent::new(EventKind::LOST, "")
            }));
        }
        match self.channel.wait(None, Deadline::after(timeout)) {
            Err(ChannelError::TooSlow) => return Ok(None),
            other => other?,
        };
        match self.receive()? {
            (_, ServerMessage::Event(event)) => Ok(Some(event)),
            (_, ServerMessage::Reply(Reply::Refused(refusal))) => Err(refusal.into()),
            (_, ServerMessage::Reply(other)) => Err(unexpected(&other)),
        }
    }

    /// Waits until the daemon sends a message. Between requests that is an event, or the end of the
    /// connection.
    ///
    /// # Errors
    ///
    /// [`ChannelError::TooSlow`] if no message arrives in time; [`ChannelError::Stopped`] if the
    /// stop signal is given.
    pub fn wait(&self, deadline: Deadline) -> Result<(), ClientError> {
        Ok(self.channel.wait(None, deadline).map(drop)?)
    }

    /// Sends a request and receives its reply. Events that arrive before the reply are kept for
    /// [`next_event`](Self::next_event), up to the limit; further ones are counted as lost.
    fn request(&mut self, request: &Request) -> Result<(Reply, Option<OwnedFd>), ClientError> {
        self.number = self.number.checked_add(1).unwrap_or(1);
        let deadline = Deadline::after(CLIENT_PATIENCE);
        self.channel.write_message(
            request.kind(),
            self.number,
            &request.encode(),
            None,
            deadline,
        )?;
        loop {
            match self.receive()? {
                (_, ServerMessage::Event(event)) if self.events.len() < MAX_WAITING_EVENTS => {
                    self.events.push_back(event);
                }
                (_, ServerMessage::Event(event)) => {
                    self.lost = self.lost.saturating_add(event.lost.unwrap_or(1));
                }
                (_, ServerMessage::Reply(Reply::Refused(refusal))) => return Err(refusal.into()),
                (head, ServerMessage::Reply(reply)) if head.request == self.number => {
                    return Ok((reply, self.channel.take_descriptor()));
                }
                (_, ServerMessage::Reply(other)) => return Err(unexpected(&other)),
            }
        }
    }

    fn receive(&mut self) -> Result<(MessageHead, ServerMessage), ClientError> {
        let (head, body) = self
            .channel
            .read_message(Deadline::after(CLIENT_PATIENCE))?;
        Ok((head, ServerMessage::decode(head.kind, &body)?))
    }
}

/// Opens a connection that does not block, within the client's patience.
fn connect(socket: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::CLOEXEC;
    let connection =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A connect waits while the daemon's queue of connections is full. A daemon that accepts none
    // is as good as absent.
    set_socket_timeout(&connection, Timeout::Send, Some(CLIENT_PATIENCE))?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&connection, &address))?;
    rustix::io::ioctl_fionbio(&connection, true)?;
    Ok(connection)
}

/// Exchanges the hellos.
fn greet(channel: &mut Channel) -> Result<(), ClientError> {
    let hello = ClientHello {
        versions: VERSIONS,
        features: 0,
    };
    let deadline = Deadline::after(CLIENT_PATIENCE);
    // A busy daemon answers and closes the connection before it reads, so the write may fail while
    // the answer can be read. The error of the write counts only if the read fails, too.
    let written = channel.write(&hello.encode(), deadline);
    let mut bytes = [0; HELLO_LEN];
    channel
        .read(&mut bytes, deadline)
        .map_err(|error| written.err().unwrap_or(error))?;
    let answer = ServerHello::decode(&bytes)?;
    match answer.version {
        Ok(version) if (VERSIONS.lowest..=VERSIONS.highest).contains(&version) => Ok(()),
        Ok(version) => {
            let why = format!("it chose version {version}, which this client did not offer");
            Err(ClientError::Misbehaved(why))
        }
        Err(reason) => Err(ClientError::Closed {
            reason,
            versions: answer.versions,
        }),
    }
}

/// Takes the seat whose control connection accompanied a reply.
fn attach(descriptor: Option<OwnedFd>) -> Result<Attachment, ClientError> {
    let control = descriptor.ok_or_else(|| {
        ClientError::Misbehaved("it gave a seat without a control connection".to_owned())
    })?;
    Attachment::open(control).map_err(ClientError::Attachment)
}

fn unexpected(reply: &Reply) -> ClientError {
    ClientError::Misbehaved(format!("it sent an unexpected reply: {reply:?}"))
}

impl From<ChannelError> for ClientError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DecodeError> for ClientError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { socket, source } => {
                write!(f, "no daemon answers at {}: {source}", socket.display())
            }
            Self::Closed { reason, versions } => match *reason {
                CloseReason::VERSION => write!(
                    f,
                    "the daemon supports versions {} to {} of the protocol, this client {} to {}",
                    versions.lowest, versions.highest, VERSIONS.lowest, VERSIONS.highest
                ),
                CloseReason::BUSY => {
                    f.write_str("the daemon has reached its limit of connections: try again later")
                }
                CloseReason::ACCESS => {
                    f.write_str("the daemon's configuration does not let this user connect")
                }
                CloseReason::SYSTEM => {
                    f.write_str("the daemon cannot look up this user's groups now: try again later")
                }
                CloseReason(other) => {
                    write!(f, "the daemon closed the connection (reason {other})")
                }
            },
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Channel(ChannelError::TooSlow) => {
                f.write_str("the daemon did not answer in time")
            }
            Self::Channel(error) => error.fmt(f),
            Self::Malformed(error) => write!(f, "the daemon violates the protocol: {error}"),
            Self::Misbehaved(why) => write!(f, "the daemon violates the protocol: {why}"),
            Self::Attachment(error) => write!(f, "cannot take the seat: {error}"),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable { source, .. } => Some(source),
            Self::Refused(refusal) => Some(refusal),
            Self::Channel(error) => Some(error),
            Self::Malformed(error) => Some(error),
            Self::Attachment(error) => Some(error),
            Self::Closed { .. } | Self::Misbehaved(_) => None,
        }
    }
}
