//! Checks that the blocks of an archive follow each other in its plain stream.

use crate::pool::Marks;
use crate::wire::UnitHeader;

/// Follows the blocks of an archive through its plain stream.
///
/// Each block begins where the one before it ends. A larger offset is valid only if blocks between
/// the two were rejected or lost, and then by at most the largest size of a block for each of them.
/// A reader fills gaps with zeros, so this bounds what a header can make it write.
#[derive(Debug)]
pub(super) struct Continuity {
    block_len: u64,
    /// Offset of the end of the last block.
    end: u64,
    /// Largest valid gap between that end and the next block, in bytes.
    slack: u64,
}

impl Continuity {
    /// Starts at offset 0. `block_len` is the largest size of a block, in bytes.
    pub(super) fn new(block_len: u32) -> Self {
        Self {
            block_len: block_len.into(),
            end: 0,
            slack: 0,
        }
    }

    /// Allows for `blocks` blocks that are missing before the next one.
    pub(super) fn skip(&mut self, blocks: u64) {
        self.slack = self
            .slack
            .saturating_add(blocks.saturating_mul(self.block_len));
    }

    /// Moves past the next block. After an error nothing has changed.
    ///
    /// # Errors
    ///
    /// The reason why the block cannot follow the last one, as the rest of a sentence about it.
    pub(super) fn advance(&mut self, header: &UnitHeader) -> Result<(), String> {
        let (at, end) = (header.offset, self.end);
        if !(end..=end.saturating_add(self.slack)).contains(&at) {
            return Err(format!(
                "begins at byte {at} of the stream, but the one before ends at byte {end}"
            ));
        }
        let Some(end) = at.checked_add(header.plain.into()) else {
            return Err(format!(
                "begins at byte {at} of the stream and ends past the largest offset, {}",
                u64::MAX
            ));
        };
        (self.end, self.slack) = (end, 0);
        if header.marks.contains(Marks::REJECTED) {
            self.skip(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::UnitKind;

    fn block(offset: u64, plain: u32, marks: Marks) -> UnitHeader {
        UnitHeader {
            offset,
            plain,
            marks,
            ..UnitHeader::new(UnitKind::Block)
        }
    }

    #[test]
    fn gap_is_accepted_only_for_missing_or_rejected_blocks() {
        let mut continuity = Continuity::new(100);
        let plain = Marks::default();
        continuity.advance(&block(0, 100, plain)).unwrap();
        assert!(continuity.advance(&block(101, 10, plain)).is_err());
        assert!(continuity.advance(&block(99, 10, plain)).is_err());
        continuity.advance(&block(100, 10, plain)).unwrap();
        continuity.skip(2);
        assert!(continuity.advance(&block(311, 10, plain)).is_err());
        continuity.advance(&block(310, 0, Marks::REJECTED)).unwrap();
        continuity.advance(&block(410, 7, plain)).unwrap();
        continuity.skip(u64::MAX);
        assert!(continuity.advance(&block(u64::MAX, 7, plain)).is_err());
    }
}
