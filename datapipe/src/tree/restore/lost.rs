//! What is not there: numbers of lost blocks, by which the catalogue names the objects that began
//! in them.

use std::collections::HashSet;

use crate::limits::MAX_LOG_ENTRIES;
use crate::wire::CatalogueEntry;

/// Blocks that are lost, and the objects in them that were told of.
#[derive(Debug, Default)]
pub(super) struct Lost {
    runs: Vec<Run>,
    /// Where the objects that were told of began: each is in the catalogue twice.
    told: HashSet<(u64, u32)>,
}

/// Blocks `first` to `last`, the first of them from byte `from` on.
#[derive(Debug)]
struct Run {
    first: u64,
    last: u64,
    from: u32,
}

impl Lost {
    /// Blocks `first` to `last` are lost, the first of them from byte `from` on.
    pub(super) fn add(&mut self, first: u64, last: u64, from: usize) {
        if self.runs.len() < MAX_LOG_ENTRIES {
            self.runs.push(Run {
                first,
                last,
                from: u32::try_from(from).unwrap_or(u32::MAX),
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether the object began in what is lost, and was not told of yet.
    pub(super) fn has(&mut self, entry: &CatalogueEntry<'_>) -> bool {
        let at = (entry.blocks.0, entry.offset);
        let before = self.runs.partition_point(|run| (run.first, run.from) <= at);
        let within = before
            .checked_sub(1)
            .is_some_and(|run| at.0 <= self.runs[run].last);
        within && self.told.len() < MAX_LOG_ENTRIES && self.told.insert(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ObjectKind, ObjectState, Time};

    #[test]
    fn an_object_is_lost_with_the_block_that_it_begins_in() {
        let mut lost = Lost::default();
        lost.add(3, 5, 0);
        lost.add(9, 9, 100);
        let mut has = |block, offset| {
            let (kind, state, modified) = (ObjectKind::File, ObjectState::Whole, Time::default());
            let blocks = (block, block + 20);
            let (path, target) = (&b"x"[..], &b""[..]);
            lost.has(&CatalogueEntry {
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
        assert!(has(3, 0) && has(4, 7) && has(5, 1000) && has(9, 100));
        assert!(!has(2, 1000) && !has(6, 0) && !has(9, 99) && !has(10, 100));
        assert!(!has(4, 7), "told of before");
    }
}
