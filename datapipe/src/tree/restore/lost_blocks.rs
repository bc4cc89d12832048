//! Lost blocks, and the objects that began in them.
//!
//! The catalogue at the end of the archive names the block and byte at which each object begins. So
//! an object whose beginning is in a lost block is known by name, although none of its entries
//! came. The same is true of an object entry that is longer than a block, if it begins in a block
//! that came and goes on in a lost one. If a part of the closing catalogue is lost as well, the
//! names of some may not be known. Blocks that are missing after the last one that came are
//! reported by the reader, which knows of them from the footer.

use std::collections::HashSet;

use crate::limits::MAX_LOST_OBJECTS;
use crate::wire::CatalogueEntry;

/// Runs of lost blocks, ascending, and the objects in them that were reported.
#[derive(Debug, Default)]
pub(super) struct LostBlocks {
    runs: Vec<LostRun>,
    /// Positions of object entries that begin in blocks that came, and of which a part is missing.
    cut: HashSet<(u64, u32)>,
    /// The first block in which an object entry may begin that did not come.
    first: Option<u64>,
    /// There were more runs, or positions, than are kept.
    is_full: bool,
    /// The closing catalogue, once its start or an entry of it has come.
    closing: Option<ClosingCatalogue>,
    /// Positions at which the reported objects begin. The catalogue has each object twice: in a
    /// catalogue block between the data blocks, and in the closing catalogue.
    reported: HashSet<(u64, u32)>,
}

/// The part of the closing catalogue that came.
#[derive(Clone, Copy, Debug)]
struct ClosingCatalogue {
    /// The entries before the first that came are lost.
    lacks_start: bool,
    /// Entries after the first that came are lost.
    has_gap: bool,
    /// Blocks before the first that came are lost.
    follows_loss: bool,
    /// The last block in which an object ends.
    named_to: u64,
}

/// Blocks `first` to `last`, both included; of the first only the bytes from `from` on.
#[derive(Debug)]
struct LostRun {
    first: u64,
    last: u64,
    from: u32,
}

impl LostBlocks {
    /// Adds blocks `first` to `last`, the first of them from byte `from` on. Of more than
    /// [`MAX_LOST_OBJECTS`] runs the others are forgotten.
    pub(super) fn add(&mut self, first: u64, last: u64, from: usize) {
        self.lose_closing();
        self.lose_from(first);
        if self.runs.len() < MAX_LOST_OBJECTS {
            self.runs.push(LostRun {
                first,
                last,
                from: u32::try_from(from).unwrap_or(u32::MAX),
            });
        } else {
            self.is_full = true;
        }
    }

    /// Adds the position of an object entry of which a part is missing.
    pub(super) fn add_cut(&mut self, start: (u64, u32)) {
        self.lose_from(start.0);
        if self.cut.len() < MAX_LOST_OBJECTS {
            self.cut.insert(start);
        } else {
            self.is_full = true;
        }
    }

    fn lose_from(&mut self, block: u64) {
        self.first = Some(self.first.map_or(block, |first| first.min(block)));
    }

    /// Takes note of the start of the closing catalogue.
    pub(super) fn start_closing(&mut self) {
        self.closing(false);
    }

    /// Takes note of an entry of the closing catalogue. If its start did not come before, entries
    /// may be lost.
    pub(super) fn add_closing(&mut self, entry: &CatalogueEntry<'_>) {
        let closing = self.closing(true);
        closing.named_to = closing.named_to.max(entry.blocks.1);
    }

    fn closing(&mut self, lacks_start: bool) -> &mut ClosingCatalogue {
        let follows_loss = self.first.is_some();
        self.closing.get_or_insert(ClosingCatalogue {
            lacks_start,
            has_gap: false,
            follows_loss,
            named_to: 0,
        })
    }

    /// Takes note that the rest of a block of the catalogue is lost.
    pub(super) fn lose_closing(&mut self) {
        if let Some(closing) = &mut self.closing {
            closing.has_gap = true;
        }
    }

    /// Returns the problem that some lost objects may not have been named, if that is so.
    pub(super) fn unnamed(&self) -> Option<String> {
        let (named_to, why) = match &self.closing {
            None => (u64::MAX, "the catalogue is lost, too"),
            Some(closing) if !closing.follows_loss => return None,
            Some(closing) if closing.has_gap => (u64::MAX, "a part of the catalogue is lost, too"),
            Some(closing) if closing.lacks_start => {
                // The blocks after the last object are those of the catalogue.
                (closing.named_to, "a part of the catalogue is lost, too")
            }
            Some(_) if self.is_full => (u64::MAX, "there are too many lost blocks"),
            Some(_) => return None,
        };
        let first = self.first.filter(|&first| first <= named_to)?;
        Some(format!(
            "{why}: if objects begin in lost blocks, from block {first} on, the names of some are \
             not known"
        ))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Returns the reason for which the object is lost, if its object entry did not come and it was
    /// not reported before. The caller reports it then. After [`MAX_LOST_OBJECTS`] objects it does
    /// not remember which were reported: an object that is named twice is better than one that is
    /// not named.
    pub(super) fn newly_lost(&mut self, entry: &CatalogueEntry<'_>) -> Option<String> {
        let start = (entry.blocks.0, entry.offset);
        let why = if self.begins_in_lost_block(start) {
            format!("is lost: it begins in block {}, which is lost", start.0)
        } else if self.cut.contains(&start) {
            format!(
                "is lost: a part of its object entry, which begins in block {} at byte {}, is \
                 missing",
                start.0, start.1
            )
        } else {
            return None;
        };
        let is_new = match self.reported.len() < MAX_LOST_OBJECTS {
            true => self.reported.insert(start),
            false => !self.reported.contains(&start),
        };
        is_new.then_some(why)
    }

    fn begins_in_lost_block(&self, start: (u64, u32)) -> bool {
        let before = self
            .runs
            .partition_point(|run| (run.first, run.from) <= start);
        before
            .checked_sub(1)
            .is_some_and(|run| start.0 <= self.runs[run].last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ObjectKind, ObjectState, Time};

    fn entry(blocks: (u64, u64), offset: u32) -> CatalogueEntry<'static> {
        CatalogueEntry {
            kind: ObjectKind::File,
            state: ObjectState::Whole,
            mode: 0,
            size: 0,
            link: 0,
            modified: Time::default(),
            blocks,
            offset,
            changed: Time::default(),
            inode: 0,
            path: b"x",
            target: b"",
        }
    }

    /// Blocks 0 to 9 have data, and 10 to 12 the closing catalogue, whose entries are of the
    /// objects in blocks 0 to 3, 4 to 7, and 8 to 9.
    fn unnamed(lost_blocks: &[u64]) -> Option<String> {
        let mut lost = LostBlocks::default();
        for number in 0..13 {
            match number {
                _ if lost_blocks.contains(&number) => lost.add(number, number, 0),
                10 => {
                    // A name of an owner precedes the first object.
                    lost.start_closing();
                    (0..4).for_each(|block| lost.add_closing(&entry((block, block), 40)));
                }
                11 => (4..8).for_each(|block| lost.add_closing(&entry((block, block), 0))),
                12 => (8..10).for_each(|block| lost.add_closing(&entry((block, block), 0))),
                _ => {}
            }
        }
        lost.unnamed()
    }

    #[test]
    fn lost_objects_without_names_are_reported() {
        for lost in [
            &[3, 10][..],
            &[3, 11],
            &[3, 12],
            &[0, 10, 11],
            &[8, 9, 10],
            &[9, 10, 11, 12],
        ] {
            let text = unnamed(lost).unwrap_or_default();
            let first = format!("from block {} on", lost[0]);
            assert!(text.contains(&first), "{lost:?}: {text}");
        }
        for lost in [
            &[][..],
            &[0],
            &[3, 9],
            &[10],
            &[10, 11],
            &[11],
            &[12],
            &[11, 12],
        ] {
            assert_eq!(unnamed(lost), None, "{lost:?}");
        }
    }

    #[test]
    fn objects_that_begin_in_a_lost_block_are_lost() {
        let mut lost = LostBlocks::default();
        lost.add(3, 5, 0);
        lost.add(9, 9, 100);
        lost.add_cut((2, 500));
        let mut is_lost = |block, offset| {
            let entry = entry((block, block + 20), offset);
            lost.newly_lost(&entry).is_some()
        };
        assert!(is_lost(2, 500) && !is_lost(2, 500));
        assert!(is_lost(3, 0) && is_lost(4, 7) && is_lost(5, 1000) && is_lost(9, 100));
        assert!(!is_lost(2, 1000) && !is_lost(6, 0) && !is_lost(9, 99) && !is_lost(10, 100));
        assert!(!is_lost(4, 7), "reported before");
    }
}
