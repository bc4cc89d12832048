//! A stack of records in bounded memory: what exceeds it goes to a temporary file without a name.

use std::io;

use crate::limits::MAX_RESTORE_MEMORY;
use crate::tree::temp_file::SpillFile;

/// Stack of byte records of any number and length.
///
/// The top of the stack is one buffer in memory. When the next record would exceed the limit, the
/// whole buffer is appended to the spill file as a chunk; when the buffer is empty, the last chunk
/// is read back. The length of a record follows it, so that the last one is found from the end. A
/// chunk that was read back stays in the file as dead bytes.
///
/// ```text
///   in the file, by chunks: (offset, len) ..  |  top: [record | len u32] ..  <- push, pop
/// ```
#[derive(Debug)]
pub(super) struct RecordStack {
    top: Vec<u8>,
    /// Offset and length in the file of each spilled buffer, oldest first.
    chunks: Vec<(u64, usize)>,
    spill: SpillFile,
    /// Limit of `top`, in bytes.
    limit: usize,
}

impl Default for RecordStack {
    fn default() -> Self {
        Self {
            top: Vec::new(),
            chunks: Vec::new(),
            spill: SpillFile::default(),
            limit: MAX_RESTORE_MEMORY,
        }
    }
}

impl RecordStack {
    /// Returns a stack that takes no records: its file cannot be written to.
    #[cfg(test)]
    pub(super) fn broken() -> Self {
        Self {
            top: vec![0],
            limit: 0,
            spill: SpillFile::read_only(),
            ..Self::default()
        }
    }

    /// Adds a record on top.
    pub(super) fn push(&mut self, record: &[u8]) -> io::Result<()> {
        let len = u32::try_from(record.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let needed = record.len() + size_of_val(&len);
        if !self.top.is_empty() && self.top.len() + needed > self.limit {
            let offset = self.spill.append(&self.top)?;
            self.chunks.push((offset, self.top.len()));
            self.top.clear();
        }
        self.top.extend_from_slice(record);
        self.top.extend_from_slice(&len.to_le_bytes());
        Ok(())
    }

    /// Removes the record on top, the one that was pushed last. Returns `None` if there are none.
    pub(super) fn pop(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.top.is_empty() {
            let Some((offset, len)) = self.chunks.pop() else {
                return Ok(None);
            };
            self.top = self.spill.read(offset, len)?;
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
    fn stack_pops_the_last_record_first_from_file_and_memory() {
        let record = |n: usize| vec![n as u8; n * 37 % 300];
        let mut stack = RecordStack {
            limit: 1000,
            ..RecordStack::default()
        };
        (0..200).for_each(|n| stack.push(&record(n)).unwrap());
        assert!(stack.top.len() <= 1000 && stack.chunks.len() > 10);
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
