//! The file system, as a trait, so that a test can replace it with one that fails.

use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown,
};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, OFlags, SeekFrom, fadvise};
use rustix::io::retry_on_intr;

use crate::interrupt::{for_each_name, retry};
use crate::planted::check_not_planted;

use super::lock;
use super::{HandleError, Writer};

/// A storage with directories of files: [`FileSystem`], or a twin of it that fails on request.
///
/// No method may change more than its description says. Bytes and names that were not synced may be
/// lost when the machine stops.
pub trait Storage: Debug + Send + 'static {
    /// A file that is open.
    type File: StorageFile;

    /// True if [`StorageFile::lock`] locks. A directory of volumes then has a lock file while it is
    /// written.
    const LOCKS: bool = false;

    /// Creates a new, empty file that only its owner can read, and opens it to write.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if the name is in use, and those of the storage.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens an existing file to write, and keeps its content.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is none, and those of the storage.
    fn open_to_write(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens an existing file to read.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is none, and those of the storage.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Removes a file from its directory.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory that only its owner can enter.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if the name is in use, and those of the storage.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>>;

    /// Returns when the names in a directory are on stable storage.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Gives a file another name in the same directory, in place of a file that has that name, in
    /// one step: after a crash the file has one of the two names.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such file, and those of the storage.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// The path of an existing file without symbolic links.
    ///
    /// # Errors
    ///
    /// Those of the storage. The provided method returns the path as it is.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    /// Two numbers that the file of this name shares with no other file: device and inode. As
    /// [`StorageFile::identity`] returns them for the open file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no such file, and those of the storage. The provided
    /// method returns zeros, for a storage whose files have no identity.
    fn identity(&self, path: &Path) -> io::Result<(u64, u64)> {
        let _ = path;
        Ok((0, 0))
    }

    /// Kind of the object of this name. A symbolic link is not followed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is none, and those of the storage. The provided method
    /// returns [`NameKind::File`], for a storage that has only files.
    fn kind(&self, path: &Path) -> io::Result<NameKind> {
        let _ = path;
        Ok(NameKind::File)
    }

    /// Descriptors of a file and of a directory, in this order, with which another process can use
    /// them.
    ///
    /// # Errors
    ///
    /// [`HandleError`]. The provided method returns [`HandleError::Unsupported`], for a storage
    /// whose files are not files of the kernel.
    fn descriptors(
        &self,
        file: Option<&Self::File>,
        directory: Option<&Path>,
    ) -> Result<Vec<OwnedFd>, HandleError> {
        let _ = (file, directory);
        Err(HandleError::Unsupported)
    }
}

/// Kind of an object that has a name in a [`Storage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameKind {
    /// A regular file.
    File,
    /// A symbolic link.
    SymbolicLink,
    /// A directory, a device or another object.
    Other,
}

/// An open file of a [`Storage`].
pub trait StorageFile: Debug + Send + 'static {
    /// Its length, in bytes.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn len(&self) -> io::Result<u64>;

    /// True if it has no bytes.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads bytes from `offset` on, and returns their number. Fewer than requested are not an
    /// error; 0 is the end of the file.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `parts`, one after the other, from `offset` on, and returns the number of bytes
    /// written. May write fewer than there are.
    ///
    /// # Errors
    ///
    /// Those of the storage. Nothing was written then.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Begins to write `len` bytes from `offset` on to stable storage, without waiting for it, so
    /// that the next [`sync`](Self::sync) has less to wait for. This is advice: nothing is
    /// reported, and a failure is one of that sync. The provided method does nothing.
    fn start_sync(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Locks the file, which is open to write, against other writers, until it is closed. Returns
    /// the writer that has locked it, and `None` if it is locked now.
    ///
    /// # Errors
    ///
    /// Those of the storage. The provided method locks nothing and returns `None`, for a storage
    /// that has one user.
    fn lock(&self) -> io::Result<Option<Writer>> {
        Ok(None)
    }

    /// Device and inode, as [`Storage::identity`] returns them.
    ///
    /// # Errors
    ///
    /// Those of the storage. The provided method returns zeros.
    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, 0))
    }

    /// Number of names of the file: 1 unless it has hard links.
    ///
    /// # Errors
    ///
    /// Those of the storage. The provided method returns 1, for a storage without hard links.
    fn links(&self) -> io::Result<u64> {
        Ok(1)
    }

    /// Gives the file the owner and the permissions of another one, as far as the process may. The
    /// provided method does nothing.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn copy_access(&self, from: &Self) -> io::Result<()>
    where
        Self: Sized,
    {
        let _ = from;
        Ok(())
    }

    /// Returns when content and length are on stable storage.
    ///
    /// # Errors
    ///
    /// Those of the storage. Then any of the bytes written since the last sync may be lost.
    fn sync(&self) -> io::Result<()>;
}

/// The file system of this machine.
///
/// Exhaustive: it has no settings.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct FileSystem;

impl Storage for FileSystem {
    type File = File;

    const LOCKS: bool = true;

    fn create_new(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }

    fn open_to_write(&self, path: &Path) -> io::Result<File> {
        let file = regular(OpenOptions::new().write(true), path)?;
        check_not_planted(path, &file)?;
        Ok(file)
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
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECTORY.bits().cast_signed())
            .open(directory)?;
        list_names(&directory.into())
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        retry(|| fs::canonicalize(path))
    }

    fn identity(&self, path: &Path) -> io::Result<(u64, u64)> {
        retry(|| fs::metadata(path)).map(|found| (found.dev(), found.ino()))
    }

    fn kind(&self, path: &Path) -> io::Result<NameKind> {
        let found = retry(|| fs::symlink_metadata(path))?.file_type();
        Ok(match () {
            () if found.is_file() => NameKind::File,
            () if found.is_symlink() => NameKind::SymbolicLink,
            () => NameKind::Other,
        })
    }

    fn descriptors(
        &self,
        file: Option<&File>,
        directory: Option<&Path>,
    ) -> Result<Vec<OwnedFd>, HandleError> {
        let file = file.map(File::try_clone);
        let files = file.into_iter().chain(directory.map(File::open));
        files.map(|file| Ok(OwnedFd::from(file?))).collect()
    }
}

/// Opens a regular file to read.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true), path)
}

/// Opens a regular file. A pipe or a device of that name must not block the caller.
fn regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    checked_regular(
        options
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(path)?,
    )
}

/// Returns the file if it is a regular one.
pub(super) fn checked_regular(file: File) -> io::Result<File> {
    if retry(|| file.metadata())?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is not a regular file",
    ))
}

impl StorageFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(retry(|| self.metadata())?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, parts, offset)?)
    }

    fn start_sync(&self, offset: u64, len: u64) {
        // Linux begins to write pages that are not needed any more. It drops those that it has
        // written already, and keeps the others.
        let _ = fadvise(self, offset, NonZeroU64::new(len), Advice::DontNeed);
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn lock(&self) -> io::Result<Option<Writer>> {
        lock::lock(self)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        retry(|| self.metadata()).map(|found| (found.dev(), found.ino()))
    }

    fn links(&self) -> io::Result<u64> {
        Ok(retry(|| self.metadata())?.nlink())
    }

    fn copy_access(&self, from: &Self) -> io::Result<()> {
        let old = retry(|| from.metadata())?;
        let own = retry(|| self.metadata())?;
        let is_same = (old.uid(), old.gid()) == (own.uid(), own.gid());
        // Without the owner and group that it was meant for, a permission could widen access.
        let kept = match is_same || fchown(self, Some(old.uid()), Some(old.gid())).is_ok() {
            true => 0o777,
            false => 0o700,
        };
        self.set_permissions(Permissions::from_mode(old.mode() & kept))
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Lists a directory, from its start.
pub(super) fn list_names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    retry_on_intr(|| rustix::fs::seek(directory, SeekFrom::Start(0)))?;
    let mut names = Vec::new();
    for_each_name(directory, |name| {
        names.push(OsStr::from_bytes(name).to_owned());
        ControlFlow::<()>::Continue(())
    })?;
    Ok(names)
}
