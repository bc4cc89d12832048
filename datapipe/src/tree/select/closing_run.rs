//! Count of a catalogue's closing run, which states at its start how many objects it lists.

use crate::wire::{CatalogueStart, EntryBody};
use crate::words::count_of;

/// The entries of a closing run that have come. Only a run that begins with its start, and lists as
/// many objects as that says, may be used instead of the objects themselves.
#[derive(Debug, Default)]
pub(in crate::tree) struct ClosingRun {
    start: Option<CatalogueStart>,
    listed: u64,
    /// An entry came before the start, or another start after it.
    lacks_start: bool,
}

impl ClosingRun {
    /// Counts an entry of the run.
    pub(in crate::tree) fn add(&mut self, body: &EntryBody<'_>) {
        match body {
            EntryBody::CatalogueStart(start) => {
                self.lacks_start |= self.start.replace(*start).is_some();
            }
            EntryBody::Catalogue(_) => self.listed = self.listed.saturating_add(1),
            _ => {}
        }
        self.lacks_start |= self.start.is_none();
    }

    /// Number of objects that the start of the run announces, once it has come.
    pub(in crate::tree) fn announced(&self) -> Option<u64> {
        self.start.map(|start| start.objects)
    }

    /// As [`check`](Self::check), for a run that was found by an index: without entries it cannot
    /// be used either. The index is not authenticated, and an archive that has no objects has no
    /// run.
    pub(in crate::tree) fn check_found(&self) -> Result<(), String> {
        if self.start.is_none() && self.listed == 0 {
            return Err("the catalogue has no entries, and is not used".to_owned());
        }
        self.check()
    }

    /// Returns the reason for which the run cannot be used. A run without entries can: the archive
    /// has no objects, or the caller knows that its catalogue is missing.
    pub(in crate::tree) fn check(&self) -> Result<(), String> {
        let announced = self.start.map_or(0, |start| start.objects);
        if self.lacks_start {
            Err("the catalogue does not begin with its only start, and is not used".to_owned())
        } else if announced != self.listed {
            Err(format!(
                "the catalogue lists {}, but its start says {announced}: it is not used",
                count_of(self.listed, "object")
            ))
        } else {
            Ok(())
        }
    }
}
