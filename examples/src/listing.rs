//! The objects of an archive, a line each, or as entries of a JSON object.

use std::borrow::Cow;
use std::io::{self, BufWriter, Stdout, Write, stdout};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datapipe::wire::{CatalogueEntry, ObjectKind, ObjectState};
use serde::Serialize;
use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;

use crate::names::{escaped, minute, mode_string};
use crate::summary::{Summary, in_json};

/// Prints objects as they are found, so that memory does not grow with them. Clones print one list.
#[derive(Clone, Debug)]
pub struct Listing(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    out: BufWriter<Stdout>,
    json: bool,
    /// The JSON object has begun, and its list of entries.
    begun: bool,
    files: u64,
    directories: u64,
    others: u64,
}

/// The object's start, and its list's.
const BEGIN: &[u8] = b"{\"entries\":[";

impl Listing {
    /// A list on standard output: lines, or the entries of a JSON object.
    pub fn new(json: bool) -> Self {
        let out = BufWriter::new(stdout());
        Self(Arc::new(Mutex::new(Inner {
            out,
            json,
            begun: false,
            files: 0,
            directories: 0,
            others: 0,
        })))
    }

    /// Prints an object.
    ///
    /// # Errors
    ///
    /// If standard output takes no more.
    pub fn add(&self, object: &CatalogueEntry<'_>) -> io::Result<()> {
        let mut inner = self.lock();
        let added = if inner.json {
            inner.add_json(object)
        } else {
            inner.add_line(object)
        };
        added.inspect_err(end_like_a_filter)?;
        match object.kind {
            ObjectKind::File => inner.files += 1,
            ObjectKind::Directory => inner.directories += 1,
            _ => inner.others += 1,
        }
        Ok(())
    }

    /// Tells the summary how many there were.
    pub fn count(&self, summary: &mut Summary) {
        let inner = self.lock();
        (summary.files, summary.directories, summary.others) =
            (inner.files, inner.directories, inner.others);
    }

    /// Prints what is left: of the JSON object, everything but the entries.
    pub(crate) fn end(&self, summary: &Summary) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.json {
            if !inner.begun {
                inner.out.write_all(BEGIN)?;
            }
            // The summary's fields stand behind the list, in the same object.
            let summary = serde_json::to_string(summary)?;
            writeln!(
                inner.out,
                "],{}",
                summary.strip_prefix('{').unwrap_or_default()
            )?;
        }
        inner.out.flush().inspect_err(end_like_a_filter)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the program, if whoever reads the list has seen enough of it: in silence, and by the signal
/// by which other programs end then.
fn end_like_a_filter(error: &io::Error) {
    if error.kind() == io::ErrorKind::BrokenPipe {
        let _ = emulate_default_handler(SIGPIPE);
    }
}

impl Inner {
    fn add_line(&mut self, object: &CatalogueEntry<'_>) -> io::Result<()> {
        let CatalogueEntry {
            kind,
            mode,
            size,
            modified,
            path,
            target,
            ..
        } = *object;
        let (mode, date, path) = (mode_string(kind, mode), minute(modified), escaped(path));
        write!(self.out, "{mode} {size:>12} {date} {path}")?;
        if kind == ObjectKind::Symlink {
            write!(self.out, " -> {}", escaped(target))?;
        }
        writeln!(self.out)
    }

    fn add_json(&mut self, object: &CatalogueEntry<'_>) -> io::Result<()> {
        let before = if self.begun { b"," } else { BEGIN };
        self.out.write_all(before)?;
        self.begun = true;
        serde_json::to_writer(&mut self.out, &Entry::new(object))?;
        Ok(())
    }
}

/// An object, as JSON has it.
#[derive(Serialize)]
struct Entry<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    kind: &'static str,
    /// Permission bits, setuid, setgid and sticky.
    mode: u32,
    size: u64,
    /// Seconds since 1970, and nanoseconds behind them.
    modified: (i64, u32),
    /// What a symbolic link says.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    state: &'static str,
}

impl<'a> Entry<'a> {
    fn new(object: &CatalogueEntry<'a>) -> Self {
        let CatalogueEntry {
            mode,
            size,
            modified,
            ..
        } = *object;
        let (path, path_b64) = in_json(object.path);
        let (target, target_b64) = in_json(object.target);
        let target = Some(target).filter(|target| !target.is_empty());
        let kind = match object.kind {
            ObjectKind::File => "file",
            ObjectKind::Directory => "directory",
            ObjectKind::Symlink => "symlink",
            ObjectKind::HardLink => "hardlink",
            ObjectKind::Fifo => "fifo",
            ObjectKind::CharacterDevice => "character_device",
            ObjectKind::BlockDevice => "block_device",
        };
        let state = match object.state {
            ObjectState::Whole => "whole",
            ObjectState::Changed => "changed",
            ObjectState::Unread => "unread",
        };
        let modified = (modified.seconds, modified.nanoseconds);
        Self {
            path,
            path_b64,
            kind,
            mode,
            size,
            modified,
            target,
            target_b64,
            state,
        }
    }
}
