//! What is needed later, in bounded memory: what is more goes to a temporary file that has no name.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::limits::{MAX_LINKED_OBJECTS, MAX_RESTORE_MEMORY};
use crate::tree::scratch;

/// A temporary file that has no name, made when the first byte is written.
#[derive(Debug, Default)]
struct Spill {
    file: Option<File>,
    len: u64,
}

impl Spill {
    /// Appends `bytes`, and says where they are.
    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if self.file.is_none() {
            self.file = Some(scratch::create()?);
        }
        let at = self.len;
        if let Some(file) = &self.file {
            file.write_all_at(bytes, at)?;
            self.len += bytes.len() as u64;
        }
        Ok(at)
    }

    fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

/// Records of bytes, the last of which is taken first.
#[derive(Debug)]
pub(super) struct Stack {
    /// The last records, each with its length behind it.
    top: Vec<u8>,
    /// What came before: where it is in the file, and how long.
    below: Vec<(u64, usize)>,
    spill: Spill,
    limit: usize,
}

impl Default for Stack {
    fn default() -> Self {
        Self { top: Vec::new(), below: Vec::new(), spill: Spill::default(), limit: MAX_RESTORE_MEMORY }
    }
}

impl Stack {
    pub(super) fn push(&mut self, record: &[u8]) -> io::Result<()> {
        let len = u32::try_from(record.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        if !self.top.is_empty() && self.top.len() + record.len() + size_of_val(&len) > self.limit {
            self.below.push((self.spill.append(&self.top)?, self.top.len()));
            self.top.clear();
        }
        self.top.extend_from_slice(record);
        self.top.extend_from_slice(&len.to_le_bytes());
        Ok(())
    }

    pub(super) fn pop(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.top.is_empty() {
            let Some((at, len)) = self.below.pop() else { return Ok(None) };
            self.top = self.spill.read(at, len)?;
        }
        let (records, len) = self.top.split_last_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let start = records.len().checked_sub(u32::from_le_bytes(*len) as usize);
        let start = start.ok_or(io::ErrorKind::InvalidData)?;
        let record = records[start..].to_vec();
        self.top.truncate(start);
        Ok(Some(record))
    }
}

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

/// Objects with several names, by their numbers.
#[derive(Debug)]
pub(super) struct Links {
    known: HashMap<u64, Kept>,
    spill: Spill,
    /// Bytes of the paths in memory, and how many there may be.
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Kept {
    path: PathAt,
    became: Became,
}

#[derive(Debug)]
enum PathAt {
    Memory(Box<[u8]>),
    File(u64, u32),
}

impl Default for Links {
    fn default() -> Self {
        Self { known: HashMap::new(), spill: Spill::default(), bytes: 0, limit: MAX_RESTORE_MEMORY }
    }
}

impl Links {
    /// Remembers an object; false if there are too many.
    pub(super) fn add(&mut self, object: u64, first: First) -> io::Result<bool> {
        let First { path, became } = first;
        if self.known.len() >= MAX_LINKED_OBJECTS {
            return Ok(false);
        }
        let path = if self.bytes + path.len() <= self.limit {
            self.bytes += path.len();
            PathAt::Memory(path.into())
        } else {
            let len = u32::try_from(path.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            PathAt::File(self.spill.append(&path)?, len)
        };
        self.known.insert(object, Kept { path, became });
        Ok(true)
    }

    pub(super) fn get(&self, object: u64) -> io::Result<Option<First>> {
        let Some(Kept { path, became }) = self.known.get(&object) else { return Ok(None) };
        let path = match path {
            PathAt::Memory(path) => path.to_vec(),
            PathAt::File(at, len) => self.spill.read(*at, *len as usize)?,
        };
        Ok(Some(First { path, became: *became }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_last_is_taken_first_from_file_and_memory() {
        let record = |n: usize| vec![n as u8; n * 37 % 300];
        let mut stack = Stack { limit: 1000, ..Stack::default() };
        (0..200).for_each(|n| stack.push(&record(n)).unwrap());
        assert!(stack.top.len() <= 1000 && stack.below.len() > 10);
        (100..200).rev().for_each(|n| assert_eq!(stack.pop().unwrap(), Some(record(n))));
        (300..350).for_each(|n| stack.push(&record(n)).unwrap());
        (300..350).rev().for_each(|n| assert_eq!(stack.pop().unwrap(), Some(record(n))));
        (0..100).rev().for_each(|n| assert_eq!(stack.pop().unwrap(), Some(record(n))));
        assert_eq!(stack.pop().unwrap(), None);
    }

    #[test]
    fn links_are_found_in_file_and_memory() {
        let became = |n| if n % 2 == 0 { Became::Made(1, n) } else { Became::NotRestored };
        let first = |n: u64| First { path: format!("dir/{n}").into_bytes(), became: became(n) };
        let mut links = Links { limit: 100, ..Links::default() };
        (0..100).for_each(|n| assert!(links.add(n, first(n)).unwrap()));
        assert!(links.bytes <= 100 && links.spill.len > 0);
        (0..100).for_each(|n| assert_eq!(links.get(n).unwrap(), Some(first(n))));
        assert_eq!(links.get(100).unwrap(), None);
    }
}
