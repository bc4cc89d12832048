//! Reasons why a process cannot take a seat.

use std::error::Error;
use std::fmt;
use std::io;

use crate::memory::InstanceId;

/// Reason that a process cannot take the seat that a controller assigned to it.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// The controller's launch request could not be received or decoded, or its segment could not
    /// be mapped.
    Request(Box<dyn Error + Send + Sync>),
    /// The launch request is for a process that the controller starts.
    NotToAttach,
    /// The pipe does not have the seat, or the seat is neither the head's nor the tail's.
    NoSuchSeat(InstanceId),
    /// The pipe has ended, or its controller has died.
    Ended,
    /// The program that has the pipe does not admit this process. Its own error has the reason.
    Refused,
    /// The socket over which the seat was requested failed, or the program at its other end does
    /// not answer as [`Pipe::admit_over`](crate::Pipe::admit_over) does.
    Socket(io::Error),
    /// The system refused what is needed to watch the controller.
    System(io::Error),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(error) => error.fmt(f),
            Self::NotToAttach => f.write_str(
                "the launch request is not one to attach: it names a module or several instances",
            ),
            Self::NoSuchSeat(seat) => write!(
                f,
                "the pipe has no instance {} of a head or tail {}",
                seat.index(),
                seat.stage()
            ),
            Self::Ended => f.write_str("the pipe has ended"),
            Self::Refused => f.write_str(
                "the program that has the pipe does not admit this process; its error has the \
                 reason",
            ),
            Self::Socket(error) => write!(f, "cannot get a seat over the socket: {error}"),
            Self::System(error) => write!(f, "cannot watch the pipe's controller: {error}"),
        }
    }
}

impl Error for AttachError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Request(error) => Some(error.as_ref()),
            Self::Socket(error) | Self::System(error) => Some(error),
            Self::NotToAttach | Self::NoSuchSeat(_) | Self::Ended | Self::Refused => None,
        }
    }
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}
