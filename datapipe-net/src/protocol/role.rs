//! Parts that a client's process can take in a pipe, as the protocol numbers them.

use std::fmt;

use super::fields::{DecodeError, Field};

/// Seat that a process asks for when it attaches to a pipe.
///
/// Exhaustive: these are the numbers that the request `identify` defines; others are malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachRole {
    /// The first stage, which allocates buffers and sends.
    Head,
    /// The last stage, which receives and frees buffers.
    Tail,
    /// A network agent. The protocol has a number for it, and the daemon always refuses it.
    NetworkAgent,
}

/// Part that the initiator of a pipe takes in it.
///
/// Exhaustive: these are the numbers that the request `initiate` defines; others are malformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Participation {
    /// The initiator takes no part.
    #[default]
    None,
    /// The initiator is the head.
    Head,
    /// The initiator is the tail.
    Tail,
}

impl AttachRole {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Tail => 2,
            Self::NetworkAgent => 3,
        }
    }

    pub(super) fn decode(field: Field<'_>) -> Result<Self, DecodeError> {
        match field.u8()? {
            1 => Ok(Self::Head),
            2 => Ok(Self::Tail),
            3 => Ok(Self::NetworkAgent),
            other => Err(field.error(&format!("is {other}, which is not a role"))),
        }
    }
}

impl fmt::Display for AttachRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Tail => "tail",
            Self::NetworkAgent => "network agent",
        })
    }
}

impl Participation {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Head => 1,
            Self::Tail => 2,
        }
    }

    pub(super) fn decode(field: Field<'_>) -> Result<Self, DecodeError> {
        match field.u8()? {
            0 => Ok(Self::None),
            1 => Ok(Self::Head),
            2 => Ok(Self::Tail),
            other => Err(field.error(&format!("is {other}, which is not a way to take part"))),
        }
    }

    /// Role of the initiator's process; `None` if it takes no part.
    pub fn role(self) -> Option<AttachRole> {
        match self {
            Self::None => None,
            Self::Head => Some(AttachRole::Head),
            Self::Tail => Some(AttachRole::Tail),
        }
    }
}
