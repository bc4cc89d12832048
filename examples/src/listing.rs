//! List of the objects of an archive: a line for each object, or the entries of a JSON object.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datapipe::wire::{CatalogueEntry, ObjectKind, ObjectState};
use serde::Serialize;

use crate::format::{escape, format_minute, format_mode};
use crate::signals::exit_on_broken_pipe;
use crate::stoppable_output::StoppableOutput;
use crate::summary::{Summary, to_json_text};

/// Printer of a list. It prints each object immediately, so that its memory does not grow with
/// their number. Clones print to the same list.
#[derive(Clone, Debug)]
pub struct Listing(Arc<Mutex<ListingState>>);

/// Output and counts of a list.
#[derive(Debug)]
struct ListingState {
    out: BufWriter<&'static StoppableOutput>,
    json: bool,
    /// True after the start of the JSON object and of its list of entries was printed.
    begun: bool,
    files: u64,
    directories: u64,
    others: u64,
}

/// Bytes of the list that are written together.
const BUFFER: usize = 32 << 10;

/// Start of the JSON object and of its list of entries.
const JSON_START: &[u8] = b"{\"entries\":[";

impl Listing {
    /// Makes a list on standard output: lines, or the entries of a JSON object.
    pub fn new(json: bool) -> Self {
        let out = BufWriter::with_capacity(BUFFER, StoppableOutput::stdout());
        Self(Arc::new(Mutex::new(ListingState {
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
    /// Returns an error if standard output cannot be written.
    pub fn add(&self, object: &CatalogueEntry<'_>) -> io::Result<()> {
        let mut state = self.lock();
        let added = if state.json {
            state.add_json(object)
        } else {
            state.add_line(object)
        };
        added.inspect_err(exit_on_broken_pipe)?;
        match object.kind {
            ObjectKind::File => state.files += 1,
            ObjectKind::Directory => state.directories += 1,
            _ => state.others += 1,
        }
        Ok(())
    }

    /// Sets the counts of the summary to the numbers of objects printed.
    pub fn set_counts(&self, summary: &mut Summary) {
        let state = self.lock();
        (summary.files, summary.directories, summary.others) =
            (state.files, state.directories, state.others);
    }

    /// Prints the rest of the list: of a JSON object, everything except the entries.
    pub(crate) fn finish(&self, summary: &Summary) -> io::Result<()> {
        let mut state = self.lock();
        if state.json {
            if !state.begun {
                state.out.write_all(JSON_START)?;
            }
            // The summary's fields follow the list, in the same object.
            let summary = serde_json::to_string(summary)?;
            writeln!(
                state.out,
                "],{}",
                summary.strip_prefix('{').unwrap_or_default()
            )?;
        }
        state.out.flush().inspect_err(exit_on_broken_pipe)
    }

    fn lock(&self) -> MutexGuard<'_, ListingState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ListingState {
    fn add_line(&mut self, object: &CatalogueEntry<'_>) -> io::Result<()> {
        let CatalogueEntry {
            kind,
            state,
            mode,
            size,
            modified,
            path,
            target,
            ..
        } = *object;
        let (mode, date, path) = (
            format_mode(kind, mode),
            format_minute(modified),
            escape(path),
        );
        write!(self.out, "{mode} {size:>12} {date} {path}")?;
        if kind == ObjectKind::Symlink {
            write!(self.out, " -> {}", escape(target))?;
        }
        match state {
            ObjectState::Whole => writeln!(self.out),
            ObjectState::Changed => writeln!(self.out, "  [changed while it was read]"),
            ObjectState::Unread => writeln!(self.out, "  [not read to its end]"),
        }
    }

    fn add_json(&mut self, object: &CatalogueEntry<'_>) -> io::Result<()> {
        let before = if self.begun { b"," } else { JSON_START };
        self.out.write_all(before)?;
        self.begun = true;
        serde_json::to_writer(&mut self.out, &Entry::new(object))?;
        Ok(())
    }
}

/// An object in JSON.
#[derive(Serialize)]
struct Entry<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    kind: &'static str,
    /// Permission bits, setuid, setgid and sticky.
    mode: u32,
    size: u64,
    /// Seconds since 1970, and nanoseconds.
    modified: (i64, u32),
    /// Target of a symbolic link.
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
        let (path, path_b64) = to_json_text(object.path);
        let (target, target_b64) = to_json_text(object.target);
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
