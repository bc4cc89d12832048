//! Checks that the blocks of an archive follow each other in its plain stream.

/// Follows the blocks of an archive through its plain stream.
///
/// Each block begins where the one before it ends. A larger offset is valid only if blocks between
/// the two are lost, and then by at most the largest size of a block for each of them. A reader
/// fills gaps with zeros, so this bounds what a header can make it write.
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

    /// Offset at which the next block begins, if no block before it is lost.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Allows for `blocks` blocks that are lost before the next one.
    pub(super) fn skip(&mut self, blocks: u64) {
        self.slack = self
            .slack
            .saturating_add(blocks.saturating_mul(self.block_len));
    }

    /// Moves past the next block, which begins at offset `at` and has `len` bytes of the stream.
    /// After an error nothing has changed.
    ///
    /// # Errors
    ///
    /// The reason why the block cannot follow the last one, as the rest of a sentence about it.
    pub(super) fn advance(&mut self, at: u64, len: u32) -> Result<(), String> {
        let end = self.end;
        if !(end..=end.saturating_add(self.slack)).contains(&at) {
            return Err(format!(
                "begins at byte {at} of the stream, but the one before ends at byte {end}"
            ));
        }
        let Some(end) = at.checked_add(len.into()) else {
            return Err(format!(
                "begins at byte {at} of the stream and ends past the largest offset, {}",
                u64::MAX
            ));
        };
        (self.end, self.slack) = (end, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_is_accepted_only_for_lost_blocks() {
        let mut continuity = Continuity::new(100);
        continuity.advance(0, 100).unwrap();
        assert!(continuity.advance(101, 10).is_err());
        assert!(continuity.advance(99, 10).is_err());
        continuity.advance(100, 10).unwrap();
        continuity.skip(2);
        assert!(continuity.advance(311, 10).is_err());
        continuity.advance(310, 0).unwrap();
        assert!(continuity.advance(311, 7).is_err());
        continuity.advance(310, 7).unwrap();
        continuity.skip(u64::MAX);
        assert!(continuity.advance(u64::MAX, 7).is_err());
    }
}
