//! The words of a volume's file: the layout of the SIMH tape simulators.
//!
//! Source: Supnik, "SIMH magtape representation and handling", with the record classes of its later
//! revisions.

use crate::limits::MAX_RECORD;

/// Bytes of a word.
pub(super) const WORD: u64 = 4;

/// A mark.
pub(super) const MARK: u32 = 0;

/// Nothing behind this belongs to the volume. Read, never written: the end of the file says the
/// same.
pub(super) const END_OF_MEDIUM: u32 = 0xffff_ffff;

/// Erased tape. Read past, never written.
pub(super) const GAP: u32 = 0xffff_fffe;

/// Bytes of a frame with a record of one byte.
pub(super) const SHORTEST_FRAME: u64 = 2 * WORD + 2;

const LENGTH_BITS: u32 = 28;

/// What the length word of a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    /// Bytes of the record: 1 to [`MAX_RECORD`].
    pub(super) bytes: u32,
    /// Whether the drive that it was copied from could not read it.
    pub(super) bad: bool,
}

impl Length {
    /// The length that `word` stands for, if it is one that we know and accept.
    pub(super) fn parse(word: u32) -> Option<Self> {
        let (class, bytes) = (word >> LENGTH_BITS, word & ((1 << LENGTH_BITS) - 1));
        let known = class == 0 || class == 8;
        let in_range = bytes > 0 && bytes as usize <= MAX_RECORD;
        (known && in_range).then_some(Self {
            bytes,
            bad: class == 8,
        })
    }

    /// Bytes from the start of the frame to its trailing length.
    pub(super) fn to_trailing(self) -> u64 {
        WORD + u64::from(self.bytes).next_multiple_of(2)
    }

    /// Bytes of the whole frame: length, data, padding, length.
    pub(super) fn frame(self) -> u64 {
        self.to_trailing() + WORD
    }
}

/// The word at the start of `bytes`, which must have as many.
pub(super) fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
