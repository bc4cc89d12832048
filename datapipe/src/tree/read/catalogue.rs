//! The catalogue: the position of every object, kept in an unnamed temporary file, sent in pieces
//! between the blocks and completely at the end.
//!
//! ```text
//!   entries   [sent ...............][not sent ..............]   in the order of their ends
//!             [in the file .....................][in memory ]
//! ```

use std::io;

use crate::error::StageError;
use crate::limits::CATALOGUE_PIECE;
use crate::pool::Block;
use crate::shared_bytes::SharedBytes;
use crate::tree::temp_file::SpillFile;
use crate::wire::{ENTRY_HEADER_LEN, Entry};

/// Entries of all objects that have ended.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    file: SpillFile,
    /// Entries that follow those in the file.
    memory: Vec<u8>,
    /// Bytes sent in pieces between the blocks, and in the closing catalogue.
    sent: u64,
    closed: u64,
}

impl Catalogue {
    /// Adds an entry.
    pub(super) fn add(&mut self, entry: &Entry<'_>) -> Result<(), StageError> {
        entry.append_to(&mut self.memory)?;
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

    /// Returns true if there are enough entries for a piece in a block of `capacity` bytes.
    pub(super) fn is_due(&self, capacity: usize) -> bool {
        self.len() - self.sent >= capacity.min(CATALOGUE_PIECE) as u64
    }

    /// Fills an empty block with entries that were not sent.
    pub(super) fn fill_piece(&mut self, block: &mut Block) -> Result<(), StageError> {
        self.sent += self.put(self.sent, block)?;
        Ok(())
    }

    /// Fills an empty block with the next entries of the closing catalogue. The block stays empty
    /// after the last of them.
    pub(super) fn fill_closing(&mut self, block: &mut Block) -> Result<(), StageError> {
        self.closed += self.put(self.closed, block)?;
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
        let whole = whole_entries(SharedBytes::from(&*buf));
        if whole == 0 && len > 0 {
            return Err(StageError::new(
                "the catalogue's temporary file does not contain what was written to it",
            ));
        }
        block.grow(whole)?;
        Ok(whole as u64)
    }
}

/// Returns the length of the complete entries at the start of `bytes`.
pub(super) fn whole_entries(bytes: SharedBytes<'_>) -> usize {
    let mut whole = 0;
    while let Some(length) = bytes.array(whole + 4) {
        let length = u32::from_le_bytes(length) as usize;
        match whole
            .checked_add(ENTRY_HEADER_LEN + length)
            .filter(|&end| end <= bytes.len())
        {
            Some(end) => whole = end,
            None => break,
        }
    }
    whole
}
