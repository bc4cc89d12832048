//! Report of a head: counts, and the objects that were not read as they were.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::host::StageMessage;
use crate::limits::{MAX_LOG_ENTRIES, MAX_PROBLEM_BYTES};
use crate::tree::report_messages::{push_message, put_bytes, receiver, take_bytes, take_text};
use crate::wire::codec::{Bytes, DecodeError, Put};

/// Report on a tree that is read, for the caller who runs the pipe. Clones share one report.
#[derive(Clone, Debug, Default)]
pub struct TreeReport(Arc<Mutex<ReportInner>>);

#[derive(Debug, Default)]
struct ReportInner {
    outcome: TreeOutcome,
    problems: Vec<TreeProblem>,
    /// Bytes of the paths and texts of `problems`.
    problem_bytes: usize,
}

/// Counts of what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Objects and attributes that were not read completely and unchanged. All problems are
    /// counted, also those for which [`TreeReport::problems`] has no space.
    pub problems: u64,
    /// Objects that do not belong in this archive, or in any: [`ProblemKind::is_left_out`]. They do
    /// not count as problems.
    pub left_out: u64,
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
    /// An extended attribute is not in the archive: its name, and the reason.
    Attribute(Vec<u8>, String),
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
    /// The path, or the entry with path and target, is longer than an archive or a block allows:
    /// its length in bytes. Everything below the object is left out too.
    TooLong(usize),
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
            Self::Attribute(name, why) => {
                write!(
                    f,
                    "attribute \"{}\" is left out: {why}",
                    name.escape_ascii()
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
                    "too long: {len} bytes do not fit; left out with everything below it"
                )
            }
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

impl TreeReport {
    /// Returns the counts so far.
    pub fn outcome(&self) -> TreeOutcome {
        self.0.lock().outcome
    }

    /// Returns the first problems, including objects that were left out: at most
    /// [`MAX_LOG_ENTRIES`] problems, and at most [`MAX_PROBLEM_BYTES`] of paths and texts.
    pub fn problems(&self) -> Vec<TreeProblem> {
        self.0.lock().problems.clone()
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
            false => &mut inner.outcome.problems,
        };
        *count += 1;
        inner.record(path, kind);
    }

    /// Returns messages with everything that changed since `cursor`, and advances the cursor.
    ///
    /// A problem's message has a text for people, unless the object was left out.
    pub(in crate::tree) fn delta(&self, cursor: &mut Cursor) -> Vec<StageMessage> {
        let (inner, mut messages) = (self.0.lock(), Vec::new());
        for problem in inner.problems.iter().skip(cursor.problems) {
            let text = if problem.kind.is_left_out() {
                String::new()
            } else {
                problem.to_string()
            };
            push_message(&mut messages, &problem.message(), &text);
        }
        cursor.problems = inner.problems.len();
        if std::mem::replace(&mut cursor.outcome, inner.outcome) != inner.outcome {
            push_message(&mut messages, &inner.outcome.message(), "");
        }
        messages
    }

    /// Returns a handler that applies the messages of a report in another process, its
    /// [delta](Self::delta), to this report.
    pub(super) fn receiver(&self) -> impl Fn(&[u8]) + Send + Sync + 'static {
        let (report, on_error) = (self.clone(), self.clone());
        receiver(
            move |message| report.apply(message),
            move |error| on_error.problem(b"", ProblemKind::Garbled(error.to_string())),
        )
    }

    /// Applies one message.
    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        let mut message = Bytes::new("a message", message);
        match message.u8()? {
            OUTCOME => self.0.lock().outcome = TreeOutcome::take(message)?,
            PROBLEM => {
                let TreeProblem { path, kind } = TreeProblem::take(message)?;
                self.0.lock().record(&path, kind); // its count is part of the outcome
            }
            kind => return Err(message.error(format!("unknown kind {kind}"))),
        }
        Ok(())
    }
}

/// Position in a report up to which it was sent to another process.
#[derive(Debug, Default)]
pub(in crate::tree) struct Cursor {
    outcome: TreeOutcome,
    problems: usize,
}

impl ReportInner {
    /// Records a problem if there is space for it.
    fn record(&mut self, path: &[u8], kind: ProblemKind) {
        let text = match &kind {
            ProblemKind::Unreadable(why) | ProblemKind::Garbled(why) => why.len(),
            ProblemKind::Attribute(name, why) => name.len() + why.len(),
            _ => 0,
        };
        if self.problems.len() < MAX_LOG_ENTRIES
            && self.problem_bytes + path.len() + text <= MAX_PROBLEM_BYTES
        {
            self.problem_bytes += path.len() + text;
            self.problems.push(TreeProblem {
                path: path.to_vec(),
                kind,
            });
        }
    }
}

/// Kinds of messages.
const OUTCOME: u8 = 0;
const PROBLEM: u8 = 1;

impl TreeOutcome {
    fn message(&self) -> Vec<u8> {
        let Self {
            files,
            directories,
            others,
            bytes,
            excluded,
            problems,
            left_out,
        } = *self;
        let mut message = vec![OUTCOME];
        [
            files,
            directories,
            others,
            bytes,
            excluded,
            problems,
            left_out,
        ]
        .into_iter()
        .for_each(|number| message.put_u64(number));
        message
    }

    fn take(mut message: Bytes<'_>) -> Result<Self, DecodeError> {
        let mut number = || message.u64();
        let taken = Self {
            files: number()?,
            directories: number()?,
            others: number()?,
            bytes: number()?,
            excluded: number()?,
            problems: number()?,
            left_out: number()?,
        };
        message.end().map(|()| taken)
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

impl TreeProblem {
    fn message(&self) -> Vec<u8> {
        let mut message = vec![PROBLEM];
        put_bytes(&mut message, &self.path);
        let put_text = |message: &mut Vec<u8>, kind: u8, text: &str| {
            message.put_u8(kind);
            put_bytes(message, text.as_bytes());
        };
        match &self.kind {
            ProblemKind::Unreadable(why) => put_text(&mut message, UNREADABLE, why),
            ProblemKind::Attribute(name, why) => {
                put_text(&mut message, ATTRIBUTE, why);
                put_bytes(&mut message, name);
            }
            ProblemKind::Vanished => message.put_u8(VANISHED),
            ProblemKind::Changed => message.put_u8(CHANGED),
            ProblemKind::Socket => message.put_u8(SOCKET),
            ProblemKind::MountPoint => message.put_u8(MOUNT_POINT),
            ProblemKind::Medium => message.put_u8(MEDIUM),
            ProblemKind::TooLong(len) => {
                message.put_u8(TOO_LONG);
                message.put_u64(*len as u64);
            }
            ProblemKind::Garbled(why) => put_text(&mut message, GARBLED, why),
        }
        message
    }

    fn take(mut message: Bytes<'_>) -> Result<Self, DecodeError> {
        let path = take_bytes(&mut message)?.to_vec();
        let kind = match message.u8()? {
            UNREADABLE => ProblemKind::Unreadable(take_text(&mut message)?),
            ATTRIBUTE => {
                let why = take_text(&mut message)?;
                ProblemKind::Attribute(take_bytes(&mut message)?.to_vec(), why)
            }
            VANISHED => ProblemKind::Vanished,
            CHANGED => ProblemKind::Changed,
            SOCKET => ProblemKind::Socket,
            MOUNT_POINT => ProblemKind::MountPoint,
            MEDIUM => ProblemKind::Medium,
            TOO_LONG => ProblemKind::TooLong(usize::try_from(message.u64()?).unwrap_or(usize::MAX)),
            GARBLED => ProblemKind::Garbled(take_text(&mut message)?),
            kind => return Err(message.error(format!("unknown kind of problem {kind}"))),
        };
        message.end().map(|()| Self { path, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_beyond_the_limits_are_counted_only() {
        let report = TreeReport::default();
        for _ in 0..=MAX_LOG_ENTRIES {
            report.problem(b"a\xff", ProblemKind::Vanished);
        }
        assert_eq!(report.outcome().problems, MAX_LOG_ENTRIES as u64 + 1);
        assert_eq!(report.problems().len(), MAX_LOG_ENTRIES);
        assert_eq!(
            report.problems()[0].to_string(),
            "a\\xff: vanished before it was read"
        );
        let report = TreeReport::default();
        for _ in 0..3 {
            report.problem(&vec![b'x'; MAX_PROBLEM_BYTES / 2], ProblemKind::Socket);
        }
        assert_eq!(
            (
                report.outcome().left_out,
                report.outcome().problems,
                report.problems().len()
            ),
            (3, 0, 2)
        );
    }

    /// Returns a report with one problem of each kind.
    fn full() -> TreeReport {
        let report = TreeReport::default();
        report.update(|outcome| {
            *outcome = TreeOutcome {
                files: 1,
                directories: 2,
                others: 3,
                bytes: 4,
                excluded: 5,
                problems: 6,
                left_out: u64::MAX / 2,
            }
        });
        let text = || "why é".to_owned();
        let kinds = [
            ProblemKind::Unreadable(text()),
            ProblemKind::Attribute(b"user.\xff".to_vec(), text()),
            ProblemKind::Vanished,
            ProblemKind::Changed,
            ProblemKind::Socket,
            ProblemKind::MountPoint,
            ProblemKind::Medium,
            ProblemKind::TooLong(77),
            ProblemKind::Garbled(text()),
        ];
        kinds
            .into_iter()
            .for_each(|kind| report.problem(b"a/\xfe", kind));
        report.problem(&vec![b'x'; 1 << 20], ProblemKind::Vanished);
        report
    }

    #[test]
    fn delta_transfers_each_change_once() {
        let (report, mut cursor, copy) = (full(), Cursor::default(), TreeReport::default());
        let apply = copy.receiver();
        let messages = report.delta(&mut cursor);
        messages.iter().for_each(|message| apply(&message.data));
        let texts: Vec<&str> = messages
            .iter()
            .map(|message| message.text.as_str())
            .filter(|text| !text.is_empty())
            .collect();
        assert_eq!(texts.len(), 7, "objects left out have no text");
        assert_eq!(texts[0], "a/\\xfe: cannot be read: why é");
        assert_eq!(
            (copy.outcome(), copy.problems()),
            (report.outcome(), report.problems())
        );
        assert_eq!(report.delta(&mut cursor), []);
        report.problem(b"b", ProblemKind::Socket);
        report
            .delta(&mut cursor)
            .iter()
            .for_each(|message| apply(&message.data));
        assert_eq!(
            (copy.outcome(), copy.problems()),
            (report.outcome(), report.problems())
        );
    }

    #[test]
    fn invalid_message_is_reported_as_a_problem() {
        let messages = full().delta(&mut Cursor::default());
        for message in messages
            .iter()
            .filter(|message| message.data.len() < 200 && message.data[0] == 0)
        {
            for len in 0..message.data.len() {
                let copy = TreeReport::default();
                copy.receiver()(&message.data[..len]);
                assert_eq!((copy.outcome().problems, copy.problems().len()), (1, 1));
                assert!(
                    copy.problems()[0]
                        .to_string()
                        .contains("the tree: invalid report from its process")
                );
            }
            let copy = TreeReport::default();
            copy.receiver()(&[&message.data[..], b"x"].concat());
            assert!(
                matches!(copy.problems()[0].kind, ProblemKind::Garbled(_)),
                "bytes too many"
            );
        }
        for strange in [
            &[0, 9][..],
            &[0, PROBLEM, 0, 0, 0, 0, 99],
            &[0, PROBLEM, 255, 255, 255, 255],
        ] {
            let copy = TreeReport::default();
            copy.receiver()(strange);
            assert!(matches!(copy.problems()[0].kind, ProblemKind::Garbled(_)));
        }
    }
}
