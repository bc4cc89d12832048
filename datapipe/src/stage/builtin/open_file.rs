//! An open file of a stream's head or tail: its waits end when the pipe stops.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use crate::pool::Stop;

/// Largest write that does not block if the kernel reports that a pipe can be written: PIPE_BUF of
/// linux/limits.h.
const PIPE_BUF: usize = 4096;
/// Pause after a write that would have blocked although the descriptor was ready.
const RETRY: Duration = Duration::from_millis(1);

/// An open file, pipe, socket or device, which a stage can read or write in another process too.
#[derive(Clone, Debug)]
pub struct OpenFile {
    descriptor: Arc<OwnedFd>,
    may_wait: bool,
}

impl OpenFile {
    pub(crate) fn new(descriptor: impl Into<OwnedFd>) -> Self {
        let descriptor = Arc::new(descriptor.into());
        let file_type =
            retry_on_intr(|| fstat(&*descriptor)).map(|stat| FileType::from_raw_mode(stat.st_mode));
        Self {
            descriptor,
            may_wait: !matches!(
                file_type,
                Ok(FileType::RegularFile | FileType::Directory | FileType::BlockDevice)
            ),
        }
    }

    /// True if a call may wait for another program: unlike a file, a pipe may have no data yet.
    pub(crate) fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Brings a file or a block device to stable storage. Does nothing for a pipe and the like.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.may_wait {
            return Ok(());
        }
        match retry_on_intr(|| rustix::fs::fsync(&self.descriptor)) {
            // A file system that cannot sync.
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The descriptor, for another process.
    pub(crate) fn shared(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.descriptor)
    }

    /// Writes all of `bytes`. Fails if the pipe stops while the descriptor takes no more.
    pub(crate) fn write_all_until_stop(&self, mut bytes: &[u8], stop: &Stop) -> io::Result<()> {
        if !self.may_wait {
            return (&*self).write_all(bytes);
        }
        while !bytes.is_empty() {
            stop.wait_writable(self)?;
            match self.write_without_waiting(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => stop.sleep(RETRY)?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Writes as much as there is room for. The descriptor's own flags stay as they are, because
    /// other programs share them.
    fn write_without_waiting(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        const CURRENT_POSITION: u64 = u64::MAX;
        let slices = [IoSlice::new(bytes)];
        let flags = ReadWriteFlags::NOWAIT;
        match rustix::io::pwritev2(self, &slices, CURRENT_POSITION, flags) {
            // The kernel, or the device, does not have this kind of write.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::SPIPE) => {
                rustix::io::write(self, &bytes[..bytes.len().min(PIPE_BUF)])
            }
            result => result,
        }
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Read for OpenFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self, bytes)?)
    }
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    /// Returns at once: each write goes directly to the kernel.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(*self, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
