//! The number, and the positions, that the next block must have.

use crate::wire::{UNIT_HEADER_LEN, UnitHeader};

use super::super::continuity::Continuity;
use super::super::run::ReadStart;

/// Follows the numbers of blocks. Headers of blocks are not proven when they are read, so what a
/// number can cost is bounded here.
#[derive(Debug)]
pub(super) struct Numbering {
    block_len: u32,
    /// Number of the next block.
    next: u64,
    /// Position in the stream at which the block before that ends.
    end: u64,
    /// Number of blocks before which there is a gap that the writer of a copy has announced.
    announced: u64,
    /// Offsets in the plain stream.
    continuity: Continuity,
}

impl Numbering {
    /// Starts with block 0. `block_len` is the largest size of a block, in bytes.
    pub(super) fn new(block_len: u32) -> Self {
        Self {
            block_len,
            next: 0,
            end: 0,
            announced: 0,
            continuity: Continuity::new(block_len),
        }
    }

    /// Number of the next block.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Restarts at a position to which the reader has moved.
    pub(super) fn restart(&mut self, start: &ReadStart) {
        (self.next, self.end) = (start.block, start.position);
        self.announced = 0;
        self.continuity = Continuity::new(self.block_len);
        self.continuity.skip(start.block);
    }

    /// Notes a gap that the source of a copy had: `count` blocks from `first` on. It may be forged,
    /// so it allows a larger number and demands none.
    pub(super) fn announce_lost(&mut self, first: u64, count: u64) {
        self.announced = first.saturating_add(count);
    }

    /// True if the block can be the next one or a later one at its position. Each block that is
    /// missing before it had a header at least, so the bytes since the last block bound their
    /// number; or the writer of a copy has announced that they are lost.
    pub(super) fn can_reach(&self, header: &UnitHeader) -> bool {
        let most = header.position.saturating_sub(self.end) / UNIT_HEADER_LEN as u64;
        // Blocks between the gap and this one may be missing, too.
        let most = most.saturating_add(self.announced.saturating_sub(self.next));
        header
            .number
            .checked_sub(self.next)
            .is_some_and(|missing| missing <= most)
    }

    /// Makes the block after `number` the next one. Returns the first and the last of the blocks
    /// before `number` that were skipped, if any.
    pub(super) fn advance_past(&mut self, number: u64) -> Option<(u64, u64)> {
        let first = std::mem::replace(&mut self.next, number.saturating_add(1));
        if number <= first {
            return None;
        }
        self.continuity.skip(number - first);
        Some((first, number - 1))
    }

    /// Checks the offset of the block that was just advanced past. If it is wrong the block counts
    /// as lost.
    ///
    /// # Errors
    ///
    /// The reason, as the rest of a sentence about the block.
    pub(super) fn check_offset(&mut self, header: &UnitHeader) -> Result<(), String> {
        let counted = header.block_kind.counts_in_offsets();
        let len = if counted { header.plain } else { 0 };
        if let Err(why) = self.continuity.advance(header.offset, len) {
            self.continuity.skip(1);
            return Err(why);
        }
        self.end = header.position.saturating_add(header.unit_len() as u64);
        Ok(())
    }

    /// Bytes of the plain stream up to the last block, if none is lost.
    pub(super) fn plain(&self) -> u64 {
        self.continuity.end()
    }

    /// Counts the next block as lost.
    pub(super) fn lose_next(&mut self) {
        self.next = self.next.saturating_add(1);
        self.continuity.skip(1);
    }

    /// Moves past all blocks of the archive.
    pub(super) fn finish(&mut self, blocks: u64) {
        self.next = blocks;
    }
}
