//! The stage that gives each block of an archive its offset in the plain stream.
//!
//! The offset is part of what encryption authenticates, so it must be final before the seal, and it
//! is the sum of the lengths of all blocks before, so one instance has to see all of them in order.
//! The stage is a loop over its port, which numbers blocks anew: blocks that were dropped before it
//! leave no gaps. It looks at the information of a block only, never at the data.
//!
//! This module does not run in pipes whose stages all keep offsets: `Offsets`.

use crate::error::StageError;
use crate::pool::{BlockInfo, Codec, Marks, MiddlePort};
use crate::stage::{Arguments, MiddleStage, Offsets, Stage};
use crate::wire::Content;

use super::super::arguments::{BLOCK_LEN, CONTENT, OFFSETS_MODULE};
use super::content::check_content;

/// Returns the stage. `block_len` is the largest size of a block of the archive, in bytes.
pub(in crate::archive) fn offsets_stage<'a>(content: Content, block_len: u32) -> MiddleStage<'a> {
    let name = match content {
        Content::Stream => "stream",
        Content::Tree => "tree",
    };
    let arguments = Arguments::new()
        .with(CONTENT, name)
        .with(BLOCK_LEN, block_len.to_string());
    Stage::port("archive-offsets", move |port| {
        assign_offsets(port, PlainStream::new(content, block_len))
    })
    .holds_out(0)
    .offsets(Offsets::Assigned)
    .module(OFFSETS_MODULE, arguments)
}

/// The stage's loop. It asks its port for vacant blocks too: the difference between a block that a
/// stage dropped and one that was lost is that the first leaves a vacant one.
fn assign_offsets(port: &MiddlePort, mut stream: PlainStream) -> Result<(), StageError> {
    port.core().skip_vacant(false);
    while let Some(mut block) = port.receive()? {
        let mut info = block.info();
        if block.is_vacant() {
            stream.drop_block(&info)?;
            continue;
        }
        stream.append(&mut info, block.len())?;
        block.set_info(info);
        port.forward(block)?;
    }
    Ok(())
}

/// The plain stream of an archive, as far as its blocks have passed.
#[derive(Debug)]
struct PlainStream {
    content: Content,
    block_len: u32,
    /// Number of the blocks so far.
    blocks: u64,
    /// Offset of their end.
    end: u64,
    /// Number that the last block had from a reader, a tree's head or a sequencer.
    sequence: Option<u64>,
    /// The last block, if inspection has rejected it.
    rejected: Option<Rejected>,
}

/// A block that has lost its data, and keeps its place.
#[derive(Clone, Copy, Debug)]
struct Rejected {
    /// Offset with which it came.
    offset: u64,
    /// Length that it had, or 0 if the stage that rejected it did not record that.
    plain_len: u32,
}

impl Rejected {
    /// Returns the length of its place: the one recorded, or else the distance to the offset of the
    /// next block, if that can be right.
    fn place(self, next: u64, block_len: u32) -> u64 {
        let recorded = Some(u64::from(self.plain_len)).filter(|&len| len > 0);
        let place = recorded.or_else(|| next.checked_sub(self.offset));
        place
            .filter(|&place| place <= block_len.into())
            .unwrap_or_default()
    }
}

impl PlainStream {
    fn new(content: Content, block_len: u32) -> Self {
        Self {
            content,
            block_len,
            blocks: 0,
            end: 0,
            sequence: None,
            rejected: None,
        }
    }

    /// Notes a block that a stage has dropped.
    fn drop_block(&mut self, info: &BlockInfo) -> Result<(), StageError> {
        if self.content == Content::Tree {
            return Err(StageError::new(format!(
                "block {} of a tree was dropped, and the tree's catalogue refers to blocks by \
                 their numbers: let no stage drop blocks of a tree",
                self.blocks
            )));
        }
        self.check_sequence(info)
    }

    /// Appends a block with `len` bytes of data, and sets its offset.
    ///
    /// A block begins where the one before it ends. Only a block that was rejected, and has lost
    /// its data, keeps its place: the next one begins where it would have begun.
    fn append(&mut self, info: &mut BlockInfo, len: usize) -> Result<(), StageError> {
        let number = self.blocks;
        if info.sealed {
            return Err(StageError::new(format!(
                "block {number} is encrypted already"
            )));
        }
        check_content(self.content, info, number)?;
        self.check_sequence(info)?;
        let place = self
            .rejected
            .map_or(0, |rejected| rejected.place(info.offset, self.block_len));
        self.rejected = info.marks.contains(Marks::REJECTED).then_some(Rejected {
            offset: info.offset,
            plain_len: info.plain_len,
        });
        let plain = match info.codec {
            Codec::NONE => len as u64,
            _ => info.plain_len.into(),
        };
        let start = self.end.checked_add(place);
        let end = start.and_then(|start| start.checked_add(plain));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(StageError::new(format!(
                "block {number} ends past the largest offset of a stream, {}",
                u64::MAX
            )));
        };
        info.offset = start;
        (self.blocks, self.end) = (number + 1, end);
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

    fn info(offset: u64) -> BlockInfo {
        BlockInfo {
            offset,
            ..BlockInfo::default()
        }
    }

    /// Returns the offset that a block gets.
    fn place(stream: &mut PlainStream, mut info: BlockInfo, len: usize) -> u64 {
        stream.append(&mut info, len).unwrap();
        info.offset
    }

    #[test]
    fn offsets_are_contiguous_after_any_change_of_lengths() {
        let mut stream = PlainStream::new(Content::Stream, 100);
        assert_eq!(place(&mut stream, info(0), 10), 0);
        assert_eq!(place(&mut stream, info(0), 7), 10);
        assert_eq!(place(&mut stream, info(77), 1), 17);
        let packed = BlockInfo {
            codec: Codec::ZSTD,
            plain_len: 50,
            ..info(3)
        };
        assert_eq!(place(&mut stream, packed, 5), 18);
        assert_eq!(place(&mut stream, info(0), 1), 68);
    }

    #[test]
    fn rejected_block_keeps_its_place() {
        let rejected = |offset| BlockInfo {
            marks: Marks::REJECTED,
            ..info(offset)
        };
        let mut stream = PlainStream::new(Content::Stream, 100);
        assert_eq!(place(&mut stream, info(0), 10), 0);
        assert_eq!(place(&mut stream, rejected(100), 0), 10);
        assert_eq!(place(&mut stream, rejected(200), 0), 110);
        assert_eq!(place(&mut stream, info(260), 10), 170);
        assert_eq!(place(&mut stream, rejected(0), 0), 180);
        assert_eq!(
            place(&mut stream, info(101), 1),
            180,
            "too long for a block"
        );
        let recorded = BlockInfo {
            plain_len: 30,
            ..rejected(0)
        };
        assert_eq!(place(&mut stream, recorded, 0), 181);
        assert_eq!(place(&mut stream, info(0), 1), 211);
    }

    #[test]
    fn lost_block_is_an_error_and_a_dropped_one_is_not() {
        let numbered = |number| BlockInfo {
            sequence: Some(number),
            ..info(0)
        };
        let mut stream = PlainStream::new(Content::Stream, 100);
        place(&mut stream, numbered(4), 1);
        place(&mut stream, numbered(4), 1);
        stream.drop_block(&numbered(5)).unwrap();
        place(&mut stream, numbered(6), 1);
        place(&mut stream, info(0), 1);
        place(&mut stream, numbered(9), 1);
        let error = stream.append(&mut numbered(11), 1).unwrap_err().to_string();
        assert!(error.starts_with("block 11 follows block 9"), "{error}");
    }

    #[test]
    fn offset_past_the_largest_is_an_error() {
        let mut stream = PlainStream::new(Content::Stream, 100);
        stream.end = u64::MAX - 1;
        assert_eq!(place(&mut stream, info(0), 1), u64::MAX - 1);
        let error = stream.append(&mut info(0), 1).unwrap_err().to_string();
        assert!(error.contains("past the largest offset"), "{error}");
    }
}
