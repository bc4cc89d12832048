//! Files that a stage's processes may open.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::io::retry_on_intr;

/// Files that a stage's process may open: [`Stage::confined`](super::Stage::confined). Descriptors
/// that are passed to the process are not affected.
///
/// ```
/// use datapipe::prelude::*;
/// use datapipe::stage::Confinement;
/// use std::path::PathBuf;
///
/// let spool = PathBuf::from("/var/spool/backup");
/// let tail = TailStage::from(StreamTail::new(std::io::sink()))
///     .in_processes()
///     .confined(Confinement::new().write([spool]));
/// # let _ = tail;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    pub(crate) read: Vec<AllowedPath>,
    pub(crate) write: Vec<AllowedPath>,
}

/// Path that a process may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedPath {
    pub(crate) path: PathBuf,
    /// Device and inode of the file that must be there; `None` for any.
    pub(crate) file: Option<(u64, u64)>,
}

/// Path of a file that was checked. A process opens it only if the same file is there.
///
/// ```
/// use datapipe::stage::{CheckedPath, Confinement};
///
/// let checked = CheckedPath::new("/", std::fs::File::open("/")?)?;
/// assert_eq!(checked.path().to_str(), Some("/"));
/// let confinement = Confinement::new().read_checked([checked]);
/// # let _ = confinement;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedPath {
    path: PathBuf,
    file: (u64, u64),
}

impl CheckedPath {
    /// The path of `file`, which is open, also with `O_PATH`.
    ///
    /// # Errors
    ///
    /// If the system cannot inspect the file.
    pub fn new(path: impl Into<PathBuf>, file: impl AsFd) -> io::Result<Self> {
        let stat = retry_on_intr(|| rustix::fs::fstat(&file))?;
        Ok(Self {
            path: path.into(),
            file: (stat.st_dev, stat.st_ino),
        })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Confinement {
    /// A confinement in which a process may open nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also allows reading files at or beneath `paths`.
    #[must_use]
    pub fn read(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.read.extend(paths.into_iter().map(AllowedPath::any));
        self
    }

    /// Also allows reading and writing files at or beneath `paths`.
    #[must_use]
    pub fn write(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.write.extend(paths.into_iter().map(AllowedPath::any));
        self
    }

    /// As [`read`](Self::read), for files that were checked. A process, replacements included, that
    /// finds another file at such a path is an error of the stage.
    #[must_use]
    pub fn read_checked(mut self, paths: impl IntoIterator<Item = CheckedPath>) -> Self {
        self.read.extend(paths.into_iter().map(AllowedPath::from));
        self
    }

    /// As [`write`](Self::write), for files that were checked, as in
    /// [`read_checked`](Self::read_checked).
    #[must_use]
    pub fn write_checked(mut self, paths: impl IntoIterator<Item = CheckedPath>) -> Self {
        self.write.extend(paths.into_iter().map(AllowedPath::from));
        self
    }
}

impl AllowedPath {
    fn any(path: PathBuf) -> Self {
        Self { path, file: None }
    }
}

impl From<CheckedPath> for AllowedPath {
    fn from(CheckedPath { path, file }: CheckedPath) -> Self {
        let file = Some(file);
        Self { path, file }
    }
}
