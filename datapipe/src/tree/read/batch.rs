//! Consecutive objects of the walk, for one instance to read.
//!
//! The walk opens directories, because it has to list them. It does not open any other name: that
//! is what takes long, and so it is the work of the instance.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::sync::Arc;

use rustix::fs::FileType;

use crate::limits::{MAX_BATCH_OBJECTS, MAX_BATCH_PATHS};

use super::open::{Dir, FileSystem, OpenObject};

/// Consecutive objects of the walk.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Number of the batch in the order of the walk, from 0.
    pub(super) number: u64,
    items: VecDeque<Item>,
    /// Paths of the objects, each followed by a zero byte.
    paths: Vec<u8>,
    /// Upper bound of the descriptors that the items keep open.
    descriptors: usize,
    /// Number of objects the batch should have, and limit of `descriptors`.
    wanted: usize,
    max_descriptors: usize,
}

/// An object to be read.
#[derive(Debug)]
pub(super) struct Item {
    /// Number of the object in the archive.
    pub(super) object: u64,
    pub(super) candidate: Candidate,
    pub(super) path: PathIndex,
}

/// Position of a path in the batch, and of the last name in the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathIndex {
    start: u32,
    name: u32,
    end: u32,
}

/// An object that may belong to the archive, and the way to reach it.
#[derive(Debug)]
pub(super) enum Candidate {
    /// A name that is not open, its directory, and its type according to the directory.
    Name(Arc<Dir>, FileType),
    /// An object that the walk opened and found not to be a directory, and the file system of its
    /// source.
    Opened(Box<OpenObject>, FileSystem),
    /// A directory.
    Directory(Box<OpenObject>),
}

impl Batch {
    /// Empties the batch, to be filled again.
    pub(super) fn begin(&mut self, number: u64, wanted: usize, max_descriptors: usize) {
        self.items.clear();
        self.paths.clear();
        self.descriptors = 0;
        self.number = number;
        self.wanted = wanted.clamp(1, MAX_BATCH_OBJECTS);
        self.max_descriptors = max_descriptors;
    }

    /// Adds an object. There is always space for one.
    pub(super) fn push(&mut self, object: u64, path: &[u8], name_len: usize, candidate: Candidate) {
        // Consecutive names of one directory share its descriptor.
        let opens = match (&candidate, self.items.back().map(|item| &item.candidate)) {
            (Candidate::Name(dir, _), Some(Candidate::Name(last, _))) => !Arc::ptr_eq(dir, last),
            _ => true,
        };
        self.descriptors += usize::from(opens);
        // At most `MAX_BATCH_PATHS` and one more path, so positions fit into 32 bits.
        let start = self.paths.len() as u32;
        let end = start + path.len() as u32;
        self.paths.extend_from_slice(path);
        self.paths.push(0);
        let path = PathIndex {
            start,
            name: end - name_len as u32,
            end,
        };
        self.items.push_back(Item {
            object,
            candidate,
            path,
        });
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

    /// Removes and returns the next object.
    pub(super) fn next(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    pub(super) fn path(&self, path: PathIndex) -> &[u8] {
        &self.paths[path.start as usize..path.end as usize]
    }

    /// Returns the last name of a path.
    pub(super) fn name(&self, path: PathIndex) -> &CStr {
        CStr::from_bytes_with_nul(&self.paths[path.name as usize..=path.end as usize])
            .expect("names of the walk have no zeros")
    }
}
