//! Asks a daemon.
//!
//! ```no_run
//! use datapipe::stage::Arguments;
//! use datapipe_net::{Client, Initiate, StageRequest};
//!
//! let mut client = Client::connect("/run/datapiped/socket".as_ref())?;
//! let started = client.initiate(
//!     &Initiate::new("nightly")
//!         .stage(StageRequest::module("files").read("/srv/data"))
//!         .stage(StageRequest::module("zstd").arguments(Arguments::new().with("level", "3")).instances(2))
//!         .stage(StageRequest::module("tape").write("/backup/nightly.tap")),
//! )?;
//! println!("{} is {}", started.pipe, client.status(&started.pipe)?.entry.state);
//! # Ok::<(), datapipe_net::ClientError>(())
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use datapipe::host::Attachment;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::limits::{CLIENT_PATIENCE, MAX_WAITING_EVENTS};
use crate::protocol::{
    Answer, ClientHello, Closed, DecodeError, EventKind, HELLO, Head, Initiate, PipeEntry,
    PipeEvent, PipeStatus, Refusal, Reply, Request, Role, ServerHello, VERSIONS, Versions,
};
use crate::socket::{Channel, ChannelError, Deadline, Stop};

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    /// Of the last request.
    number: u32,
    /// Came while a reply was waited for.
    events: VecDeque<PipeEvent>,
    /// Came, too, and found no room.
    lost: u64,
}

/// A pipe that was started.
#[derive(Debug)]
#[non_exhaustive]
pub struct Started {
    /// Its name.
    pub pipe: String,
    /// For those who take part: their seat.
    pub attachment: Option<Attachment>,
}

/// Why the daemon did not do what it was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no daemon, or it cannot be reached.
    Unreachable {
        /// Where.
        socket: String,
        /// Why.
        source: io::Error,
    },
    /// It speaks no further.
    Closed {
        /// Why.
        why: Closed,
        /// The versions of the protocol that it speaks.
        versions: Versions,
    },
    /// It has refused.
    Refused(Refusal),
    /// The connection has broken, or the daemon did not answer.
    Channel(ChannelError),
    /// It has said what it should not have.
    Misbehaved(String),
    /// The seat was given, but could not be taken.
    Attachment(String),
}

impl Client {
    /// Connects to the daemon that listens at `socket`.
    ///
    /// # Errors
    ///
    /// If there is none, it does not let this user connect, or it speaks another version.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        Self::connect_until(socket, None)
    }

    /// As [`connect`](Self::connect). Every wait of the client ends when `stop` is given.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and [`ChannelError::Stopped`] as soon as it is given.
    pub fn connect_until(socket: &Path, stop: Option<Stop>) -> Result<Self, ClientError> {
        let connected = (|| {
            let address = SocketAddrUnix::new(socket)?;
            let flags = SocketFlags::CLOEXEC;
            let connection =
                rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // A daemon that accepts nobody is as good as none.
            set_socket_timeout(&connection, Timeout::Send, Some(CLIENT_PATIENCE))?;
            rustix::net::connect(&connection, &address)?;
            rustix::io::ioctl_fionbio(&connection, true)?;
            Ok::<_, rustix::io::Errno>(connection)
        })();
        let unreachable = |error: rustix::io::Errno| ClientError::Unreachable {
            socket: socket.display().to_string(),
            source: error.into(),
        };
        let mut channel = Channel::new(connected.map_err(unreachable)?, stop);
        let hello = ClientHello {
            versions: VERSIONS,
            features: 0,
        };
        let deadline = Deadline::after(CLIENT_PATIENCE);
        // A daemon that is busy says so without having listened, and its answer is there to be
        // read.
        let said = channel.write(&hello.encode(), deadline);
        let mut bytes = [0; HELLO];
        channel
            .read(&mut bytes, deadline)
            .map_err(|error| said.err().unwrap_or(error))?;
        let ServerHello {
            answer, versions, ..
        } = ServerHello::decode(&bytes)?;
        match answer {
            Ok(version) if (VERSIONS.lowest..=VERSIONS.highest).contains(&version) => {}
            Ok(version) => {
                let why = format!("it wants to speak version {version}, which was not offered");
                return Err(ClientError::Misbehaved(why));
            }
            Err(why) => return Err(ClientError::Closed { why, versions }),
        }
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
    /// If it is refused, or the daemon cannot be asked; for one who takes part, if the seat cannot
    /// be taken.
    pub fn initiate(&mut self, pipe: &Initiate) -> Result<Started, ClientError> {
        match self.ask(&Request::Initiate(pipe.clone()))? {
            (
                Reply::Initiated {
                    pipe,
                    control: false,
                },
                _,
            ) => Ok(Started {
                pipe,
                attachment: None,
            }),
            (
                Reply::Initiated {
                    pipe,
                    control: true,
                },
                descriptor,
            ) => Ok(Started {
                pipe,
                attachment: Some(attach(descriptor)?),
            }),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Takes the unbound head or tail of a pipe.
    ///
    /// # Errors
    ///
    /// If it is refused, or the daemon cannot be asked, or the seat cannot be taken.
    pub fn identify(&mut self, pipe: &str, role: Role) -> Result<Attachment, ClientError> {
        match self.ask(&Request::Identify {
            pipe: pipe.to_owned(),
            role,
        })? {
            (Reply::Identified, descriptor) => attach(descriptor),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Tells a pipe to stop. It is over some time later.
    ///
    /// # Errors
    ///
    /// If it is refused, or the daemon cannot be asked.
    pub fn stop(&mut self, pipe: &str) -> Result<(), ClientError> {
        match self.ask(&Request::Stop {
            pipe: pipe.to_owned(),
        })? {
            (Reply::Stopping, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// What everybody in a pipe is doing.
    ///
    /// # Errors
    ///
    /// If it is refused, or the daemon cannot be asked.
    pub fn status(&mut self, pipe: &str) -> Result<PipeStatus, ClientError> {
        match self.ask(&Request::Status {
            pipe: pipe.to_owned(),
        })? {
            (Reply::Status(status), _) => Ok(status),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The pipes that this user may see, the oldest first.
    ///
    /// # Errors
    ///
    /// If the daemon cannot be asked.
    pub fn list(&mut self) -> Result<Vec<PipeEntry>, ClientError> {
        match self.ask(&Request::List)? {
            (Reply::List(entries), _) => Ok(entries),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Subscribes to what happens from now on, to one pipe or to all that this user may see.
    ///
    /// # Errors
    ///
    /// If it is refused, or the daemon cannot be asked.
    pub fn subscribe(&mut self, pipe: Option<&str>) -> Result<(), ClientError> {
        match self.ask(&Request::Subscribe {
            pipe: pipe.map(str::to_owned),
        })? {
            (Reply::Subscribed, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The next event, waiting up to `timeout`; nothing if there was none.
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
        match self.answer()? {
            (_, Answer::Event(event)) => Ok(Some(event)),
            (_, Answer::Reply(Reply::Refused(refusal))) => Err(refusal.into()),
            (_, Answer::Reply(other)) => Err(unexpected(&other)),
        }
    }

    /// Waits until the daemon says something that was not asked for.
    ///
    /// # Errors
    ///
    /// [`ChannelError::TooSlow`] if it does not in time; [`ChannelError::Stopped`] if the wait was
    /// ended.
    pub fn wait(&self, deadline: Deadline) -> Result<(), ClientError> {
        Ok(self.channel.wait(None, deadline).map(drop)?)
    }

    /// Asks, and takes the reply. Events that come first are kept.
    fn ask(&mut self, request: &Request) -> Result<(Reply, Option<OwnedFd>), ClientError> {
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
            match self.answer()? {
                (_, Answer::Event(event)) if self.events.len() < MAX_WAITING_EVENTS => {
                    self.events.push_back(event);
                }
                (_, Answer::Event(event)) => {
                    self.lost = self.lost.saturating_add(event.lost.unwrap_or(1));
                }
                (_, Answer::Reply(Reply::Refused(refusal))) => return Err(refusal.into()),
                (head, Answer::Reply(reply)) if head.request == self.number => {
                    return Ok((reply, self.channel.take_descriptor()));
                }
                (_, Answer::Reply(other)) => return Err(unexpected(&other)),
            }
        }
    }

    fn answer(&mut self) -> Result<(Head, Answer), ClientError> {
        let (head, body) = self
            .channel
            .read_message(Deadline::after(CLIENT_PATIENCE))?;
        Ok((head, Answer::decode(head.kind, &body)?))
    }
}

fn attach(descriptor: Option<OwnedFd>) -> Result<Attachment, ClientError> {
    let control = descriptor.ok_or_else(|| {
        ClientError::Misbehaved("it gave a seat without a control connection".to_owned())
    })?;
    Attachment::open(control).map_err(|error| ClientError::Attachment(error.to_string()))
}

fn unexpected(reply: &Reply) -> ClientError {
    ClientError::Misbehaved(format!("it answers what was not asked: {reply:?}"))
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
    fn from(malformed: DecodeError) -> Self {
        Self::Misbehaved(malformed.to_string())
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { socket, source } => {
                write!(f, "no daemon answers at {socket}: {source}")
            }
            Self::Closed { why, versions } => match *why {
                Closed::VERSION => write!(
                    f,
                    "the daemon speaks versions {} to {} of the protocol, this client {} to {}",
                    versions.lowest, versions.highest, VERSIONS.lowest, VERSIONS.highest
                ),
                Closed::BUSY => {
                    f.write_str("the daemon has as many connections as it may: try again later")
                }
                Closed::ACCESS => {
                    f.write_str("the daemon's configuration does not let this user connect")
                }
                Closed(other) => write!(f, "the daemon has closed the connection (reason {other})"),
            },
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Channel(ChannelError::TooSlow) => f.write_str("the daemon does not answer"),
            Self::Channel(error) => error.fmt(f),
            Self::Misbehaved(why) => write!(f, "the daemon does not keep to the protocol: {why}"),
            Self::Attachment(why) => write!(f, "the seat could not be taken: {why}"),
        }
    }
}

impl std::error::Error for ClientError {}
