//! Report of a restore or a verification: counts, problems, damaged objects and notes.
//!
//! In its own process the tail keeps a local report and sends what is new of it, as a delta since
//! the last message, to the caller's report, which applies it:
//!
//! ```text
//!   process: delta(cursor) --messages: kind u8 | body--> caller: receiver --> apply
//! ```

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::host::StageMessage;
use crate::limits::{MAX_DAMAGE_TEXT, MAX_LOG_ENTRIES, MAX_PROBLEM_BYTES};
use crate::tree::report_messages::{push_message, put_bytes, receiver, take_bytes};
use crate::wire::ObjectKind;
use crate::wire::codec::{Bytes, DecodeError, Put, truncate};

/// Difference between the archived tree and the restored one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreProblem {
    /// Path of the object below the root of the archive; empty if it is not known.
    pub path: Vec<u8>,
    /// Description of the problem, without the path.
    pub what: String,
}

impl fmt::Display for RestoreProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "\"{}\": ", self.path.escape_ascii())?;
        }
        f.write_str(&self.what)
    }
}

/// Report of what was restored or verified so far, and of its problems. Clones share one report.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport(Arc<Mutex<ReportInner>>);

#[derive(Debug, Default)]
struct ReportInner {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    problems: Vec<RestoreProblem>,
    problem_count: u64,
    damaged: Vec<Vec<u8>>,
    damaged_count: u64,
    /// Number of bytes of the paths and texts that are kept.
    kept_bytes: usize,
    notes: Vec<String>,
}

impl RestoreReport {
    /// Number of complete files.
    pub fn files(&self) -> u64 {
        self.0.lock().files
    }

    /// Number of directories.
    pub fn directories(&self) -> u64 {
        self.0.lock().directories
    }

    /// Number of symbolic links, hard links, fifos and devices.
    pub fn others(&self) -> u64 {
        self.0.lock().others
    }

    /// Number of data bytes in complete files, holes not counted.
    pub fn bytes(&self) -> u64 {
        self.0.lock().bytes
    }

    /// The first problems, in the order in which they were found: at most [`MAX_LOG_ENTRIES`], and,
    /// together with [`damaged`](Self::damaged), at most [`MAX_PROBLEM_BYTES`] of paths and texts.
    pub fn problems(&self) -> Vec<RestoreProblem> {
        self.0.lock().problems.clone()
    }

    /// Number of problems, including those that [`problems`](Self::problems) does not keep.
    pub fn problem_count(&self) -> u64 {
        self.0.lock().problem_count
    }

    /// Paths of the first [`MAX_LOG_ENTRIES`] objects that are known to be damaged or lost. Each is
    /// also a problem.
    pub fn damaged(&self) -> Vec<Vec<u8>> {
        self.0.lock().damaged.clone()
    }

    /// Number of objects that are known to be damaged or lost.
    pub fn damaged_count(&self) -> u64 {
        self.0.lock().damaged_count
    }

    /// Notes on results that are correct but perhaps unexpected, for example owners that only root
    /// can restore. Each appears once.
    pub fn notes(&self) -> Vec<String> {
        self.0.lock().notes.clone()
    }

    /// True if there is no problem.
    pub fn is_whole(&self) -> bool {
        self.problem_count() == 0
    }

    /// Counts a complete object, with `bytes` bytes of data.
    pub(super) fn record_object(&self, kind: ObjectKind, bytes: u64) {
        let mut inner = self.0.lock();
        inner.bytes += bytes;
        match kind {
            ObjectKind::File => inner.files += 1,
            ObjectKind::Directory => inner.directories += 1,
            _ => inner.others += 1,
        }
    }

    /// Records a problem with an object that may be complete in the archive.
    pub(super) fn record_problem(&self, path: &[u8], what: impl Into<String>) {
        self.0.lock().record_problem(path, what.into());
    }

    /// Records that an object is damaged or lost, which is also a problem.
    pub(super) fn record_damage(&self, path: &[u8], what: impl Into<String>) {
        let mut inner = self.0.lock();
        inner.record_problem(path, what.into());
        inner.damaged_count += 1;
        inner.keep_damaged(path);
    }

    pub(super) fn record_note(&self, what: &str) {
        self.0.lock().record_note(what);
    }

    /// Returns the messages that bring a copy at `cursor` up to date, and advances the cursor.
    pub(in crate::tree) fn delta(&self, cursor: &mut RestoreCursor) -> Vec<StageMessage> {
        let (inner, mut messages) = (self.0.lock(), Vec::new());
        for problem in inner.problems.iter().skip(cursor.problems) {
            let mut message = vec![PROBLEM];
            put_bytes(&mut message, &problem.path);
            message.put(problem.what.as_bytes());
            push_message(&mut messages, &message, &problem.to_string());
        }
        for path in inner.damaged.iter().skip(cursor.damaged) {
            push_message(&mut messages, &[&[DAMAGED], path.as_slice()].concat(), "");
        }
        for note in inner.notes.iter().skip(cursor.notes) {
            push_message(&mut messages, &[&[NOTE], note.as_bytes()].concat(), note);
        }
        (cursor.problems, cursor.damaged, cursor.notes) =
            (inner.problems.len(), inner.damaged.len(), inner.notes.len());
        if std::mem::replace(&mut cursor.counts, inner.counts()) != inner.counts() {
            let mut message = vec![COUNTS];
            inner
                .counts()
                .into_iter()
                .for_each(|count| message.put_u64(count));
            push_message(&mut messages, &message, "");
        }
        messages
    }

    /// Returns the receiver of the [deltas](Self::delta) of a report in another process. It applies
    /// them to this report, up to the first that is malformed, which is recorded as a problem.
    pub(in crate::tree) fn receiver(&self) -> impl Fn(&[u8]) + Send + Sync + 'static {
        let (good, bad) = (self.clone(), self.clone());
        receiver(
            move |message| good.apply(message),
            move |error| {
                bad.record_problem(b"", format!("the process sent a malformed report: {error}"));
            },
        )
    }

    /// Applies one message of a delta.
    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        let mut message = Bytes::new("a message of a restore", message);
        let mut inner = self.0.lock();
        match message.u8()? {
            COUNTS => {
                let mut counts = [0; 6];
                for count in &mut counts {
                    *count = message.u64()?;
                }
                message.end()?;
                inner.set_counts(counts);
            }
            PROBLEM => {
                let path = take_bytes(&mut message)?;
                inner.keep_problem(path, rest_as_text(message)?); // the counts include it
            }
            DAMAGED => inner.keep_damaged(message.rest()),
            NOTE => inner.record_note(&rest_as_text(message)?),
            kind => return Err(message.error(format!("has an unknown kind, {kind}"))),
        }
        Ok(())
    }
}

/// Kinds of messages: the first byte.
const COUNTS: u8 = 0;
const PROBLEM: u8 = 1;
const DAMAGED: u8 = 2;
const NOTE: u8 = 3;

/// Position up to which another process has received a report.
#[derive(Debug, Default)]
pub(in crate::tree) struct RestoreCursor {
    counts: [u64; 6],
    problems: usize,
    damaged: usize,
    notes: usize,
}

fn rest_as_text(mut message: Bytes<'_>) -> Result<String, DecodeError> {
    let len = message.rest().len();
    message.text(len)
}

impl ReportInner {
    fn record_problem(&mut self, path: &[u8], what: String) {
        self.problem_count += 1;
        self.keep_problem(path, what);
    }

    fn keep_problem(&mut self, path: &[u8], mut what: String) {
        what.truncate(what.floor_char_boundary(MAX_DAMAGE_TEXT));
        if self.problems.len() < MAX_LOG_ENTRIES && self.reserve(path.len() + what.len()) {
            self.problems.push(RestoreProblem {
                path: path.to_vec(),
                what,
            });
        }
    }

    fn keep_damaged(&mut self, path: &[u8]) {
        if self.damaged.len() < MAX_LOG_ENTRIES && self.reserve(path.len()) {
            self.damaged.push(path.to_vec());
        }
    }

    fn record_note(&mut self, what: &str) {
        let what = truncate(what, MAX_DAMAGE_TEXT);
        if self.notes.len() < MAX_LOG_ENTRIES && !self.notes.iter().any(|note| note == what) {
            self.notes.push(what.to_owned());
        }
    }

    fn counts(&self) -> [u64; 6] {
        [
            self.files,
            self.directories,
            self.others,
            self.bytes,
            self.problem_count,
            self.damaged_count,
        ]
    }

    fn set_counts(&mut self, counts: [u64; 6]) {
        [
            self.files,
            self.directories,
            self.others,
            self.bytes,
            self.problem_count,
            self.damaged_count,
        ] = counts;
    }

    /// Reserves `bytes` of the memory for paths and texts. Returns false if there is no room.
    fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.kept_bytes + bytes <= MAX_PROBLEM_BYTES;
        self.kept_bytes += if fits { bytes } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_kept_whole_up_to_the_limit() {
        let report = RestoreReport::default();
        let long = vec![b'x'; MAX_PROBLEM_BYTES / 5];
        for _ in 0..4 {
            report.record_damage(&long, "is lost");
        }
        report.record_problem(b"short", "is odd");
        assert_eq!((report.problem_count(), report.damaged_count()), (5, 4));
        let problems = report.problems();
        assert_eq!((problems.len(), report.damaged().len()), (3, 2));
        assert!(problems[0].path == long && problems[2].path == b"short");
    }

    /// Returns a report with one of each.
    fn full() -> RestoreReport {
        let report = RestoreReport::default();
        for kind in [
            ObjectKind::File,
            ObjectKind::Directory,
            ObjectKind::File,
            ObjectKind::Fifo,
        ] {
            report.record_object(kind, 1000);
        }
        report.record_problem(b"", "at an unknown place");
        report.record_damage(b"a/\xff", "is lost é");
        report.record_damage(&vec![b'x'; 1 << 20], "is lost too");
        report.record_note("directories were made");
        report
    }

    fn assert_same(copy: &RestoreReport, report: &RestoreReport) {
        let counts = |report: &RestoreReport| report.0.lock().counts();
        assert_eq!(counts(copy), counts(report));
        assert_eq!(
            (copy.problems(), copy.damaged()),
            (report.problems(), report.damaged())
        );
        assert_eq!(copy.notes(), report.notes());
    }

    #[test]
    fn deltas_transfer_everything_once() {
        let (report, mut cursor, copy) =
            (full(), RestoreCursor::default(), RestoreReport::default());
        let receive = copy.receiver();
        let messages = report.delta(&mut cursor);
        messages.iter().for_each(|message| receive(&message.data));
        assert_same(&copy, &report);
        assert_eq!(
            messages
                .iter()
                .filter(|message| !message.text.is_empty())
                .count(),
            4
        );
        assert!(
            messages
                .iter()
                .any(|message| message.text == "\"a/\\xff\": is lost é")
        );
        assert_eq!(report.delta(&mut cursor), []);
        report.record_damage(b"b", "is lost as well");
        report.record_note("directories were made");
        let messages = report.delta(&mut cursor);
        assert_eq!(messages.len(), 3, "a problem, a path, the counts");
        messages.iter().for_each(|message| receive(&message.data));
        assert_same(&copy, &report);
    }

    #[test]
    fn malformed_message_is_a_problem() {
        let malformed: [&[u8]; 6] = [
            b"",
            b"\x05",
            b"\0",
            b"\0\x09",
            b"\0\0four",
            b"\0\x01\xff\0\0\0path",
        ];
        for message in malformed.into_iter().chain([&b"\0\x03\xff\xff"[..]]) {
            let report = RestoreReport::default();
            report.receiver()(message);
            assert_eq!((report.problem_count(), report.is_whole()), (1, false));
            let text = report.problems()[0].to_string();
            assert!(
                text.starts_with("the process sent a malformed report: "),
                "{text}"
            );
        }
    }
}
