//! What was read, and what was not.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{MAX_LOG_ENTRIES, MAX_PROBLEM_BYTES};

/// What became of a tree, for whoever runs the pipe. Clones share one content.
#[derive(Clone, Debug, Default)]
pub struct TreeReport(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    outcome: TreeOutcome,
    problems: Vec<Problem>,
    /// Bytes of the paths and texts of those problems.
    kept: usize,
}

/// How much was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeOutcome {
    /// Files that are in the archive, further names of one not counted.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else: symbolic links, further names of hard links, fifos, devices.
    pub others: u64,
    /// Bytes of files that were read; holes are not.
    pub bytes: u64,
    /// Names that a pattern excluded. What is below them is not counted.
    pub excluded: u64,
    /// Everything that was not read as it was, or not at all. All are counted, also those that are not kept.
    pub problems: u64,
    /// What belongs into no archive, or not into this one: [`ProblemKind::is_left_out`]. It is no problem.
    pub left_out: u64,
}

/// One thing that is not in the archive as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Its path in the archive.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: ProblemKind,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// It could not be opened, or listed, or read to its end. What the system said.
    Unreadable(String),
    /// An extended attribute is not in the archive: its name, and why.
    Attribute(Vec<u8>, String),
    /// It was gone, or something else, when it was to be read.
    Vanished,
    /// It changed while it was read.
    Changed,
    /// It is a socket, which nobody can restore.
    Socket,
    /// Another file system begins here, and was left out.
    MountPoint,
    /// It is what the archive is written to.
    Medium,
    /// Its path, or its entry with path and target, is longer than an archive or a block can take: so many bytes.
    /// What is below it is left out too.
    TooLong(usize),
}

impl ProblemKind {
    /// Whether it belongs into no archive, or not into this one, so that nothing is wrong: a socket, another file system, the
    /// archive's own medium.
    pub fn is_left_out(&self) -> bool {
        matches!(self, Self::Socket | Self::MountPoint | Self::Medium)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Attribute(name, why) => {
                write!(f, "attribute \"{}\" is left out: {why}", name.escape_ascii())
            }
            Self::Vanished => f.write_str("vanished before it was read"),
            Self::Changed => f.write_str("changed while it was read"),
            Self::Socket => f.write_str("is a socket: left out"),
            Self::MountPoint => f.write_str("another file system begins here: left out"),
            Self::Medium => f.write_str("is what the archive is written to: left out"),
            Self::TooLong(len) => {
                write!(f, "too long: {len} bytes do not fit; left out, with what is below it")
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.escape_ascii(), self.kind)
    }
}

impl TreeReport {
    /// The numbers so far.
    pub fn outcome(&self) -> TreeOutcome {
        self.0.lock().outcome
    }

    /// The first problems, and what was left out: at most [`MAX_LOG_ENTRIES`], and at most [`MAX_PROBLEM_BYTES`] of paths and texts.
    pub fn problems(&self) -> Vec<Problem> {
        self.0.lock().problems.clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut TreeOutcome)) {
        change(&mut self.0.lock().outcome);
    }

    pub(super) fn problem(&self, path: &[u8], kind: ProblemKind) {
        let mut state = self.0.lock();
        let count = match kind.is_left_out() {
            true => &mut state.outcome.left_out,
            false => &mut state.outcome.problems,
        };
        *count += 1;
        let text = match &kind {
            ProblemKind::Unreadable(why) => why.len(),
            ProblemKind::Attribute(name, why) => name.len() + why.len(),
            _ => 0,
        };
        if state.problems.len() < MAX_LOG_ENTRIES && state.kept + path.len() + text <= MAX_PROBLEM_BYTES {
            state.kept += path.len() + text;
            state.problems.push(Problem { path: path.to_vec(), kind });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_some_are_kept() {
        let report = TreeReport::default();
        for _ in 0..=MAX_LOG_ENTRIES {
            report.problem(b"a\xff", ProblemKind::Vanished);
        }
        assert_eq!(report.outcome().problems, MAX_LOG_ENTRIES as u64 + 1);
        assert_eq!(report.problems().len(), MAX_LOG_ENTRIES);
        assert_eq!(report.problems()[0].to_string(), "a\\xff: vanished before it was read");
        let report = TreeReport::default();
        for _ in 0..3 {
            report.problem(&vec![b'x'; MAX_PROBLEM_BYTES / 2], ProblemKind::Socket);
        }
        assert_eq!(
            (report.outcome().left_out, report.outcome().problems, report.problems().len()),
            (3, 0, 2)
        );
    }
}
