//! Checks that a block has the content that its archive was planned for. Control blocks belong to
//! every archive.

use crate::error::StageError;
use crate::pool::BlockInfo;
use crate::wire::{BlockKind, Content};

/// Checks block `number` of an archive of `content`.
///
/// # Errors
///
/// If the block is of a stream and the archive of a tree, or the reverse: a reader could not make
/// anything of it. In an archive of a tree, also if the block had another number or none when it
/// left the head, because the catalogue has the numbers of blocks; in one of a stream, also if the
/// block is of a kind that only trees have.
pub(super) fn check_content(
    content: Content,
    info: &BlockInfo,
    number: u64,
) -> Result<(), StageError> {
    let what = match (content, info.entries) {
        _ if info.is_control() => return Ok(()),
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
        (Content::Tree, true) => return check_tree_number(info, number),
        (Content::Stream, false) if info.kind != BlockKind::Data.code() => format!(
            "is of kind {}, which only the blocks of a tree's catalogue have: leave \
             BlockInfo::kind at 0",
            info.kind
        ),
        (Content::Stream, false) => return Ok(()),
    };
    Err(StageError::new(format!("block {number} {what}")))
}

/// Checks that block `number` of a tree had this number when it left the head.
///
/// # Errors
///
/// If it had another number, or none.
pub(in crate::archive) fn check_tree_number(
    info: &BlockInfo,
    number: u64,
) -> Result<(), StageError> {
    let what = match info.sequence {
        Some(first) if first != number => format!(
            "of the archive was block {first} of the tree, and the tree's catalogue refers to that \
             number: let no stage drop, add or reorder the blocks of a tree"
        ),
        Some(_) => return Ok(()),
        None => "has entries of a file tree, but not its number in the tree, to which the tree's \
                 catalogue refers: a stage has made new blocks of it; let no stage split or merge \
                 the blocks of a tree"
            .to_owned(),
    };
    Err(StageError::new(format!("block {number} {what}")))
}
