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
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

use crate::limits::{MAX_COMPARED_OBJECTS, MAX_OPEN_OBJECTS};
use crate::tree::select::ClosingRun;
use crate::wire::{
    BlockKind, CatalogueEntry, Entry, EntryBody, ObjectEnd, ObjectKind, ObjectMeta, ObjectState,
    Time,
};
use crate::words::count_of;

/// Place of an object's first entry: its block, and the byte in it.
type Start = (u64, u32);

/// The objects that have come, and the entries of the catalogue.
#[derive(Debug, Default)]
pub(super) struct CatalogueComparison {
    key: RandomState,
    /// Objects that have begun and not ended.
    begun: Vec<BegunObject>,
    /// Hash of each object, up to [`MAX_COMPARED_OBJECTS`]; `None` if it was reported.
    objects: HashMap<Start, Option<u64>>,
    all: Sum,
    listed: Sum,
    /// Count of the closing run.
    closing: ClosingRun,
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
    is_file: bool,
    /// Hash of what is known of it.
    hash: DefaultHasher,
}

impl Sum {
    fn add(&mut self, hash: u64) {
        self.count = self.count.saturating_add(1);
        self.hashes = self.hashes.wrapping_add(hash);
    }
}

impl CatalogueComparison {
    /// Takes note that blocks `first` to `last`, or parts of them, did not come.
    pub(super) fn lose(&mut self, first: u64, last: u64) {
        let is_full = self.lost.len() >= MAX_STRETCHES;
        match self.lost.last_mut() {
            Some(before) if before.1.saturating_add(1) >= first => {
                *before = (before.0.min(first), before.1.max(last));
            }
            // The last stretch covers what there is no room for.
            Some(before) if is_full => before.1 = u64::MAX,
            _ => self.lost.push((first, last)),
        }
        // The end of any of them may be lost.
        self.begun.clear();
    }

    /// Takes an entry of a data block, which begins at `start`.
    pub(super) fn add_entry(&mut self, entry: &Entry<'_>, start: Start) {
        match &entry.body {
            EntryBody::Object(object) => {
                if self.begun.len() >= MAX_OPEN_OBJECTS {
                    self.lose(start.0, start.0);
                }
                let begun = self.begin(entry.object, object, start);
                self.begun.push(begun);
            }
            EntryBody::End(end) => {
                let is_it = |begun: &BegunObject| begun.number == entry.object;
                if let Some(at) = self.begun.iter().position(is_it) {
                    let begun = self.begun.swap_remove(at);
                    self.end(begun, end, start.0);
                }
            }
            _ => {}
        }
    }

    /// Takes a whole object, with its number: it begins at `start` and ends in block `last`.
    pub(super) fn add_object(
        &mut self,
        (number, object): (u64, &ObjectMeta<'_>),
        start: Start,
        end: &ObjectEnd,
        last: u64,
    ) {
        let begun = self.begin(number, object, start);
        self.end(begun, end, last);
    }

    fn begin(&self, number: u64, object: &ObjectMeta<'_>, start: Start) -> BegunObject {
        let is_target = object.linked && object.kind != ObjectKind::HardLink;
        let beginning = Beginning {
            number: if is_target { number } else { 0 },
            kind: object.kind,
            mode: object.mode,
            link: object.link,
            modified: object.modified,
            start,
            path: object.path,
            target: object.target,
        };
        BegunObject {
            number,
            start,
            is_file: object.kind == ObjectKind::File,
            hash: beginning.hash(&self.key),
        }
    }

    fn end(&mut self, begun: BegunObject, end: &ObjectEnd, last: u64) {
        let size = if begun.is_file { end.size } else { 0 };
        let hash = hash_end(begun.hash, end.state, size, last);
        self.all.add(hash);
        if self.objects.len() < MAX_COMPARED_OBJECTS {
            self.objects.insert(begun.start, Some(hash));
        }
    }

    /// Counts an entry of the closing run.
    pub(super) fn add_closing(&mut self, body: &EntryBody<'_>) {
        self.closing.add(body);
    }

    /// Takes an entry of a catalogue block, for object `number` if others may refer to it. Returns
    /// what is wrong with it, once for each object.
    pub(super) fn check_entry(
        &mut self,
        number: u64,
        entry: &CatalogueEntry<'_>,
        kind: u8,
    ) -> Option<String> {
        let beginning = Beginning {
            number,
            kind: entry.kind,
            mode: entry.mode,
            link: entry.link,
            modified: entry.modified,
            start: (entry.blocks.0, entry.offset),
            path: entry.path,
            target: entry.target,
        };
        let hash = beginning.hash(&self.key);
        let hash = hash_end(hash, entry.state, entry.size, entry.blocks.1);
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
        if is_comparable && let Err(why) = self.closing.check() {
            return Some(why);
        }
        (is_comparable && self.listed != self.all).then(|| {
            format!(
                "the catalogue does not agree with the objects: it lists {}, and there are {}",
                count_of(self.listed.count, "object"),
                self.all.count
            )
        })
    }
}

/// Fields of a catalogue entry that the object entry has, too.
struct Beginning<'a> {
    /// Number of the object if others may refer to it, or else 0.
    number: u64,
    kind: ObjectKind,
    mode: u32,
    link: u64,
    modified: Time,
    start: Start,
    path: &'a [u8],
    target: &'a [u8],
}

impl Beginning<'_> {
    /// Begins a hash: few calls with many bytes each cost a third of one for each field.
    fn hash(&self, key: &RandomState) -> DefaultHasher {
        let mut fields = [0; 56];
        let (to, _) = fields.as_chunks_mut::<8>();
        let words = [
            self.number,
            self.modified.seconds.cast_unsigned(),
            self.link,
            self.start.0,
            self.path.len() as u64,
            u64::from(self.modified.nanoseconds) << 32 | u64::from(self.start.1),
            u64::from(self.mode) << 32 | self.kind as u64,
        ];
        for (to, word) in to.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        let mut hash = key.build_hasher();
        hash.write(&fields);
        hash.write(self.path);
        hash.write(self.target);
        hash
    }
}

/// Ends a hash with the fields that are known at the end of an object.
fn hash_end(mut hash: DefaultHasher, state: ObjectState, size: u64, last: u64) -> u64 {
    hash.write_u64(size);
    hash.write_u64(last);
    hash.write_u8(state as u8);
    hash.finish()
}

/// Most stretches of lost blocks that are kept.
const MAX_STRETCHES: usize = 1000;
