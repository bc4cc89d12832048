//! Where things stand, until a footer lists them.

use std::collections::VecDeque;

use crate::limits::{MAX_CHUNK_BLOCKS, MAX_LOCATOR_CHUNKS};
use crate::media::Position;
use crate::wire::{BlockEntry, BlockKind, ChunkEntry, ChunkFooter, Locator};

/// What a writer must remember of an archive: bounded, however long it grows.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The last blocks since the last chunk footer.
    entries: VecDeque<BlockEntry>,
    /// Blocks, and their plain bytes, since the last chunk footer.
    blocks: u64,
    plain: u64,
    chunks: VecDeque<ChunkEntry>,
    /// The chunk that is open.
    open: Option<ChunkEntry>,
    /// Where the footer of the last chunk begins: in the stream, and its record.
    footer: Option<(u64, Position)>,
}

impl Places {
    /// A block begins: where, will be known when its record is written.
    pub(super) fn block(&mut self, number: u64, what: BlockKind, position: u64, plain: u32) {
        if self.entries.len() == MAX_CHUNK_BLOCKS {
            self.entries.pop_front();
        }
        let place = UNKNOWN;
        self.entries.push_back(BlockEntry {
            place,
            block_kind: what,
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

    /// The units that begin at `position` or behind it, up to the end of what was written, stand in
    /// this record.
    pub(super) fn written(&mut self, position: u64, place: Position) {
        for entry in self
            .entries
            .iter_mut()
            .rev()
            .take_while(|entry| entry.position >= position)
        {
            entry.place = place;
        }
        if let Some(chunk) = self
            .open
            .as_mut()
            .filter(|chunk| chunk.position >= position)
        {
            chunk.place = place;
        }
        if let Some((_, stands)) = self
            .footer
            .as_mut()
            .filter(|(begins, _)| *begins == position)
        {
            *stands = place;
        }
    }

    /// The footer of the last chunk is about to begin, in a record of its own.
    pub(super) fn footer_begins(&mut self, position: u64) {
        self.footer = Some((position, UNKNOWN));
    }

    /// Blocks in the chunk that is open.
    pub(super) fn open_blocks(&self) -> u32 {
        self.open.map_or(0, |chunk| chunk.blocks)
    }

    /// The footer of everything since the last one.
    pub(super) fn chunk_footer(&mut self, session: Vec<u8>, archive: Vec<u8>) -> ChunkFooter {
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

    /// The open chunk is closed, and the footer of the last one, if it has one, is written.
    pub(super) fn close_chunk(&mut self) {
        if let Some(chunk) = self.open.take() {
            if self.chunks.len() == MAX_LOCATOR_CHUNKS {
                self.chunks.pop_front();
            }
            self.chunks.push_back(chunk);
        }
        if let (Some((_, place)), Some(chunk)) = (self.footer.take(), self.chunks.back_mut()) {
            chunk.footer = Some((place.volume, place.record));
        }
    }

    pub(super) fn locator(&mut self) -> Locator {
        Locator {
            chunks: self.chunks.drain(..).collect(),
        }
    }

    /// First block of the chunk that is open, or of the last if none is.
    pub(super) fn first_of_last_chunk(&self) -> u64 {
        self.open
            .as_ref()
            .or_else(|| self.chunks.back())
            .map_or(0, |chunk| chunk.first)
    }
}

/// Of a block whose record is not written yet.
const UNKNOWN: Position = Position {
    volume: 0,
    record: 0,
    byte: 0,
};
