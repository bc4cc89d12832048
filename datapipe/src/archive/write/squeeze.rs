//! The stage that closes the gaps which dropped blocks leave, and sends the special headers before
//! all other blocks but those of an archive that is copied. If no others come, it sends them only
//! to a medium that may become empty.
//!
//! The seal and the tail number blocks without gaps, and a reader takes a gap for a loss. The stage
//! is a loop over its port, which numbers blocks anew. It looks at the information of a block only,
//! never at the data.
//!
//! This module does not run in pipes whose stages all keep their blocks, if there are no special
//! headers.

use crate::error::StageError;
use crate::limits::FIRST_BLOCK;
use crate::pool::{BlockInfo, Marks, MiddlePort};
use crate::stage::{MiddleStage, Stage};
use crate::wire::{BlockKind, Content};

use super::super::special::Special;

/// Returns the stage, for an archive of `content`. `accepts_empty` is that of the medium.
pub(super) fn squeeze_stage<'a>(
    content: Content,
    mut specials: Vec<Special>,
    accepts_empty: bool,
) -> MiddleStage<'a> {
    let count = specials.len() as u64;
    let run = move |port: &MiddlePort| {
        let passed = Passed::new(content, FIRST_BLOCK + count);
        squeeze(port, &mut specials, passed, accepts_empty)
    };
    let stage = Stage::port("squeeze", run).fixed();
    match count {
        0 => stage.holds_out(0).only_after_drops(),
        _ => stage.sends_first(count),
    }
}

/// The stage's loop. It asks its port for vacant blocks too: the difference between a block that a
/// stage dropped and one that was lost is that the first leaves a vacant one. Control blocks have
/// numbers as well.
fn squeeze(
    port: &MiddlePort,
    specials: &mut Vec<Special>,
    mut passed: Passed,
    accepts_empty: bool,
) -> Result<(), StageError> {
    port.core().skip_vacant(false);
    port.core().take_control_blocks();
    while let Some(block) = port.receive()? {
        // The archive has an origin of its own.
        if block.is_vacant() || is_origin(&block.info()) {
            passed.drop_block(&block.info())?;
        } else {
            let info = block.info();
            // Those of an archive that is copied come first.
            let is_special = info.kind == BlockKind::Special.code();
            if !is_special && (accepts_empty || !info.marks.contains(Marks::LAST)) {
                send_specials(port, specials)?;
            }
            passed.pass(&info)?;
            port.forward(block)?;
        }
    }
    Ok(())
}

/// True if the block is the origin of the archive that the head reads.
fn is_origin(info: &BlockInfo) -> bool {
    info.kind == BlockKind::Special.code() && info.sequence == Some(0)
}

/// Sends the special headers that were not sent.
fn send_specials(port: &MiddlePort, specials: &mut Vec<Special>) -> Result<(), StageError> {
    for special in specials.drain(..) {
        let mut block = port.alloc()?;
        block.put(&special.to_block())?;
        block.set_info(BlockInfo {
            kind: BlockKind::Special.code(),
            ..BlockInfo::default()
        });
        port.emit(block)?;
    }
    Ok(())
}

/// The blocks of an archive that have passed.
#[derive(Debug)]
struct Passed {
    content: Content,
    /// Number of the next block.
    blocks: u64,
    /// Number that the last block had from a reader, a tree's head or a sequencer.
    sequence: Option<u64>,
}

impl Passed {
    /// `first` is the number of the next block.
    fn new(content: Content, first: u64) -> Self {
        Self {
            content,
            blocks: first,
            sequence: None,
        }
    }

    /// Notes a block that a stage has dropped. A control block of the archive that the head reads
    /// is not one of this archive.
    fn drop_block(&mut self, info: &BlockInfo) -> Result<(), StageError> {
        if info.is_control() {
            return self.check_sequence(info);
        }
        if self.content == Content::Tree {
            return Err(StageError::new(format!(
                "block {} of a tree was dropped, and the tree's catalogue refers to blocks by \
                 their numbers: let no stage drop blocks of a tree",
                self.blocks
            )));
        }
        self.check_sequence(info)
    }

    /// Notes a block that goes on.
    fn pass(&mut self, info: &BlockInfo) -> Result<(), StageError> {
        self.check_sequence(info)?;
        self.blocks += 1;
        Ok(())
    }

    /// Checks that no block is missing between the last one and this one, if both have a number
    /// from before. Several blocks made from one may have its number.
    fn check_sequence(&mut self, info: &BlockInfo) -> Result<(), StageError> {
        let (Some(last), Some(now)) = (
            std::mem::replace(&mut self.sequence, info.sequence),
            info.sequence,
        ) else {
            return Ok(());
        };
        if now == last || Some(now) == last.checked_add(1) {
            return Ok(());
        }
        Err(StageError::new(format!(
            "block {now} follows block {last} of the stream that the head read: blocks were lost \
             or are out of order; a stage that drops, merges or reorders blocks on purpose sets \
             BlockInfo::sequence to None"
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn lost_block_is_an_error_and_a_dropped_one_is_not() {
        let numbered = |number| BlockInfo {
            sequence: Some(number),
            ..BlockInfo::default()
        };
        let mut passed = Passed::new(Content::Stream, 0);
        passed.pass(&numbered(4)).unwrap();
        passed.pass(&numbered(4)).unwrap();
        passed.drop_block(&numbered(5)).unwrap();
        passed.pass(&numbered(6)).unwrap();
        passed.pass(&BlockInfo::default()).unwrap();
        passed.pass(&numbered(9)).unwrap();
        let error = passed.pass(&numbered(11)).unwrap_err().to_string();
        assert!(error.starts_with("block 11 follows block 9"), "{error}");
    }
}
