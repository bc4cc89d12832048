//! Positions of blocks and chunks, until a footer lists them.

use std::collections::VecDeque;

use crate::limits::{MAX_CHUNK_BLOCKS, MAX_LOCATOR_CHUNKS, MAX_RECENT_CHUNKS};
use crate::media::Position;
use crate::wire::{BlockEntry, BlockKind, ChunkEntry, ChunkFooter};

/// Collects the entries of chunk footers and of the locator. It takes bounded memory, however long
/// the archive grows: the oldest entries are dropped.
///
/// A unit's position in the stream is known when the unit begins, and the position of its record on
/// the medium only when that record is written. Entries are therefore added without the second, and
/// [`record_written`](Self::record_written) fills it in.
#[derive(Debug, Default)]
pub(super) struct BlockIndexBuilder {
    /// The last blocks since the last chunk footer.
    entries: VecDeque<BlockEntry>,
    /// Number of blocks since the last chunk footer, and their plain bytes.
    blocks: u64,
    plain: u64,
    /// The last chunks that are closed.
    chunks: VecDeque<ChunkEntry>,
    /// The chunk that is open.
    open: Option<ChunkEntry>,
    /// Start of the footer of the last chunk: its position in the stream, and its record.
    footer: Option<(u64, Position)>,
    /// Start of the last locator, in the same way.
    locator: Option<(u64, Position)>,
    /// Record of the locator after each of `chunks`, and of the one before the first of them.
    locators: VecDeque<Position>,
    /// Start of the archive's header, in the same way.
    header: Option<(u64, Position)>,
}

impl BlockIndexBuilder {
    /// Adds a block that begins at `position` in the stream.
    pub(super) fn begin_block(
        &mut self,
        number: u64,
        block_kind: BlockKind,
        position: u64,
        plain: u32,
    ) {
        if self.entries.len() == MAX_CHUNK_BLOCKS {
            self.entries.pop_front();
        }
        let place = UNKNOWN;
        self.entries.push_back(BlockEntry {
            place,
            block_kind,
            position,
        });
        self.blocks += 1;
        self.plain += u64::from(plain);
        let chunk = self.open.get_or_insert(ChunkEntry {
            first: number,
            blocks: 0,
            place,
            position,
            footer: None,
        });
        chunk.blocks += 1;
    }

    /// Marks the start of the archive's header.
    pub(super) fn begin_header(&mut self, position: u64) {
        self.header = Some((position, UNKNOWN));
    }

    /// Position of the record in which the archive's header begins, once that is written.
    pub(super) fn header(&self) -> Position {
        self.header.map_or(UNKNOWN, |(_, record)| record)
    }

    /// Marks the start of the footer of the last chunk. It begins in a record of its own.
    pub(super) fn begin_footer(&mut self, position: u64) {
        self.footer = Some((position, UNKNOWN));
    }

    /// Marks the start of a locator. It begins in a record of its own.
    pub(super) fn begin_locator(&mut self, position: u64) {
        self.locator = Some((position, UNKNOWN));
    }

    /// Notes that the locator after the last chunk is written.
    pub(super) fn end_locator(&mut self) {
        if self.locators.len() > MAX_LOCATOR_CHUNKS {
            self.locators.pop_front();
        }
        let place = self.locator.take().map_or(UNKNOWN, |(_, record)| record);
        self.locators.push_back(place);
    }

    /// Fills in the record at `record`, whose content begins at `position` and ends at the end of
    /// the stream so far. All units that begin in it are the last entries.
    pub(super) fn record_written(&mut self, position: u64, record: Position) {
        for entry in self
            .entries
            .iter_mut()
            .rev()
            .take_while(|entry| entry.position >= position)
        {
            entry.place = record;
        }
        if let Some(chunk) = &mut self.open
            && chunk.position >= position
        {
            chunk.place = record;
        }
        if let Some((begins, header)) = &mut self.header
            && *begins >= position
            && *header == UNKNOWN
        {
            *header = record;
        }
        if let Some((begins, footer)) = &mut self.footer
            && *begins == position
        {
            *footer = record;
        }
        if let Some((begins, locator)) = &mut self.locator
            && *begins == position
        {
            *locator = record;
        }
    }

    /// Number of blocks in the chunk that is open.
    pub(super) fn open_blocks(&self) -> u32 {
        self.open.map_or(0, |chunk| chunk.blocks)
    }

    /// Takes the entries since the last footer, and returns the footer that lists them.
    pub(super) fn take_chunk_footer(&mut self, session: Vec<u8>, archive: Vec<u8>) -> ChunkFooter {
        let footer = ChunkFooter {
            blocks: self.blocks as u32,
            plain: self.plain,
            entries: self.entries.drain(..).collect(),
            session,
            archive,
        };
        (self.blocks, self.plain) = (0, 0);
        footer
    }

    /// Drops the entries since the last footer: the next block does not follow the last one.
    pub(super) fn drop_entries(&mut self) {
        self.entries.clear();
    }

    /// Closes the open chunk. If the last chunk has a footer, that is written.
    pub(super) fn close_chunk(&mut self) {
        if let Some(chunk) = self.open.take() {
            if self.chunks.len() == MAX_LOCATOR_CHUNKS {
                self.chunks.pop_front();
            }
            self.chunks.push_back(chunk);
        }
        if let (Some((_, record)), Some(chunk)) = (self.footer.take(), self.chunks.back_mut()) {
            chunk.footer = Some((record.volume, record.record));
        }
    }

    /// Returns the last chunks, all of which are closed, and the place of the locator after the one
    /// before them. The last locator of the archive has all that are known.
    pub(super) fn last_chunks(&self, is_last: bool) -> (Vec<ChunkEntry>, Option<Position>) {
        let limit = if is_last {
            MAX_LOCATOR_CHUNKS
        } else {
            MAX_RECENT_CHUNKS
        };
        let first = self.chunks.len().saturating_sub(limit);
        // There is a locator after each chunk but the last, whose locator is this one.
        let after = self.chunks.len() - first;
        let before = self.locators.len().checked_sub(after);
        let before = before.and_then(|index| self.locators.get(index));
        (
            self.chunks.range(first..).copied().collect(),
            before.copied(),
        )
    }

    /// Number of the first block of the chunk that is open, or of the last one if none is.
    pub(super) fn first_of_last_chunk(&self) -> u64 {
        self.open
            .as_ref()
            .or_else(|| self.chunks.back())
            .map_or(0, |chunk| chunk.first)
    }
}

/// Position of a unit whose record is not written yet.
const UNKNOWN: Position = Position {
    volume: 0,
    record: 0,
    byte: 0,
};
