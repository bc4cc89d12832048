//! Sessions and archives of a medium: lists them, and selects one.

use std::io::{self, Write};

use datapipe::archive::{ArchiveReader, ListedArchive, ListedSession, OpenError, Sessions};
use datapipe::prelude::*;
use datapipe::wire::Time;
use serde::Serialize;

use crate::console::Failure;
use crate::format::{count_of, escape, format_minute};
use crate::medium::Location;
use crate::summary::Summary;

/// Options that select an archive of a medium with several.
#[derive(Clone, Debug, clap::Args)]
pub struct SelectArgs {
    /// List the sessions and archives of MEDIUM, a line for each archive, and read nothing else. A
    /// session is the output of one backup or more; --append adds one
    #[arg(
        long,
        conflicts_with_all =
            ["list", "verify", "overwrite", "path", "dest", "session", "archive", "expect"]
    )]
    pub sessions: bool,
    /// Read an archive of this session: its number, or at least 8 digits of its id, as --sessions
    /// prints them
    #[arg(long, value_name = "N|ID")]
    session: Option<String>,
    /// Read this archive: its number in the session of --session, or else on the medium; its name,
    /// the one that was begun last if several have it; or last [default: last, the whole archive
    /// that was begun last among those that the key opens]
    #[arg(long, value_name = "N|NAME|last")]
    archive: Option<String>,
    /// Read the archive only if its header has this hash, which the backup has printed: no other
    /// archive has it
    #[arg(long, value_name = "HASH", value_parser = parse_hash)]
    expect: Option<Hash>,
}

/// Hash of an archive's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash([u8; 32]);

fn parse_hash(text: &str) -> Result<Hash, String> {
    let mut hash = [0; 32];
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex {
        return Err("a hash has 64 hexadecimal digits, as a backup prints them".to_owned());
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = str::from_utf8(digits).map_err(|error| error.to_string())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
    }
    Ok(Hash(hash))
}

/// Formats bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

type Reader = ArchiveReader<Box<dyn MediumReader>>;

impl SelectArgs {
    /// Opens the archive that is selected. Notes which of how many it is.
    ///
    /// # Errors
    ///
    /// Returns a failure if there is no such archive, if it cannot be opened, or if its header has
    /// another hash than the one that is expected.
    pub fn open(
        &self,
        location: &Location,
        secret: Option<&Secret>,
        summary: &mut Summary,
    ) -> Result<Reader, Failure> {
        let reader = self.select(location, secret, summary)?;
        let found = reader.header_hash();
        if let Some(Hash(expected)) = self.expect
            && expected != found
        {
            return Err(location.failure(format_args!(
                "the header of archive \"{}\" has the hash {}, not {}: it is another archive than \
                 the one that is expected, and nothing was read",
                escape(reader.origin().name.as_bytes()),
                hex(&found),
                hex(&expected)
            )));
        }
        summary.header_hash = Some(hex(&found));
        Ok(reader)
    }

    fn select(
        &self,
        location: &Location,
        secret: Option<&Secret>,
        summary: &mut Summary,
    ) -> Result<Reader, Failure> {
        let failure = |error: OpenError| match error {
            OpenError::KeyNeeded => location.failure(format_args!(
                "{error} (--key-file, --passphrase-file or --identity)"
            )),
            error => location.failure(error),
        };
        let selects = self.session.is_some() || self.archive.is_some();
        let sessions = match Sessions::read(location.open()?) {
            Ok(sessions) => sessions,
            Err(error) if selects => return Err(failure(error)),
            // The archive may be read up to the place at which the medium fails.
            Err(_) => return ArchiveReader::open(location.open()?, secret).map_err(failure),
        };
        let total = sessions.archives().count();
        if !selects && total <= 1 && sessions.sessions().len() <= 1 {
            return ArchiveReader::open(location.open()?, secret).map_err(failure);
        }
        let found = self.find(&sessions).map_err(|why| location.failure(why))?;
        let is_last = found.len() > 1 || !selects;
        let medium = location.open()?;
        let reader = match found[..] {
            [archive] if selects => ArchiveReader::open_listed(medium, archive, secret),
            _ => ArchiveReader::open_last(medium, found.iter().copied(), secret),
        };
        let reader = reader.map_err(failure)?;
        if is_last && total > 1 {
            let taken = sessions.archives().zip(1..).find(|(archive, _)| {
                let is_it = archive.header_hash() == Some(&reader.header_hash());
                is_it && archive.session_id() == &reader.session().id
            });
            let which = taken.map_or_else(String::new, |(archive, number)| {
                format!(", number {number}, of session {}", archive.session_number())
            });
            let begun = Some(reader.header().created);
            let mut others = found.iter().filter(|other| !other.is_finished());
            let later = match others.any(|other| other.created() > begun) {
                true => "; one that was begun after it is unfinished",
                false => "",
            };
            summary.notes.push(format!(
                "{location} has {}: this is the one that was begun last{which}{later}; --sessions \
                 lists them, and --archive selects one",
                count_of(total as u64, "archive", "archives")
            ));
        }
        Ok(reader)
    }

    /// Returns the archives that are selected: one, or those of which the last is to be read.
    fn find<'l>(&self, sessions: &'l Sessions) -> Result<Vec<&'l ListedArchive>, String> {
        let mut archives: Vec<_> = sessions.archives().collect();
        if let Some(wanted) = &self.session {
            let number = find_session(sessions, wanted)?;
            archives.retain(|archive| archive.session_number() == number);
        }
        let found = match self.archive.as_deref() {
            None | Some("last") => archives,
            Some(wanted) => {
                let index = wanted.parse::<usize>().ok();
                let index = index.and_then(|number| number.checked_sub(1));
                match index.and_then(|index| archives.get(index)) {
                    Some(numbered) => vec![*numbered],
                    // A name may consist of digits.
                    None => {
                        archives.retain(|archive| archive.name() == Some(wanted));
                        archives
                    }
                }
            }
        };
        match (found.is_empty(), &self.archive) {
            (false, _) => Ok(found),
            (true, Some(wanted)) if wanted != "last" => Err(format!(
                "there is no archive {} here; --sessions lists those that there are",
                escape(wanted.as_bytes())
            )),
            (true, _) => Err("there is no archive here; --sessions lists what there is".to_owned()),
        }
    }
}

/// Finds a session by its number, or by the first digits of its id.
fn find_session(sessions: &Sessions, wanted: &str) -> Result<u32, String> {
    let all = sessions.sessions();
    let found: Vec<_> = match wanted.len() < 8 {
        true => {
            let number = wanted.parse().ok();
            let is_it = |session: &&ListedSession| number == Some(session.number());
            all.iter().filter(is_it).collect()
        }
        false => {
            let wanted = wanted.to_ascii_lowercase();
            let is_it = |session: &&ListedSession| hex(session.id()).starts_with(&wanted);
            all.iter().filter(is_it).collect()
        }
    };
    match found[..] {
        [session] => Ok(session.number()),
        [] => Err(format!(
            "there is no session {}; --sessions lists those that there are",
            escape(wanted.as_bytes())
        )),
        _ => Err(format!(
            "{} sessions have an id that begins with {}; give more digits",
            found.len(),
            escape(wanted.as_bytes())
        )),
    }
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
    name: Option<String>,
    created: Option<i64>,
    state: &'static str,
    encrypted: Option<bool>,
    blocks: Option<u64>,
    header_hash: Option<String>,
}

fn state_of(is_finished: bool) -> &'static str {
    match is_finished {
        true => "finished",
        false => "unfinished",
    }
}

/// Lists the sessions and archives of a medium: in the summary, if `is_json` is true, which prints
/// it, and on standard output otherwise.
///
/// # Errors
///
/// Returns a failure if the medium or standard output fails.
pub fn list_sessions(
    location: &Location,
    is_json: bool,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let sessions = Sessions::read(location.open()?).map_err(|error| location.failure(error))?;
    if sessions.is_cut() {
        let note = "the medium has more sessions than can be listed: these are the last ones";
        summary.notes.push(note.to_owned());
    }
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
            let name = archive.name.as_deref().unwrap_or("?");
            text += &format!(
                "{:>6} {:>7} {id:<8} {:>7} {created:<16} {:<10} {key:<9} {}\n",
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
