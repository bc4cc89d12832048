//! Checkpoints of a walk: what the next one says, and how far it is written.
//!
//! ```text
//!   due -> entries not sent -> catalogue of all that ended -> checkpoint, in one block or more
//! ```
//!
//! All of it is sent in one turn. A checkpoint is made between two objects or within the data of a
//! file, never between the other entries of an object.

use std::collections::VecDeque;

use crate::stage::{CheckpointClock, has_checkpoints};
use crate::wire::{Checkpoint, DecodeError, LinkedFile, OpenFile, WalkCheckpoint};

use super::unplaced::LastObject;

/// The checkpoints of a head.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    clock: CheckpointClock,
    /// Bytes of data after which one is due.
    every: u64,
    /// Digest of the sources.
    sources: [u8; 32],
    /// First block of the last checkpoint, and of the first piece of the catalogue since.
    previous: Option<u64>,
    catalogue: Option<u64>,
    is_begun: bool,
    /// Blocks of the checkpoint that were not sent.
    blocks: VecDeque<Vec<u8>>,
}

/// An object that has begun and not ended.
#[derive(Debug)]
pub(super) enum OpenObjectState<'a> {
    /// None of its entries is written, or there is none.
    Nothing,
    /// A file of which data are read.
    File(OpenFile, &'a [u8]),
    /// Its other entries are being written: no checkpoint can be made.
    Entries,
}

impl Checkpoints {
    pub(super) fn new(sources: [u8; 32]) -> Self {
        Self {
            sources,
            ..Self::default()
        }
    }

    /// Sets the bytes of data after which a checkpoint is due, as the pipe has it.
    pub(super) fn set_every(&mut self, every: u64) {
        self.every = every;
    }

    /// True if the pipe has checkpoints.
    pub(super) fn is_on(&self) -> bool {
        has_checkpoints(self.every)
    }

    /// Counts a block of data that was sent.
    pub(super) fn add(&mut self, bytes: usize) {
        self.clock.add(bytes);
    }

    /// Takes note of a piece of the catalogue in `block`.
    pub(super) fn add_catalogue(&mut self, block: u64) {
        self.catalogue.get_or_insert(block);
    }

    /// True if a checkpoint is due, or the pipe has them and `is_forced`.
    pub(super) fn is_due(&mut self, is_forced: bool) -> bool {
        self.is_on() && (is_forced || self.clock.is_due(self.every))
    }

    /// Begins a checkpoint.
    pub(super) fn begin(&mut self) {
        self.is_begun = true;
    }

    /// Returns true if a checkpoint has begun and was not sent to its end.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Returns the next block of the checkpoint, and if it is the last one. `block` is its number,
    /// and `capacity` its size. `links` returns the files with further names, without the object
    /// that it is given, which is open.
    pub(super) fn next(
        &mut self,
        (block, capacity): (u64, usize),
        last: &LastObject,
        open: &OpenObjectState<'_>,
        links: impl FnOnce(Option<u64>) -> Vec<LinkedFile>,
    ) -> Result<(Vec<u8>, bool), DecodeError> {
        if self.blocks.is_empty() {
            let (objects, path, open) = match open {
                OpenObjectState::File(open, path) => (open.object, *path, Some(*open)),
                _ => (last.number, &last.path[..], None),
            };
            let walk = WalkCheckpoint {
                objects,
                previous: self.previous.replace(block),
                catalogue: self.catalogue.take(),
                sources: self.sources,
                open,
                path: path.to_vec(),
                links: links(open.map(|open| open.object)),
            };
            self.blocks = Checkpoint::Walk(walk).to_blocks(capacity)?.into();
        }
        let bytes = self.blocks.pop_front().unwrap_or_default();
        let is_last = self.blocks.is_empty();
        if is_last {
            self.is_begun = false;
            self.clock.restart();
        }
        Ok((bytes, is_last))
    }
}
