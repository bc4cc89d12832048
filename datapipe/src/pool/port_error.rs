//! The errors of the primitives.

use std::fmt;

use super::wait::Blocked;
use crate::memory::{Corruption, InstanceId};

/// Error of a primitive that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortError {
    /// The pipe stops. A stage that gets this returns as soon as it can.
    Stopped,
    /// The instance has its whole quota outstanding, and the pipe's policy is to end it rather than
    /// to let it wait.
    AtLimit {
        /// Buffers that the instance may have outstanding.
        quota: u32,
    },
    /// The caller broke the rules of its port.
    Misuse(&'static str),
    /// Another port has the seat.
    SeatTaken {
        /// Instance whose seat it is.
        instance: InstanceId,
        /// Process of that port, as the segment says.
        process: u32,
    },
    /// The words in shared memory contradict themselves.
    Corrupt(Corruption),
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the pipe was stopped"),
            Self::AtLimit { quota } => {
                f.write_str(&match quota {
                    1 => "the one buffer that this instance may have is".to_owned(),
                    quota => format!("all {quota} buffers that this instance may have are"),
                })?;
                f.write_str(" outstanding, and the pipe's policy is to end it")
            }
            Self::SeatTaken { instance, process } => {
                write!(f, "the seat of {instance} is taken by process {process}")
            }
            Self::Misuse(what) => write!(f, "the stage broke the rules of its port: {what}"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl std::error::Error for PortError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Corrupt(corruption) => Some(corruption),
            Self::Stopped | Self::AtLimit { .. } | Self::SeatTaken { .. } | Self::Misuse(_) => None,
        }
    }
}

impl From<Corruption> for PortError {
    fn from(corrupt: Corruption) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// Error of a primitive that does not wait, or not for longer than a timeout.
///
/// Exhaustive: an attempt that got nothing may be repeated, or it has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum TryError {
    /// The primitive would have to wait, or to wait longer. It has done nothing.
    Blocked(Blocked),
    /// The primitive failed.
    Port(PortError),
}

impl fmt::Display for TryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked(blocked) => blocked.fmt(f),
            Self::Port(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Blocked(blocked) => Some(blocked),
            Self::Port(error) => Some(error),
        }
    }
}

impl From<Blocked> for TryError {
    fn from(blocked: Blocked) -> Self {
        Self::Blocked(blocked)
    }
}

impl From<PortError> for TryError {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}
