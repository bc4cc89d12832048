//! Reasons why a key slot does not open.

use std::fmt;

use crate::limits::MAX_KEY_SLOTS;

use super::key::SecretKind;

/// Why a slot does not open, or why none does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnlockError {
    /// The slot is for the other kind of secret.
    OtherKind {
        /// The kind that it is for.
        needs: SecretKind,
    },
    /// The slot was made for another secret of this kind.
    WrongSecret {
        /// The kind of the secret.
        kind: SecretKind,
    },
    /// The secret is right, but the wrapped key is not what was stored with it, or the session is
    /// another.
    Damaged,
    /// The slot asks for more than a reader gives. Nothing was computed.
    TooCostly {
        /// Of what it asks for too much.
        what: &'static str,
        /// How much it asks for.
        has: u32,
        /// The most that it may ask for.
        most: u32,
    },
    /// The slot asks for less than Argon2 can do with. Nothing was computed.
    TooCheap {
        /// Of what it asks for too little.
        what: &'static str,
        /// How much it asks for.
        has: u32,
        /// The least that it may ask for.
        least: u32,
    },
    /// The memory that the slot asks for, within the limits, could not be had.
    NoMemory {
        /// How much, in KiB.
        memory_kib: u32,
    },
    /// A field of the slot has a value that this version does not know.
    Unknown {
        /// The field.
        what: &'static str,
        /// Its value.
        number: u32,
    },
    /// A session has no slot, or more than [`MAX_KEY_SLOTS`].
    SlotCount {
        /// How many it has.
        has: usize,
    },
}

impl UnlockError {
    /// How near a slot was to being opened: the greater, the more it says about what went wrong.
    pub(super) fn nearness(&self) -> u8 {
        match self {
            Self::SlotCount { .. } => 0,
            Self::OtherKind { .. } => 1,
            Self::Unknown { .. } => 2,
            Self::WrongSecret { .. } => 3,
            Self::TooCostly { .. } | Self::TooCheap { .. } => 4,
            Self::NoMemory { .. } => 5,
            Self::Damaged => 6,
        }
    }
}

impl fmt::Display for UnlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKind { needs } => write!(f, "the key slot opens with a {needs}: give that"),
            Self::WrongSecret { kind } => {
                write!(f, "the {kind} is not the right one: give the one that the archive was encrypted with")
            }
            Self::Damaged => f.write_str(
                "the key slot is damaged or of another session, although it knows the secret: use another slot's \
                 secret, or another copy",
            ),
            Self::TooCostly { what, has, most } => {
                write!(f, "Argon2id with {has} {what} is refused, {most} is the most: if a key slot asks for it, ")?;
                f.write_str("it is damaged or hostile: use another slot's secret, or another copy")
            }
            Self::TooCheap { what, has, least } => {
                write!(f, "Argon2id with {has} {what} is refused, {least} is the least: if a key slot asks for it, ")?;
                f.write_str("it is damaged: use another slot's secret, or another copy")
            }
            Self::NoMemory { memory_kib } => write!(
                f,
                "the passphrase needs {memory_kib} KiB of memory, which could not be had: free some, or use a key file"
            ),
            Self::Unknown { what, number } => write!(
                f,
                "the key slot has the {what} {number}, which this version does not know: use a newer version, or \
                 another slot's secret"
            ),
            Self::SlotCount { has } => {
                write!(f, "the session has {has} key slots, not 1 to {MAX_KEY_SLOTS}: use another copy")
            }
        }
    }
}

impl std::error::Error for UnlockError {}
