//! Lost blocks, and the objects that began in them.
//!
//! The catalogue at the end of the archive names the block and byte at which each object begins.
//! So an object whose beginning is in a lost block is known by name, although none of its entries
//! came.

use std::collections::HashSet;

use crate::limits::MAX_LOST_OBJECTS;
use crate::wire::CatalogueEntry;

/// Runs of lost blocks, ascending, and the objects in them that were reported.
#[derive(Debug, Default)]
pub(super) struct LostBlocks {
    runs: Vec<LostRun>,
    /// Positions at which the reported objects begin. The catalogue has each object twice: in a
    /// catalogue block between the data blocks, and in the closing catalogue.
    reported: HashSet<(u64, u32)>,
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
        if self.runs.len() < MAX_LOST_OBJECTS {
            self.runs.push(LostRun {
                first,
                last,
                from: u32::try_from(from).unwrap_or(u32::MAX),
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// True if the object begins in a lost block and was not reported before. The caller reports
    /// it then. After [`MAX_LOST_OBJECTS`] objects it does not remember which were reported: an
    /// object that is named twice is better than one that is not named.
    pub(super) fn is_newly_lost(&mut self, entry: &CatalogueEntry<'_>) -> bool {
        let start = (entry.blocks.0, entry.offset);
        let before = self
            .runs
            .partition_point(|run| (run.first, run.from) <= start);
        let is_lost = before
            .checked_sub(1)
            .is_some_and(|run| start.0 <= self.runs[run].last);
        is_lost
            && match self.reported.len() < MAX_LOST_OBJECTS {
                true => self.reported.insert(start),
                false => !self.reported.contains(&start),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ObjectKind, ObjectState, Time};

    #[test]
    fn objects_that_begin_in_a_lost_block_are_lost() {
        let mut lost = LostBlocks::default();
        lost.add(3, 5, 0);
        lost.add(9, 9, 100);
        let mut is_lost = |block, offset| {
            let (kind, state, modified) = (ObjectKind::File, ObjectState::Whole, Time::default());
            let blocks = (block, block + 20);
            let (path, target) = (&b"x"[..], &b""[..]);
            lost.is_newly_lost(&CatalogueEntry {
                kind,
                state,
                mode: 0,
                size: 0,
                link: 0,
                modified,
                blocks,
                offset,
                path,
                target,
            })
        };
        assert!(is_lost(3, 0) && is_lost(4, 7) && is_lost(5, 1000) && is_lost(9, 100));
        assert!(!is_lost(2, 1000) && !is_lost(6, 0) && !is_lost(9, 99) && !is_lost(10, 100));
        assert!(!is_lost(4, 7), "reported before");
    }
}
