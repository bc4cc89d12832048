//! Reasons for which a half of a link cannot be made, or has ended.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::limits::MAX_LINK_CONNECTIONS;
use crate::link::{LinkError, RateError};

/// Half of a link.
///
/// Exhaustive: a link has two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum LinkSide {
    /// The half that sends the blocks of its pipe.
    Sending,
    /// The half that receives them.
    Receiving,
}

/// Settings with which a half of a link cannot work.
#[derive(Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The number of addresses, which is that of the connections, is out of range.
    Connections {
        /// Number of addresses.
        count: usize,
    },
    /// A connection without encryption would leave the machine.
    NotLoopback {
        /// Its address.
        address: SocketAddr,
    },
    /// The timers contradict each other.
    Timers,
    /// The rate is out of range.
    Rate(RateError),
    /// A listener cannot be used.
    Listener(io::Error),
}

/// End of a half without success. It names the half, its connections and the remedy.
#[derive(Debug)]
#[non_exhaustive]
pub struct AgentError {
    /// The half that reports the error.
    pub side: LinkSide,
    /// Addresses of its connections, in the order of their indexes.
    pub addresses: Vec<SocketAddr>,
    /// The reason.
    pub reason: LinkError,
}

impl fmt::Display for LinkSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sending => "sending half",
            Self::Receiving => "receiving half",
        })
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections { count } => write!(
                f,
                "a link with {count} addresses; it has one for each of 1 to \
                 {MAX_LINK_CONNECTIONS} connections"
            ),
            Self::NotLoopback { address } => write!(
                f,
                "{address} is not a loopback address, and the link is not encrypted: set the \
                 identity of this machine"
            ),
            Self::Timers => f.write_str(
                "the timers of a link contradict each other: 0 < 2 x ping <= silence <= wait, \
                 and redial is at least 1 ms",
            ),
            Self::Rate(error) => error.fmt(f),
            Self::Listener(error) => write!(f, "a listener of a link cannot be used: {error}"),
        }
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rate(error) => Some(error),
            Self::Listener(error) => Some(error),
            Self::Connections { .. } | Self::NotLoopback { .. } | Self::Timers => None,
        }
    }
}

impl AgentError {
    /// The remedy, as the end of the error's text.
    fn remedy(&self) -> &'static str {
        match (&self.reason, self.side) {
            (LinkError::Unreachable { .. }, LinkSide::Sending) => {
                "check that the receiving half runs and can be reached, then start the job again"
            }
            (LinkError::Unreachable { .. }, LinkSide::Receiving) => {
                "check that the sending half runs and reaches this machine, then start the job \
                 again"
            }
            (LinkError::Violation(_), _) => "use the same version on both machines",
            (LinkError::Refused(_), _) => "check the certificates of both machines",
            (LinkError::StoppedThere(_), _) => "the report of that half has its cause",
            _ => "start the job again",
        }
    }
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, reason, .. } = self;
        write!(f, "{side} of the link (")?;
        for (index, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { ", " })?;
        }
        write!(f, "): {reason}; {}", self.remedy())
    }
}

impl Error for AgentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.reason)
    }
}
