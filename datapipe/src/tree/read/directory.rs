//! Entries of a directory, in sorted pieces.
//!
//! A file system may list a name twice while the directory changes, in one piece or in two. So the
//! names of earlier pieces are kept in a temporary file, and compared with those of the next piece.
//!
//! ```text
//!   names     [piece, sorted] -> handed out -> file    [piece 1 | piece 2 | ..], each sorted
//!   next one  [piece, sorted] <- compared with each piece in the file, in one pass
//! ```

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, RawDir, SeekFrom};
use rustix::io::{Errno, Result, retry_on_intr};

use crate::limits::MAX_SORTED_NAMES;
use crate::tree::temp_file::SpillFile;

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
    /// Earlier pieces in the file: where each begins, and its length in bytes.
    earlier: Vec<(u64, u64)>,
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

    /// Reads the next piece. Returns false if there is none. `file` has the names of earlier
    /// pieces, also of other directories. If it cannot be used, names that are listed twice are
    /// returned twice, which a restore reports.
    pub(super) fn read_more(
        &mut self,
        dir: BorrowedFd<'_>,
        buf: &mut DirBuffer,
        file: &mut SpillFile,
    ) -> Result<bool> {
        let Some(at) = self.next_piece else {
            return Ok(false);
        };
        let _ = self.remember(file);
        self.bytes.clear();
        self.names.clear();
        self.returned = 0;
        let sought = retry_on_intr(|| rustix::fs::seek(dir, SeekFrom::Start(at)));
        sought
            .and_then(|_| self.read_piece(dir, buf))
            .inspect_err(|_| self.next_piece = None)?;
        for run in self.earlier.clone() {
            let _ = self.remove_known(file, run);
        }
        Ok(true)
    }

    /// True if the file has names of this directory.
    pub(super) fn has_earlier(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// Appends the names of this piece, each with its zero byte, to the file.
    fn remember(&mut self, file: &mut SpillFile) -> io::Result<()> {
        let mut sorted = Vec::with_capacity(self.bytes.len());
        for name in &self.names {
            sorted.extend_from_slice(bytes_of(&self.bytes, *name));
        }
        if !sorted.is_empty() {
            let at = file.append(&sorted)?;
            self.earlier.push((at, sorted.len() as u64));
        }
        Ok(())
    }

    /// Removes the names that the piece `run` in the file has.
    fn remove_known(&mut self, file: &SpillFile, run: (u64, u64)) -> io::Result<()> {
        let mut earlier = EarlierNames::new(file, run);
        let mut is_at_end = !earlier.advance()?;
        let mut kept = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let bytes = bytes_of(&self.bytes, *name);
            while !is_at_end && earlier.name() < bytes {
                is_at_end = !earlier.advance()?;
            }
            if is_at_end || earlier.name() != bytes {
                kept.push(*name);
            }
        }
        self.names = kept;
        Ok(())
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

/// Reader of the names in a piece of the file.
struct EarlierNames<'a> {
    file: &'a SpillFile,
    /// Part of the piece that was not read.
    at: u64,
    end: u64,
    /// Bytes that were read, and the current name among them.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl<'a> EarlierNames<'a> {
    fn new(file: &'a SpillFile, (at, len): (u64, u64)) -> Self {
        Self {
            file,
            at,
            end: at + len,
            bytes: Vec::new(),
            start: 0,
            len: 0,
        }
    }

    /// Returns the current name, with its zero byte.
    fn name(&self) -> &[u8] {
        &self.bytes[self.start..][..self.len]
    }

    /// Moves to the next name. Returns false after the last one.
    fn advance(&mut self) -> io::Result<bool> {
        self.start += self.len;
        self.len = 0;
        loop {
            let rest = &self.bytes[self.start..];
            if let Some(zero) = rest.iter().position(|byte| *byte == 0) {
                self.len = zero + 1;
                return Ok(true);
            }
            let more = (self.end - self.at).min(READ_LEN as u64) as usize;
            if more == 0 {
                return Ok(false);
            }
            self.bytes.drain(..self.start);
            self.start = 0;
            self.bytes.extend(self.file.read(self.at, more)?);
            self.at += more as u64;
        }
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
        let (mut all, mut pieces, mut file) = (Vec::new(), 1, SpillFile::default());
        loop {
            let mut last = Vec::new();
            while let Some((name, kind)) = names.next() {
                assert!(kind == FileType::Symlink || kind == FileType::Unknown);
                assert!(last.as_slice() < name.to_bytes(), "sorted");
                last = name.to_bytes().to_vec();
                all.push(last.clone());
            }
            if !names
                .read_more(fd.as_fd(), &mut DirBuffer::default(), &mut file)
                .unwrap()
            {
                break;
            }
            pieces += 1;
        }
        assert_eq!(names.earlier.len(), 2);
        assert_eq!(
            pieces, 3,
            "one call to the kernel returns about 1,000 names"
        );
        all.sort();
        all.dedup();
        assert_eq!(all.len(), wanted);
    }

    /// Replaces the names by those of a piece that the file system lists.
    fn list(names: &mut DirEntries, listed: &[Vec<u8>]) {
        names.bytes.clear();
        names.names.clear();
        for name in listed {
            names.names.push(EntryName {
                start: names.bytes.len() as u32,
                len: name.len() as u16,
                kind: FileType::RegularFile,
            });
            names.bytes.extend_from_slice(name);
        }
        names.sort();
    }

    /// A file that is renamed while a large directory is read is listed again in a later piece. It
    /// was archived twice, its name was in the catalogue twice, and the restore of such a backup
    /// was not complete.
    #[test]
    fn name_that_is_listed_in_two_pieces_is_returned_once() {
        let piece = |numbers: std::ops::Range<u32>| {
            let numbers = numbers.map(|n| n.wrapping_mul(2_654_435_761) % 100_003);
            // Some are longer than a piece of the file that is read at a time.
            let name = |n: u32| format!("{n}{}\0", "x".repeat(n as usize % 200)).into_bytes();
            numbers.map(name).collect::<Vec<_>>()
        };
        let (mut names, mut file) = (DirEntries::default(), SpillFile::default());
        // Another directory has some of the same names.
        list(&mut names, &piece(0..50));
        names.remember(&mut file).unwrap();
        names.abandon();
        let mut all = Vec::new();
        for numbers in [0..2_000, 1_900..4_000, 0..10, 3_999..6_000] {
            list(&mut names, &piece(numbers));
            for run in names.earlier.clone() {
                names.remove_known(&file, run).unwrap();
            }
            all.extend(
                names
                    .names
                    .iter()
                    .map(|name| bytes_of(&names.bytes, *name).to_vec()),
            );
            names.remember(&mut file).unwrap();
        }
        let mut wanted = piece(0..6_000);
        wanted.sort();
        wanted.dedup();
        all.sort();
        assert!(all == wanted, "{} of {} names", all.len(), wanted.len());
    }

    /// Some file systems list a name twice while the directory changes.
    #[test]
    fn name_that_is_listed_twice_is_returned_once() {
        let mut names = DirEntries::default();
        let listed = [&b"b\0"[..], b"a\0", b"b\0", b"ab\0", b"b\0"];
        list(&mut names, &listed.map(<[u8]>::to_vec));
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
                .read_more(
                    file.as_fd(),
                    &mut DirBuffer::default(),
                    &mut SpillFile::default()
                )
                .unwrap()
        );
    }
}
