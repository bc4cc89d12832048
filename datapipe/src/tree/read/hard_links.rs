//! Which files have been seen under another name.
//!
//! A file is forgotten when all of its names have been seen. What is then still too much for memory
//! goes to a file without a name, in runs that are sorted; of each, every so many keys stay in
//! memory.
//!
//! Inodes are used again. So each has a stamp of what was in it, and one whose stamp is another is
//! another file: at worst something is in the archive twice.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::error::StageError;
use crate::limits::MAX_LINKS_IN_MEMORY;

use crate::tree::temp_file;

/// Device and inode.
type Id = (u64, u64);

/// The objects that have further names.
#[derive(Debug)]
pub(super) struct Links {
    memory: HashMap<Id, Link>,
    max: usize,
    file: Option<File>,
    /// Records in the file.
    written: u64,
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Link {
    object: u64,
    stamp: u64,
    /// Names that were not seen yet.
    left: u32,
}

/// Sorted records of the file.
#[derive(Debug)]
struct Run {
    /// Its first record, and how many there are.
    start: u64,
    len: u64,
    /// The first key of each piece.
    keys: Vec<Id>,
}

/// Bytes of a record: device, inode, object, stamp.
const RECORD: usize = 32;
/// Records of a piece.
const PIECE: usize = 256;

impl Default for Links {
    fn default() -> Self {
        Self::with_limit(MAX_LINKS_IN_MEMORY)
    }
}

impl Links {
    fn with_limit(max: usize) -> Self {
        Self {
            memory: HashMap::new(),
            max,
            file: None,
            written: 0,
            runs: Vec::new(),
        }
    }

    /// The object that this is another name of, if one was seen.
    pub(super) fn find(&mut self, id: Id, stamp: u64) -> Result<Option<u64>, StageError> {
        let Some(link) = self.memory.get_mut(&id) else {
            return self.find_in_file(id, stamp).map_err(failed);
        };
        let found = (link.stamp == stamp).then_some(link.object);
        link.left = link.left.saturating_sub(1);
        if link.left == 0 || found.is_none() {
            self.memory.remove(&id);
        }
        Ok(found)
    }

    /// Remembers an object, which has so many names.
    pub(super) fn add(
        &mut self,
        id: Id,
        stamp: u64,
        object: u64,
        names: u64,
    ) -> Result<(), StageError> {
        if self.memory.len() >= self.max {
            self.spill().map_err(failed)?;
        }
        let left = u32::try_from(names.saturating_sub(1)).unwrap_or(u32::MAX);
        self.memory.insert(
            id,
            Link {
                object,
                stamp,
                left,
            },
        );
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(temp_file::create()?),
        };
        let drained = self
            .memory
            .drain()
            .map(|(id, link)| (id, link.object, link.stamp));
        let mut links: Vec<(Id, u64, u64)> = drained.collect();
        links.sort_unstable();
        let mut run = Run {
            start: self.written,
            len: 0,
            keys: Vec::new(),
        };
        for piece in links.chunks(PIECE) {
            run.keys.push(piece[0].0);
            let words = piece
                .iter()
                .flat_map(|&((device, inode), object, stamp)| [device, inode, object, stamp]);
            let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
            file.write_all_at(&bytes, self.written * RECORD as u64)?;
            self.written += piece.len() as u64;
            run.len += piece.len() as u64;
        }
        self.runs.push(run);
        Ok(())
    }

    fn find_in_file(&self, id: Id, stamp: u64) -> io::Result<Option<u64>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let mut bytes = [0; RECORD * PIECE];
        // The last word on an inode is that of the last run.
        for run in self.runs.iter().rev() {
            let Some(piece) = run.keys.partition_point(|key| *key <= id).checked_sub(1) else {
                continue;
            };
            let first = (piece * PIECE) as u64;
            let len = (run.len - first).min(PIECE as u64) as usize;
            let bytes = &mut bytes[..len * RECORD];
            file.read_exact_at(bytes, (run.start + first) * RECORD as u64)?;
            let records = bytes.as_chunks::<RECORD>().0;
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

fn word(record: &[u8; RECORD], n: usize) -> u64 {
    u64::from_le_bytes(record.as_chunks().0[n])
}

fn failed(error: io::Error) -> StageError {
    StageError::new(format!(
        "cannot keep the table of hard links in a temporary file: {error}; set TMPDIR to where there is room"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::testkit::Random;

    #[test]
    fn what_went_to_the_file_is_found() {
        let mut links = Links::with_limit(1000);
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
            "what was seen under all of its names is forgotten"
        );
        assert_eq!(links.find((7, 7), 9).unwrap(), None);
        assert_eq!(
            links.find(ids[0], 8).unwrap(),
            None,
            "another file of the same inode"
        );
    }

    #[test]
    fn an_inode_that_is_used_again_is_another_file() {
        let mut links = Links::with_limit(2);
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
            "the last run knows best"
        );
    }
}
