//! The index of an archive: positions of its blocks, as the end of the archive lists them.
//! `docs/wire-format.md`, "Reading some blocks only".
//!
//! ```text
//!   ... block | chunk footer | locator | mark | archive footer | session footer | mark | mark
//!         ^          |            ^  |                ^  |             |            start here
//!         +----------+- positions +--+----------------+--+-------------+
//! ```
//!
//! The index is not authenticated and not trusted. A block that is found proves its number itself.

use std::fmt;
use std::ops::RangeInclusive;

use crate::media::{Item, MediumError, MediumReader, Position};
use crate::wire::{
    ArchiveEntry, ArchiveFooter, ChunkEntry, ChunkFooter, CopySource, Framing, Locator,
    RecordHeader, SessionFooter, SessionHeader, UnitKind,
};
use crate::words::len_of;

use super::super::open_error::OpenError;
use super::super::place::{Place, on_medium};
use super::super::run::{ReadStart, Run};
use super::back_reader::BackReader;
use super::block_set::BlockSet;
use super::footer::parse_footer;
use super::shared_medium::SharedMedium;

/// Positions of the blocks of an archive. [`ArchiveReader::index`](super::ArchiveReader::index)
/// makes it.
pub struct Index {
    footer: ArchiveFooter,
    chunks: Vec<ChunkEntry>,
    framing: Framing,
    /// The record in which the locator begins.
    locator: Position,
    /// The record in which the archive's header begins.
    header: Position,
    /// Number of the medium's volumes before the first one of the session, in which the positions
    /// in the chunks' footers are counted.
    volumes_before: u32,
}

impl Index {
    /// Number of blocks in the archive: data, catalogue and control blocks.
    pub fn blocks(&self) -> u64 {
        self.footer.blocks
    }

    /// Bytes of all blocks before compression: catalogue and rejected blocks included, control
    /// blocks not.
    pub fn plain(&self) -> u64 {
        self.footer.plain
    }

    /// Number of blocks that an inspection rejected when the archive was written. Their data is not
    /// in the archive.
    pub fn rejected(&self) -> u64 {
        self.footer.rejected
    }

    /// The session from which the archive was copied, if it is a copy.
    pub fn copy_of(&self) -> Option<CopySource> {
        self.footer.copy_of
    }

    /// Returns the blocks of the catalogue's closing run, and the last block after it. A stream has
    /// none.
    pub fn catalogue(&self) -> BlockSet {
        let mut blocks = BlockSet::new();
        if let Some(last) = self.footer.blocks.checked_sub(1) {
            blocks.insert(self.footer.catalogue..=last);
        }
        blocks
    }

    /// Reads the index from the end of a session: back from the end of the medium to the session
    /// footer, unless its position is known. It has the position of the archive footer, and back
    /// from that is the locator.
    pub(super) fn read<M: MediumReader>(
        medium: &SharedMedium<M>,
        session: &SessionHeader,
        place: &Place,
    ) -> Result<Self, OpenError> {
        let mut reader = BackReader::new(medium, session.id);
        let (end, volumes_before) = match (place.footer, place.is_selected) {
            (Some(footer), _) => {
                reader.seek(footer)?;
                (footer, place.volumes_before)
            }
            (None, true) => {
                return Err(OpenError::no_index(
                    "its session has no footer that can be read",
                ));
            }
            (None, false) => seek_footer(&mut reader)?,
        };
        let (_, body) = reader.read_unit(UnitKind::SessionFooter)?;
        let archives = SessionFooter::parse(&body)?.archives;
        let count = archives.len();
        let archive = find_entry(&archives, place, volumes_before)?;
        reader.seek(archive.place)?;
        let (header, body) = reader.read_unit(UnitKind::ArchiveFooter)?;
        let footer = parse_footer(&header, &body)
            .map_err(|why| OpenError::no_index(format!("the archive footer {why}")))?;
        // The positions may lead from the end of a second copy of the archive to the first.
        // Only the last archive of a session is followed by its end.
        let is_elsewhere = place.archive as usize == count && {
            reader.pass_mark_and(UnitKind::Volumes)?;
            let first_end = reader.position_of_next(UnitKind::SessionFooter)?;
            first_end.map(|at| (at.volume, at.byte)) != Some((end.volume, end.byte))
        };
        if is_elsewhere {
            return Err(OpenError::no_index(
                "its end is not where it says: the medium has more than this archive",
            ));
        }
        reader.seek(archive.place)?;
        let locator = reader.back_to(|header| header.position <= archive.locator)?;
        let (_, body) = reader.read_unit(UnitKind::Locator)?;
        let mut chunks = Locator::parse(&body)?.chunks;
        for chunk in &mut chunks {
            chunk.place = on_medium(chunk.place, volumes_before);
        }
        if !chunks.is_sorted_by_key(|chunk| chunk.first) {
            return Err(OpenError::no_index("its locator is out of order"));
        }
        Ok(Self {
            footer,
            chunks,
            framing: session.framing,
            locator,
            header: archive.header,
            volumes_before,
        })
    }

    /// The index of an archive without an end, up to its last locator.
    pub(super) fn of_cut(
        session: &SessionHeader,
        place: &Place,
        (locator, at): (&Locator, Position),
        chunks: Vec<ChunkEntry>,
    ) -> Self {
        let blocks = locator.blocks;
        Self {
            footer: ArchiveFooter {
                blocks,
                plain: locator.offset,
                rejected: locator.rejected,
                catalogue: blocks,
                copy_of: None,
            },
            chunks,
            framing: session.framing,
            locator: at,
            header: place.start.unwrap_or(Position::start_of(1)),
            volumes_before: place.volumes_before,
        }
    }

    /// The chunk that has a block.
    pub(super) fn chunk_of(&self, block: u64) -> Option<&ChunkEntry> {
        let after = self.chunks.partition_point(|chunk| chunk.first <= block);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        (block - chunk.first < chunk.blocks.into()).then_some(chunk)
    }

    /// Returns the runs of a set of blocks, each with the position at which to begin to read.
    ///
    /// The closest known position is that of a block in its chunk's footer; without a footer, the
    /// start of the chunk; before the first chunk in the locator, the archive's header. Runs
    /// ascend, so the footer of one chunk at a time is kept.
    pub(super) fn runs<M: MediumReader>(
        &self,
        medium: &SharedMedium<M>,
        session: [u8; 16],
        blocks: &BlockSet,
    ) -> Result<Vec<Run>, MediumError> {
        let mut reader = BackReader::new(medium, session);
        let mut runs = Vec::new();
        let (mut listed_chunk, mut listed) = (None, Vec::new());
        for (first, last) in blocks.runs().map(RangeInclusive::into_inner) {
            let next_chunk = self.chunks.partition_point(|chunk| chunk.first <= first);
            let start = match next_chunk.checked_sub(1) {
                None => ReadStart {
                    block: 0,
                    record: self.header,
                    position: 0,
                },
                Some(chunk) => {
                    let start = start_of_chunk(&self.chunks[chunk]);
                    if start.block == first {
                        start
                    } else {
                        if listed_chunk != Some(chunk) {
                            listed = self.starts_in(&mut reader, chunk)?;
                            listed_chunk = Some(chunk);
                        }
                        last_start(&listed, first).unwrap_or(start)
                    }
                }
            };
            runs.push(Run { first, last, start });
        }
        Ok(runs)
    }

    /// Returns the starts of the blocks in a chunk that its footer lists; none if there is no
    /// footer, or it is damaged.
    fn starts_in<M: MediumReader>(
        &self,
        reader: &mut BackReader<M>,
        chunk: usize,
    ) -> Result<Vec<ReadStart>, MediumError> {
        match self.read_chunk_footer(reader, chunk) {
            Ok(starts) => Ok(starts),
            Err(OpenError::Medium(
                error @ (MediumError::Io { .. } | MediumError::NoMemory { .. }),
            )) => Err(error),
            // The start of the chunk is known from the locator.
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Reads the footer of a chunk. It is found backwards from what follows the chunk: the next
    /// chunk's first block, before which are a mark and a locator, or the last locator.
    fn read_chunk_footer<M: MediumReader>(
        &self,
        reader: &mut BackReader<M>,
        chunk: usize,
    ) -> Result<Vec<ReadStart>, OpenError> {
        let next = match self.framing {
            Framing::Header => return Ok(Vec::new()),
            Framing::HeaderFooter => self.chunks.get(chunk + 1),
            Framing::Once => None,
        };
        let begins_record = |header: &RecordHeader| header.first == Some(0);
        reader.seek(next.map_or(self.locator, |chunk| chunk.place))?;
        if next.is_some() {
            // The next chunk's header may be in a record before its first block's.
            reader.back_to_mark()?;
            let locator = reader.back_to(begins_record)?;
            reader.read_unit(UnitKind::Locator)?;
            reader.seek(locator)?;
        }
        reader.back_to(begins_record)?;
        let (header, body) = reader.read_unit(UnitKind::ChunkFooter)?;
        let footer = ChunkFooter::parse(&body)?;
        let end = match self.framing {
            Framing::Once => self.footer.blocks,
            _ => header.number.saturating_add(footer.blocks.into()),
        };
        let first = end.saturating_sub(footer.entries.len() as u64);
        // The entries come first in `zip`: it does not ask the range for a number past the last
        // entry, which may be larger than a u64.
        let numbered = footer.entries.iter().zip(first..);
        Ok(numbered
            .map(|(entry, block)| ReadStart {
                block,
                record: on_medium(entry.place, self.volumes_before),
                position: entry.position,
            })
            .collect())
    }
}

/// Returns the entry of the archive at `place`, with positions on the medium.
fn find_entry(
    archives: &[ArchiveEntry],
    place: &Place,
    volumes_before: u32,
) -> Result<ArchiveEntry, OpenError> {
    let count = archives.len();
    if count != 1 && !place.is_selected {
        return Err(OpenError::no_index(format!(
            "its session has {}, but 1 is expected",
            len_of(count, "archive")
        )));
    }
    let index = (place.archive as usize).checked_sub(1);
    let entry = index.and_then(|index| archives.get(index));
    let Some(archive) = entry.filter(|entry| entry.has_footer()) else {
        return Err(OpenError::no_index(
            "its session's footer does not list its end",
        ));
    };
    Ok(ArchiveEntry {
        place: on_medium(archive.place, volumes_before),
        header: on_medium(archive.header, volumes_before),
        ..*archive
    })
}

/// Moves to the session footer at the end of a medium. Returns its position, and the number of
/// volumes before the first one of the session.
fn seek_footer<M: MediumReader>(reader: &mut BackReader<M>) -> Result<(Position, u32), OpenError> {
    reader.seek_end()?;
    for _ in 0..2 {
        if !matches!(reader.back()?, Item::Mark(_)) {
            return Err(OpenError::no_index(
                "its last volume does not end with two marks",
            ));
        }
    }
    let (end, header) = reader.record_before(|header| header.first == Some(0))?;
    let Some(before) = end.volume.checked_sub(header.volume) else {
        return Err(OpenError::no_index("its footer names a later volume"));
    };
    Ok((end, before))
}

fn start_of_chunk(chunk: &ChunkEntry) -> ReadStart {
    ReadStart {
        block: chunk.first,
        record: chunk.place,
        position: chunk.position,
    }
}

/// Returns the last of the starts, which ascend, from which block `first` can be reached.
fn last_start(starts: &[ReadStart], first: u64) -> Option<ReadStart> {
    starts[..starts.partition_point(|start| start.block <= first)]
        .last()
        .copied()
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("footer", &self.footer)
            .finish_non_exhaustive()
    }
}
