//! Number and size of the files in a directory.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// Totals of a directory and everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileTotals {
    /// Number of names of objects that are not directories.
    pub(crate) files: u64,
    /// Lengths of all regular files, counted once for each of their names.
    pub(crate) bytes: u64,
}

impl FileTotals {
    /// Counts the objects at and below `path`, which may be a single file. Symbolic links are not
    /// followed.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        if !found.is_dir() {
            return Ok(Self {
                files: 1,
                bytes: if found.is_file() { found.len() } else { 0 },
            });
        }
        let mut all = Self::default();
        for entry in fs::read_dir(path)? {
            let Self { files, bytes } = Self::of(&entry?.path())?;
            all = Self {
                files: all.files + files,
                bytes: all.bytes + bytes,
            };
        }
        Ok(all)
    }
}

impl fmt::Display for FileTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files of {} bytes", self.files, self.bytes)
    }
}
