//! What became of a restore.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{MAX_DAMAGE_TEXT, MAX_LOG_ENTRIES, MAX_PROBLEM_BYTES};
use crate::wire::ObjectKind;

/// Something that is not as it was archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object's path below the root of the archive; empty if it is not known.
    pub path: Vec<u8>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "\"{}\": ", self.path.escape_ascii())?;
        }
        f.write_str(&self.what)
    }
}

/// What was restored, or verified, so far, and what is wrong with it. Clones are the same report.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    problems: Vec<Problem>,
    problem_count: u64,
    damaged: Vec<Vec<u8>>,
    damaged_count: u64,
    /// Bytes of the paths and texts that are kept.
    kept: usize,
    notes: Vec<String>,
}

impl RestoreReport {
    /// Whole files.
    pub fn files(&self) -> u64 {
        self.0.lock().files
    }

    /// Directories.
    pub fn directories(&self) -> u64 {
        self.0.lock().directories
    }

    /// Symbolic links, hard links, fifos and devices.
    pub fn others(&self) -> u64 {
        self.0.lock().others
    }

    /// Bytes of data in whole files, holes not counted.
    pub fn bytes(&self) -> u64 {
        self.0.lock().bytes
    }

    /// The first problems, in the order in which they were found: at most [`MAX_LOG_ENTRIES`], and, with
    /// [`damaged`](Self::damaged), at most [`MAX_PROBLEM_BYTES`] of paths and texts.
    pub fn problems(&self) -> Vec<Problem> {
        self.0.lock().problems.clone()
    }

    /// How many problems there were, kept or not.
    pub fn problem_count(&self) -> u64 {
        self.0.lock().problem_count
    }

    /// Paths of the first [`MAX_LOG_ENTRIES`] objects that are known to be damaged or lost. Each is also a problem.
    pub fn damaged(&self) -> Vec<Vec<u8>> {
        self.0.lock().damaged.clone()
    }

    /// How many objects are known to be damaged or lost.
    pub fn damaged_count(&self) -> u64 {
        self.0.lock().damaged_count
    }

    /// What is as it had to be, but perhaps not as it was expected: each is said once.
    pub fn notes(&self) -> Vec<String> {
        self.0.lock().notes.clone()
    }

    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.problem_count() == 0
    }

    pub(super) fn done(&self, kind: ObjectKind, bytes: u64) {
        let mut inner = self.0.lock();
        inner.bytes += bytes;
        match kind {
            ObjectKind::File => inner.files += 1,
            ObjectKind::Directory => inner.directories += 1,
            _ => inner.others += 1,
        }
    }

    pub(super) fn problem(&self, path: &[u8], what: impl Into<String>) {
        self.0.lock().problem(path, what.into());
    }

    pub(super) fn damage(&self, path: &[u8], what: impl Into<String>) {
        let mut inner = self.0.lock();
        inner.problem(path, what.into());
        inner.damaged_count += 1;
        if inner.damaged.len() < MAX_LOG_ENTRIES && inner.keeps(path.len()) {
            inner.damaged.push(path.to_vec());
        }
    }

    pub(super) fn note(&self, what: &str) {
        let mut inner = self.0.lock();
        if !inner.notes.iter().any(|note| note == what) {
            inner.notes.push(what.to_owned());
        }
    }
}

impl Inner {
    fn problem(&mut self, path: &[u8], mut what: String) {
        self.problem_count += 1;
        what.truncate(what.floor_char_boundary(MAX_DAMAGE_TEXT));
        if self.problems.len() < MAX_LOG_ENTRIES && self.keeps(path.len() + what.len()) {
            self.problems.push(Problem { path: path.to_vec(), what });
        }
    }

    /// Whether there is room for so many bytes more, which are kept then.
    fn keeps(&mut self, bytes: usize) -> bool {
        let fits = self.kept + bytes <= MAX_PROBLEM_BYTES;
        self.kept += if fits { bytes } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_kept_whole_as_long_as_there_is_room() {
        let report = RestoreReport::default();
        let long = vec![b'x'; MAX_PROBLEM_BYTES / 5];
        for _ in 0..4 {
            report.damage(&long, "is lost");
        }
        report.problem(b"short", "is odd");
        assert_eq!((report.problem_count(), report.damaged_count()), (5, 4));
        let problems = report.problems();
        assert_eq!((problems.len(), report.damaged().len()), (3, 2));
        assert!(problems[0].path == long && problems[2].path == b"short");
    }
}
