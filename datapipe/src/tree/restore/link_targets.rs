//! First names of hard-linked objects.

use std::collections::BTreeMap;
use std::io;

use crate::limits::MAX_LINKED_OBJECTS;

use super::spill::Spill;

/// An object that has several names: the first of them, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) path: Vec<u8>,
    pub(super) became: Became,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// It was made: device and inode.
    Made(u64, u64),
    /// It is whole, and nothing was to be made.
    Verified,
    /// It was not wanted, or could not be made.
    NotRestored,
}

/// Objects with several names, by their numbers: 16 bytes of memory each, and what is known of them
/// in a log.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Number, and where in the log, ascending. In pieces, so that nothing is moved when it grows.
    index: Vec<Vec<(u64, u64)>>,
    /// Those whose numbers did not ascend, which no writer of ours makes.
    late: BTreeMap<u64, u64>,
    /// The end of the log, and what came before it.
    log: Vec<u8>,
    spill: Spill,
}

/// Objects in a piece of the index.
const PIECE: usize = 1 << 16;

/// Bytes of the log that are kept in memory.
const LOG: usize = 1 << 20;

/// Objects whose numbers do not ascend.
const MOST_LATE: usize = 1 << 16;

/// Bytes of a record of the log before the path: its length, what became of the object, device and
/// inode.
const HEAD: usize = 4 + 1 + 8 + 8;

impl Links {
    /// Remembers an object; false if there are too many.
    pub(super) fn add(&mut self, object: u64, first: &First) -> io::Result<bool> {
        let ascends = self
            .index
            .last()
            .and_then(|piece| piece.last())
            .is_none_or(|(last, _)| *last < object);
        let full = self.index.last().is_none_or(|piece| piece.len() == PIECE);
        if (ascends && full && self.index.len() == MAX_LINKED_OBJECTS / PIECE)
            || (!ascends && self.late.len() == MOST_LATE)
        {
            return Ok(false);
        }
        let at = self.append(first)?;
        if !ascends {
            self.late.insert(object, at);
            return Ok(true);
        }
        if full {
            self.index.push(Vec::new());
        }
        if let Some(piece) = self.index.last_mut() {
            piece.push((object, at));
        }
        Ok(true)
    }

    pub(super) fn get(&self, object: u64) -> io::Result<Option<First>> {
        let after = self
            .index
            .partition_point(|piece| piece.first().is_some_and(|(first, _)| *first <= object));
        let piece = after.checked_sub(1).and_then(|piece| self.index.get(piece));
        let found = piece.and_then(|piece| {
            let at = piece
                .binary_search_by_key(&object, |(number, _)| *number)
                .ok()?;
            piece.get(at).map(|(_, at)| *at)
        });
        self.late
            .get(&object)
            .copied()
            .or(found)
            .map(|at| self.record(at))
            .transpose()
    }

    /// Writes down what is known of an object, and says where.
    fn append(&mut self, First { path, became }: &First) -> io::Result<u64> {
        let len = u32::try_from(path.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        if !self.log.is_empty() && self.log.len() + HEAD + path.len() > LOG {
            self.spill.append(&self.log)?;
            self.log.clear();
        }
        let at = self.spill.len + self.log.len() as u64;
        let (kind, device, inode) = match *became {
            Became::Made(device, inode) => (0, device, inode),
            Became::Verified => (1, 0, 0),
            Became::NotRestored => (2, 0, 0),
        };
        self.log.extend_from_slice(&len.to_le_bytes());
        self.log.push(kind);
        self.log.extend_from_slice(&device.to_le_bytes());
        self.log.extend_from_slice(&inode.to_le_bytes());
        self.log.extend_from_slice(path);
        Ok(at)
    }

    fn record(&self, at: u64) -> io::Result<First> {
        let bytes = |at: u64, len: usize| match at.checked_sub(self.spill.len) {
            Some(at) => {
                let range = usize::try_from(at)
                    .ok()
                    .and_then(|at| self.log.get(at..at.checked_add(len)?));
                range
                    .map(<[u8]>::to_vec)
                    .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            None => self.spill.read(at, len),
        };
        let head = bytes(at, HEAD)?;
        let (len, rest) = head.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let (kind, rest) = rest.split_first().ok_or(io::ErrorKind::InvalidData)?;
        let (device, rest) = rest.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let inode = rest.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        let path = bytes(at + HEAD as u64, u32::from_le_bytes(*len) as usize)?;
        let became = match kind {
            0 => Became::Made(u64::from_le_bytes(*device), u64::from_le_bytes(inode)),
            1 => Became::Verified,
            _ => Became::NotRestored,
        };
        Ok(First { path, became })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_file_and_memory() {
        let became = |n| match n % 3 {
            0 => Became::Made(1 + n, n << 40),
            1 => Became::Verified,
            _ => Became::NotRestored,
        };
        let first = |n: u64| First {
            path: format!("dir/{n}").repeat(1 + n as usize % 9).into_bytes(),
            became: became(n),
        };
        let mut links = Links::default();
        let numbers = || (0..100_000u64).map(|n| n * 3);
        numbers().for_each(|n| assert!(links.add(n, &first(n)).unwrap()));
        assert!(links.log.len() <= LOG && links.spill.len > 0 && links.index.len() == 2);
        // Late ones, and one that comes again.
        (0..100).for_each(|n| assert!(links.add(n * 3 + 1, &first(n)).unwrap()));
        assert!(links.add(6, &first(7)).unwrap());
        numbers()
            .filter(|n| *n != 6)
            .for_each(|n| assert_eq!(links.get(n).unwrap(), Some(first(n))));
        (0..100).for_each(|n| assert_eq!(links.get(n * 3 + 1).unwrap(), Some(first(n))));
        assert_eq!(links.get(6).unwrap(), Some(first(7)));
        assert_eq!(
            (links.get(2).unwrap(), links.get(u64::MAX).unwrap()),
            (None, None)
        );
    }

    #[test]
    fn there_are_only_so_many_links() {
        let first = First {
            path: Vec::new(),
            became: Became::Verified,
        };
        let index = vec![vec![(0, 0); PIECE]; MAX_LINKED_OBJECTS / PIECE];
        let mut links = Links {
            index,
            ..Links::default()
        };
        assert!(!links.add(1, &first).unwrap());
        assert_eq!(links.log.len(), 0);
        (0..MOST_LATE as u64)
            .for_each(|_| assert!(links.late.insert(links.late.len() as u64, 0).is_none()));
        assert!(!links.add(0, &first).unwrap());
    }
}
