//! Objects that have ended in a block whose number is not known yet: blocks get their numbers when they are sent.

use crate::error::StageError;
use crate::wire::{CatalogueEntry, Entry, EntryBody, ObjectKind, State, Time};

use super::catalogue::Catalogue;

/// What the catalogue is to say of them.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// With the lengths of path and target.
    ended: Vec<(Ended, usize, usize)>,
    /// Path and target of each, in this order.
    text: Vec<u8>,
}

/// An object that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) object: u64,
    pub(super) kind: ObjectKind,
    pub(super) state: State,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) modified: Time,
    /// Its first entry, and its last.
    pub(super) first: Spot,
    pub(super) end: Spot,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spot {
    /// `None`: in what is being read, which has no number yet.
    pub(super) block: Option<u64>,
    pub(super) offset: u32,
}

/// Where in the stream that stands which was being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) block: u64,
    /// Bytes of the block that stand before it.
    pub(super) before: usize,
    /// Bytes of it that stand there. What is behind them begins the next block.
    pub(super) len: usize,
}

impl Spot {
    /// Where it is, now that what was being read has a place.
    pub(super) fn settled(self, place: Place) -> Self {
        let offset = self.offset as usize;
        let (block, offset) = match self.block {
            Some(_) => return self,
            None if offset < place.len => (place.block, place.before + offset),
            None => (place.block + 1, offset - place.len),
        };
        // A block has less than 4 GiB.
        Self { block: Some(block), offset: offset as u32 }
    }
}

impl Pending {
    /// Takes an object.
    pub(super) fn add(&mut self, ended: Ended, path: &[u8], target: &[u8]) {
        self.text.extend_from_slice(path);
        self.text.extend_from_slice(target);
        self.ended.push((ended, path.len(), target.len()));
    }

    /// Hands all on to the catalogue.
    pub(super) fn settle(&mut self, place: Place, catalogue: &mut Catalogue) -> Result<(), StageError> {
        let mut text = self.text.as_slice();
        for (ended, path_len, target_len) in self.ended.drain(..) {
            let (path, behind) = text.split_at(path_len);
            let (target, behind) = behind.split_at(target_len);
            text = behind;
            let Ended { object, kind, state, mode, size, modified, first, end } = ended;
            let (first, end) = (first.settled(place), end.settled(place));
            let blocks = (first.block.unwrap_or(place.block), end.block.unwrap_or(place.block));
            let offset = first.offset;
            let entry = CatalogueEntry { kind, state, mode, size, modified, blocks, offset, path, target };
            catalogue.add(&Entry { object, body: EntryBody::Catalogue(entry) })?;
        }
        self.text.clear();
        Ok(())
    }
}
