//! The words of a volume's file: the layout of the SIMH tape simulators.
//!
//! Source: Supnik, "SIMH magtape representation and handling", with the record classes of its later
//! revisions.

use crate::limits::MAX_RECORD;

/// Bytes of a word.
pub(super) const WORD: u64 = 4;

/// A mark.
pub(super) const MARK: u32 = 0;

/// The end of the volume, even if bytes follow. Read, never written: the end of the file has the
/// same meaning.
pub(super) const END_OF_MEDIUM: u32 = 0xffff_ffff;

/// Erased tape. Skipped, never written.
pub(super) const GAP: u32 = 0xffff_fffe;

/// Bytes of a frame with a record of one byte.
pub(super) const SHORTEST_FRAME: u64 = 2 * WORD + 2;

const LENGTH_BITS: u32 = 28;

/// The content of a record's length word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    /// Bytes of the record: 1 to [`MAX_RECORD`].
    pub(super) bytes: u32,
    /// True if the record was copied from a drive that could not read it.
    pub(super) bad: bool,
}

impl Length {
    /// Decodes `word`; `None` if its class is unknown or its length is out of range.
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
    pub(super) fn trailing_offset(self) -> u64 {
        WORD + u64::from(self.bytes).next_multiple_of(2)
    }

    /// Bytes of the whole frame: length, data, padding, length.
    pub(super) fn frame_len(self) -> u64 {
        self.trailing_offset() + WORD
    }
}

/// The word at the start of `bytes`, which must have at least four bytes.
pub(super) fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
