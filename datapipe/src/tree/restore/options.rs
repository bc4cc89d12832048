//! Options of a restore.

/// How a tree is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Whether what exists is replaced, and existing directories get the archive's attributes. A
    /// directory is never replaced by something else, nor something else by a directory.
    pub overwrite: bool,
    /// Only these paths below the root of the archive, and what is below them; if there are none,
    /// everything.
    pub paths: Vec<Vec<u8>>,
    /// Whether all that was written is on stable storage when the pipe has ended well.
    pub sync: bool,
    /// Threads that make files, up to [`MAX_RESTORE_THREADS`](crate::limits::MAX_RESTORE_THREADS);
    /// 0 is one for each processor. They take part only while the tail has a block.
    pub threads: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            overwrite: false,
            paths: Vec::new(),
            sync: true,
            threads: 0,
        }
    }
}
