//! Data of a file, read to where it stays: into the block, behind a header that is written last.

use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::{Errno, Result};

use crate::error::StageError;
use crate::limits::MIN_EXTENT;
use crate::pool::Block;
use crate::wire::{DIGEST_LEN, EXTENT_HEADER_LEN, ObjectState, extent_header};

use super::digest::Digest;
use super::object::Meta;

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Extents {
    /// What it was when it was opened.
    before: Meta,
    /// Where reading goes on.
    at: u64,
    /// Where reading ends: the size that the file had.
    limit: u64,
    /// End of the data that `at` lies in.
    segment: u64,
    /// It takes less of the disk than it is long, so it may have holes.
    sparse: bool,
    /// What was appended during the first reading is read too, and what was appended after that is
    /// not: nobody keeps us here by writing faster than we read.
    looked_again: bool,
    /// What the file was behind the last byte, once that was read.
    after: Option<Meta>,
    /// Bytes read.
    bytes: u64,
    hashed: Digest,
}

/// How far a block was filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more, for the next block.
    Full,
    /// The file was read.
    Done(ObjectState),
}

/// What was read of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) size: u64,
    pub(super) bytes: u64,
    pub(super) digest: [u8; DIGEST_LEN],
}

impl Extents {
    pub(super) fn new(meta: Meta) -> Self {
        let sparse = meta.sectors.saturating_mul(512) < meta.size;
        let segment = if sparse { 0 } else { u64::MAX };
        // Of an empty file nothing is read that may have changed: there is no need to look again.
        let empty = meta.size == 0;
        Self {
            before: meta,
            at: 0,
            limit: meta.size,
            segment,
            sparse,
            looked_again: empty,
            after: empty.then_some(meta),
            bytes: 0,
            hashed: Digest::new(),
        }
    }

    /// Puts as much of the file into the block as fits.
    ///
    /// # Errors
    ///
    /// The inner one says why the file cannot be read further. What was read before stays.
    pub(super) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        object: u64,
        block: &mut Block,
    ) -> std::result::Result<Result<Progress>, StageError> {
        loop {
            match self.next_data(fd) {
                Ok(true) => {}
                Ok(false) => return Ok(self.end(fd)),
                Err(error) => return Ok(Err(error)),
            }
            let left =
                usize::try_from(self.segment.min(self.limit) - self.at).unwrap_or(usize::MAX);
            let least = EXTENT_HEADER_LEN
                + left
                    .min(MIN_EXTENT)
                    .min(block.capacity() - EXTENT_HEADER_LEN);
            let spare = block.spare();
            if spare.len() < least {
                return Ok(Ok(Progress::Full));
            }
            let len = left.min(spare.len() - EXTENT_HEADER_LEN);
            let room = &mut spare[EXTENT_HEADER_LEN..][..len];
            let n = match read_at(fd, room, self.at) {
                Ok(0) => {
                    self.limit = self.at;
                    continue;
                }
                Ok(n) => n,
                Err(error) => return Ok(Err(error)),
            };
            self.hashed.add(self.at, &room[..n]);
            let header = extent_header(object, self.at, &room[..n])?;
            spare[..EXTENT_HEADER_LEN].copy_from_slice(&header);
            block.grow(EXTENT_HEADER_LEN + n)?;
            self.at += n as u64;
            self.bytes += n as u64;
        }
    }

    /// What was read, so far or in all.
    pub(super) fn summary(&self) -> Summary {
        Summary {
            size: self.at,
            bytes: self.bytes,
            digest: self.hashed.finish(),
        }
    }

    /// Goes on to the next data; false if there is none.
    fn next_data(&mut self, fd: BorrowedFd<'_>) -> Result<bool> {
        loop {
            if self.at < self.limit && self.sparse && self.at >= self.segment {
                self.find_segment(fd)?;
            }
            if self.at < self.limit {
                return Ok(true);
            }
            if self.looked_again || self.limit < self.before.size {
                return Ok(false);
            }
            self.looked_again = true;
            let now = Meta::of(fd)?;
            if now.size > self.limit {
                self.limit = now.size;
            } else {
                self.after = Some(now);
            }
        }
    }

    fn find_segment(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        match rustix::fs::seek(fd, SeekFrom::Data(self.at)) {
            Ok(data) => self.at = data.max(self.at).min(self.limit),
            // A hole up to the end.
            Err(Errno::NXIO) => self.at = self.limit,
            // The file system cannot tell.
            Err(Errno::INVAL | Errno::NOTSUP) => {
                self.sparse = false;
                self.segment = u64::MAX;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.at < self.limit {
            self.segment = match rustix::fs::seek(fd, SeekFrom::Hole(self.at)) {
                Ok(hole) if hole > self.at => hole,
                // It was cut off in the meantime: the read will tell.
                Ok(_) | Err(Errno::NXIO) => self.limit,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Whether the file is still what it was when it was opened.
    fn end(&self, fd: BorrowedFd<'_>) -> Result<Progress> {
        let before = &self.before;
        let after = match self.after {
            Some(after) => after,
            None => Meta::of(fd)?,
        };
        let same = before.modified == after.modified && before.changed == after.changed;
        let whole = same && before.size == after.size && self.at == after.size;
        Ok(Progress::Done(if whole {
            ObjectState::Whole
        } else {
            ObjectState::Changed
        }))
    }
}

/// Reads until `room` is full, or the file ends. An error counts only if nothing was read: it comes
/// again.
fn read_at(fd: BorrowedFd<'_>, room: &mut [u8], at: u64) -> Result<usize> {
    let mut read = 0;
    while read < room.len() {
        match rustix::io::pread(fd, &mut room[read..], at + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(Errno::INTR) => {}
            Err(error) if read == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(read)
}
