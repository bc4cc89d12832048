//! Targets of hard links: the first name of each object that has several, and its outcome.
//!
//! A hard link in an archive names its target by object number, and follows it. So each object
//! that says that it has further names is remembered until the end of the restore: 16 bytes in
//! memory (its number, and the position of its record), and a record with its path in a log, of
//! which only the end is in memory and the rest in a spill file.
//!
//! ```text
//!   index   [number u64, position u64] ..    ascending by number
//!                               |
//!                               v
//!   log     .. [path_len u32 | outcome u8 | device u64 | inode u64 | path] ..
//!           |<- below spill.len(): in the file ->|<- from there on: in memory ->|
//! ```

use std::collections::BTreeMap;
use std::io;

use crate::limits::MAX_LINKED_OBJECTS;
use crate::tree::temp_file::SpillFile;

/// First name of an object that has several names, and the outcome of its restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkTarget {
    pub(super) path: Vec<u8>,
    pub(super) outcome: ObjectOutcome,
}

/// Outcome of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectOutcome {
    /// It was created, and further names may follow that link to it: its device and inode.
    Created { device: u64, inode: u64 },
    /// It is complete, and its inode is not needed: it has one name, or the sink created nothing.
    Verified,
    /// It was not wanted, could not be created, or is a device that this user may not create.
    NotRestored,
}

/// Link targets by object number.
#[derive(Debug, Default)]
pub(super) struct LinkTargets {
    /// Object numbers and positions of their records in the log, ascending. They are kept in
    /// pieces of [`PIECE`], so that growth moves nothing.
    index: Vec<Vec<(u64, u64)>>,
    /// Objects whose numbers did not ascend. No writer of ours creates such an archive.
    out_of_order: BTreeMap<u64, u64>,
    /// End of the log. What precedes it is in the spill file.
    log: Vec<u8>,
    spill: SpillFile,
}

/// Number of objects in a piece of the index.
const PIECE: usize = 1 << 16;

/// Limit of the part of the log that is kept in memory, in bytes.
const MAX_LOG_IN_MEMORY: usize = 1 << 20;

/// Limit of objects whose numbers do not ascend.
const MAX_OUT_OF_ORDER: usize = 1 << 16;

/// Length of the fixed part of a log record: length of the path, outcome, device, inode.
const RECORD_HEADER: usize = 4 + 1 + 8 + 8;

impl LinkTargets {
    /// Remembers an object. Returns false if there are too many. An object that comes again
    /// replaces the earlier one.
    pub(super) fn add(&mut self, object: u64, target: &LinkTarget) -> io::Result<bool> {
        let last = self.index.last().and_then(|piece| piece.last());
        if last.is_some_and(|(last, _)| *last >= object) {
            if self.out_of_order.len() == MAX_OUT_OF_ORDER {
                return Ok(false);
            }
            let at = self.append(target)?;
            self.out_of_order.insert(object, at);
            return Ok(true);
        }
        let needs_piece = self.index.last().is_none_or(|piece| piece.len() == PIECE);
        if needs_piece && self.index.len() == MAX_LINKED_OBJECTS / PIECE {
            return Ok(false);
        }
        let at = self.append(target)?;
        if needs_piece {
            self.index.push(Vec::new());
        }
        if let Some(piece) = self.index.last_mut() {
            piece.push((object, at));
        }
        Ok(true)
    }

    /// Returns the target that has this object number.
    pub(super) fn get(&self, object: u64) -> io::Result<Option<LinkTarget>> {
        let late = self.out_of_order.get(&object).copied();
        late.or_else(|| self.position_in_index(object))
            .map(|at| self.read_record(at))
            .transpose()
    }

    /// Position of an object's record: searches for the piece, then within it.
    fn position_in_index(&self, object: u64) -> Option<u64> {
        let pieces_up_to = self
            .index
            .partition_point(|piece| piece.first().is_some_and(|(first, _)| *first <= object));
        let piece = self.index.get(pieces_up_to.checked_sub(1)?)?;
        let at = piece
            .binary_search_by_key(&object, |(number, _)| *number)
            .ok()?;
        piece.get(at).map(|(_, position)| *position)
    }

    /// Appends a record to the log. Returns its position.
    fn append(&mut self, LinkTarget { path, outcome }: &LinkTarget) -> io::Result<u64> {
        let len = u32::try_from(path.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let needed = RECORD_HEADER + path.len();
        if !self.log.is_empty() && self.log.len() + needed > MAX_LOG_IN_MEMORY {
            self.spill.append(&self.log)?;
            self.log.clear();
        }
        let at = self.spill.len() + self.log.len() as u64;
        let (code, device, inode) = match *outcome {
            ObjectOutcome::Created { device, inode } => (0, device, inode),
            ObjectOutcome::Verified => (1, 0, 0),
            ObjectOutcome::NotRestored => (2, 0, 0),
        };
        self.log.extend_from_slice(&len.to_le_bytes());
        self.log.push(code);
        self.log.extend_from_slice(&device.to_le_bytes());
        self.log.extend_from_slice(&inode.to_le_bytes());
        self.log.extend_from_slice(path);
        Ok(at)
    }

    /// Reads the record at a position of the log.
    fn read_record(&self, at: u64) -> io::Result<LinkTarget> {
        let header = self.read_log(at, RECORD_HEADER)?;
        let (len, rest) = header
            .split_first_chunk()
            .ok_or(io::ErrorKind::InvalidData)?;
        let (code, rest) = rest.split_first().ok_or(io::ErrorKind::InvalidData)?;
        let (device, rest) = rest.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let inode = rest.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        let path = self.read_log(at + RECORD_HEADER as u64, u32::from_le_bytes(*len) as usize)?;
        let outcome = match code {
            0 => ObjectOutcome::Created {
                device: u64::from_le_bytes(*device),
                inode: u64::from_le_bytes(inode),
            },
            1 => ObjectOutcome::Verified,
            _ => ObjectOutcome::NotRestored,
        };
        Ok(LinkTarget { path, outcome })
    }

    /// Reads bytes of the log. A record is either in the file or in memory: the log is spilled
    /// whole.
    fn read_log(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let Some(in_memory) = at.checked_sub(self.spill.len()) else {
            return self.spill.read(at, len);
        };
        usize::try_from(in_memory)
            .ok()
            .and_then(|at| self.log.get(at..at.checked_add(len)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_in_file_and_memory() {
        let outcome = |n| match n % 3 {
            0 => ObjectOutcome::Created {
                device: 1 + n,
                inode: n << 40,
            },
            1 => ObjectOutcome::Verified,
            _ => ObjectOutcome::NotRestored,
        };
        let target = |n: u64| LinkTarget {
            path: format!("dir/{n}").repeat(1 + n as usize % 9).into_bytes(),
            outcome: outcome(n),
        };
        let mut targets = LinkTargets::default();
        let numbers = || (0..100_000u64).map(|n| n * 3);
        numbers().for_each(|n| assert!(targets.add(n, &target(n)).unwrap()));
        assert!(targets.log.len() <= MAX_LOG_IN_MEMORY);
        assert!(targets.spill.len() > 0 && targets.index.len() == 2);
        // Some out of order, and one that comes again.
        (0..100).for_each(|n| assert!(targets.add(n * 3 + 1, &target(n)).unwrap()));
        assert!(targets.add(6, &target(7)).unwrap());
        numbers()
            .filter(|n| *n != 6)
            .for_each(|n| assert_eq!(targets.get(n).unwrap(), Some(target(n))));
        (0..100).for_each(|n| assert_eq!(targets.get(n * 3 + 1).unwrap(), Some(target(n))));
        assert_eq!(targets.get(6).unwrap(), Some(target(7)));
        assert_eq!(targets.get(2).unwrap(), None);
        assert_eq!(targets.get(u64::MAX).unwrap(), None);
    }

    #[test]
    fn targets_above_the_limit_are_refused() {
        let target = LinkTarget {
            path: Vec::new(),
            outcome: ObjectOutcome::Verified,
        };
        let index = vec![vec![(0, 0); PIECE]; MAX_LINKED_OBJECTS / PIECE];
        let mut targets = LinkTargets {
            index,
            ..LinkTargets::default()
        };
        assert!(!targets.add(1, &target).unwrap());
        assert_eq!(targets.log.len(), 0);
        for object in 0..MAX_OUT_OF_ORDER as u64 {
            assert!(targets.out_of_order.insert(object, 0).is_none());
        }
        assert!(!targets.add(0, &target).unwrap());
    }
}
