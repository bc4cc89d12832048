//! An open directory of the destination, and the properties of new files in it.
//!
//! ```text
//!   made by this restore   its names are free, but for those that this restore has given
//!   first file in it       owner and attributes that a new file gets here: the same for the next
//! ```
//!
//! Both save system calls for each file. Neither is needed for a restore to be right: no name is
//! given over another object, the owner that a file has in the end is compared with what it must
//! have, and in a directory that existed before, attributes are looked for in each file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

/// A directory below the destination, or the destination itself.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    fd: Arc<OwnedFd>,
    /// True if this restore has made it.
    is_new: bool,
    /// Properties of the first file that this thread has created in it.
    new_file: OnceLock<NewFile>,
}

/// Properties that a file has when it was created, and nothing was set yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewFile {
    /// User and group.
    pub(super) owner: (u32, u32),
    /// True if it has extended attributes, for example a list that it inherits.
    pub(super) has_attributes: bool,
}

impl OpenDirectory {
    /// A directory that existed before, or may have.
    pub(super) fn existing(fd: Arc<OwnedFd>) -> Self {
        Self {
            fd,
            is_new: false,
            new_file: OnceLock::new(),
        }
    }

    /// A directory that this restore has made.
    pub(super) fn new(fd: Arc<OwnedFd>) -> Self {
        Self {
            is_new: true,
            ..Self::existing(fd)
        }
    }

    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Properties of a new file, once one was created.
    pub(super) fn new_file(&self) -> Option<NewFile> {
        self.new_file.get().copied()
    }

    /// Notes the properties of the first file.
    pub(super) fn set_new_file(&self, new_file: NewFile) {
        let _ = self.new_file.set(new_file);
    }
}

impl AsFd for OpenDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
