//! Options of a restore.

/// Options of a [`TreeRestore`](super::TreeRestore).
///
/// # Examples
///
/// ```
/// use datapipe::tree::RestoreOptions;
///
/// let options = RestoreOptions::default().overwrite(true).threads(2);
/// assert!(options.overwrite && options.sync);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// True to replace existing objects, and to give existing directories the archive's
    /// attributes. A directory is never replaced by another kind of object, nor another kind of
    /// object by a directory. Default: false.
    pub overwrite: bool,
    /// True to have everything on stable storage when the pipe has ended successfully, and no file
    /// under its name before it is. Default: true.
    pub sync: bool,
    /// Number of threads that create files, up to
    /// [`MAX_RESTORE_THREADS`](crate::limits::MAX_RESTORE_THREADS); 0 for one per processor. They
    /// run only while the tail has a block. Default: 0.
    pub threads: usize,
    /// True to restore nothing that gives rights of users, also as root: no owners, setuid and
    /// setgid, file capabilities, other attributes and inode flags that only root may set, and
    /// devices. For a restore with more rights than the user has for whom it is. Default: false.
    pub plain: bool,
    /// True to give objects the numbers of their users and groups that the archive has, also if it
    /// has names. Otherwise an object belongs to the user and group of this machine that have the
    /// names, and to the numbers only if there are none. For a system that is restored below the
    /// destination, which has its own names. Only root restores owners. Default: false.
    pub numeric_owner: bool,
    /// Device and inode of objects that are never replaced, not even with
    /// [`overwrite`](Self::overwrite): the files of the medium that is read, and that of its key.
    /// Default: none.
    pub keep: Vec<(u64, u64)>,
}

impl RestoreOptions {
    /// Sets [`overwrite`](Self::overwrite).
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Sets [`sync`](Self::sync).
    #[must_use]
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Sets [`threads`](Self::threads).
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets [`plain`](Self::plain).
    #[must_use]
    pub fn plain(mut self, plain: bool) -> Self {
        self.plain = plain;
        self
    }

    /// Sets [`numeric_owner`](Self::numeric_owner).
    #[must_use]
    pub fn numeric_owner(mut self, numeric: bool) -> Self {
        self.numeric_owner = numeric;
        self
    }

    /// Adds objects to [`keep`](Self::keep).
    #[must_use]
    pub fn keep(mut self, objects: impl IntoIterator<Item = (u64, u64)>) -> Self {
        self.keep.extend(objects);
        self
    }
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            overwrite: false,
            sync: true,
            threads: 0,
            plain: false,
            numeric_owner: false,
            keep: Vec::new(),
        }
    }
}
