//! Consecutive objects of the walk, for one instance to read.
//!
//! Names are not opened here: that is the instance's work, for it is what takes long. Directories
//! are, since whoever walks has to list them.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::FileType;

use crate::limits::{MAX_BATCH_OBJECTS, MAX_BATCH_PATHS};

use super::open::{Meta, Opened};

/// A directory that is open for as long as somebody needs it.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) fd: OwnedFd,
    /// That of the source which it is in.
    pub(super) file_system: u64,
}

/// Objects of the walk.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// In the order of the walk, from 0.
    pub(super) number: u64,
    items: VecDeque<Item>,
    /// Each with a zero behind it.
    paths: Vec<u8>,
    /// Descriptors that the items keep open: not fewer than there are.
    descriptors: usize,
    /// Objects that it should have, and descriptors that it may keep open.
    wanted: usize,
    max_descriptors: usize,
}

/// An object that is to be read.
#[derive(Debug)]
pub(super) struct Item {
    /// Its number in the archive.
    pub(super) object: u64,
    pub(super) lead: Lead,
    pub(super) path: Path,
}

/// Where in the batch a path stands, and in it the last name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    start: u32,
    name: u32,
    end: u32,
}

/// How one gets at an object.
#[derive(Debug)]
pub(super) enum Lead {
    /// By its name, which is not opened yet, and what the directory says that it is.
    Name(Arc<Dir>, FileType),
    /// It was opened to see that it is no directory. And the file system of its source.
    Opened(Box<Opened>, u64),
    /// It is a directory.
    Directory(Box<Found>),
}

/// An object, opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) meta: Meta,
    pub(super) fd: Descriptor,
    /// See [`Opened::path_only`].
    pub(super) path_only: bool,
    /// It is a directory whose names could not all be read.
    pub(super) unread: bool,
}

#[derive(Debug)]
pub(super) enum Descriptor {
    Own(OwnedFd),
    /// Of a directory, for what is in it is to be opened.
    Shared(Arc<Dir>),
}

impl Batch {
    /// Empties it, to be filled again.
    pub(super) fn begin(&mut self, number: u64, wanted: usize, max_descriptors: usize) {
        self.items.clear();
        self.paths.clear();
        self.descriptors = 0;
        self.number = number;
        self.wanted = wanted.clamp(1, MAX_BATCH_OBJECTS);
        self.max_descriptors = max_descriptors;
    }

    /// Adds an object. There is always room for one.
    pub(super) fn push(&mut self, object: u64, path: &[u8], name_len: usize, lead: Lead) {
        let opens = match (&lead, self.items.back().map(|item| &item.lead)) {
            (Lead::Name(dir, _), Some(Lead::Name(last, _))) => !Arc::ptr_eq(dir, last),
            _ => true,
        };
        self.descriptors += usize::from(opens);
        // `MAX_BATCH_PATHS` and one path more.
        let start = self.paths.len() as u32;
        let end = start + path.len() as u32;
        self.paths.extend_from_slice(path);
        self.paths.push(0);
        let path = Path {
            start,
            name: end - name_len as u32,
            end,
        };
        self.items.push_back(Item { object, lead, path });
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= self.wanted
            || self.descriptors >= self.max_descriptors
            || self.paths.len() >= MAX_BATCH_PATHS
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The next object.
    pub(super) fn next(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    pub(super) fn path(&self, path: Path) -> &[u8] {
        &self.paths[path.start as usize..path.end as usize]
    }

    /// The last name of a path.
    pub(super) fn name(&self, path: Path) -> &CStr {
        CStr::from_bytes_with_nul(&self.paths[path.name as usize..=path.end as usize])
            .expect("names of the walk have no zeros")
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Shared(dir) => dir.fd.as_fd(),
        }
    }
}
