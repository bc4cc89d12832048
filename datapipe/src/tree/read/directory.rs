//! Entries of a directory, in sorted pieces.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, RawDir, SeekFrom};
use rustix::io::{Errno, Result, retry_on_intr};

use crate::limits::MAX_SORTED_NAMES;

/// A sorted piece of a directory: all of its names, unless there are too many.
#[derive(Debug, Default)]
pub(super) struct DirEntries {
    /// The names, each with its zero byte.
    bytes: Vec<u8>,
    /// Position and type of each name, in sorted order.
    names: Vec<EntryName>,
    /// Number of names that were returned.
    returned: usize,
    /// Position in the directory at which the next piece begins, if there is one.
    next_piece: Option<u64>,
    /// Number of names after which a piece ends.
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct EntryName {
    start: u32,
    /// Length, including the zero byte.
    len: u16,
    kind: FileType,
}

/// Bytes of a directory that are read with one call to the kernel.
const READ_LEN: usize = 32 << 10;

/// Buffer for [`DirEntries::read`], to be reused.
#[derive(Debug)]
pub(super) struct DirBuffer(Box<[MaybeUninit<u8>]>);

impl Default for DirBuffer {
    fn default() -> Self {
        Self(Box::new_uninit_slice(READ_LEN))
    }
}

impl DirEntries {
    /// Reads the first piece of a directory. Returns the error, if any, after which names are
    /// missing.
    pub(super) fn read(dir: BorrowedFd<'_>, buf: &mut DirBuffer) -> (Self, Option<Errno>) {
        Self::read_first(dir, buf, MAX_SORTED_NAMES)
    }

    fn read_first(dir: BorrowedFd<'_>, buf: &mut DirBuffer, max: usize) -> (Self, Option<Errno>) {
        let mut names = Self {
            max,
            ..Self::default()
        };
        let error = names.read_piece(dir, buf).err();
        (names, error)
    }

    /// Reads the next piece. Returns false if there is none.
    pub(super) fn read_more(&mut self, dir: BorrowedFd<'_>, buf: &mut DirBuffer) -> Result<bool> {
        let Some(at) = self.next_piece else {
            return Ok(false);
        };
        self.bytes.clear();
        self.names.clear();
        self.returned = 0;
        let sought = retry_on_intr(|| rustix::fs::seek(dir, SeekFrom::Start(at)));
        sought
            .and_then(|_| self.read_piece(dir, buf))
            .inspect_err(|_| self.next_piece = None)?;
        Ok(true)
    }

    /// Returns the next name, and the type of its object when the directory was read.
    pub(super) fn next(&mut self) -> Option<(&CStr, FileType)> {
        let name = *self.names.get(self.returned)?;
        self.returned += 1;
        let name_bytes = bytes_of(&self.bytes, name);
        Some((
            CStr::from_bytes_with_nul(name_bytes).expect("a name from the kernel ends with a zero"),
            name.kind,
        ))
    }

    /// Drops all remaining names.
    pub(super) fn abandon(&mut self) {
        *self = Self::default();
    }

    /// Reads and sorts names until the directory ends, or the piece is full and the buffer has no
    /// more entries, so that none is read twice.
    fn read_piece(&mut self, dir: BorrowedFd<'_>, buf: &mut DirBuffer) -> Result<()> {
        let mut entries = RawDir::new(dir, &mut buf.0);
        self.next_piece = loop {
            let Some(entry) = entries.next() else {
                break None;
            };
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(error) => {
                    self.next_piece = None;
                    self.sort();
                    return Err(error);
                }
            };
            let (name, kind) = (entry.file_name().to_bytes_with_nul(), entry.file_type());
            let cookie = entry.next_entry_cookie();
            if name != b".\0" && name != b"..\0" {
                // At most 100,000 names of at most 256 bytes, and one more buffer of them.
                let (start, len) = (self.bytes.len() as u32, name.len() as u16);
                self.names.push(EntryName { start, len, kind });
                self.bytes.extend_from_slice(name);
            }
            if self.names.len() >= self.max && entries.is_buffer_empty() {
                break Some(cookie);
            }
        };
        self.sort();
        Ok(())
    }

    /// Sorts the names, and removes those that the file system has listed twice.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.names
            .sort_unstable_by(|a, b| bytes_of(bytes, *a).cmp(bytes_of(bytes, *b)));
        self.names
            .dedup_by(|a, b| bytes_of(bytes, *a) == bytes_of(bytes, *b));
    }
}

fn bytes_of(bytes: &[u8], name: EntryName) -> &[u8] {
    &bytes[name.start as usize..][..usize::from(name.len)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn large_directory_is_read_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = 5000;
        for i in 0..wanted {
            rustix::fs::symlink("t", dir.path().join(format!("{i:06}"))).unwrap();
        }
        let fd = File::open(dir.path()).unwrap();
        let (mut names, error) =
            DirEntries::read_first(fd.as_fd(), &mut DirBuffer::default(), 2000);
        assert_eq!(error, None);
        let (mut all, mut pieces) = (Vec::new(), 1);
        loop {
            let mut last = Vec::new();
            while let Some((name, kind)) = names.next() {
                assert!(kind == FileType::Symlink || kind == FileType::Unknown);
                assert!(last.as_slice() < name.to_bytes(), "sorted");
                last = name.to_bytes().to_vec();
                all.push(last.clone());
            }
            if !names
                .read_more(fd.as_fd(), &mut DirBuffer::default())
                .unwrap()
            {
                break;
            }
            pieces += 1;
        }
        assert_eq!(
            pieces, 3,
            "one call to the kernel returns about 1,000 names"
        );
        all.sort();
        all.dedup();
        assert_eq!(all.len(), wanted);
    }

    /// Some file systems list a name twice while the directory changes.
    #[test]
    fn name_that_is_listed_twice_is_returned_once() {
        let mut names = DirEntries::default();
        for name in [&b"b\0"[..], b"a\0", b"b\0", b"ab\0", b"b\0"] {
            names.names.push(EntryName {
                start: names.bytes.len() as u32,
                len: name.len() as u16,
                kind: FileType::RegularFile,
            });
            names.bytes.extend_from_slice(name);
        }
        names.sort();
        let mut found = Vec::new();
        while let Some((name, _)) = names.next() {
            found.push(name.to_bytes().to_vec());
        }
        assert_eq!(found, [&b"a"[..], b"ab", b"b"]);
    }

    #[test]
    fn file_has_no_names() {
        let file = tempfile::tempfile().unwrap();
        let (mut names, error) = DirEntries::read(file.as_fd(), &mut DirBuffer::default());
        assert!(error.is_some() && names.next().is_none());
        assert!(
            !names
                .read_more(file.as_fd(), &mut DirBuffer::default())
                .unwrap()
        );
    }
}
