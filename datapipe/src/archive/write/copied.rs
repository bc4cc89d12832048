//! The blocks of a copy, which keep the numbers that they have in the source.

use crate::error::StageError;
use crate::pool::{BlockInfo, Marks};

/// Returns the number that a block has in the source, and so in the copy. `next` is the one after
/// the last block.
///
/// # Errors
///
/// If the block does not come from the source of the copy, or not in order.
pub(super) fn copied_number(info: &BlockInfo, next: u64) -> Result<u64, StageError> {
    match info.sequence {
        None => Err(StageError::new(format!(
            "a block after block {next} of the source has no number there: a copy has the blocks \
             that StoredArchive::read returns, and no stage changes or adds any"
        ))),
        Some(number) if number < next => Err(StageError::new(format!(
            "block {number} of the source comes after block {}: let no stage reorder or repeat the \
             blocks of a copy",
            next - 1
        ))),
        Some(u64::MAX) => Err(StageError::new(
            "block 18446744073709551615 of the source: no archive has as many blocks",
        )),
        Some(number) => Ok(number),
    }
}

/// True if the block is the last one of the pipe itself. A copy has that of its source.
pub(super) fn is_own_last(info: &BlockInfo) -> bool {
    info.marks.contains(Marks::LAST) && info.sequence.is_none()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn numbers_ascend_and_leave_room_for_the_next_one() {
        let number = |sequence, next| {
            let info = BlockInfo {
                sequence,
                ..BlockInfo::default()
            };
            copied_number(&info, next).ok()
        };
        assert_eq!(number(Some(7), 7), Some(7));
        assert_eq!(number(Some(9), 7), Some(9));
        assert_eq!(number(Some(u64::MAX - 1), 7), Some(u64::MAX - 1));
        for refused in [None, Some(6), Some(u64::MAX)] {
            assert_eq!(number(refused, 7), None);
        }
    }
}
