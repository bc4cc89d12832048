//! What became of a restore.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::host::StageMessage;
use crate::limits::{MAX_DAMAGE_TEXT, MAX_LOG_ENTRIES, MAX_PROBLEM_BYTES};
use crate::tree::notes::{hearer, put_bytes, say, take_bytes};
use crate::wire::ObjectKind;
use crate::wire::codec::{Bytes, DecodeError, Put, truncate};

/// Something that is not as it was archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreProblem {
    /// The object's path below the root of the archive; empty if it is not known.
    pub path: Vec<u8>,
    /// What is wrong.
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

/// What was restored, or verified, so far, and what is wrong with it. Clones are the same report.
#[derive(Clone, Debug, Default)]
pub struct RestoreReport(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    problems: Vec<RestoreProblem>,
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

    /// The first problems, in the order in which they were found: at most [`MAX_LOG_ENTRIES`], and,
    /// with [`damaged`](Self::damaged), at most [`MAX_PROBLEM_BYTES`] of paths and texts.
    pub fn problems(&self) -> Vec<RestoreProblem> {
        self.0.lock().problems.clone()
    }

    /// How many problems there were, kept or not.
    pub fn problem_count(&self) -> u64 {
        self.0.lock().problem_count
    }

    /// Paths of the first [`MAX_LOG_ENTRIES`] objects that are known to be damaged or lost. Each is
    /// also a problem.
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
        inner.keep_damaged(path);
    }

    pub(super) fn note(&self, what: &str) {
        self.0.lock().note(what);
    }

    /// What there is to say that was not `told` yet.
    pub(in crate::tree) fn news(&self, told: &mut Told) -> Vec<StageMessage> {
        let (inner, mut notes) = (self.0.lock(), Vec::new());
        for problem in inner.problems.iter().skip(told.problems) {
            let mut message = vec![PROBLEM];
            put_bytes(&mut message, &problem.path);
            message.put(problem.what.as_bytes());
            say(&mut notes, &message, &problem.to_string());
        }
        for path in inner.damaged.iter().skip(told.damaged) {
            say(&mut notes, &[&[DAMAGED], path.as_slice()].concat(), "");
        }
        for note in inner.notes.iter().skip(told.notes) {
            say(&mut notes, &[&[NOTE], note.as_bytes()].concat(), note);
        }
        (told.problems, told.damaged, told.notes) =
            (inner.problems.len(), inner.damaged.len(), inner.notes.len());
        if std::mem::replace(&mut told.counts, inner.counts()) != inner.counts() {
            let mut message = vec![COUNTS];
            inner
                .counts()
                .into_iter()
                .for_each(|count| message.put_u64(count));
            say(&mut notes, &message, "");
        }
        notes
    }

    /// What hears the [news](Self::news) of a report in another process, and makes them this one's.
    pub(in crate::tree) fn hearer(&self) -> impl Fn(&[u8]) + Send + Sync + 'static {
        let (heard, wrong) = (self.clone(), self.clone());
        let garbled = |malformed: &DecodeError| {
            format!("what is said by the process makes no sense: {malformed}")
        };
        hearer(
            move |message| heard.hear(message),
            move |malformed| wrong.problem(b"", garbled(malformed)),
        )
    }

    fn hear(&self, message: &[u8]) -> Result<(), DecodeError> {
        let mut message = Bytes::new("a note of a restore", message);
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
                inner.keep_problem(path, rest_as_text(message)?); // it is among the counts
            }
            DAMAGED => inner.keep_damaged(message.rest()),
            NOTE => inner.note(&rest_as_text(message)?),
            kind => return Err(message.error(format!("is of an unknown kind, {kind}"))),
        }
        Ok(())
    }
}

/// Kinds of messages.
const COUNTS: u8 = 0;
const PROBLEM: u8 = 1;
const DAMAGED: u8 = 2;
const NOTE: u8 = 3;

/// How much of a report was told to another process.
#[derive(Debug, Default)]
pub(in crate::tree) struct Told {
    counts: [u64; 6],
    problems: usize,
    damaged: usize,
    notes: usize,
}

fn rest_as_text(mut message: Bytes<'_>) -> Result<String, DecodeError> {
    let len = message.rest().len();
    message.text(len)
}

impl Inner {
    fn problem(&mut self, path: &[u8], what: String) {
        self.problem_count += 1;
        self.keep_problem(path, what);
    }

    fn keep_problem(&mut self, path: &[u8], mut what: String) {
        what.truncate(what.floor_char_boundary(MAX_DAMAGE_TEXT));
        if self.problems.len() < MAX_LOG_ENTRIES && self.keeps(path.len() + what.len()) {
            self.problems.push(RestoreProblem {
                path: path.to_vec(),
                what,
            });
        }
    }

    fn keep_damaged(&mut self, path: &[u8]) {
        if self.damaged.len() < MAX_LOG_ENTRIES && self.keeps(path.len()) {
            self.damaged.push(path.to_vec());
        }
    }

    fn note(&mut self, what: &str) {
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
    /// A report with one of each.
    fn full() -> RestoreReport {
        let report = RestoreReport::default();
        for kind in [
            ObjectKind::File,
            ObjectKind::Directory,
            ObjectKind::File,
            ObjectKind::Fifo,
        ] {
            report.done(kind, 1000);
        }
        report.problem(b"", "nobody knows where");
        report.damage(b"a/\xff", "is lost é");
        report.damage(&vec![b'x'; 1 << 20], "is lost too");
        report.note("directories were made");
        report
    }

    fn same(copy: &RestoreReport, report: &RestoreReport) {
        let counts = |report: &RestoreReport| report.0.lock().counts();
        assert_eq!(counts(copy), counts(report));
        assert_eq!(
            (copy.problems(), copy.damaged()),
            (report.problems(), report.damaged())
        );
        assert_eq!(copy.notes(), report.notes());
    }

    #[test]
    fn another_process_hears_all_of_it_and_each_thing_once() {
        let (report, mut told, copy) = (full(), Told::default(), RestoreReport::default());
        let hear = copy.hearer();
        let notes = report.news(&mut told);
        notes.iter().for_each(|note| hear(&note.data));
        same(&copy, &report);
        assert_eq!(notes.iter().filter(|note| !note.text.is_empty()).count(), 4);
        assert!(
            notes
                .iter()
                .any(|note| note.text == "\"a/\\xff\": is lost é")
        );
        assert_eq!(report.news(&mut told), []);
        report.damage(b"b", "is lost as well");
        report.note("directories were made");
        let notes = report.news(&mut told);
        assert_eq!(notes.len(), 3, "a problem, a path, the counts");
        notes.iter().for_each(|note| hear(&note.data));
        same(&copy, &report);
    }

    #[test]
    fn what_makes_no_sense_is_a_problem() {
        let strange: [&[u8]; 6] = [
            b"",
            b"\x05",
            b"\0",
            b"\0\x09",
            b"\0\0four",
            b"\0\x01\xff\0\0\0path",
        ];
        for note in strange.into_iter().chain([&b"\0\x03\xff\xff"[..]]) {
            let report = RestoreReport::default();
            report.hearer()(note);
            assert_eq!((report.problem_count(), report.is_whole()), (1, false));
            let text = report.problems()[0].to_string();
            assert!(
                text.starts_with("what is said by the process makes no sense: "),
                "{text}"
            );
        }
    }
}
