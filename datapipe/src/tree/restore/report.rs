//! Report of a restore or a verification: counts, problems, damaged objects and notes.
//!
//! In its own process a tail keeps its own report, which the caller's report [mirrors](Mirror).

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{MAX_DAMAGE_TEXT, MAX_LOG_ENTRIES, MAX_PROBLEM_BYTES};
use crate::stage::mirror::{ChangeHook, Mirror, ReportKind, Update};
use crate::stage::problem_sink::{Calls, ProblemSink};
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
    /// True if the object is damaged or lost. Otherwise it may be complete in the archive.
    pub damaged: bool,
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
    outcome: RestoreOutcome,
    /// Number of bytes of the paths and texts that are kept.
    kept_bytes: usize,
    onward: ProblemSink<RestoreProblem>,
}

/// Contents of a [`RestoreReport`] at one moment: counts, problems, damaged objects and notes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreOutcome {
    /// Number of complete files.
    pub files: u64,
    /// Number of directories.
    pub directories: u64,
    /// Number of symbolic links, hard links, fifos and devices.
    pub others: u64,
    /// Number of data bytes in complete files, holes not counted.
    pub bytes: u64,
    /// Number of problems, including those that `problems` does not keep.
    pub problem_count: u64,
    /// Number of objects that are known to be damaged or lost.
    pub damaged_count: u64,
    /// The first problems, in the order in which they were found: at most [`MAX_LOG_ENTRIES`], and,
    /// together with `damaged`, at most [`MAX_PROBLEM_BYTES`] of paths and texts.
    pub problems: Vec<RestoreProblem>,
    /// Paths of the first [`MAX_LOG_ENTRIES`] objects that are known to be damaged or lost. Each is
    /// also a problem.
    pub damaged: Vec<Vec<u8>>,
    /// Notes on results that are correct but perhaps unexpected, for example owners that only root
    /// can restore. Each appears once.
    pub notes: Vec<String>,
}

impl RestoreOutcome {
    /// Returns true if there is no problem.
    pub fn is_whole(&self) -> bool {
        self.problem_count == 0
    }

    /// The counts, in the order of a message.
    fn counters(&mut self) -> [&mut u64; 6] {
        [
            &mut self.files,
            &mut self.directories,
            &mut self.others,
            &mut self.bytes,
            &mut self.problem_count,
            &mut self.damaged_count,
        ]
    }
}

impl RestoreReport {
    /// Returns a copy of everything reported so far. It is final when the pipe has ended.
    pub fn snapshot(&self) -> RestoreOutcome {
        self.0.lock().outcome.clone()
    }

    /// Returns the counts of a [`snapshot`](Self::snapshot) with empty lists. A caller who shows
    /// progress saves the copies of the lists.
    pub fn counts(&self) -> RestoreOutcome {
        RestoreOutcome {
            problems: Vec::new(),
            damaged: Vec::new(),
            notes: Vec::new(),
            ..self.0.lock().outcome
        }
    }

    /// Calls `sink` for each problem from now on, also for those that the report does not keep. It
    /// replaces the function of an earlier call.
    ///
    /// The calls come from the threads that find problems, possibly several at once, and, for
    /// stages in processes, from the thread that supervises the pipe. All have been made when the
    /// pipe has ended. The stage waits for the function, so it should be quick and must not panic.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::sync::Mutex;
    ///
    /// use datapipe::tree::TreeVerify;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("problems");
    /// let tail = TreeVerify::new();
    /// let file = Mutex::new(std::fs::File::create(path)?);
    /// tail.report().on_problem(move |problem| {
    ///     // A program checks these errors, and syncs the file at the end.
    ///     let _ = writeln!(file.lock().unwrap(), "{problem}");
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_problem(&self, sink: impl Fn(&RestoreProblem) + Send + Sync + 'static) {
        self.0.lock().onward.set_sink(sink);
    }

    /// Counts a complete object, with `bytes` bytes of data.
    pub(super) fn record_object(&self, kind: ObjectKind, bytes: u64) {
        let outcome = &mut self.0.lock().outcome;
        outcome.bytes += bytes;
        match kind {
            ObjectKind::File => outcome.files += 1,
            ObjectKind::Directory => outcome.directories += 1,
            _ => outcome.others += 1,
        }
    }

    /// Takes an object back from the counts: it did not get its name after all.
    pub(super) fn uncount_object(&self, kind: ObjectKind) {
        let outcome = &mut self.0.lock().outcome;
        let count = match kind {
            ObjectKind::File => &mut outcome.files,
            ObjectKind::Directory => &mut outcome.directories,
            _ => &mut outcome.others,
        };
        *count = count.saturating_sub(1);
    }

    /// Records a problem with an object that may be complete in the archive.
    pub(super) fn record_problem(&self, path: &[u8], what: impl Into<String>) {
        let calls = self.0.lock().record_problem(path, what.into(), false);
        calls.run();
    }

    /// Records that an object is damaged or lost, which is also a problem.
    pub(super) fn record_damage(&self, path: &[u8], what: impl Into<String>) {
        let mut inner = self.0.lock();
        let calls = inner.record_problem(path, what.into(), true);
        inner.outcome.damaged_count = inner.outcome.damaged_count.saturating_add(1);
        inner.keep_damaged(path);
        drop(inner);
        calls.run();
    }

    pub(super) fn record_note(&self, what: &str) {
        self.0.lock().record_note(what);
    }
}

/// Kinds of messages: the first byte.
const COUNTS: u8 = 0;
const PROBLEM: u8 = 1;
const DAMAGED: u8 = 2;
const NOTE: u8 = 3;
const DAMAGE: u8 = 4;

/// The part of a report that another report has received.
#[derive(Debug, Default)]
pub(crate) struct RestoreCursor {
    counts: [u64; 6],
    problems: usize,
    damaged: usize,
    notes: usize,
}

impl Mirror for RestoreReport {
    const KIND: ReportKind = ReportKind::Restore;
    /// All that a report holds may be one path.
    const MAX_MESSAGE: usize = MAX_PROBLEM_BYTES + 1024;
    type Cursor = RestoreCursor;

    fn delta(&self, cursor: &mut RestoreCursor) -> Vec<Update> {
        let mut inner = self.0.lock();
        let unsent = inner.onward.take_unsent();
        let outcome = &mut inner.outcome;
        let problems = outcome.problems.iter().skip(cursor.problems);
        let mut updates: Vec<_> = problems.map(RestoreProblem::update).collect();
        updates.extend(unsent.iter().map(RestoreProblem::update));
        let damaged = outcome.damaged.iter().skip(cursor.damaged);
        updates.extend(damaged.map(|path| Update::silent([&[DAMAGED], path.as_slice()].concat())));
        let notes = outcome.notes.iter().skip(cursor.notes);
        updates.extend(notes.map(|note| Update {
            text: note.clone(),
            data: [&[NOTE], note.as_bytes()].concat(),
            is_problem: false,
        }));
        let counts = outcome.counters().map(|count| *count);
        if counts != cursor.counts {
            let mut message = vec![COUNTS];
            message.put_u64s(&counts);
            updates.push(Update::silent(message));
        }
        *cursor = RestoreCursor {
            counts,
            problems: outcome.problems.len(),
            damaged: outcome.damaged.len(),
            notes: outcome.notes.len(),
        };
        updates
    }

    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        let mut message = Bytes::new("a message of a restore", message);
        let mut inner = self.0.lock();
        match message.u8()? {
            COUNTS => {
                let new: [_; 6] = message.u64s()?;
                message.end()?;
                let outcome = &mut inner.outcome;
                for (count, new) in outcome.counters().into_iter().zip(new) {
                    *count = new;
                }
            }
            kind @ (PROBLEM | DAMAGE) => {
                let path = message.prefixed()?;
                // The counts include it.
                let calls = inner.keep_problem(path, message.rest_as_text()?, kind == DAMAGE);
                drop(inner);
                calls.run();
            }
            DAMAGED => inner.keep_damaged(message.rest()),
            NOTE => inner.record_note(&message.rest_as_text()?),
            kind => return Err(message.error(format!("has an unknown kind, {kind}"))),
        }
        Ok(())
    }

    fn reject(&self, error: &DecodeError) {
        self.record_problem(b"", format!("the process sent a malformed report: {error}"));
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

impl RestoreProblem {
    /// Encodes a message.
    fn encode(&self) -> Vec<u8> {
        let mut message = vec![if self.damaged { DAMAGE } else { PROBLEM }];
        message.put_prefixed(&self.path);
        message.put(self.what.as_bytes());
        message
    }

    fn update(&self) -> Update {
        Update::problem(self.to_string(), self.encode())
    }
}

impl ReportInner {
    fn record_problem(
        &mut self,
        path: &[u8],
        what: String,
        damaged: bool,
    ) -> Calls<RestoreProblem> {
        // A process can send any count, and a problem must not make it 0.
        self.outcome.problem_count = self.outcome.problem_count.saturating_add(1);
        self.keep_problem(path, what, damaged)
    }

    fn keep_problem(
        &mut self,
        path: &[u8],
        mut what: String,
        damaged: bool,
    ) -> Calls<RestoreProblem> {
        what.truncate(what.floor_char_boundary(MAX_DAMAGE_TEXT));
        let len = path.len() + what.len();
        let is_kept = self.outcome.problems.len() < MAX_LOG_ENTRIES && self.reserve(len);
        let path = path.to_vec();
        let problem = RestoreProblem {
            path,
            what,
            damaged,
        };
        let passed_on = self.onward.pass_on(&problem, len, is_kept);
        if is_kept {
            self.outcome.problems.push(problem);
        }
        passed_on.calls
    }

    fn keep_damaged(&mut self, path: &[u8]) {
        if self.outcome.damaged.len() < MAX_LOG_ENTRIES && self.reserve(path.len()) {
            self.outcome.damaged.push(path.to_vec());
        }
    }

    fn record_note(&mut self, what: &str) {
        let what = truncate(what, MAX_DAMAGE_TEXT);
        if self.outcome.notes.len() < MAX_LOG_ENTRIES
            && !self.outcome.notes.iter().any(|note| note == what)
        {
            self.outcome.notes.push(what.to_owned());
        }
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
    use crate::stage::mirror;

    #[test]
    fn paths_are_kept_whole_up_to_the_limit() {
        let report = RestoreReport::default();
        let long = vec![b'x'; MAX_PROBLEM_BYTES / 5];
        for _ in 0..4 {
            report.record_damage(&long, "is lost");
        }
        report.record_problem(b"short", "is odd");
        let outcome = report.snapshot();
        assert_eq!((outcome.problem_count, outcome.damaged_count), (5, 4));
        let problems = outcome.problems;
        assert_eq!((problems.len(), outcome.damaged.len()), (3, 2));
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

    #[test]
    fn deltas_transfer_everything_once() {
        let (report, mut cursor) = (full(), RestoreCursor::default());
        let copy = RestoreReport::default();
        let texts = mirror::copy(&report, &mut cursor, &copy);
        assert_eq!(copy.snapshot(), report.snapshot());
        assert_eq!(texts.len(), 4);
        assert!(texts.contains(&"\"a/\\xff\": is lost é".to_owned()));
        assert_eq!(report.delta(&mut cursor), []);
        report.record_damage(b"b", "is lost as well");
        report.record_note("directories were made");
        let updates = report.delta(&mut cursor);
        assert_eq!(updates.len(), 3, "a problem, a path, the counts");
        for Update { data, .. } in updates {
            Mirror::apply(&copy, &data).unwrap();
        }
        assert_eq!(copy.snapshot(), report.snapshot());
    }

    #[test]
    fn function_of_the_caller_receives_every_problem_of_a_process() {
        let (process, report) = (RestoreReport::default(), RestoreReport::default());
        let received = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&received);
        report.on_problem(move |problem| to.lock().push((problem.path.clone(), problem.damaged)));
        let cursor = Arc::new(Mutex::new(RestoreCursor::default()));
        let (from, to, shared) = (process.clone(), report.clone(), Arc::clone(&cursor));
        Mirror::on_urgent_change(
            &process,
            ChangeHook::new(move || {
                mirror::copy(&from, &mut shared.lock(), &to);
            }),
        );
        let all = 2 * MAX_LOG_ENTRIES;
        for number in 0..all {
            let path = number.to_string().into_bytes();
            match number % 2 {
                0 => process.record_problem(&path, "differs"),
                _ => process.record_damage(&path, "is lost"),
            }
        }
        assert!(!received.lock().is_empty(), "sent before the end");
        mirror::copy(&process, &mut cursor.lock(), &report);
        let expected = (0..all).map(|number| (number.to_string().into_bytes(), number % 2 == 1));
        assert!(*received.lock() == expected.collect::<Vec<_>>());
        assert_eq!(report.snapshot(), process.snapshot());
    }

    #[test]
    fn malformed_message_is_a_problem() {
        let malformed: [&[u8]; 6] = [
            b"",
            b"\x09",
            b"\0four",
            b"\x01\xff\0\0\0path",
            b"\x01\0\0\0\0\xff",
            b"\x03\xff\xff",
        ];
        for message in malformed {
            let report = RestoreReport::default();
            report.reject(&Mirror::apply(&report, message).unwrap_err());
            let outcome = report.snapshot();
            assert_eq!((outcome.problem_count, outcome.is_whole()), (1, false));
            let text = outcome.problems[0].to_string();
            assert!(
                text.starts_with("the process sent a malformed report: "),
                "{text}"
            );
        }
    }
}
