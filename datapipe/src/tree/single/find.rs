//! Finds one object in the catalogue, or in all blocks of an archive that has no usable catalogue.

use crate::error::StageError;
use crate::tree::select::VisitObject;
use crate::wire::{CatalogueEntry, ObjectKind, ObjectState, Time};

/// Search for one object. It visits all objects and keeps the first that matches.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    wanted: Wanted<'a>,
    found: &'a mut Option<FoundObject>,
}

/// Property by which an object is found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    Path(&'a [u8]),
    /// The number of an object with several names.
    Number(u64),
}

/// An object as the catalogue describes it.
#[derive(Clone, Debug)]
pub(super) struct FoundObject {
    pub(super) kind: ObjectKind,
    pub(super) state: ObjectState,
    pub(super) mode: u32,
    /// Bytes of a file.
    pub(super) size: u64,
    pub(super) modified: Time,
    /// For a hard link, number of the object that it is another name of.
    pub(super) link: u64,
    /// Blocks with its first entry and with its last.
    pub(super) blocks: (u64, u64),
    /// Offset of its first entry in the first block.
    pub(super) offset: u32,
    pub(super) path: Vec<u8>,
}

impl<'a> Finder<'a> {
    /// Begins a search, whose result is put into `found`.
    pub(super) fn new(wanted: Wanted<'a>, found: &'a mut Option<FoundObject>) -> Self {
        Self { wanted, found }
    }
}

impl VisitObject for Finder<'_> {
    fn visit(&mut self, number: u64, entry: &CatalogueEntry<'_>) -> Result<(), StageError> {
        let matches = match self.wanted {
            Wanted::Path(path) => entry.path == path,
            // 0 is the number of all objects without further names.
            Wanted::Number(wanted) => {
                wanted > 0 && number == wanted && entry.kind != ObjectKind::HardLink
            }
        };
        if matches && self.found.is_none() {
            *self.found = Some(FoundObject {
                kind: entry.kind,
                state: entry.state,
                mode: entry.mode,
                size: entry.size,
                modified: entry.modified,
                link: entry.link,
                blocks: entry.blocks,
                offset: entry.offset,
                path: entry.path.to_vec(),
            });
        }
        Ok(())
    }
}
