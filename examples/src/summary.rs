//! What became of a job: the same for people, line by line, and for programs, as one JSON object.

use std::borrow::Cow;
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use datapipe::prelude::*;
use datapipe::stage::DamageEntry;
use datapipe::tree::{RestoreProblem, RestoreReport, TreeProblem, TreeReport};
use serde::{Serialize, Serializer};

use crate::names::escaped;

/// What became of a job. Serialized, it is the object that `--json` prints.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// backup, restore, verify or list.
    pub job: &'static str,
    /// `ok`; `incomplete` if something is not whole; `failed`.
    pub status: &'static str,
    /// What the program returns.
    pub exit: u8,
    /// Why it failed.
    pub message: Option<String>,
    /// The archive's name.
    pub archive: Option<String>,
    /// Whole files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links, further names of files, fifos, devices.
    pub others: u64,
    /// Bytes that the pipe's head has sent.
    pub bytes_in: u64,
    /// Bytes that the pipe's tail has received.
    pub bytes_out: u64,
    /// From the start of the program.
    pub seconds: f64,
    /// The stage that limited the pipe.
    pub limiting_stage: Option<String>,
    /// What is not whole: as much of it as was kept.
    pub errors: Vec<Trouble>,
    /// How much is not whole, kept or not.
    pub errors_total: u64,
    /// What belongs into no archive, or was not to be in this one.
    pub left_out: Vec<Trouble>,
    /// How much that was, kept or not.
    pub left_out_total: u64,
    /// What is as it had to be, but perhaps not as it was expected.
    pub notes: Vec<String>,
    #[serde(skip)]
    began: Instant,
}

impl Summary {
    /// Of a job that begins now.
    pub fn new(job: &'static str) -> Self {
        Self {
            job,
            status: "ok",
            exit: 0,
            message: None,
            archive: None,
            files: 0,
            directories: 0,
            others: 0,
            bytes_in: 0,
            bytes_out: 0,
            seconds: 0.0,
            limiting_stage: None,
            errors: Vec::new(),
            errors_total: 0,
            left_out: Vec::new(),
            left_out_total: 0,
            notes: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Takes what the pipe did.
    pub fn add_status(&mut self, status: &Status) {
        (self.bytes_in, self.bytes_out) = (status.bytes_in(), status.bytes_out());
        self.limiting_stage = status.limit().map(|limit| limit.stage);
    }

    /// Takes what was read of a tree.
    pub fn add_tree(&mut self, report: &TreeReport) {
        let outcome = report.snapshot();
        (self.files, self.directories, self.others) =
            (outcome.files, outcome.directories, outcome.others);
        for TreeProblem { path, kind, .. } in outcome.problems {
            let what = kind.to_string();
            let list = if kind.is_left_out() {
                &mut self.left_out
            } else {
                &mut self.errors
            };
            list.push(Trouble { path, what });
        }
        (self.errors_total, self.left_out_total) = (outcome.problem_count, outcome.left_out);
    }

    /// Takes what was restored or verified of a tree.
    pub fn add_restored(&mut self, report: &RestoreReport) {
        let outcome = report.snapshot();
        (self.files, self.directories, self.others) =
            (outcome.files, outcome.directories, outcome.others);
        for RestoreProblem { path, what, .. } in outcome.problems {
            self.errors.push(Trouble { path, what });
        }
        self.errors_total += outcome.problem_count;
        self.notes.extend(outcome.notes);
    }

    /// Takes what was found damaged on the medium.
    pub fn add_damage(&mut self, log: &DamageLog) {
        let place = |damage: DamageEntry| Trouble {
            path: Vec::new(),
            what: damage.to_string(),
        };
        let outcome = log.snapshot();
        self.errors.extend(outcome.entries.into_iter().map(place));
        self.errors_total += outcome.count;
    }

    /// Takes one thing that is not whole. An empty path is that of the archive.
    pub fn add_error(&mut self, path: impl Into<Vec<u8>>, what: impl Into<String>) {
        self.errors.push(Trouble {
            path: path.into(),
            what: what.into(),
        });
        self.errors_total += 1;
    }

    /// The job ends now.
    pub fn end(&mut self, exit: u8, message: Option<String>) {
        self.seconds = self.began.elapsed().as_secs_f64();
        (self.exit, self.message) = (exit, message);
        self.status = match exit {
            0 => "ok",
            3 => "incomplete",
            _ => "failed",
        };
        // Files first: they are what is asked for.
        self.errors.sort_by_key(|trouble| trouble.path.is_empty());
    }
}

/// Something that is not whole, or was left out.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Its path in the archive; empty if it is no object.
    pub path: Vec<u8>,
    /// What is wrong with it.
    pub what: String,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", escaped(&self.path))?;
        }
        f.write_str(&self.what)
    }
}

impl Serialize for Trouble {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'a> {
            path: Option<Cow<'a, str>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            path_b64: Option<String>,
            what: &'a str,
        }
        let (path, path_b64) = in_json(&self.path);
        let path = Some(path).filter(|path| !path.is_empty());
        Fields {
            path,
            path_b64,
            what: &self.what,
        }
        .serialize(serializer)
    }
}

/// Bytes as JSON can have them: as text, and in base64 if that would lose something.
pub fn in_json(bytes: &[u8]) -> (Cow<'_, str>, Option<String>) {
    let text = String::from_utf8_lossy(bytes);
    let lossless = std::str::from_utf8(bytes).is_ok();
    (text, (!lossless).then(|| BASE64_STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_nothing() {
        let json = |path: &[u8]| {
            let trouble = Trouble {
                path: path.to_vec(),
                what: "is \"gone\"\n".to_owned(),
            };
            serde_json::to_value(trouble).unwrap_or_default()
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
