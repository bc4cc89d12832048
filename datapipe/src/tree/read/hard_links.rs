//! Table of the files that are in the archive and have further names.
//!
//! A file is forgotten when all of its names have been seen. If the rest is still too much for
//! memory, it is moved to an unnamed temporary file, in sorted runs. One key in every 256 of each
//! run stays in memory.
//!
//! Inodes are reused. So each file has a stamp of its size and times, and an inode with another
//! stamp is another file. At worst a file is in the archive twice.

use std::collections::HashMap;
use std::io;

use crate::error::StageError;
use crate::limits::MAX_LINKS_IN_MEMORY;
use crate::tree::temp_file::SpillFile;
use crate::wire::LinkedFile;

/// Device and inode.
type Id = (u64, u64);

/// Table of objects that have further names.
#[derive(Debug)]
pub(super) struct HardLinks {
    memory: HashMap<Id, Names>,
    /// Number of files in memory above which they are moved to the temporary file.
    max: usize,
    file: SpillFile,
    runs: Vec<Run>,
    /// Files that were added since the last checkpoint, in a pipe that has checkpoints.
    recent: Option<Vec<LinkedFile>>,
}

#[derive(Debug)]
struct Names {
    object: u64,
    stamp: u64,
    /// Number of names that have not been seen.
    unseen: u32,
}

/// A sorted run of records in the file.
#[derive(Debug)]
struct Run {
    /// Offset of the run in the file, and number of its records.
    start: u64,
    len: usize,
    /// First key of each piece of the run.
    keys: Vec<Id>,
}

/// Bytes of a record: device, inode, object, stamp, each in 64 bits.
const RECORD_LEN: usize = 32;
/// Number of records in a piece, the unit in which a run is read.
const PIECE: usize = 256;

impl Default for HardLinks {
    fn default() -> Self {
        Self::with_limit(MAX_LINKS_IN_MEMORY)
    }
}

impl HardLinks {
    fn with_limit(max: usize) -> Self {
        Self {
            memory: HashMap::new(),
            max,
            file: SpillFile::default(),
            runs: Vec::new(),
            recent: None,
        }
    }

    /// Keeps the files that are added, for a checkpoint.
    pub(super) fn keep_recent(&mut self) {
        self.recent.get_or_insert_default();
    }

    /// Number of files that were added and not taken since.
    pub(super) fn recent(&self) -> usize {
        self.recent.as_ref().map_or(0, Vec::len)
    }

    /// Takes the files that were added since the last call, except the `open` object, which the
    /// next call returns: it may still be rejected, and nothing must refer to it then.
    pub(super) fn take_recent(&mut self, open: Option<u64>) -> Vec<LinkedFile> {
        let Some(recent) = &mut self.recent else {
            return Vec::new();
        };
        let is_open = |last: &mut LinkedFile| Some(last.object) == open;
        let kept = recent.pop_if(is_open);
        let taken = std::mem::take(recent);
        recent.extend(kept);
        taken
    }

    /// Returns the number of the object that a file is another name of, if one is known. Counts
    /// one more name of an object in memory as seen.
    pub(super) fn find(&mut self, id: Id, stamp: u64) -> Result<Option<u64>, StageError> {
        let Some(link) = self.memory.get_mut(&id) else {
            return self.find_in_file(id, stamp).map_err(table_error);
        };
        let found = (link.stamp == stamp).then_some(link.object);
        link.unseen = link.unseen.saturating_sub(1);
        if link.unseen == 0 || found.is_none() {
            self.memory.remove(&id);
        }
        Ok(found)
    }

    /// Adds an object that has `names` names, of which one has been seen.
    pub(super) fn add(
        &mut self,
        id: Id,
        stamp: u64,
        object: u64,
        names: u64,
    ) -> Result<(), StageError> {
        if self.memory.len() >= self.max {
            self.spill().map_err(table_error)?;
        }
        let unseen = u32::try_from(names.saturating_sub(1)).unwrap_or(u32::MAX);
        if let Some(recent) = &mut self.recent {
            recent.push(LinkedFile { id, object, stamp });
        }
        self.memory.insert(
            id,
            Names {
                object,
                stamp,
                unseen,
            },
        );
        Ok(())
    }

    /// Forgets an object that was added last: its further names are read as objects of their own.
    pub(super) fn forget(&mut self, id: Id) {
        self.memory.remove(&id);
        if let Some(recent) = &mut self.recent
            && recent.last().is_some_and(|last| last.id == id)
        {
            recent.pop();
        }
    }

    /// Moves all files in memory to the temporary file, as a new run.
    fn spill(&mut self) -> io::Result<()> {
        let drained = self
            .memory
            .drain()
            .map(|(id, link)| (id, link.object, link.stamp));
        let mut links: Vec<(Id, u64, u64)> = drained.collect();
        links.sort_unstable();
        let mut run = Run {
            start: self.file.len(),
            len: links.len(),
            keys: Vec::new(),
        };
        for piece in links.chunks(PIECE) {
            run.keys.push(piece[0].0);
            let words = piece
                .iter()
                .flat_map(|&((device, inode), object, stamp)| [device, inode, object, stamp]);
            let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
            self.file.append(&bytes)?;
        }
        self.runs.push(run);
        Ok(())
    }

    /// Searches the runs, each by its keys in memory and then in the one piece that may contain
    /// `id`.
    fn find_in_file(&self, id: Id, stamp: u64) -> io::Result<Option<u64>> {
        let mut bytes = [0; RECORD_LEN * PIECE];
        // The latest run with this inode decides: an older one has a file that was replaced.
        for run in self.runs.iter().rev() {
            let Some(piece) = run.keys.partition_point(|key| *key <= id).checked_sub(1) else {
                continue;
            };
            let first = piece * PIECE;
            let len = (run.len - first).min(PIECE);
            let bytes = &mut bytes[..len * RECORD_LEN];
            self.file
                .read_into(run.start + (first * RECORD_LEN) as u64, bytes)?;
            let records = bytes.as_chunks::<RECORD_LEN>().0;
            if let Ok(found) =
                records.binary_search_by_key(&id, |record| (word(record, 0), word(record, 1)))
            {
                let record = &records[found];
                return Ok((word(record, 3) == stamp).then(|| word(record, 2)));
            }
        }
        Ok(None)
    }
}

fn word(record: &[u8; RECORD_LEN], n: usize) -> u64 {
    u64::from_le_bytes(record.as_chunks().0[n])
}

fn table_error(error: io::Error) -> StageError {
    StageError::with_source(
        "cannot store the table of hard links in a temporary file (set TMPDIR to a directory with \
         free space)",
        error,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::testkit::Random;

    #[test]
    fn spilled_links_are_found() {
        let mut links = HardLinks::with_limit(1000);
        let mut random = Random::new(3);
        let ids: Vec<Id> = (0..5500)
            .map(|_| (random.below(3), random.below(u64::MAX)))
            .collect();
        for (object, id) in ids.iter().enumerate() {
            assert_eq!(links.find(*id, 9).unwrap(), None);
            links.add(*id, 9, object as u64, 3).unwrap();
        }
        assert_eq!((links.runs.len(), links.memory.len()), (5, 500));
        for _ in 0..2 {
            for (object, id) in ids.iter().enumerate() {
                assert_eq!(links.find(*id, 9).unwrap(), Some(object as u64));
            }
        }
        assert_eq!(
            links.memory.len(),
            0,
            "a file is forgotten when all its names were seen"
        );
        assert_eq!(links.find((7, 7), 9).unwrap(), None);
        assert_eq!(
            links.find(ids[0], 8).unwrap(),
            None,
            "another file with the same inode"
        );
    }

    /// A checkpoint within a file had it among those with further names. Then inspection rejected
    /// it, and a writer that went on there would have made links to it.
    #[test]
    fn open_file_is_for_the_next_checkpoint_unless_it_is_rejected() {
        let objects =
            |links: Vec<LinkedFile>| -> Vec<u64> { links.iter().map(|link| link.object).collect() };
        for is_rejected in [false, true] {
            let mut links = HardLinks::default();
            links.keep_recent();
            links.add((1, 1), 0, 5, 2).unwrap();
            links.add((1, 2), 0, 6, 2).unwrap();
            assert_eq!(objects(links.take_recent(Some(6))), [5]);
            assert_eq!(objects(links.take_recent(Some(6))), []);
            if is_rejected {
                links.forget((1, 2));
                assert_eq!(links.find((1, 2), 0).unwrap(), None);
            }
            links.add((1, 3), 0, 7, 2).unwrap();
            let rest: &[u64] = if is_rejected { &[7] } else { &[6, 7] };
            assert_eq!(objects(links.take_recent(None)), rest);
        }
    }

    #[test]
    fn reused_inode_is_another_file() {
        let mut links = HardLinks::with_limit(2);
        links.add((1, 1), 10, 1, 5).unwrap();
        assert_eq!(links.find((1, 1), 11).unwrap(), None);
        links.add((1, 1), 11, 2, 5).unwrap();
        assert_eq!(links.find((1, 1), 11).unwrap(), Some(2));
        for inode in 2..6 {
            links.add((1, inode), 0, inode, 5).unwrap();
        }
        assert_eq!(links.find((1, 1), 12).unwrap(), None);
        links.add((1, 1), 12, 9, 5).unwrap();
        for inode in 6..9 {
            links.add((1, inode), 0, inode, 5).unwrap();
        }
        assert_eq!(
            links.find((1, 1), 12).unwrap(),
            Some(9),
            "the latest run decides"
        );
    }
}
