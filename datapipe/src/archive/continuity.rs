//! Where in the plain stream each block has to begin.

use crate::pool::Marks;
use crate::wire::UnitHeader;

/// Follows the blocks of an archive through its plain stream: each begins where the one before
/// ends, but for what was rejected or is lost between them. What a reader fills a gap with is
/// bounded by that, whatever a header says.
#[derive(Debug)]
pub(super) struct Course {
    block_len: u64,
    /// Where the last block ends.
    end: u64,
    /// Bytes that may lie between that and the next one.
    slack: u64,
}

impl Course {
    /// `block_len`: bytes of a block at most.
    pub(super) fn new(block_len: u32) -> Self {
        Self {
            block_len: block_len.into(),
            end: 0,
            slack: 0,
        }
    }

    /// So many blocks are gone.
    pub(super) fn lose(&mut self, blocks: u64) {
        self.slack = self
            .slack
            .saturating_add(blocks.saturating_mul(self.block_len));
    }

    /// The next block.
    ///
    /// # Errors
    ///
    /// Why it cannot stand here.
    pub(super) fn follow(&mut self, header: &UnitHeader) -> Result<(), String> {
        let (at, end) = (header.offset, self.end);
        if !(end..=end.saturating_add(self.slack)).contains(&at) {
            return Err(format!(
                "begins at byte {at} of the stream, but the one before ends at byte {end}"
            ));
        }
        let Some(end) = at.checked_add(header.plain.into()) else {
            return Err(format!(
                "begins at byte {at} of the stream, which has no room for it"
            ));
        };
        (self.end, self.slack) = (end, 0);
        if header.marks.contains(Marks::REJECTED) {
            self.lose(1);
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
    fn a_gap_needs_a_block_that_is_not_there() {
        let mut course = Course::new(100);
        let plain = Marks::default();
        course.follow(&block(0, 100, plain)).unwrap();
        assert!(course.follow(&block(101, 10, plain)).is_err());
        assert!(course.follow(&block(99, 10, plain)).is_err());
        course.follow(&block(100, 10, plain)).unwrap();
        course.lose(2);
        assert!(course.follow(&block(311, 10, plain)).is_err());
        course.follow(&block(310, 0, Marks::REJECTED)).unwrap();
        course.follow(&block(410, 7, plain)).unwrap();
        course.lose(u64::MAX);
        assert!(course.follow(&block(u64::MAX, 7, plain)).is_err());
    }
}
