//! A storage below one open directory descriptor.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, Mode, OFlags, fstat, fsync, mkdirat, openat, renameat, stat, statat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};

use super::Storage;
use super::storage::{checked_regular, list_names};
use super::writer::directory_of;

/// The directory that contains the files of a medium. A file is found by its name in it; the rest
/// of a path only shows if the directory was moved.
#[derive(Debug)]
pub(super) struct DirStorage(OwnedFd);

impl DirStorage {
    pub(super) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Checks that the directory of a file is still this one, as far as this process can see it.
    fn check_directory(&self, file: &Path) -> io::Result<()> {
        let own = retry_on_intr(|| fstat(&self.0))?;
        match retry_on_intr(|| stat(directory_of(file))) {
            Ok(found) if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino) => {
                Err(ErrorKind::NotFound.into())
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Err(ErrorKind::NotFound.into()),
            // A process that may not look there relies on its descriptor.
            _ => Ok(()),
        }
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let mode = Mode::RUSR | Mode::WUSR;
        let (name, flags) = (name_of(path)?, flags | OFlags::CLOEXEC);
        Ok(retry_on_intr(|| openat(&self.0, name, flags, mode))?.into())
    }
}

impl Storage for DirStorage {
    type File = File;

    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.open_at(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    fn open_to_write(&self, path: &Path) -> io::Result<File> {
        checked_regular(self.open_at(path, OFlags::WRONLY | OFlags::NONBLOCK)?)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        checked_regular(self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(unlinkat(&self.0, name_of(path)?, AtFlags::empty())?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat(&self.0, name_of(from)?, &self.0, name_of(to)?)?)
    }

    fn identity(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.check_directory(path)?;
        let name = name_of(path)?;
        let found = retry_on_intr(|| statat(&self.0, name, AtFlags::empty()))?;
        Ok((found.st_dev, found.st_ino))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        Ok(mkdirat(&self.0, name_of(path)?, Mode::RWXU)?)
    }

    /// Lists the directory itself; the path is not used.
    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        list_names(&self.0)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fsync(&self.0))?)
    }
}

/// The file name of a path.
fn name_of(path: &Path) -> io::Result<&OsStr> {
    path.file_name()
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it has no file name"))
}
