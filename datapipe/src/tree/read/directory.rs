//! Names of a directory, in pieces that are sorted.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, RawDir, SeekFrom};
use rustix::io::{Errno, Result};

use crate::limits::MAX_SORTED_NAMES;

/// A piece of a directory: all of its names, if there are not too many.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The names, each with a zero behind it.
    bytes: Vec<u8>,
    /// Where they stand, in the order in which they are given.
    names: Vec<Name>,
    given: usize,
    /// Where the next piece begins, if there is one.
    next: Option<u64>,
    /// Names after which a piece ends.
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    start: u32,
    /// The zero counted.
    len: u16,
    kind: FileType,
}

/// What is read of a directory with one call to the kernel, in bytes.
const PIECE: usize = 32 << 10;

/// Room for [`Names::read`], to be used again and again.
#[derive(Debug)]
pub(super) struct Room(Box<[MaybeUninit<u8>]>);

impl Default for Room {
    fn default() -> Self {
        Self(Box::new_uninit_slice(PIECE))
    }
}

impl Names {
    /// The first names of a directory, and the error that ended them too early.
    pub(super) fn read(dir: BorrowedFd<'_>, room: &mut Room) -> (Self, Option<Errno>) {
        Self::read_first(dir, room, MAX_SORTED_NAMES)
    }

    fn read_first(dir: BorrowedFd<'_>, room: &mut Room, max: usize) -> (Self, Option<Errno>) {
        let mut names = Self {
            max,
            ..Self::default()
        };
        let error = names.read_piece(dir, room).err();
        (names, error)
    }

    /// Goes on to the next piece; false if there is none.
    pub(super) fn read_more(&mut self, dir: BorrowedFd<'_>, room: &mut Room) -> Result<bool> {
        let Some(at) = self.next else {
            return Ok(false);
        };
        self.bytes.clear();
        self.names.clear();
        self.given = 0;
        let sought = rustix::fs::seek(dir, SeekFrom::Start(at));
        sought
            .and_then(|_| self.read_piece(dir, room))
            .inspect_err(|_| self.next = None)?;
        Ok(true)
    }

    /// The next name, and what it stood for when the directory was read.
    pub(super) fn next(&mut self) -> Option<(&CStr, FileType)> {
        let name = *self.names.get(self.given)?;
        self.given += 1;
        let name_bytes = bytes_of(&self.bytes, name);
        Some((
            CStr::from_bytes_with_nul(name_bytes).expect("it came from the kernel as one"),
            name.kind,
        ))
    }

    /// Gives no more.
    pub(super) fn abandon(&mut self) {
        *self = Self::default();
    }

    fn read_piece(&mut self, dir: BorrowedFd<'_>, room: &mut Room) -> Result<()> {
        let mut entries = RawDir::new(dir, &mut room.0);
        self.next = loop {
            let Some(entry) = entries.next() else {
                break None;
            };
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.next = None;
                    self.sort();
                    return Err(error);
                }
            };
            let (name, kind) = (entry.file_name().to_bytes_with_nul(), entry.file_type());
            let cookie = entry.next_entry_cookie();
            if name != b".\0" && name != b"..\0" {
                // At most 100,000 names of at most 256 bytes, and one buffer more.
                let (start, len) = (self.bytes.len() as u32, name.len() as u16);
                self.names.push(Name { start, len, kind });
                self.bytes.extend_from_slice(name);
            }
            if self.names.len() >= self.max && entries.is_buffer_empty() {
                break Some(cookie);
            }
        };
        self.sort();
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.names
            .sort_unstable_by(|a, b| bytes_of(bytes, *a).cmp(bytes_of(bytes, *b)));
    }
}

fn bytes_of(bytes: &[u8], name: Name) -> &[u8] {
    &bytes[name.start as usize..][..usize::from(name.len)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn large_directories_come_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = 5000;
        for i in 0..wanted {
            rustix::fs::symlink("t", dir.path().join(format!("{i:06}"))).unwrap();
        }
        let fd = File::open(dir.path()).unwrap();
        let (mut names, error) = Names::read_first(fd.as_fd(), &mut Room::default(), 2000);
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
            if !names.read_more(fd.as_fd(), &mut Room::default()).unwrap() {
                break;
            }
            pieces += 1;
        }
        assert_eq!(pieces, 3, "one call to the kernel gives about a thousand");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), wanted);
    }

    #[test]
    fn what_is_no_directory_has_no_names() {
        let file = tempfile::tempfile().unwrap();
        let (mut names, error) = Names::read(file.as_fd(), &mut Room::default());
        assert!(error.is_some() && names.next().is_none());
        assert!(!names.read_more(file.as_fd(), &mut Room::default()).unwrap());
    }
}
