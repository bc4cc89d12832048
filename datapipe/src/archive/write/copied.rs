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
        Some(number) => Ok(number),
    }
}

/// True if the block is the last one of the pipe itself. A copy has that of its source.
pub(super) fn is_own_last(info: &BlockInfo) -> bool {
    info.marks.contains(Marks::LAST) && info.sequence.is_none()
}
