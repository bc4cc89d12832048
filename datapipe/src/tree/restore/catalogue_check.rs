//! Compares the catalogue with the objects, for a reading of all blocks.
//!
//! A list and a restore of some paths believe the catalogue. One that has other names or sizes than
//! the objects would be found only by the restore that needs them.
//!
//! ```text
//!   object at (block, byte)         -> hash of kind, name, size ..   in a table of bounded size
//!   catalogue entry for that place  -> the same hash                 or it is named
//!   all objects, all entries        -> sums of the hashes            equal, without a table
//! ```
//!
//! Lost objects cannot be compared: entries of objects that may be in lost blocks are passed, and
//! after a loss the sums are not compared. The hashes have a key of this process.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::limits::{MAX_COMPARED_OBJECTS, MAX_OPEN_OBJECTS};
use crate::wire::{BlockKind, CatalogueEntry, Entry, EntryBody, ObjectEnd, ObjectKind};
use crate::words::count_of;

/// Place of an object's first entry: its block, and the byte in it.
type Start = (u64, u32);

/// The objects that have come, and the entries of the catalogue.
#[derive(Debug, Default)]
pub(super) struct CatalogueCheck {
    key: RandomState,
    /// Objects that have begun and not ended.
    begun: Vec<BegunObject>,
    /// Hash of each object, up to [`MAX_COMPARED_OBJECTS`]; `None` if it was reported.
    objects: HashMap<Start, Option<u64>>,
    all: Sum,
    listed: Sum,
    /// First and last block of each stretch that did not come or could not be read.
    lost: Vec<(u64, u64)>,
    has_reported: bool,
}

/// Number of objects, and the sum of their hashes, which does not depend on their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    hashes: u64,
}

#[derive(Debug)]
struct BegunObject {
    number: u64,
    start: Start,
    entry: Vec<u8>,
}

impl Sum {
    fn add(&mut self, hash: u64) {
        self.count = self.count.saturating_add(1);
        self.hashes = self.hashes.wrapping_add(hash);
    }
}

impl CatalogueCheck {
    /// Takes note that blocks `first` to `last`, or parts of them, did not come.
    pub(super) fn lose(&mut self, first: u64, last: u64) {
        let is_full = self.lost.len() >= MAX_STRETCHES;
        match self.lost.last_mut() {
            Some(before) if before.1.saturating_add(1) >= first => before.1 = before.1.max(last),
            // The last stretch covers what there is no room for.
            Some(before) if is_full => before.1 = u64::MAX,
            _ => self.lost.push((first, last)),
        }
        // The end of any of them may be lost.
        self.begun.clear();
    }

    /// Takes an entry of a data block, which begins at `start` and has these bytes.
    pub(super) fn add_entry(&mut self, entry: &Entry<'_>, start: Start, bytes: &[u8]) {
        match &entry.body {
            EntryBody::Object(_) => {
                if self.begun.len() >= MAX_OPEN_OBJECTS {
                    self.lose(start.0, start.0);
                }
                self.begun.push(BegunObject {
                    number: entry.object,
                    start,
                    entry: bytes.to_vec(),
                });
            }
            EntryBody::End(end) => {
                let is_it = |begun: &BegunObject| begun.number == entry.object;
                if let Some(at) = self.begun.iter().position(is_it) {
                    let begun = self.begun.swap_remove(at);
                    self.add_object(&begun, end, start.0);
                }
            }
            _ => {}
        }
    }

    /// Takes an object that has ended in block `last`.
    fn add_object(&mut self, begun: &BegunObject, end: &ObjectEnd, last: u64) {
        let Ok((entry, _)) = Entry::parse(&begun.entry) else {
            return;
        };
        let EntryBody::Object(object) = entry.body else {
            return;
        };
        let is_target = object.linked && object.kind != ObjectKind::HardLink;
        let number = if is_target { begun.number } else { 0 };
        let hash = self.hash(
            number,
            &CatalogueEntry {
                kind: object.kind,
                state: end.state,
                mode: object.mode,
                size: match object.kind {
                    ObjectKind::File => end.size,
                    _ => 0,
                },
                link: object.link,
                modified: object.modified,
                blocks: (begun.start.0, last),
                offset: begun.start.1,
                path: object.path,
                target: object.target,
            },
        );
        self.all.add(hash);
        if self.objects.len() < MAX_COMPARED_OBJECTS {
            self.objects.insert(begun.start, Some(hash));
        }
    }

    /// Takes an entry of a catalogue block, for object `number` if others may refer to it. Returns
    /// what is wrong with it, once for each object.
    pub(super) fn check_entry(
        &mut self,
        number: u64,
        entry: &CatalogueEntry<'_>,
        kind: u8,
    ) -> Option<String> {
        let hash = self.hash(number, entry);
        if kind == BlockKind::ClosingCatalogue.code() {
            self.listed.add(hash);
        }
        let (start, (first, last)) = ((entry.blocks.0, entry.offset), entry.blocks);
        let may_be_lost = |lost: &(u64, u64)| lost.0 <= last && first <= lost.1;
        if self.lost.iter().any(may_be_lost) {
            return None;
        }
        let has_all = self.all.count <= MAX_COMPARED_OBJECTS as u64;
        let what = match self.objects.get(&start) {
            Some(Some(found)) if *found == hash => return None,
            Some(None) => return None,
            None if !has_all || self.objects.len() >= MAX_COMPARED_OBJECTS => return None,
            Some(Some(_)) => format!(
                "the catalogue names it, with another name, kind, size, mode, time, target or last \
                 block than the object that begins in block {first} at byte {}",
                entry.offset
            ),
            None => format!(
                "the catalogue names it, but no object begins in block {first} at byte {}",
                entry.offset
            ),
        };
        self.objects.insert(start, None);
        self.has_reported = true;
        Some(what)
    }

    /// Compares the sums when all blocks have come. Returns what is wrong, unless it was named
    /// before, or something was lost.
    pub(super) fn finish(&self) -> Option<String> {
        let is_comparable = self.listed.count > 0 && self.lost.is_empty() && !self.has_reported;
        (is_comparable && self.listed != self.all).then(|| {
            format!(
                "the catalogue does not agree with the objects: it lists {}, and there are {}",
                count_of(self.listed.count, "object"),
                self.all.count
            )
        })
    }

    fn hash(&self, number: u64, entry: &CatalogueEntry<'_>) -> u64 {
        let times = (entry.modified.seconds, entry.modified.nanoseconds);
        let place = (entry.blocks, entry.offset);
        let kinds = (entry.kind, entry.state, entry.mode, entry.size, entry.link);
        let names = (entry.path, entry.target);
        self.key.hash_one((number, times, place, kinds, names))
    }
}

/// Most stretches of lost blocks that are kept.
const MAX_STRETCHES: usize = 1000;
