//! What was read, and what was not.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::host::StageMessage;
use crate::limits::{MAX_LOG_ENTRIES, MAX_PROBLEM_BYTES};
use crate::wire::codec::{Bytes, DecodeError, Put};

use super::notes::{hearer, put_bytes, say, take_bytes, take_text};

/// What became of a tree, for whoever runs the pipe. Clones share one content.
#[derive(Clone, Debug, Default)]
pub struct TreeReport(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    outcome: TreeOutcome,
    problems: Vec<TreeProblem>,
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
    /// Everything that was not read as it was, or not at all. All are counted, also those that are
    /// not kept.
    pub problems: u64,
    /// What belongs into no archive, or not into this one: [`ProblemKind::is_left_out`]. It is no
    /// problem.
    pub left_out: u64,
}

/// One thing that is not in the archive as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeProblem {
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
    /// Its path, or its entry with path and target, is longer than an archive or a block can take:
    /// so many bytes. What is below it is left out too.
    TooLong(usize),
    /// The process that reads the tree has said something of it that makes no sense, and is not
    /// listened to any more: why. It has no path.
    Garbled(String),
}

impl ProblemKind {
    /// Whether it belongs into no archive, or not into this one, so that nothing is wrong: a
    /// socket, another file system, the archive's own medium.
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
            Self::Medium => f.write_str("is what the archive is written to: left out"),
            Self::TooLong(len) => {
                write!(
                    f,
                    "too long: {len} bytes do not fit; left out, with what is below it"
                )
            }
            Self::Garbled(why) => write!(f, "what its process says of it makes no sense: {why}"),
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
    /// The numbers so far.
    pub fn outcome(&self) -> TreeOutcome {
        self.0.lock().outcome
    }

    /// The first problems, and what was left out: at most [`MAX_LOG_ENTRIES`], and at most
    /// [`MAX_PROBLEM_BYTES`] of paths and texts.
    pub fn problems(&self) -> Vec<TreeProblem> {
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
        state.keep(path, kind);
    }

    /// What there is to say that was not `told` yet.
    pub(super) fn news(&self, told: &mut Told) -> Vec<StageMessage> {
        let (state, mut notes) = (self.0.lock(), Vec::new());
        for problem in state.problems.iter().skip(told.problems) {
            let text = if problem.kind.is_left_out() {
                String::new()
            } else {
                problem.to_string()
            };
            say(&mut notes, &problem.message(), &text);
        }
        told.problems = state.problems.len();
        if std::mem::replace(&mut told.outcome, state.outcome) != state.outcome {
            say(&mut notes, &state.outcome.message(), "");
        }
        notes
    }

    /// What hears the [news](Self::news) of a report in another process, and makes them this one's.
    pub(super) fn hearer(&self) -> impl Fn(&[u8]) + Send + Sync + 'static {
        let (heard, wrong) = (self.clone(), self.clone());
        hearer(
            move |message| heard.hear(message),
            move |malformed| wrong.problem(b"", ProblemKind::Garbled(malformed.to_string())),
        )
    }

    fn hear(&self, message: &[u8]) -> Result<(), DecodeError> {
        let mut message = Bytes::new("what its process says", message);
        match message.u8()? {
            OUTCOME => self.0.lock().outcome = TreeOutcome::take(message)?,
            PROBLEM => {
                let TreeProblem { path, kind } = TreeProblem::take(message)?;
                self.0.lock().keep(&path, kind); // it is counted in the outcome
            }
            kind => return Err(message.error(format!("is of an unknown kind, {kind}"))),
        }
        Ok(())
    }
}

/// How much of a report was told to another process.
#[derive(Debug, Default)]
pub(super) struct Told {
    outcome: TreeOutcome,
    problems: usize,
}

impl State {
    /// Keeps a problem if there is room for it.
    fn keep(&mut self, path: &[u8], kind: ProblemKind) {
        let text = match &kind {
            ProblemKind::Unreadable(why) | ProblemKind::Garbled(why) => why.len(),
            ProblemKind::Attribute(name, why) => name.len() + why.len(),
            _ => 0,
        };
        if self.problems.len() < MAX_LOG_ENTRIES
            && self.kept + path.len() + text <= MAX_PROBLEM_BYTES
        {
            self.kept += path.len() + text;
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

/// How kinds of problems are told.
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
        let tell = |message: &mut Vec<u8>, kind: u8, text: &str| {
            message.put_u8(kind);
            put_bytes(message, text.as_bytes());
        };
        match &self.kind {
            ProblemKind::Unreadable(why) => tell(&mut message, UNREADABLE, why),
            ProblemKind::Attribute(name, why) => {
                tell(&mut message, ATTRIBUTE, why);
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
            ProblemKind::Garbled(why) => tell(&mut message, GARBLED, why),
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
            kind => return Err(message.error(format!("names an unknown kind of problem, {kind}"))),
        };
        message.end().map(|()| Self { path, kind })
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
    /// A report with one of each.
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
    fn another_process_hears_all_of_it_and_each_thing_once() {
        let (report, mut told, copy) = (full(), Told::default(), TreeReport::default());
        let hear = copy.hearer();
        let notes = report.news(&mut told);
        notes.iter().for_each(|note| hear(&note.data));
        let texts: Vec<&str> = notes
            .iter()
            .map(|note| note.text.as_str())
            .filter(|text| !text.is_empty())
            .collect();
        assert_eq!(texts.len(), 7, "what is left out is nobody's concern");
        assert_eq!(texts[0], "a/\\xfe: cannot be read: why é");
        assert_eq!(
            (copy.outcome(), copy.problems()),
            (report.outcome(), report.problems())
        );
        assert_eq!(report.news(&mut told), []);
        report.problem(b"b", ProblemKind::Socket);
        report
            .news(&mut told)
            .iter()
            .for_each(|note| hear(&note.data));
        assert_eq!(
            (copy.outcome(), copy.problems()),
            (report.outcome(), report.problems())
        );
    }

    #[test]
    fn what_makes_no_sense_is_a_problem() {
        let notes = full().news(&mut Told::default());
        for note in notes
            .iter()
            .filter(|note| note.data.len() < 200 && note.data[0] == 0)
        {
            for len in 0..note.data.len() {
                let copy = TreeReport::default();
                copy.hearer()(&note.data[..len]);
                assert_eq!((copy.outcome().problems, copy.problems().len()), (1, 1));
                assert!(
                    copy.problems()[0]
                        .to_string()
                        .contains("the tree: what its process says of it makes no sense")
                );
            }
            let copy = TreeReport::default();
            copy.hearer()(&[&note.data[..], b"x"].concat());
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
            copy.hearer()(strange);
            assert!(matches!(copy.problems()[0].kind, ProblemKind::Garbled(_)));
        }
    }
}
