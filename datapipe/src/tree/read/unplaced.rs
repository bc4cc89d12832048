//! Objects that have ended in entries not sent yet: a block gets its number when it is sent.

use crate::error::StageError;
use crate::wire::{CatalogueEntry, Entry, EntryBody, ObjectKind, ObjectState, Time};

use super::catalogue::Catalogue;

/// Finished objects that wait for the numbers of their blocks, in the order in which they ended.
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    /// Each with the lengths of its path and target.
    finished: Vec<(FinishedObject, usize, usize)>,
    /// Path and target of each object, in the same order.
    text: Vec<u8>,
    last: LastObject,
}

/// The last object that has ended in a block.
#[derive(Debug, Default)]
pub(super) struct LastObject {
    pub(super) number: u64,
    pub(super) path: Vec<u8>,
}

/// An object that has ended: what the catalogue records of it, but for path and target.
#[derive(Debug)]
pub(super) struct FinishedObject {
    pub(super) number: u64,
    /// Number of the object if hard links to it may follow, otherwise 0.
    pub(super) object: u64,
    pub(super) kind: ObjectKind,
    pub(super) state: ObjectState,
    pub(super) mode: u32,
    pub(super) size: u64,
    /// For a hard link, number of the object that it is another name of.
    pub(super) link: u64,
    pub(super) modified: Time,
    /// Time of the last change of its inode, and the number of that.
    pub(super) changed: Time,
    pub(super) inode: u64,
    /// Bytes of data in its extents.
    pub(super) bytes: u64,
    /// Position of the first entry, and of the last.
    pub(super) first: EntryPos,
    pub(super) end: EntryPos,
}

/// Position of an entry: an offset in a block, or in the entries that have not been sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EntryPos {
    /// Number of the block, or `None` if the entry has not been sent.
    block: Option<u64>,
    offset: usize,
}

impl EntryPos {
    /// Returns the position at `offset` in the entries that have not been sent.
    pub(super) fn unsent(offset: usize) -> Self {
        Self {
            block: None,
            offset,
        }
    }

    pub(super) fn offset(self) -> usize {
        self.offset
    }

    /// Number of the block, if the entry has been sent.
    pub(super) fn block(self) -> Option<u64> {
        self.block
    }

    /// Inserts `before` bytes in front of the entries that have not been sent.
    pub(super) fn shift(&mut self, before: usize) {
        if self.block.is_none() {
            self.offset += before;
        }
    }

    /// Makes the first `len` unsent bytes the block with number `block`.
    pub(super) fn assign_block(&mut self, block: u64, len: usize) {
        match self.block {
            Some(_) => {}
            None if self.offset < len => self.block = Some(block),
            None => self.offset -= len,
        }
    }
}

impl Unplaced {
    /// The last object that has ended in a block.
    pub(super) fn last(&self) -> &LastObject {
        &self.last
    }

    /// Adds an object.
    pub(super) fn add(&mut self, finished: FinishedObject, path: &[u8], target: &[u8]) {
        self.text.extend_from_slice(path);
        self.text.extend_from_slice(target);
        self.finished.push((finished, path.len(), target.len()));
    }

    /// Moves all objects of `other` here; `before` unsent bytes now precede their entries.
    pub(super) fn append(&mut self, other: &mut Self, before: usize) {
        for (finished, ..) in &mut other.finished {
            finished.first.shift(before);
            finished.end.shift(before);
        }
        self.finished.append(&mut other.finished);
        self.text.append(&mut other.text);
    }

    /// Makes the first `len` unsent bytes the block with number `block`, and moves the objects that
    /// ended in it to the catalogue, whose blocks have `capacity` bytes.
    pub(super) fn assign_block(
        &mut self,
        block: u64,
        len: usize,
        capacity: usize,
        catalogue: &mut Catalogue,
    ) -> Result<(), StageError> {
        for (finished, ..) in &mut self.finished {
            finished.first.assign_block(block, len);
            finished.end.assign_block(block, len);
        }
        // Objects are in the order of their ends, so those with a block come first.
        let placed = self
            .finished
            .partition_point(|(finished, ..)| finished.end.block.is_some());
        let mut at = 0;
        for (finished, path_len, target_len) in self.finished.drain(..placed) {
            let (path, target) = self.text[at..][..path_len + target_len].split_at(path_len);
            at += path_len + target_len;
            let object = finished.object;
            self.last.number = finished.number;
            self.last.path.clear();
            self.last.path.extend_from_slice(path);
            let body = EntryBody::Catalogue(finished.catalogue_entry(block, path, target));
            catalogue.add(&Entry { object, body }, finished.bytes, capacity)?;
        }
        self.text.drain(..at);
        Ok(())
    }
}

impl FinishedObject {
    /// Returns the catalogue's entry of an object that ended in block `last`.
    fn catalogue_entry<'a>(
        &self,
        last: u64,
        path: &'a [u8],
        target: &'a [u8],
    ) -> CatalogueEntry<'a> {
        CatalogueEntry {
            kind: self.kind,
            state: self.state,
            mode: self.mode,
            size: self.size,
            link: self.link,
            modified: self.modified,
            changed: self.changed,
            inode: self.inode,
            blocks: (self.first.block.unwrap_or(last), last),
            // A block is smaller than 4 GiB.
            offset: self.first.offset as u32,
            path,
            target,
        }
    }
}
