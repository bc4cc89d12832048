//! Digest and checksum of the blocks of a stream, taken while the data are in the cache.
//!
//! ```text
//!   block   [piece        ][piece        ][piece   ..        read, then added to both at once
//! ```

use crate::cells::CELL;
use crate::pool::Block;
use crate::stage::checkpoint::has_checkpoints;

use super::stream_checkpoints::StreamCheckpoints;

/// Bytes that are read before they are added: what the caches of a processor keep, and a cell of
/// the digest, which takes a whole cell faster than its parts.
const PIECE: usize = CELL as usize;

/// The sums of a block that is being filled.
pub(super) struct BlockSums<'a> {
    /// The digest of the stream, if its checkpoints need one.
    checkpoints: Option<&'a mut StreamCheckpoints>,
    /// The checksum of the block, if the tail takes it.
    checksum: Option<crc32fast::Hasher>,
    /// Offset of the block's data in the stream.
    offset: u64,
    /// Bytes of the block that were added.
    added: usize,
    /// Bytes of the block that were read.
    read: usize,
}

impl<'a> BlockSums<'a> {
    /// The sums of an empty block, whose data will begin at `offset` of the stream.
    pub(super) fn of(block: &Block, checkpoints: &'a mut StreamCheckpoints, offset: u64) -> Self {
        let has_digest = has_checkpoints(block.checkpoint_every());
        Self {
            checkpoints: has_digest.then_some(checkpoints),
            checksum: block.wants_checksum().then(crc32fast::Hasher::new),
            offset,
            added: 0,
            read: 0,
        }
    }

    /// The part of the room in a block that is to be read at once: all of it if there are no sums.
    pub(super) fn piece_of<'b>(&self, room: &'b mut [u8]) -> &'b mut [u8] {
        let has_sums = self.checkpoints.is_some() || self.checksum.is_some();
        let len = if has_sums {
            room.len().min(PIECE - (self.read - self.added))
        } else {
            room.len()
        };
        &mut room[..len]
    }

    /// Takes note of what was read into the block, and adds a piece that is full.
    pub(super) fn add(&mut self, block: &Block) {
        self.read = block.len();
        if self.read - self.added >= PIECE {
            self.add_piece(block);
        }
    }

    /// Adds the rest of the block, and records its checksum.
    pub(super) fn end(mut self, block: &mut Block) {
        self.add_piece(block);
        if let Some(checksum) = self.checksum {
            block.set_checksum(checksum.finalize());
        }
    }

    fn add_piece(&mut self, block: &Block) {
        let piece = &block.bytes()[self.added..];
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.add(self.offset + self.added as u64, piece);
        }
        if let Some(checksum) = &mut self.checksum {
            checksum.update(piece);
        }
        self.added = block.len();
    }
}
