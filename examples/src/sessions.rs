//! The sessions and archives of a medium, as a list.

use std::io::{self, Write};

use datapipe::archive::{ListedArchive, Sessions};
use datapipe::prelude::Secret;
use datapipe::stage::DamageEntry;
use datapipe::wire::{CopySource, Time};
use serde::Serialize;

use crate::console::Failure;
use crate::format::{count_of, escape, format_minute};
use crate::medium::Location;
use crate::summary::Summary;

/// Formats bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A session, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct SessionEntry {
    session: u32,
    id: String,
    label: Option<String>,
    created: Option<i64>,
    /// `finished` or `unfinished`.
    state: &'static str,
    archives: Vec<ArchiveEntry>,
}

/// An archive, as `--json` prints it.
#[derive(Debug, Serialize)]
struct ArchiveEntry {
    /// Number on the medium.
    number: u64,
    /// Number in its session.
    archive: u32,
    id: Option<String>,
    /// `None` if it is encrypted and the key was not given, or damaged.
    name: Option<String>,
    created: Option<i64>,
    state: &'static str,
    encrypted: Option<bool>,
    blocks: Option<u64>,
    header_hash: Option<String>,
    /// The session from which it was copied, if it is a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_of: Option<SourceEntry>,
}

/// The session from which an archive was copied, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct SourceEntry {
    session: String,
    created: i64,
}

impl SourceEntry {
    /// Makes the entry of a source.
    pub fn new(source: &CopySource) -> Self {
        Self {
            session: hex(&source.session),
            created: source.created.seconds,
        }
    }
}

impl std::fmt::Display for SourceEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, nanoseconds) = (self.created, 0);
        let created = format_minute(Time {
            seconds,
            nanoseconds,
        });
        write!(f, "copy of session {} of {created}", &self.session[..8])
    }
}

fn state_of(is_finished: bool) -> &'static str {
    match is_finished {
        true => "finished",
        false => "unfinished",
    }
}

/// Lists the sessions and archives of a medium: in the summary, if `is_json` is true, which prints
/// it, and on standard output otherwise. The names of encrypted archives need `secret`.
///
/// # Errors
///
/// Returns a failure if the medium or standard output fails.
pub fn list_sessions(
    location: &Location,
    secret: Option<&Secret>,
    is_json: bool,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let sessions = Sessions::read(location.open()?)
        .and_then(|sessions| sessions.with_sources(location.open()?))
        .map_err(|error| location.failure(error))?;
    let sessions = match secret {
        None => sessions,
        Some(secret) => sessions
            .with_names(location.open()?, secret)
            .map_err(|error| location.failure(error))?,
    };
    if sessions.is_cut() {
        let note =
            "the medium has more sessions and archives than can be listed: some are missing here";
        summary.notes.push(note.to_owned());
    }
    note_damage(sessions.damage(), true, summary);
    let is_labelled = || location.volumes().iter().any(|file| file.record.is_some());
    if sessions.sessions().is_empty() && location.bytes() > 0 && !is_labelled() {
        return Err(
            location.failure("has no session that can be read; is it a medium of archives?")
        );
    }
    let mut numbers = 1..;
    let mut entry = |archive| entry_of(archive, numbers.next().unwrap_or_default());
    let entries = sessions.sessions().iter().map(|session| SessionEntry {
        session: session.number(),
        id: hex(session.id()),
        label: session.header().map(|header| header.label.clone()),
        created: session.header().map(|header| header.created.seconds),
        state: state_of(session.is_finished()),
        archives: session.archives().iter().map(&mut entry).collect(),
    });
    let entries: Vec<_> = entries.collect();
    if is_json {
        summary.sessions = Some(entries);
        return Ok(());
    }
    let text = table_of(&entries);
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::new(format!("cannot write to standard output: {error}")))
}

/// Adds damage that a list has met: as errors of a job that checks the medium, and otherwise as
/// notes.
pub(crate) fn note_damage(damage: &[DamageEntry], is_error: bool, summary: &mut Summary) {
    if is_error {
        for entry in damage {
            summary.add_error("", "damaged", entry.to_string());
        }
        return;
    }
    let (noted, more) = damage.split_at(damage.len().min(MAX_NOTES));
    summary.notes.extend(noted.iter().map(ToString::to_string));
    if !more.is_empty() {
        let more = count_of(more.len() as u64, "place", "places");
        let note = format!("{more} more of the medium have damage; --sessions names all");
        summary.notes.push(note);
    }
}

/// Most places with damage that are noted one by one.
const MAX_NOTES: usize = 20;

fn entry_of(archive: &ListedArchive, number: u64) -> ArchiveEntry {
    ArchiveEntry {
        number,
        archive: archive.number(),
        id: archive.id().map(|id| hex(id)),
        name: archive.name().map(str::to_owned),
        created: archive.created().map(|created| created.seconds),
        state: state_of(archive.is_finished()),
        encrypted: archive.is_encrypted(),
        blocks: archive.blocks(),
        header_hash: archive.header_hash().map(|hash| hex(hash)),
        copy_of: archive.copy_of().as_ref().map(SourceEntry::new),
    }
}

/// The list as a table: a line for each archive, with the number and the id of its session.
fn table_of(entries: &[SessionEntry]) -> String {
    let mut text = format!(
        "{:>6} {:>7} {:<8} {:>7} {:<16} {:<10} {:<9} {}\n",
        "NUMBER", "SESSION", "ID", "ARCHIVE", "BEGUN", "STATE", "KEY", "NAME"
    );
    for session in entries {
        let id = &session.id[..8];
        if session.archives.is_empty() {
            let (number, state) = (session.session, session.state);
            text += &format!(
                "{:>6} {number:>7} {id:<8} {:>7} {:<16} {state}\n",
                "-", "-", "-"
            );
        }
        for archive in &session.archives {
            let created = archive.created.map_or_else(
                || "?".to_owned(),
                |seconds| {
                    let nanoseconds = 0;
                    format_minute(Time {
                        seconds,
                        nanoseconds,
                    })
                },
            );
            let key = match archive.encrypted {
                None => "?",
                Some(true) => "encrypted",
                Some(false) => "none",
            };
            let unknown = match archive.encrypted {
                Some(true) => "(encrypted)",
                _ => "?",
            };
            let name = archive.name.as_deref().unwrap_or(unknown);
            let source = archive.copy_of.as_ref();
            let source = source.map_or_else(String::new, |source| format!(" ({source})"));
            text += &format!(
                "{:>6} {:>7} {id:<8} {:>7} {created:<16} {:<10} {key:<9} {}{source}\n",
                archive.number,
                session.session,
                archive.archive,
                archive.state,
                escape(name.as_bytes())
            );
        }
    }
    text
}
