//! What a medium asks of a file system, so that a test can put a failing one in its place.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::MediumHandle;

/// A place that has directories of files: [`FileSystem`], or a twin of it that fails as asked.
///
/// No method may change more than it says. What was not synced may be lost when the machine stops.
pub trait Storage: Debug + Send + 'static {
    /// A file that is open.
    type File: StorageFile;

    /// Makes a new, empty file that only its owner can read, open to write.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if there is something of that name, and what the storage
    /// says.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that exists, to write, and leaves its content alone.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is none, and what the storage says.
    fn open_to_write(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that exists, to read.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is none, and what the storage says.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Takes a file out of its directory.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory that only its owner can enter.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if there is something of that name, and what the storage
    /// says.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;

    /// Returns when the names in a directory are on stable storage.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Descriptors of a file and of a directory, in this order, with which another process reaches
    /// them.
    ///
    /// # Errors
    ///
    /// Why there are none, and what to do about it: it is no storage of the kernel's, if nobody
    /// says otherwise.
    fn descriptors(
        &self,
        file: Option<&Self::File>,
        directory: Option<&Path>,
    ) -> Result<Vec<OwnedFd>, String> {
        let _ = (file, directory);
        Err(MediumHandle::NONE.to_owned())
    }
}

/// An open file of a [`Storage`].
pub trait StorageFile: Debug + Send + 'static {
    /// Its length, in bytes.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads bytes from `offset` on; fewer than asked for is no error, 0 is the end of the file.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `parts`, one after the other, from `offset` on. May write fewer bytes than there are.
    ///
    /// # Errors
    ///
    /// What the storage says; nothing was written then.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Returns when content and length are on stable storage.
    ///
    /// # Errors
    ///
    /// What the storage says. Then nobody knows what of the bytes since the last sync is there.
    fn sync(&self) -> io::Result<()>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl Storage for FileSystem {
    type File = File;

    fn create_new(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    fn open_to_write(&self, path: &Path) -> io::Result<File> {
        regular(OpenOptions::new().write(true), path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        regular(OpenOptions::new().read(true), path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name()))
            .collect()
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn descriptors(
        &self,
        file: Option<&File>,
        directory: Option<&Path>,
    ) -> Result<Vec<OwnedFd>, String> {
        let file = file.map(File::try_clone);
        let given = file.into_iter().chain(directory.map(File::open));
        let given: io::Result<_> = given.map(|file| Ok(OwnedFd::from(file?))).collect();
        given.map_err(|error| format!("its medium cannot be given to another process: {error}"))
    }
}

/// Opens a regular file. A pipe or a device of that name must not make us wait.
fn regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    checked_regular(
        options
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(path)?,
    )
}

/// The file, if it is a regular one.
pub(super) fn checked_regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is not a regular file",
    ))
}

impl StorageFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, parts, offset)?)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}
