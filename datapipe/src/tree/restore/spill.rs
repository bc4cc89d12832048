//! What is needed later, in bounded memory: what is more goes to a temporary file that has no name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::limits::MAX_RESTORE_MEMORY;
use crate::tree::scratch;

/// A temporary file that has no name, made when the first byte is written.
#[derive(Debug, Default)]
pub(super) struct Spill {
    file: Option<File>,
    pub(super) len: u64,
}

impl Spill {
    /// Appends `bytes`, and says where they are.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
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

    pub(super) fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
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
        Self {
            top: Vec::new(),
            below: Vec::new(),
            spill: Spill::default(),
            limit: MAX_RESTORE_MEMORY,
        }
    }
}

impl Stack {
    pub(super) fn push(&mut self, record: &[u8]) -> io::Result<()> {
        let len = u32::try_from(record.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        if !self.top.is_empty() && self.top.len() + record.len() + size_of_val(&len) > self.limit {
            self.below
                .push((self.spill.append(&self.top)?, self.top.len()));
            self.top.clear();
        }
        self.top.extend_from_slice(record);
        self.top.extend_from_slice(&len.to_le_bytes());
        Ok(())
    }

    pub(super) fn pop(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.top.is_empty() {
            let Some((at, len)) = self.below.pop() else {
                return Ok(None);
            };
            self.top = self.spill.read(at, len)?;
        }
        let (records, len) = self
            .top
            .split_last_chunk()
            .ok_or(io::ErrorKind::InvalidData)?;
        let start = records.len().checked_sub(u32::from_le_bytes(*len) as usize);
        let start = start.ok_or(io::ErrorKind::InvalidData)?;
        let record = records[start..].to_vec();
        self.top.truncate(start);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_last_is_taken_first_from_file_and_memory() {
        let record = |n: usize| vec![n as u8; n * 37 % 300];
        let mut stack = Stack {
            limit: 1000,
            ..Stack::default()
        };
        (0..200).for_each(|n| stack.push(&record(n)).unwrap());
        assert!(stack.top.len() <= 1000 && stack.below.len() > 10);
        (100..200)
            .rev()
            .for_each(|n| assert_eq!(stack.pop().unwrap(), Some(record(n))));
        (300..350).for_each(|n| stack.push(&record(n)).unwrap());
        (300..350)
            .rev()
            .for_each(|n| assert_eq!(stack.pop().unwrap(), Some(record(n))));
        (0..100)
            .rev()
            .for_each(|n| assert_eq!(stack.pop().unwrap(), Some(record(n))));
        assert_eq!(stack.pop().unwrap(), None);
    }
}
