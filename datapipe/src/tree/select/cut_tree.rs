//! A tree's archive without an end: what its checkpoints say, so that a list need not read all
//! data.
//!
//! ```text
//!   data | catalogue | checkpoint | data | catalogue | checkpoint | data | data .. cut
//!          \-- ended objects --/           \-- ended objects --/    \-- objects --/
//! ```

use crate::archive::{ArchiveReader, BlockSet, CutIndex, OpenError, Reading};
use crate::limits::MAX_BLOCK_RUNS;
use crate::media::{MediumError, MediumReader};
use crate::wire::{Checkpoint, Content, ENTRY_HEADER_LEN, OBJECT_LEN, WalkCheckpoint};

/// The objects of a tree's archive without an end: those that had ended at its last checkpoint, and
/// the blocks after that.
///
/// A list of them, or a search, reads the pieces of the catalogue before the checkpoints and all
/// blocks from the last checkpoint on. It finds what a reading of all blocks finds, except damage
/// to blocks of data before that.
///
/// ```no_run
/// use datapipe::prelude::*;
/// use datapipe::tree::{CutTree, TreeList};
///
/// let reader = ArchiveReader::open(VirtualTape::open("nightly.tap")?, None)?;
/// let log = DamageLog::new();
/// let list = TreeList::new(|object| {
///     println!("{}", object.path.escape_ascii());
///     Ok(())
/// });
/// let reader = reader.salvage(&log);
/// match CutTree::read(&reader) {
///     Ok(cut) => cut.reading(&reader)?.pipe.tail(list.salvage(&log).of_cut(&cut)).run()?,
///     Err(_) => reader.read().pipe.tail(list.salvage(&log)).run()?,
/// };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CutTree {
    index: CutIndex,
    blocks: BlockSet,
    point: CutPoint,
}

/// The place from which on the objects are read themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutPoint {
    /// Number of the first block of the last checkpoint.
    pub(super) checkpoint: u64,
    /// Number of the last object that had begun.
    pub(super) objects: u64,
    /// The object that had begun and not ended.
    pub(super) open: Option<BegunBefore>,
}

/// Number of an object, and the block and the byte in it at which its first entry begins.
pub(super) type BegunBefore = (u64, (u64, u32));

impl CutTree {
    /// Reads the checkpoints of an archive without an end.
    ///
    /// # Errors
    ///
    /// As of [`ArchiveReader::cut_index`], and [`OpenError::NoIndex`] if the archive is not of a
    /// tree.
    pub fn read<M: MediumReader + 'static>(reader: &ArchiveReader<M>) -> Result<Self, OpenError> {
        if reader.header().content != Content::Tree {
            return Err(OpenError::no_index("it is not of a tree"));
        }
        let index = reader.cut_index()?;
        let (mut blocks, mut point) = (BlockSet::new(), None);
        let mut number = index.checkpoint();
        for _ in 0..MAX_BLOCK_RUNS {
            let Checkpoint::Walk(walk) = reader.checkpoint_at(&index, number)? else {
                return Err(OpenError::no_index(
                    "a checkpoint is not of the head of a tree",
                ));
            };
            if let Some(first) = walk.catalogue {
                blocks.insert(first..=number);
            }
            if point.is_none() {
                let open = open_of(&walk, reader.header().block_len)?;
                if let Some((_, (block, _))) = open {
                    blocks.insert(block..=block);
                }
                point = Some(CutPoint {
                    checkpoint: number,
                    objects: walk.objects,
                    open,
                });
            }
            match walk.previous {
                Some(previous) if previous < number => number = previous,
                Some(_) => return Err(OpenError::no_index("its checkpoints are out of order")),
                None => {
                    let point = point.ok_or_else(|| OpenError::no_index("it has no checkpoint"))?;
                    return Ok(Self {
                        index,
                        blocks,
                        point,
                    });
                }
            }
        }
        Err(OpenError::no_index("it has too many checkpoints"))
    }

    /// The positions of its blocks.
    pub fn index(&self) -> &CutIndex {
        &self.index
    }

    /// The blocks with the pieces of the catalogue before the last checkpoint, and the one in which
    /// the object begins that had not ended there.
    pub fn blocks(&self) -> &BlockSet {
        &self.blocks
    }

    /// Returns a pipe that reads these blocks, and all from the last checkpoint on.
    ///
    /// # Errors
    ///
    /// As [`ArchiveReader::read_cut`].
    pub fn reading<M: MediumReader + 'static>(
        &self,
        reader: &ArchiveReader<M>,
    ) -> Result<Reading, MediumError> {
        reader.read_cut(&self.index, &self.blocks)
    }

    pub(super) fn point(&self) -> CutPoint {
        self.point
    }
}

/// Returns the open object of a checkpoint. Its first entry must be in one block.
fn open_of(walk: &WalkCheckpoint, block_len: u32) -> Result<Option<BegunBefore>, OpenError> {
    let Some(open) = &walk.open else {
        return Ok(None);
    };
    // The path is that of the open object, and a file has no target.
    let len = ENTRY_HEADER_LEN + OBJECT_LEN + walk.path.len();
    match len <= block_len as usize {
        true => Ok(Some((open.object, open.first))),
        false => Err(OpenError::no_index(
            "the entry of its open object is longer than a block",
        )),
    }
}
