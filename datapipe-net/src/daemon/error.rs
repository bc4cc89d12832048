//! Failures of the daemon.

use std::fmt;
use std::io;

use crate::socket::ListenError;

/// Failure of a daemon to serve.
#[derive(Debug)]
#[non_exhaustive]
pub enum DaemonError {
    /// The daemon cannot listen at its socket.
    Listen(ListenError),
    /// A system call failed.
    System(io::Error),
}

impl From<io::Error> for DaemonError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<ListenError> for DaemonError {
    fn from(error: ListenError) -> Self {
        Self::Listen(error)
    }
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::System(error) => write!(f, "a system call of the daemon failed: {error}"),
        }
    }
}

impl std::error::Error for DaemonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen(error) => Some(error),
            Self::System(error) => Some(error),
        }
    }
}
