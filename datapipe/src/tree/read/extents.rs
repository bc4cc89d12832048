//! Data of a file, read directly into the block, after space for a header that is written last.

use std::os::fd::BorrowedFd;

use rustix::fs::{SeekFrom, fstatfs};
use rustix::io::{Errno, Result, retry_on_intr};

use crate::cells::Digest;
use crate::error::StageError;
use crate::limits::MIN_EXTENT;
use crate::pool::Block;
use crate::wire::{DIGEST_LEN, EXTENT_HEADER_LEN, ObjectState, extent_header};

use super::inspect::{ObjectInspector, ObjectVerdict};
use super::open::Meta;

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Extents {
    /// Metadata of the file when it was opened.
    before: Meta,
    /// Offset at which reading continues.
    at: u64,
    /// Offset at which reading ends: the size of the file when it was last examined, or `u64::MAX`
    /// for a file that has data and whose size does not count it. Such a file is made by the kernel
    /// or by a program when it is read (procfs, FUSE).
    limit: u64,
    /// End of the data segment that contains `at`; `u64::MAX` if holes are not searched for.
    segment: u64,
    /// The allocated size is smaller than the file, so it may have holes.
    sparse: bool,
    /// The size was read again after the end was reached. Bytes appended during the first reading
    /// are read too. Bytes appended later are not, so a process that writes faster than we read
    /// cannot keep us here.
    rechecked: bool,
    /// A read has returned no byte: here the file ends, also if its size is larger.
    ended: bool,
    /// Metadata of the file after its last byte was read.
    after: Option<Meta>,
    /// Number of bytes read, without holes.
    bytes: u64,
    hashed: Digest,
}

/// Progress of reading a file into a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadProgress {
    /// The block is full, and more data remains for the next one.
    BlockFull,
    /// The file was read to its end, and is whole or changed.
    Done(ObjectState),
    /// The file ended before its size, and had not changed. This is its size.
    Short(u64),
    /// The inspector rejected the file, for this reason. None of its data is in the block.
    Rejected(String),
}

/// Size of a file, bytes of data and digest.
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
        // Only a read shows whether a file without a size is empty.
        let has_no_size = meta.size == 0;
        Self {
            before: meta,
            at: 0,
            limit: if has_no_size { u64::MAX } else { meta.size },
            segment,
            sparse,
            rechecked: false,
            ended: false,
            after: None,
            bytes: 0,
            hashed: Digest::new(),
        }
    }

    /// Puts as much of the file into the block as fits, as [`read_data`](Self::read_data) does, and
    /// asks the inspector about it. Of a file that is rejected, nothing that this call put into the
    /// block stays there.
    pub(super) fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        object: u64,
        block: &mut Block,
        inspector: Option<&mut (dyn ObjectInspector + 'static)>,
    ) -> std::result::Result<Result<ReadProgress>, StageError> {
        let Some(inspector) = inspector else {
            return self.read_data(fd, object, block, |_, _| Ok(ObjectVerdict::Pass));
        };
        let (len, at, bytes) = (block.len(), self.at, self.bytes);
        let hashed = self.hashed.clone();
        let inspect = |offset, data: &[u8]| inspector.data(offset, data);
        let mut progress = self.read_data(fd, object, block, inspect)?;
        let has_ended = !matches!(
            progress,
            Ok(ReadProgress::BlockFull | ReadProgress::Rejected(_))
        );
        if has_ended && let ObjectVerdict::Reject(why) = inspector.end()? {
            progress = Ok(ReadProgress::Rejected(why));
        }
        if matches!(progress, Ok(ReadProgress::Rejected(_))) {
            block.truncate(len);
            (self.at, self.bytes, self.hashed) = (at, bytes, hashed);
        }
        Ok(progress)
    }

    /// Puts as much of the file into the block as fits, until `inspect` rejects it.
    ///
    /// Each extent is read into the spare part of the block, after space for its header. A short
    /// extent at the end of the block is avoided: an extent has at least [`MIN_EXTENT`] bytes,
    /// unless the rest of its data segment or the capacity of a block is shorter.
    ///
    /// # Errors
    ///
    /// The inner error is the reason why the rest of the file cannot be read. Extents read before
    /// stay in the block.
    fn read_data(
        &mut self,
        fd: BorrowedFd<'_>,
        object: u64,
        block: &mut Block,
        mut inspect: impl FnMut(u64, &[u8]) -> std::result::Result<ObjectVerdict, StageError>,
    ) -> std::result::Result<Result<ReadProgress>, StageError> {
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
                return Ok(Ok(ReadProgress::BlockFull));
            }
            let len = left.min(spare.len() - EXTENT_HEADER_LEN);
            let data = &mut spare[EXTENT_HEADER_LEN..][..len];
            let n = match read_at(fd, data, self.at) {
                Ok(0) => {
                    self.ended = true;
                    self.limit = self.at;
                    // No data of an empty file is read that might have changed, so its size is not
                    // read again.
                    self.after = (self.at == 0 && self.before.size == 0).then_some(self.before);
                    continue;
                }
                Ok(n) => n,
                Err(error) => return Ok(Err(error)),
            };
            if let ObjectVerdict::Reject(why) = inspect(self.at, &data[..n])? {
                return Ok(Ok(ReadProgress::Rejected(why)));
            }
            self.hashed.add(self.at, &data[..n]);
            let header = extent_header(object, self.at, &data[..n])?;
            spare[..EXTENT_HEADER_LEN].copy_from_slice(&header);
            block.grow(EXTENT_HEADER_LEN + n)?;
            self.at += n as u64;
            self.bytes += n as u64;
        }
    }

    /// Offset of the next byte to be read, and the chain of the cells that end there or before.
    pub(super) fn read_so_far(&self) -> (u64, [u8; 32]) {
        (self.at, self.hashed.chain_at(self.at))
    }

    /// Returns the summary of what has been read.
    pub(super) fn summary(&self) -> Summary {
        Summary {
            size: self.at,
            bytes: self.bytes,
            digest: self.hashed.finish(self.at),
        }
    }

    /// Advances `at` to the next data. Returns false at the end of the file.
    fn next_data(&mut self, fd: BorrowedFd<'_>) -> Result<bool> {
        loop {
            if self.at < self.limit && self.sparse && self.at >= self.segment {
                self.find_segment(fd)?;
            }
            if self.limit == u64::MAX && self.at > 0 && !self.rechecked {
                self.rechecked = true;
                // A file that was empty when it was opened, and grows.
                if let size @ 1.. = Meta::from_fd(fd)?.size {
                    self.limit = size;
                }
            }
            if self.at < self.limit {
                return Ok(true);
            }
            if self.ended {
                return Ok(false);
            }
            if self.rechecked {
                if !self.has_more(fd)? {
                    return Ok(false);
                }
                (self.limit, self.segment) = (u64::MAX, u64::MAX);
                (self.sparse, self.after) = (false, None);
                return Ok(true);
            }
            self.rechecked = true;
            let now = Meta::from_fd(fd)?;
            if now.size > self.limit {
                self.limit = now.size;
            } else {
                self.after = Some(now);
            }
        }
    }

    /// Returns true if the file has data after its end according to its size, and its size does not
    /// grow: it is a guess.
    fn has_more(&mut self, fd: BorrowedFd<'_>) -> Result<bool> {
        // An error after the last byte that belongs to the file is not a fault of its data.
        if read_at(fd, &mut [0; 512], self.at).unwrap_or(0) == 0 {
            self.ended = true;
            return Ok(false);
        }
        let now = Meta::from_fd(fd)?;
        self.ended = now.size > self.at;
        if self.ended {
            self.after.get_or_insert(now);
        }
        Ok(!self.ended)
    }

    /// Finds the next data segment of a sparse file at or after `at`.
    fn find_segment(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        match retry_on_intr(|| rustix::fs::seek(fd, SeekFrom::Data(self.at))) {
            Ok(data) => self.at = data.max(self.at).min(self.limit),
            // A hole extends to the end of the file.
            Err(Errno::NXIO) => self.at = self.limit,
            // The file system does not report holes.
            Err(Errno::INVAL | Errno::NOTSUP) => {
                self.sparse = false;
                self.segment = u64::MAX;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.at < self.limit {
            self.segment = match retry_on_intr(|| rustix::fs::seek(fd, SeekFrom::Hole(self.at))) {
                Ok(hole) if hole > self.at => hole,
                // The file was truncated in the meantime: the read will find its end.
                Ok(_) | Err(Errno::NXIO) => self.limit,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Compares the file with what it was when it was opened.
    fn end(&self, fd: BorrowedFd<'_>) -> Result<ReadProgress> {
        let before = &self.before;
        let after = match self.after {
            Some(after) => after,
            None => Meta::from_fd(fd)?,
        };
        let same = before.modified == after.modified && before.changed == after.changed;
        let same = (same && before.size == after.size) || is_synthetic(fd, &after);
        Ok(if !same {
            ReadProgress::Done(ObjectState::Changed)
        } else if self.at < after.size && after.sectors > 0 {
            ReadProgress::Short(after.size)
        } else {
            // A file without storage, as those of sysfs, has a size that means nothing.
            ReadProgress::Done(ObjectState::Whole)
        })
    }
}

/// Returns true if the kernel makes the content of the file when it is read. The times of such a
/// file state when its inode came into memory: on sysfs, asking for its attributes changes them.
fn is_synthetic(fd: BorrowedFd<'_>, meta: &Meta) -> bool {
    const SYSFS: u64 = 0x6265_6572;
    const PROCFS: u64 = 0x9fa0;
    const CGROUP: u64 = 0x0027_e0eb;
    const CGROUP2: u64 = 0x6367_7270;
    const DEBUGFS: u64 = 0x6462_6720;
    const TRACEFS: u64 = 0x7472_6163;
    const SECURITYFS: u64 = 0x7363_6673;
    const CONFIGFS: u64 = 0x6265_6570;
    let synthetic = [
        SYSFS, PROCFS, CGROUP, CGROUP2, DEBUGFS, TRACEFS, SECURITYFS, CONFIGFS,
    ];
    meta.sectors == 0
        && retry_on_intr(|| fstatfs(fd)).is_ok_and(|found| {
            u64::try_from(found.f_type).is_ok_and(|kind| synthetic.contains(&kind))
        })
}

/// Reads until `buf` is full, or the file ends. Returns an error only if no byte was read: the next
/// call meets it again.
fn read_at(fd: BorrowedFd<'_>, buf: &mut [u8], at: u64) -> Result<usize> {
    let mut read = 0;
    while read < buf.len() {
        match rustix::io::pread(fd, &mut buf[read..], at + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(Errno::INTR) => {}
            Err(error) if read == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(read)
}
