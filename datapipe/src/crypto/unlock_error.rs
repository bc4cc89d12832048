//! Reasons why a key slot does not open.

use std::fmt;

use crate::limits::MAX_KEY_SLOTS;

use super::secret_kind::SecretKind;

/// Reason why a slot does not open, or why none of an archive's slots does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnlockError {
    /// The slot is for another kind of secret.
    OtherKind {
        /// The kind that opens the slot.
        needs: SecretKind,
    },
    /// The slot was made for another secret of this kind.
    WrongSecret {
        /// The kind of the secret.
        kind: SecretKind,
    },
    /// The secret is right, but the wrapped key or the header's key id was changed, or the slot
    /// belongs to another data key.
    Damaged,
    /// The slot is for a recipient, and its ephemeral key gives no secret with any identity: it is
    /// damaged, or hostile.
    NoSharedSecret,
    /// The slot demands more than a reader gives. Nothing was computed.
    TooCostly {
        /// Name of the cost.
        what: &'static str,
        /// Its value in the slot.
        has: u32,
        /// The largest value that a reader accepts.
        most: u32,
    },
    /// The slot demands less than Argon2 needs. Nothing was computed.
    TooCheap {
        /// Name of the cost.
        what: &'static str,
        /// Its value in the slot.
        has: u32,
        /// The smallest value that a reader accepts.
        least: u32,
    },
    /// The system refused the memory that the slot demands within the limits.
    NoMemory {
        /// Size of the memory in KiB.
        memory_kib: u32,
    },
    /// A field of the slot has a value that this version does not know.
    Unknown {
        /// Name of the field.
        what: &'static str,
        /// Its value.
        number: u32,
    },
    /// An archive has no slot, or more than [`MAX_KEY_SLOTS`].
    SlotCount {
        /// Number of its slots.
        has: usize,
    },
}

impl UnlockError {
    /// Rank of the error among those of several slots. The error with the greatest rank tells the
    /// user most, because its slot came nearest to opening.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::SlotCount { .. } => 0,
            Self::OtherKind { .. } => 1,
            Self::Unknown { .. } => 2,
            Self::WrongSecret { .. } => 3,
            Self::TooCostly { .. } | Self::TooCheap { .. } => 4,
            Self::NoMemory { .. } => 5,
            Self::Damaged | Self::NoSharedSecret => 6,
        }
    }
}

impl fmt::Display for UnlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKind { needs } => {
                let needs = needs.with_article();
                write!(f, "the key slot opens with {needs}: use that")
            }
            Self::WrongSecret { kind } => {
                write!(
                    f,
                    "the {kind} is not the right one: \
                     use the one that the archive was encrypted with"
                )
            }
            Self::Damaged => f.write_str(
                "the secret is right, but the key slot or the key id in the archive's header is \
                 damaged, or they belong to different archives: use another slot's secret, or \
                 another copy",
            ),
            Self::NoSharedSecret => f.write_str(
                "the key slot of a recipient is damaged, because its ephemeral key gives no secret \
                 with any identity: use another slot's secret, or another copy",
            ),
            Self::TooCostly { what, has, most } => {
                write!(
                    f,
                    "Argon2id with {has} {what} is refused, {most} is the most: \
                     if a key slot asks for it, it is damaged or hostile: \
                     use another slot's secret, or another copy"
                )
            }
            Self::TooCheap { what, has, least } => {
                write!(
                    f,
                    "Argon2id with {has} {what} is refused, {least} is the least: \
                     if a key slot asks for it, it is damaged: \
                     use another slot's secret, or another copy"
                )
            }
            Self::NoMemory { memory_kib } => write!(
                f,
                "the passphrase needs {memory_kib} KiB of memory, which the system refused: \
                 free some, or use a key file"
            ),
            Self::Unknown { what, number } => write!(
                f,
                "the key slot has the {what} {number}, which this version does not know: \
                 use a newer version, or another slot's secret"
            ),
            Self::SlotCount { has } => {
                write!(
                    f,
                    "the archive has {has} key slots, not 1 to {MAX_KEY_SLOTS}: use another copy"
                )
            }
        }
    }
}

impl std::error::Error for UnlockError {}
