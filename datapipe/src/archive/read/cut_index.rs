//! The index of an archive without an end: its chunks up to the last locator that can be read, and
//! the checkpoints, which its head has made between the data.
//!
//! ```text
//!   .. catalogue | checkpoint | locator | mark .. catalogue | checkpoint | locator | mark .. cut
//!        ^            |   ^                            |         |
//!        +------------+   +----------------------------+---------+       from the end
//! ```
//!
//! Locators are not authenticated. The blocks of a checkpoint are, and say where the one before is.

use std::fmt;

use crate::limits::{MAX_LOCATOR_CHUNKS, MAX_RECORD};
use crate::media::{MediumError, MediumReader};
use crate::wire::{BlockKind, Checkpoint, Framing, Locator, UnitKind};

use super::super::open_error::OpenError;
use super::super::place::on_medium;
use super::back_reader::BackReader;
use super::block_set::BlockSet;
use super::front::content_of;
use super::head::ArchiveHead;
use super::index::Index;
use super::reader::{ArchiveReader, Reading};
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// Positions of the blocks of an archive without an end, from
/// [`ArchiveReader::cut_index`](super::ArchiveReader::cut_index): those up to the last locator.
pub struct CutIndex {
    index: Index,
    checkpoint: u64,
}

impl CutIndex {
    /// Number of the first block of the last checkpoint that is known.
    pub fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// The positions, for [`ArchiveReader::read_blocks`](super::ArchiveReader::read_blocks). Its
    /// counts are those of the blocks before the last locator, and it has no catalogue. Blocks
    /// after the locator are read from there on.
    pub fn positions(&self) -> &Index {
        &self.index
    }
}

impl<M: MediumReader + 'static> ArchiveReader<M> {
    /// Reads the index of an archive whose end is missing, because its writer was stopped or the
    /// medium was cut off: the positions of its blocks up to its last locator. The blocks after
    /// that are read twice, at most 4 GiB of them.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoIndex`] if the archive has no checkpoints that can be found, as one that was
    /// copied, or one whose chunks have no footers: read it from its start then. Other errors as of
    /// [`index`](Self::index).
    pub fn cut_index(&self) -> Result<CutIndex, OpenError> {
        let _claim = self.shared_medium().claim()?;
        self.check_specials()?;
        let (session, place) = (self.session(), self.place());
        if session.framing != Framing::HeaderFooter {
            return Err(OpenError::no_index("its chunks have no footers"));
        }
        let mut reader = BackReader::new(self.shared_medium(), session.id);
        match place.until {
            Some(until) => reader.seek(until)?,
            None => reader.seek_end()?,
        }
        let (locator, at) = reader.last_locator(place.archive, MAX_REST)?;
        let Some(checkpoint) = locator.checkpoint else {
            return Err(OpenError::no_index("it has no checkpoint"));
        };
        let mut older = Vec::new();
        let (mut before, mut first) = (locator.before, first_of(&locator)?);
        let mut count = locator.chunks.len();
        while let Some(at) = before.filter(|_| count < MAX_LOCATOR_CHUNKS) {
            reader.seek(on_medium(at, place.volumes_before))?;
            let (_, body) = reader.read_unit(UnitKind::Locator)?;
            let found = Locator::parse(&body)?;
            let its_first = first_of(&found)?;
            if its_first >= first {
                return Err(OpenError::no_index("its locators are out of order"));
            }
            (before, first) = (found.before, its_first);
            count += found.chunks.len();
            older.push(found.chunks);
        }
        older.reverse();
        let mut chunks = older.concat();
        chunks.extend(&locator.chunks);
        for chunk in &mut chunks {
            chunk.place = on_medium(chunk.place, place.volumes_before);
        }
        let are_ordered = chunks
            .is_sorted_by(|one, other| (one.first, one.position) < (other.first, other.position));
        if !are_ordered {
            return Err(OpenError::no_index("its locators are out of order"));
        }
        let index = Index::of_cut(session, place, (&locator, at), chunks);
        Ok(CutIndex { index, checkpoint })
    }

    /// Reads a checkpoint, the first block of which has this number. It is authenticated, if the
    /// archive is encrypted.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoIndex`] if there is none that is valid; [`OpenError::Medium`].
    pub fn checkpoint_at(&self, index: &CutIndex, number: u64) -> Result<Checkpoint, OpenError> {
        let _claim = self.shared_medium().claim()?;
        let missing = || OpenError::no_index(format!("block {number} is not a valid checkpoint"));
        let chunk = index.index.chunk_of(number).ok_or_else(missing)?;
        let after_first = u64::from(chunk.blocks).saturating_sub(1);
        // The locator may be forged.
        let last = chunk.first.checked_add(after_first).ok_or_else(missing)?;
        let mut wanted = BlockSet::new();
        wanted.insert(number..=last);
        let runs = index
            .index
            .runs(self.shared_medium(), self.session().id, &wanted)?;
        let start = runs.first().ok_or_else(missing)?.start;
        let mut medium = self.shared_medium().clone();
        medium.seek(start.record)?;
        let mut units = UnitReader::new(medium, Some(self.session().id));
        units.moved(start.record.volume);
        units.limit(MAX_CHECKPOINT_READ);
        let mut blocks = Vec::new();
        let mut numbers = (number..=last).peekable();
        while let Some(&next) = numbers.peek() {
            match units.next()? {
                UnitEvent::Unit(header, _) if header.kind == UnitKind::Block => {
                    if header.number < next {
                        continue;
                    }
                    let content =
                        content_of(&header, units.body(), BlockKind::Checkpoint, self.key());
                    let is_it = header.block_kind == BlockKind::Checkpoint
                        && (header.number, header.archive) == (next, self.place().archive);
                    blocks.push(content.filter(|_| is_it).ok_or_else(missing)?);
                    numbers.next();
                }
                UnitEvent::Unit(..) | UnitEvent::Label(..) => {}
                _ => return Err(missing()),
            }
        }
        Checkpoint::parse(blocks.iter().map(Vec::as_slice)).map_err(|_| missing())
    }

    /// Returns a pipe that reads `blocks`, and all blocks from the last checkpoint on.
    ///
    /// # Errors
    ///
    /// As [`read_blocks`](Self::read_blocks).
    pub fn read_cut(&self, index: &CutIndex, blocks: &BlockSet) -> Result<Reading, MediumError> {
        Ok(self.reading(self.head_of_cut(index, blocks)?))
    }

    /// Returns the head that reads `blocks`, and all blocks from the last checkpoint on, up to the
    /// end. That the archive has none is damage, as for [`head`](Self::head).
    ///
    /// # Errors
    ///
    /// As [`head_of`](Self::head_of).
    pub fn head_of_cut(
        &self,
        index: &CutIndex,
        blocks: &BlockSet,
    ) -> Result<ArchiveHead<M>, MediumError> {
        let mut blocks = blocks.clone();
        blocks.insert(index.checkpoint..=u64::MAX);
        Ok(self.head_of(&index.index, &blocks)?.until_end())
    }
}

/// Number of the first block of the chunks in a locator.
fn first_of(locator: &Locator) -> Result<u64, OpenError> {
    let first = locator.chunks.first().map(|chunk| chunk.first);
    first.ok_or_else(|| OpenError::no_index("its locator has no chunks"))
}

/// Most bytes of records after the last locator that are passed to find it: twice what a writer
/// puts between two of them by default. An archive with chunks of 2 GiB or more may be refused, and
/// is read from its start.
const MAX_REST: u64 = 4 << 30;

/// Bytes of records that are read for a checkpoint at most, besides those of the last one.
const MAX_CHECKPOINT_READ: u64 = 4 * MAX_RECORD as u64;

impl fmt::Debug for CutIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CutIndex")
            .field("checkpoint", &self.checkpoint)
            .finish_non_exhaustive()
    }
}
