//! The catalogue: the position of every object, kept in an unnamed temporary file, sent in pieces
//! between the blocks and completely at the end.
//!
//! ```text
//!   entries   [sent ...............][not sent ..............]   in the order of their ends
//!             [in the file .....................][in memory ]
//! ```

use std::io;
use std::mem;

use crate::error::StageError;
use crate::limits::{CATALOGUE_PIECE, DATA_PER_CATALOGUE};
use crate::pool::Block;
use crate::shared_bytes::SharedBytes;
use crate::tree::temp_file::SpillFile;
use crate::wire::{CatalogueStart, DecodeError, Entry, EntryBody, goes_on, next_piece};

use super::unsent::entry_ends;

/// Entries of all objects that have ended.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    file: SpillFile,
    /// Entries that follow those in the file.
    memory: Vec<u8>,
    /// Bytes sent in pieces between the blocks, and in the closing catalogue.
    sent: u64,
    closed: u64,
    /// The last piece of the catalogue ended within an entry.
    sent_goes_on: bool,
    /// Number of entries, and bytes of data of their objects.
    start: CatalogueStart,
    /// Entries before all others of the closing catalogue that were not sent.
    front: Vec<u8>,
    /// Buffer for an entry that is longer than a block.
    long: Vec<u8>,
}

impl Catalogue {
    /// Adds the entry of an object with `bytes` of data. One that is longer than a block of
    /// `capacity` bytes is added in pieces, each of which fills a block.
    pub(super) fn add(
        &mut self,
        entry: &Entry<'_>,
        bytes: u64,
        capacity: usize,
    ) -> Result<(), StageError> {
        self.start.objects += 1;
        self.start.bytes += bytes;
        let before = self.memory.len();
        entry.append_to(&mut self.memory)?;
        if self.memory.len() - before > capacity {
            self.long.clear();
            self.long.extend(self.memory.drain(before..));
            let mut written = 0;
            while let Some((header, body)) = next_piece(&self.long, written, capacity) {
                self.memory.extend_from_slice(&header);
                written += body.len();
                self.memory.extend_from_slice(&self.long[body]);
            }
        }
        if self.memory.len() >= CATALOGUE_PIECE {
            self.spill().map_err(|error| {
                StageError::with_source(
                    "cannot store the catalogue in a temporary file (set TMPDIR to a directory \
                     with free space)",
                    error,
                )
            })?;
        }
        Ok(())
    }

    /// Returns true if there are enough entries for a piece in a block of `capacity` bytes, and
    /// they are few compared with the `data` bytes of other blocks so far, or if an entry [goes
    /// on](Self::goes_on).
    pub(super) fn is_due(&self, capacity: usize, data: u64) -> bool {
        let (len, enough) = (self.len() - self.sent, capacity.min(CATALOGUE_PIECE) as u64);
        self.goes_on() || len >= enough && self.len() * DATA_PER_CATALOGUE <= data
    }

    /// Returns true if the last piece ended within an entry, which the next one continues.
    pub(super) fn goes_on(&self) -> bool {
        self.sent_goes_on
    }

    /// Returns true if there are entries that were not sent in pieces.
    pub(super) fn has_unsent(&self) -> bool {
        self.len() > self.sent
    }

    /// Fills an empty block with entries that were not sent.
    pub(super) fn fill_piece(&mut self, block: &mut Block) -> Result<(), StageError> {
        self.sent += self.put(self.sent, block)?;
        // A part of an entry fills its block.
        self.sent_goes_on = block.shared().array(0).is_some_and(goes_on);
        Ok(())
    }

    /// Fills an empty block with the next entries of the closing catalogue: its start, the names
    /// that `owners` returns, then the objects. The block stays empty after the last of them, and
    /// if there are no objects.
    pub(super) fn fill_closing(
        &mut self,
        block: &mut Block,
        owners: impl FnOnce(&mut Vec<u8>) -> Result<(), DecodeError>,
    ) -> Result<(), StageError> {
        if self.start != CatalogueStart::default() {
            let body = EntryBody::CatalogueStart(mem::take(&mut self.start));
            Entry { object: 0, body }.append_to(&mut self.front)?;
            owners(&mut self.front)?;
        }
        let front = self.front.len().min(block.capacity());
        let whole = entry_ends(SharedBytes::from(&self.front[..front])).last();
        let whole = whole.unwrap_or(0);
        block.put(&self.front[..whole])?;
        self.front.drain(..whole);
        if self.front.is_empty() {
            self.closed += self.put(self.closed, block)?;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.file.len() + self.memory.len() as u64
    }

    fn spill(&mut self) -> io::Result<()> {
        self.file.append(&self.memory)?;
        self.memory.clear();
        Ok(())
    }

    /// Puts the entries at `at` and after into the block, as many as fit completely. Returns their
    /// length in bytes.
    ///
    /// The bytes that precede the end of the file are read from it, the others are copied from
    /// memory. A last entry that is cut off is not counted, so the next call returns it.
    fn put(&self, at: u64, block: &mut Block) -> Result<u64, StageError> {
        let is_empty = block.is_empty();
        let spare = block.spare();
        let len = usize::try_from(self.len() - at)
            .unwrap_or(usize::MAX)
            .min(spare.len());
        let buf = &mut spare[..len];
        let in_file = usize::try_from(self.file.len().saturating_sub(at))
            .unwrap_or(usize::MAX)
            .min(len);
        let (first, second) = buf.split_at_mut(in_file);
        if !first.is_empty() {
            self.file.read_into(at, first).map_err(|error| {
                StageError::with_source("cannot read the catalogue's temporary file", error)
            })?;
        }
        if !second.is_empty() {
            let from = (at + in_file as u64 - self.file.len()) as usize;
            second.copy_from_slice(&self.memory[from..][..second.len()]);
        }
        let whole = entry_ends(SharedBytes::from(&*buf)).last().unwrap_or(0);
        if whole == 0 && len > 0 && is_empty {
            return Err(StageError::new(
                "the catalogue's temporary file does not contain what was written to it",
            ));
        }
        block.grow(whole)?;
        Ok(whole as u64)
    }
}
