//! Report of a head: counts, and the objects that were not read as they were.
//!
//! In its own process a head keeps its own report, which the caller's report [mirrors](Mirror).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::limits::{MAX_LOG_ENTRIES, MAX_PATH, MAX_PROBLEM_BYTES};
use crate::stage::mirror::{ChangeHook, Mirror, ReportKind, Update};
use crate::stage::problem_sink::{Calls, ProblemSink};
use crate::wire::codec::{Bytes, DecodeError, Put};

use super::note::TreeNote;

/// Report on a tree that is read, for the caller who runs the pipe. Clones share one report.
#[derive(Clone, Debug, Default)]
pub struct TreeReport(Arc<Mutex<ReportInner>>);

#[derive(Debug, Default)]
struct ReportInner {
    outcome: TreeOutcome,
    turn_nanos: u64,
    /// Bytes of the paths and texts of the outcome's problems.
    problem_bytes: usize,
    onward: ProblemSink<TreeProblem>,
}

/// Contents of a [`TreeReport`] at one moment: counts and problems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeOutcome {
    /// Files in the archive, each counted once even if it has several names.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else: symbolic links, further names of hard links, fifos, devices.
    pub others: u64,
    /// Bytes of file data that were read. Holes do not count.
    pub bytes: u64,
    /// Names that a pattern excluded. Objects below them are not counted.
    pub excluded: u64,
    /// Objects and attributes that were not read completely and unchanged. All are counted, also
    /// those for which `problems` has no space.
    pub problem_count: u64,
    /// Files that the [inspector](crate::tree::TreeOptions::inspect) rejected. They are part of
    /// `problem_count`.
    pub rejected: u64,
    /// Objects that do not belong in this archive, or in any: [`ProblemKind::is_left_out`]. They
    /// are not part of `problem_count`.
    pub left_out: u64,
    /// The first problems, including objects that were left out: at most [`MAX_LOG_ENTRIES`]
    /// problems, and at most [`MAX_PROBLEM_BYTES`] of paths and texts.
    pub problems: Vec<TreeProblem>,
    /// Remarks on a result that may not be what the user expects. They are not errors.
    pub notes: Vec<TreeNote>,
}

/// An object that is not in the archive as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeProblem {
    /// Path of the object in the archive.
    pub path: Vec<u8>,
    /// Kind of the problem.
    pub kind: ProblemKind,
}

/// Kind of a problem with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The object could not be opened, listed, or read to its end: the error of the system.
    Unreadable(String),
    /// An extended attribute is not in the archive: its name, and the reason. All else of the
    /// object is. Without a name: the attributes could not be listed, and the archive has none.
    Attribute(Vec<u8>, String),
    /// The inode flags of the object could not be read, and are not in the archive: the error of
    /// the system. All else of the object is.
    InodeFlags(String),
    /// The object had been removed or replaced before it could be read.
    Vanished,
    /// The object changed while it was read.
    Changed,
    /// The object is a socket, which cannot be restored.
    Socket,
    /// Another file system is mounted here and was left out.
    MountPoint,
    /// The archive is written to this object.
    Medium,
    /// The path is longer than an archive allows: its length in bytes. Everything below the object
    /// is left out too.
    TooLong(usize),
    /// The inspector rejected the file, for this reason.
    Rejected(String),
    /// The process that reads the tree sent an invalid report, and its further reports are ignored:
    /// the reason. The problem has no path.
    Garbled(String),
}

impl ProblemKind {
    /// Returns true if the object does not belong in this archive or in any, so that leaving it out
    /// is not an error: a socket, another file system, the archive's own medium.
    pub fn is_left_out(&self) -> bool {
        matches!(self, Self::Socket | Self::MountPoint | Self::Medium)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "cannot be read: {why}"),
            Self::Attribute(name, why) if name.is_empty() => {
                write!(
                    f,
                    "its attributes are left out, as they cannot be listed: {why}"
                )
            }
            Self::Attribute(name, why) => {
                write!(
                    f,
                    "attribute \"{}\" is left out: {why}",
                    name.escape_ascii()
                )
            }
            Self::InodeFlags(why) => {
                write!(
                    f,
                    "its inode flags are left out, as they cannot be read: {why}"
                )
            }
            Self::Vanished => f.write_str("vanished before it was read"),
            Self::Changed => f.write_str("changed while it was read"),
            Self::Socket => f.write_str("is a socket: left out"),
            Self::MountPoint => f.write_str("another file system begins here: left out"),
            Self::Medium => f.write_str("is the archive's own medium: left out"),
            Self::TooLong(len) => {
                write!(
                    f,
                    "too long: a path of {len} bytes, but an archive takes {MAX_PATH}; left out \
                     with everything below it"
                )
            }
            Self::Rejected(why) => write!(f, "rejected by inspection: {why}"),
            Self::Garbled(why) => write!(f, "invalid report from its process: {why}"),
        }
    }
}

impl fmt::Display for TreeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            b"the tree"
        } else {
            self.path.as_slice()
        };
        write!(f, "{}: {}", path.escape_ascii(), self.kind)
    }
}

impl TreeOutcome {
    /// Returns true if there is no problem: all objects that belong in the archive are in it, whole
    /// and unchanged.
    pub fn is_whole(&self) -> bool {
        self.problem_count == 0
    }
}

impl TreeReport {
    /// Returns a copy of the counts and problems so far. They are final when the pipe has ended.
    pub fn snapshot(&self) -> TreeOutcome {
        self.0.lock().outcome.clone()
    }

    /// Returns the counts of a [`snapshot`](Self::snapshot) with an empty list of problems. A
    /// caller who shows progress saves the copy of the list.
    pub fn counts(&self) -> TreeOutcome {
        TreeOutcome {
            problems: Vec::new(),
            notes: Vec::new(),
            ..self.0.lock().outcome
        }
    }

    /// Time so far for which instances have held what they share: in its turn an instance commits
    /// what it has read, and no other one can meanwhile. It limits the rate of a tree with any
    /// number of instances. Reading during a turn, and waiting for a buffer, are not part of it.
    pub fn turn_time(&self) -> Duration {
        Duration::from_nanos(self.0.lock().turn_nanos)
    }

    /// Counts time for which an instance has held what all share.
    pub(super) fn count_turn(&self, time: Duration) {
        let nanos = &mut self.0.lock().turn_nanos;
        *nanos = nanos.saturating_add(time.as_nanos() as u64);
    }

    /// Calls `sink` for each problem from now on, including objects that were left out, and those
    /// that the report does not keep. It replaces the function of an earlier call.
    ///
    /// The calls come from the threads that find problems, possibly several at once, and, for
    /// stages in processes, from the thread that supervises the pipe. All have been made when the
    /// pipe has ended. The stage waits for the function, so it should be quick and must not panic.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::sync::Mutex;
    ///
    /// use datapipe::prelude::*;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let (source, list) = (dir.path(), dir.path().join("problems"));
    /// let head = TreeHead::new(&[source], TreeOptions::default())?;
    /// let file = Mutex::new(std::fs::File::create(list)?);
    /// head.report().on_problem(move |problem| {
    ///     if !problem.kind.is_left_out() {
    ///         // A program checks these errors, and syncs the file at the end.
    ///         let _ = writeln!(file.lock().unwrap(), "{problem}");
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_problem(&self, sink: impl Fn(&TreeProblem) + Send + Sync + 'static) {
        self.0.lock().onward.set_sink(sink);
    }

    /// Adds a remark if it is a new one and there is space.
    pub(super) fn note(&self, note: TreeNote) {
        let notes = &mut self.0.lock().outcome.notes;
        if notes.len() < MAX_LOG_ENTRIES && !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// Changes the counts.
    pub(super) fn update(&self, change: impl FnOnce(&mut TreeOutcome)) {
        change(&mut self.0.lock().outcome);
    }

    /// Counts a problem, and records it if there is space.
    pub(super) fn problem(&self, path: &[u8], kind: ProblemKind) {
        let mut inner = self.0.lock();
        let count = match kind.is_left_out() {
            true => &mut inner.outcome.left_out,
            false => &mut inner.outcome.problem_count,
        };
        // A process can send any count, and a problem must not make it 0.
        *count = count.saturating_add(1);
        let calls = inner.record(path, kind);
        drop(inner);
        calls.run();
    }
}

/// The part of a report that another report has received.
#[derive(Debug, Default)]
pub(crate) struct TreeCursor {
    /// Those of the outcome, and the nanoseconds of turns.
    counts: [u64; 9],
    problems: usize,
    notes: usize,
}

impl Mirror for TreeReport {
    const KIND: ReportKind = ReportKind::Tree;
    /// All that a report holds may be one path.
    const MAX_MESSAGE: usize = MAX_PROBLEM_BYTES + 1024;
    type Cursor = TreeCursor;

    /// A problem's message has a text for people, unless the object was left out.
    fn delta(&self, cursor: &mut TreeCursor) -> Vec<Update> {
        let mut inner = self.0.lock();
        let unsent = inner.onward.take_unsent();
        let outcome = &mut inner.outcome;
        let new = outcome.problems.iter().skip(cursor.problems);
        let mut updates: Vec<_> = new.map(TreeProblem::update).collect();
        updates.extend(unsent.iter().map(TreeProblem::update));
        cursor.problems = outcome.problems.len();
        updates.extend(
            outcome
                .notes
                .iter()
                .skip(cursor.notes)
                .map(TreeNote::update),
        );
        cursor.notes = outcome.notes.len();
        let mut counts = [0; 9];
        let (of_outcome, turns) = counts.split_at_mut(8);
        of_outcome.copy_from_slice(&outcome.counters().map(|count| *count));
        turns.copy_from_slice(&[inner.turn_nanos]);
        if std::mem::replace(&mut cursor.counts, counts) != counts {
            let mut message = vec![COUNTS];
            message.put_u64s(&counts);
            updates.push(Update::silent(message));
        }
        updates
    }

    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        let mut message = Bytes::new("a message of a tree's head", message);
        match message.u8()? {
            COUNTS => {
                let new: [_; 9] = message.u64s()?;
                message.end()?;
                let mut inner = self.0.lock();
                for (count, new) in inner.outcome.counters().into_iter().zip(new) {
                    *count = new;
                }
                inner.turn_nanos = new[8];
            }
            PROBLEM => {
                let TreeProblem { path, kind } = TreeProblem::decode(message)?;
                let calls = self.0.lock().record(&path, kind); // the counts include it
                calls.run();
            }
            NOTE => {
                let note = TreeNote::decode(message)?;
                self.note(note);
            }
            kind => return Err(message.error(format!("unknown kind {kind}"))),
        }
        Ok(())
    }

    fn reject(&self, error: &DecodeError) {
        self.problem(b"", ProblemKind::Garbled(error.to_string()));
    }

    fn problem_count(&self) -> u64 {
        self.0.lock().outcome.problem_count
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Problems that the list does not keep are sent when there are many.
    fn on_urgent_change(&self, hook: ChangeHook) {
        self.0.lock().onward.set_send(hook);
    }
}

impl ReportInner {
    /// Records a problem if there is space for it.
    fn record(&mut self, path: &[u8], kind: ProblemKind) -> Calls<TreeProblem> {
        let text = match &kind {
            ProblemKind::Unreadable(why)
            | ProblemKind::InodeFlags(why)
            | ProblemKind::Rejected(why)
            | ProblemKind::Garbled(why) => why.len(),
            ProblemKind::Attribute(name, why) => name.len() + why.len(),
            _ => 0,
        };
        let len = path.len() + text;
        let is_kept = self.outcome.problems.len() < MAX_LOG_ENTRIES
            && self.problem_bytes + len <= MAX_PROBLEM_BYTES;
        let path = path.to_vec();
        let problem = TreeProblem { path, kind };
        let passed_on = self.onward.pass_on(&problem, len, is_kept);
        if is_kept {
            self.problem_bytes += len;
            self.outcome.problems.push(problem);
        }
        passed_on.calls
    }
}

/// Kinds of messages: the first byte.
const COUNTS: u8 = 0;
const PROBLEM: u8 = 1;
pub(super) const NOTE: u8 = 2;

impl TreeOutcome {
    /// The counts, in the order of a message.
    fn counters(&mut self) -> [&mut u64; 8] {
        [
            &mut self.files,
            &mut self.directories,
            &mut self.others,
            &mut self.bytes,
            &mut self.excluded,
            &mut self.problem_count,
            &mut self.left_out,
            &mut self.rejected,
        ]
    }
}

/// Codes of the kinds of problems.
const UNREADABLE: u8 = 0;
const ATTRIBUTE: u8 = 1;
const VANISHED: u8 = 2;
const CHANGED: u8 = 3;
const SOCKET: u8 = 4;
const MOUNT_POINT: u8 = 5;
const MEDIUM: u8 = 6;
const TOO_LONG: u8 = 7;
const GARBLED: u8 = 8;
const REJECTED: u8 = 9;
const INODE_FLAGS: u8 = 10;

impl TreeProblem {
    /// Returns a message, with a text for people unless the object was left out.
    fn update(&self) -> Update {
        let text = if self.kind.is_left_out() {
            String::new()
        } else {
            self.to_string()
        };
        Update::problem(text, self.encode())
    }

    /// Encodes a message.
    fn encode(&self) -> Vec<u8> {
        let mut message = vec![PROBLEM];
        message.put_prefixed(&self.path);
        let put_text = |message: &mut Vec<u8>, kind: u8, text: &str| {
            message.put_u8(kind);
            message.put_prefixed(text.as_bytes());
        };
        match &self.kind {
            ProblemKind::Unreadable(why) => put_text(&mut message, UNREADABLE, why),
            ProblemKind::Attribute(name, why) => {
                put_text(&mut message, ATTRIBUTE, why);
                message.put_prefixed(name);
            }
            ProblemKind::InodeFlags(why) => put_text(&mut message, INODE_FLAGS, why),
            ProblemKind::Vanished => message.put_u8(VANISHED),
            ProblemKind::Changed => message.put_u8(CHANGED),
            ProblemKind::Socket => message.put_u8(SOCKET),
            ProblemKind::MountPoint => message.put_u8(MOUNT_POINT),
            ProblemKind::Medium => message.put_u8(MEDIUM),
            ProblemKind::TooLong(len) => {
                message.put_u8(TOO_LONG);
                message.put_u64(*len as u64);
            }
            ProblemKind::Rejected(why) => put_text(&mut message, REJECTED, why),
            ProblemKind::Garbled(why) => put_text(&mut message, GARBLED, why),
        }
        message
    }

    fn decode(mut message: Bytes<'_>) -> Result<Self, DecodeError> {
        let path = message.prefixed()?.to_vec();
        let kind = match message.u8()? {
            UNREADABLE => ProblemKind::Unreadable(message.prefixed_text()?),
            ATTRIBUTE => {
                let why = message.prefixed_text()?;
                ProblemKind::Attribute(message.prefixed()?.to_vec(), why)
            }
            INODE_FLAGS => ProblemKind::InodeFlags(message.prefixed_text()?),
            VANISHED => ProblemKind::Vanished,
            CHANGED => ProblemKind::Changed,
            SOCKET => ProblemKind::Socket,
            MOUNT_POINT => ProblemKind::MountPoint,
            MEDIUM => ProblemKind::Medium,
            TOO_LONG => ProblemKind::TooLong(usize::try_from(message.u64()?).unwrap_or(usize::MAX)),
            REJECTED => ProblemKind::Rejected(message.prefixed_text()?),
            GARBLED => ProblemKind::Garbled(message.prefixed_text()?),
            kind => return Err(message.error(format!("unknown kind of problem {kind}"))),
        };
        message.end().map(|()| Self { path, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::mirror;

    #[test]
    fn problems_beyond_the_limits_are_counted_only() {
        let report = TreeReport::default();
        for _ in 0..=MAX_LOG_ENTRIES {
            report.problem(b"a\xff", ProblemKind::Vanished);
        }
        let outcome = report.snapshot();
        assert_eq!(outcome.problem_count, MAX_LOG_ENTRIES as u64 + 1);
        assert_eq!(outcome.problems.len(), MAX_LOG_ENTRIES);
        assert_eq!(
            outcome.problems[0].to_string(),
            "a\\xff: vanished before it was read"
        );
        let report = TreeReport::default();
        for _ in 0..3 {
            report.problem(&vec![b'x'; MAX_PROBLEM_BYTES / 2], ProblemKind::Socket);
        }
        let outcome = report.snapshot();
        assert_eq!(
            (
                outcome.left_out,
                outcome.problem_count,
                outcome.problems.len()
            ),
            (3, 0, 2)
        );
    }

    /// Returns a report with one problem of each kind.
    fn full() -> TreeReport {
        let report = TreeReport::default();
        report.update(|outcome| {
            let numbers = [1, 2, 3, 4, 5, 6, u64::MAX / 2, 8];
            outcome
                .counters()
                .into_iter()
                .zip(numbers)
                .for_each(|(count, number)| *count = number);
        });
        let text = || "why é".to_owned();
        let kinds = [
            ProblemKind::Unreadable(text()),
            ProblemKind::Attribute(b"user.\xff".to_vec(), text()),
            ProblemKind::InodeFlags(text()),
            ProblemKind::Vanished,
            ProblemKind::Changed,
            ProblemKind::Socket,
            ProblemKind::MountPoint,
            ProblemKind::Medium,
            ProblemKind::TooLong(77),
            ProblemKind::Rejected(text()),
            ProblemKind::Garbled(text()),
        ];
        kinds
            .into_iter()
            .for_each(|kind| report.problem(b"a/\xfe", kind));
        report.problem(&vec![b'x'; 1 << 20], ProblemKind::Vanished);
        report.note(TreeNote::LinkSource {
            path: b"a\xff".to_vec(),
            dangling: true,
        });
        report.note(TreeNote::UnusedPattern("*.é".to_owned()));
        report.note(TreeNote::NoContent);
        report.note(TreeNote::OwnerName("user 7: why".to_owned()));
        report
    }

    #[test]
    fn delta_transfers_each_change_once() {
        let (report, mut cursor) = (full(), TreeCursor::default());
        let copy = TreeReport::default();
        let texts = mirror::copy(&report, &mut cursor, &copy);
        assert_eq!(texts.len(), 13, "objects left out have no text");
        assert_eq!(texts[0], "a/\\xfe: cannot be read: why é");
        assert_eq!(copy.snapshot(), report.snapshot());
        assert_eq!(report.delta(&mut cursor), []);
        report.problem(b"b", ProblemKind::Socket);
        mirror::copy(&report, &mut cursor, &copy);
        assert_eq!(copy.snapshot(), report.snapshot());
    }

    #[test]
    fn message_cut_short_or_unknown_is_rejected() {
        let updates = full().delta(&mut TreeCursor::default());
        let apply = |message: &[u8]| Mirror::apply(&TreeReport::default(), message);
        for Update { data, .. } in updates.iter().filter(|update| update.data.len() < 200) {
            assert!((0..data.len()).all(|len| apply(&data[..len]).is_err()));
            assert!(apply(&[data, &b"x"[..]].concat()).is_err());
            assert!(apply(data).is_ok());
        }
        for strange in [
            &[9][..],
            &[PROBLEM, 0, 0, 0, 0, 99],
            &[PROBLEM, 255, 255, 255, 255],
        ] {
            assert!(apply(strange).is_err());
        }
        let report = TreeReport::default();
        report.update(|outcome| outcome.problem_count = u64::MAX);
        report.reject(&apply(&[9]).unwrap_err());
        assert_eq!(report.counts().problem_count, u64::MAX);
        let report = TreeReport::default();
        report.reject(&apply(&[9]).unwrap_err());
        let outcome = report.snapshot();
        assert_eq!((outcome.problem_count, outcome.problems.len()), (1, 1));
        let text = outcome.problems[0].to_string();
        assert!(text.starts_with("the tree: invalid report from its process: "));
    }
}
