//! Outcome of a job: for people line by line, and for programs as one JSON object.

use std::borrow::Cow;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use datapipe::prelude::*;
use datapipe::stage::DamageEntry;
use datapipe::tree::{RestoreProblem, RestoreReport, TreeProblem, TreeReport};
use serde::{Serialize, Serializer};

use crate::console::Failure;
use crate::errors_file::ErrorsFile;
use crate::format::escape;
use crate::sessions::{SessionEntry, SourceEntry};

/// Outcome of a job. Serialized, it is the object that `--json` prints.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// `backup`, `restore`, `verify`, `list`, `sessions` or `copy`.
    pub job: &'static str,
    /// `ok`; `incomplete` if there are errors; `failed`.
    pub status: &'static str,
    /// Exit code of the program.
    pub exit: u8,
    /// Reason of a failure.
    pub message: Option<String>,
    /// Name of the archive.
    pub archive: Option<String>,
    /// SHA-256 of the identity of the archive's header, in hexadecimal digits: no other archive has
    /// it.
    pub header_hash: Option<String>,
    /// Time at which the archive was begun, as its own header says, in seconds since 1970. Jobs
    /// that read one archive have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<i64>,
    /// True if each block was authenticated with the archive's key; false if the archive is not
    /// encrypted, or was read without its key. Jobs that read an archive have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<bool>,
    /// The session from which the archive was copied, if it is a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<SourceEntry>,
    /// The archives that were copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<Vec<CopyEntry>>,
    /// Sessions and archives of the medium, if they are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<SessionEntry>>,
    /// Number of intact files.
    pub files: u64,
    /// Number of directories.
    pub directories: u64,
    /// Number of other objects: links, further names of files, fifos, devices.
    pub others: u64,
    /// Number of bytes that the pipe's head has sent.
    pub bytes_in: u64,
    /// Number of bytes that the pipe's tail has received.
    pub bytes_out: u64,
    /// Duration of the program in seconds.
    pub seconds: f64,
    /// The stage that limited the pipe.
    pub limiting_stage: Option<String>,
    /// Seconds in which one reader of a tree committed what it had read, and no other one could.
    pub turn_seconds: Option<f64>,
    /// The first errors, as many as are kept.
    pub errors: Vec<ProblemEntry>,
    /// Number of all errors, including those not kept.
    pub errors_total: u64,
    /// The first objects that were left out of the archive, as many as are kept.
    pub left_out: Vec<ProblemEntry>,
    /// Number of all objects that were left out, including those not kept.
    pub left_out_total: u64,
    /// Remarks on results that are correct but may be unexpected.
    pub notes: Vec<String>,
    /// Every error, for `--errors-to`.
    #[serde(skip)]
    pub errors_to: ErrorsFile,
    /// False if a pipe of the job has ended as incomplete. Errors that the program itself adds,
    /// such as a path that is not in the archive, are in `errors_total` only.
    #[serde(skip)]
    pub is_complete: bool,
    #[serde(skip)]
    began: Instant,
}

impl Summary {
    /// Makes the summary of a job that begins now.
    pub fn new(job: &'static str) -> Self {
        Self {
            job,
            status: "ok",
            exit: 0,
            message: None,
            archive: None,
            header_hash: None,
            created: None,
            authenticated: None,
            copy_of: None,
            copies: None,
            sessions: None,
            files: 0,
            directories: 0,
            others: 0,
            bytes_in: 0,
            bytes_out: 0,
            seconds: 0.0,
            limiting_stage: None,
            turn_seconds: None,
            errors: Vec::new(),
            errors_total: 0,
            left_out: Vec::new(),
            left_out_total: 0,
            notes: Vec::new(),
            errors_to: ErrorsFile::default(),
            is_complete: true,
            began: Instant::now(),
        }
    }

    /// Adds the final status of the pipe.
    pub fn add_status(&mut self, status: &Status) {
        (self.bytes_in, self.bytes_out) = (status.bytes_in(), status.bytes_out());
        self.limiting_stage = status.limit().map(|limit| limit.stage);
    }

    /// Adds the outcome of reading a tree.
    pub fn add_tree(&mut self, report: &TreeReport) {
        let outcome = report.snapshot();
        (self.files, self.directories, self.others) =
            (outcome.files, outcome.directories, outcome.others);
        self.turn_seconds = Some(report.turn_time().as_secs_f64());
        for TreeProblem { path, kind, .. } in outcome.problems {
            let what = kind.to_string();
            let list = if kind.is_left_out() {
                &mut self.left_out
            } else {
                &mut self.errors
            };
            list.push(ProblemEntry { path, what });
        }
        (self.errors_total, self.left_out_total) = (outcome.problem_count, outcome.left_out);
        self.notes
            .extend(outcome.notes.iter().map(ToString::to_string));
    }

    /// Adds the outcome of reading a stream.
    pub fn add_stream(&mut self) {
        self.files = 1;
        if self.bytes_in == 0 {
            let note = "standard input had no data: the archive has an empty stream";
            self.notes.push(note.to_owned());
        }
    }

    /// Adds the outcome of restoring or verifying a tree.
    pub fn add_restored(&mut self, report: &RestoreReport) {
        let outcome = report.snapshot();
        (self.files, self.directories, self.others) =
            (outcome.files, outcome.directories, outcome.others);
        for RestoreProblem { path, what, .. } in outcome.problems {
            self.errors.push(ProblemEntry { path, what });
        }
        self.errors_total = self.errors_total.saturating_add(outcome.problem_count);
        self.notes.extend(outcome.notes);
    }

    /// Adds the damage that was found on the medium.
    pub fn add_damage(&mut self, log: &DamageLog) {
        let problem = |damage: DamageEntry| ProblemEntry {
            path: Vec::new(),
            what: damage.to_string(),
        };
        let outcome = log.snapshot();
        self.errors.extend(outcome.entries.into_iter().map(problem));
        self.errors_total = self.errors_total.saturating_add(outcome.count);
    }

    /// Adds one error of a `kind`. An empty path means the archive as a whole.
    pub fn add_error(
        &mut self,
        path: impl Into<Vec<u8>>,
        kind: &'static str,
        what: impl Into<String>,
    ) {
        let (path, what) = (path.into(), what.into());
        self.errors_to.add("errors", &path, kind, &what);
        self.errors.push(ProblemEntry { path, what });
        self.errors_total = self.errors_total.saturating_add(1);
    }

    /// Brings the list of errors to stable storage. A job whose list is incomplete has failed, as
    /// the user would take the list for all that is not whole.
    pub fn finish_errors(&mut self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        let total = self.errors_total.saturating_add(self.left_out_total);
        match (self.errors_to.finish(total), outcome) {
            (Ok(note), outcome) => {
                self.notes.extend(note);
                outcome
            }
            (Err(message), Ok(())) => Err(Failure::new(message)),
            (Err(message), Err(failure)) => Err(failure.with_detail(&message)),
        }
    }

    /// Records the end of the job.
    pub fn finish(&mut self, exit: u8, message: Option<String>) {
        self.seconds = self.began.elapsed().as_secs_f64();
        (self.exit, self.message) = (exit, message);
        self.status = match exit {
            0 => "ok",
            3 => "incomplete",
            _ => "failed",
        };
        // Errors of files come first, because users look for them.
        self.errors.sort_by_key(|problem| problem.path.is_empty());
    }
}

/// An archive that was copied.
#[derive(Debug, Serialize)]
pub struct CopyEntry {
    /// Name of the archive; `None` if it is encrypted, or damaged.
    pub name: Option<String>,
    /// SHA-256 of the identity of its header, in hexadecimal digits.
    pub header_hash: String,
    /// Time at which the archive was begun, not copied, in seconds since 1970.
    pub created: i64,
    /// Number of blocks in the copy, besides the first and the last one.
    pub blocks: u64,
    /// `complete` or `incomplete`, as its source is.
    pub state: &'static str,
}

/// An object that has an error, or was left out.
#[derive(Clone, Debug)]
pub struct ProblemEntry {
    /// Path in the archive; empty if the problem does not concern a single object.
    pub path: Vec<u8>,
    /// Description of the problem.
    pub what: String,
}

impl std::fmt::Display for ProblemEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", escape(&self.path))?;
        }
        f.write_str(&self.what)
    }
}

impl Serialize for ProblemEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            path: Option<Cow<'a, str>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            path_b64: Option<String>,
            what: &'a str,
        }
        let (path, path_b64) = to_json_text(&self.path);
        let path = Some(path).filter(|path| !path.is_empty());
        Fields {
            path,
            path_b64,
            what: &self.what,
        }
        .serialize(serializer)
    }
}

/// Converts bytes for JSON: to text, and to base64 as well if the text loses information.
pub fn to_json_text(bytes: &[u8]) -> (Cow<'_, str>, Option<String>) {
    let text = String::from_utf8_lossy(bytes);
    let lossless = std::str::from_utf8(bytes).is_ok();
    (text, (!lossless).then(|| BASE64_STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_json_are_lossless() {
        let json = |path: &[u8]| {
            let problem = ProblemEntry {
                path: path.to_vec(),
                what: "is \"gone\"\n".to_owned(),
            };
            serde_json::to_value(problem).unwrap_or_default()
        };
        let what = "is \"gone\"\n";
        assert_eq!(
            json("ä\n".as_bytes()),
            serde_json::json!({ "path": "ä\n", "what": what })
        );
        let lost = serde_json::json!({ "path": "a\u{fffd}", "path_b64": "Yf8=", "what": what });
        assert_eq!(json(b"a\xff"), lost);
        assert_eq!(json(b""), serde_json::json!({ "path": null, "what": what }));
    }
}
