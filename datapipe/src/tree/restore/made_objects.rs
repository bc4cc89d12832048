//! Objects that this restore has made, by device and inode: what an archive has under one name is
//! never overwritten by what it has under another that the file system takes for the same.
//!
//! ```text
//!   (device, inode / 64) -> one bit for each of 64 inodes
//! ```
//!
//! File systems number the files of one program mostly in sequence, so a million files take less
//! than a megabyte.

use std::collections::HashMap;

/// Limit of the map's entries: about 40 MiB.
const MAX_ENTRIES: usize = 1 << 20;

/// Set of inodes, in bounded memory.
#[derive(Debug, Default)]
pub(super) struct MadeObjects {
    inodes: HashMap<(u64, u64), u64>,
    /// True if an inode did not fit.
    is_full: bool,
}

impl MadeObjects {
    pub(super) fn add(&mut self, (device, inode): (u64, u64)) {
        let key = (device, inode / 64);
        if self.inodes.len() >= MAX_ENTRIES && !self.inodes.contains_key(&key) {
            self.is_full = true;
            return;
        }
        *self.inodes.entry(key).or_default() |= 1 << (inode % 64);
    }

    /// True if the inode was added and fitted.
    pub(super) fn has_added(&self, (device, inode): (u64, u64)) -> bool {
        let bits = self.inodes.get(&(device, inode / 64));
        bits.is_some_and(|bits| bits & (1 << (inode % 64)) != 0)
    }

    /// True if the inode was added. Once the set is full, that is assumed of all inodes.
    pub(super) fn contains(&self, object: (u64, u64)) -> bool {
        self.is_full || self.has_added(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_has_what_was_added_and_nothing_else() {
        let mut made = MadeObjects::default();
        for inode in [0, 63, 64, 1 << 40, u64::MAX] {
            assert!(!made.contains((1, inode)));
            made.add((1, inode));
            assert!(made.contains((1, inode)) && !made.contains((2, inode)));
        }
        assert!(!made.contains((1, 62)) && !made.contains((1, 65)));
    }

    #[test]
    fn full_set_takes_every_inode_for_its_own() {
        let mut made = MadeObjects::default();
        (0..MAX_ENTRIES as u64).for_each(|n| made.add((1, n * 64)));
        assert!(!made.contains((1, 1)));
        made.add((1, 1));
        assert!(made.contains((1, 1)), "in an entry that exists");
        made.add((2, 1));
        assert!(made.contains((3, 3)));
        assert!(!made.has_added((3, 3)) && made.has_added((1, 1)));
        assert_eq!(made.inodes.len(), MAX_ENTRIES);
    }
}
