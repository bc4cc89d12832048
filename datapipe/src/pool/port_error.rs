//! The errors of the primitives.

use std::fmt;

use crate::memory::Corruption;

/// Error of a primitive.
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
        /// Stage of the seat.
        stage: u32,
        /// Instance of the stage.
        instance: u32,
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
            Self::AtLimit { quota } => write!(
                f,
                "all {quota} buffers that this instance may have are outstanding, and the pipe's \
                 policy is to end it"
            ),
            Self::SeatTaken {
                stage,
                instance,
                process,
            } => {
                write!(
                    f,
                    "the seat of instance {instance} of stage {stage} is taken by process {process}"
                )
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
