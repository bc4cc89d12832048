//! Items that a read finds on a medium, and the probe that tells records from other data.

use super::Position;

/// An item that [`MediumReader::read`](super::MediumReader::read) has found.
///
/// Exhaustive: the layout of a volume has nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum Item {
    /// A record, whose bytes are in the caller's vector, and the position at which it begins.
    Record(Position),
    /// A mark, and the position at which it begins.
    Mark(Position),
    /// Bytes that are not a record. The next read continues after them.
    Damaged {
        /// Position at which they begin.
        at: Position,
        /// Number of bytes: never 0.
        skipped: u64,
    },
    /// The end of this volume. Further reads return it again until the caller goes to another
    /// volume.
    End,
}

/// A function that returns true for bytes that look like the beginning of a record of the layer
/// above.
///
/// It gets up to 64 bytes, fewer if the record has fewer. A reader calls it only where a volume is
/// damaged, to distinguish a record from data that happens to look like one. It must be quick,
/// because a search calls it at nearly every byte.
pub type Probe = fn(&[u8]) -> bool;
