//! A place on a medium, and what stands there.

use crate::position::Position;

/// What [`Medium::read`](super::Medium::read) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A record, which was put where the caller asked. It begins here.
    Record(Position),
    /// A mark.
    Mark(Position),
    /// Bytes that are no record. The next read goes on behind them.
    Damaged {
        /// Where they begin.
        at: Position,
        /// How many there are: never 0.
        skipped: u64,
    },
    /// The end of this volume. It stays the end until another volume is gone to.
    End,
}

/// Says whether bytes look like the beginning of a record of the layer above.
///
/// It gets up to 64 bytes, fewer if the record has fewer. It is asked only where a volume is
/// damaged, to tell a record from data that happens to look like one. It must be quick.
pub type Probe = fn(&[u8]) -> bool;
