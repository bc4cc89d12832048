//! Runs of blocks to be read, and the positions at which to begin.

use crate::media::Position;

/// A position from which a block can be reached by reading on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadStart {
    /// Number of a block whose header begins in `record`.
    pub(super) block: u64,
    /// Position of that record on the medium.
    pub(super) record: Position,
    /// Position of the block's header in the stream.
    pub(super) position: u64,
}

/// The blocks `first` to `last`, and where to begin to read for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) start: ReadStart,
}
