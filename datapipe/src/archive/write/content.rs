//! Checks that a block has the content that its archive was planned for.

use crate::error::StageError;
use crate::pool::BlockInfo;
use crate::wire::Content;

/// Checks block `number` of an archive of `content`.
///
/// # Errors
///
/// If the block is of a stream and the archive of a tree, or the reverse: a reader could not make
/// anything of it. In an archive of a tree, also if the block had another number when it left the
/// head, because the catalogue has the numbers of blocks.
pub(super) fn check_content(
    content: Content,
    info: &BlockInfo,
    number: u64,
) -> Result<(), StageError> {
    let what = match (content, info.entries) {
        (Content::Stream, true) => {
            "has entries of a file tree, but the archive was planned for a stream: use \
             ArchiveOptions::tree"
                .to_owned()
        }
        (Content::Tree, false) => {
            "has no entries of a file tree, as TreeHead makes them, but the archive was planned \
             for a tree: use ArchiveOptions::stream, or let stages that make new blocks copy the \
             block info"
                .to_owned()
        }
        (Content::Tree, true) => match info.sequence {
            Some(first) if first != number => format!(
                "of the archive was block {first} of the tree, and the tree's catalogue refers to \
                 that number: let no stage drop, add or reorder the blocks of a tree"
            ),
            _ => return Ok(()),
        },
        (Content::Stream, false) => return Ok(()),
    };
    Err(StageError::new(format!("block {number} {what}")))
}
