//! Objects that have ended in what was not sent yet: blocks get their numbers when they are sent.

use crate::error::StageError;
use crate::wire::{CatalogueEntry, Entry, EntryBody, ObjectKind, ObjectState, Time};

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
    /// Its number if hard links to it may follow, otherwise 0.
    pub(super) object: u64,
    pub(super) kind: ObjectKind,
    pub(super) state: ObjectState,
    pub(super) mode: u32,
    pub(super) size: u64,
    /// Of a hard link: the object that it is another name of.
    pub(super) link: u64,
    pub(super) modified: Time,
    /// Its first entry, and its last.
    pub(super) first: Spot,
    pub(super) end: Spot,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spot {
    /// `None`: in what was not sent yet, and so has no number.
    block: Option<u64>,
    offset: usize,
}

impl Spot {
    /// A place in what was not sent yet.
    pub(super) fn at(offset: usize) -> Self {
        Self {
            block: None,
            offset,
        }
    }

    /// So many bytes have come before what was not sent yet.
    pub(super) fn shift(&mut self, before: usize) {
        if self.block.is_none() {
            self.offset += before;
        }
    }

    /// The first `len` bytes of what was not sent yet are a block now.
    pub(super) fn settle(&mut self, block: u64, len: usize) {
        match self.block {
            Some(_) => {}
            None if self.offset < len => self.block = Some(block),
            None => self.offset -= len,
        }
    }
}

impl Pending {
    /// Takes an object.
    pub(super) fn add(&mut self, ended: Ended, path: &[u8], target: &[u8]) {
        self.text.extend_from_slice(path);
        self.text.extend_from_slice(target);
        self.ended.push((ended, path.len(), target.len()));
    }

    /// Takes all of `other`, before which so many bytes stand now.
    pub(super) fn append(&mut self, other: &mut Self, before: usize) {
        for (ended, ..) in &mut other.ended {
            ended.first.shift(before);
            ended.end.shift(before);
        }
        self.ended.append(&mut other.ended);
        self.text.append(&mut other.text);
    }

    /// The first `len` bytes are a block now: hands those objects on to the catalogue that have
    /// ended there.
    pub(super) fn settle(
        &mut self,
        block: u64,
        len: usize,
        catalogue: &mut Catalogue,
    ) -> Result<(), StageError> {
        for (ended, ..) in &mut self.ended {
            ended.first.settle(block, len);
            ended.end.settle(block, len);
        }
        let settled = self
            .ended
            .partition_point(|(ended, ..)| ended.end.block.is_some());
        let mut at = 0;
        for (ended, path_len, target_len) in self.ended.drain(..settled) {
            let (path, target) = self.text[at..][..path_len + target_len].split_at(path_len);
            at += path_len + target_len;
            let Ended {
                object,
                kind,
                state,
                mode,
                size,
                link,
                modified,
                first,
                ..
            } = ended;
            let blocks = (first.block.unwrap_or(block), block);
            // A block has less than 4 GiB.
            let offset = first.offset as u32;
            let body = EntryBody::Catalogue(CatalogueEntry {
                kind,
                state,
                mode,
                size,
                link,
                modified,
                blocks,
                offset,
                path,
                target,
            });
            catalogue.add(&Entry { object, body })?;
        }
        self.text.drain(..at);
        Ok(())
    }
}
