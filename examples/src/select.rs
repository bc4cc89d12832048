//! Options that select an archive of a medium with several, and open it.

use datapipe::archive::{
    ArchiveReader, ListedArchive, ListedSession, OpenError, Sessions, StoredArchive,
};
use datapipe::prelude::*;
use datapipe::stage::DamageEntry;

use crate::console::Failure;
use crate::format::{count_of, escape};
use crate::medium::{Location, describe_name};
use crate::sessions::{SourceEntry, hex, note_damage};
use crate::summary::Summary;

/// Options that select an archive of a medium with several.
#[derive(Clone, Debug, clap::Args)]
pub struct SelectArgs {
    /// Read an archive of this session: its number, or at least 8 digits of its id, as --sessions
    /// prints them
    #[arg(long, value_name = "N|ID")]
    session: Option<String>,
    /// Read this archive: its number in the session of --session, or else on the medium; its name,
    /// the one that was begun last if several have it, which for an encrypted archive takes its
    /// key; or last [default: last, the whole archive
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

type Reader = ArchiveReader<Box<dyn MediumReader>>;

/// An archive that is read without its key.
pub type Stored = StoredArchive<Box<dyn MediumReader>>;

/// The archives of a medium, and those of which one is to be read.
struct Candidates {
    /// The medium has one archive, or could not be listed: its first archive is read.
    is_only: bool,
    found: Vec<ListedArchive>,
    all: Vec<ListedArchive>,
    /// Damage that the list has met.
    damage: Vec<DamageEntry>,
}

impl Default for Candidates {
    fn default() -> Self {
        Self {
            is_only: true,
            found: Vec::new(),
            all: Vec::new(),
            damage: Vec::new(),
        }
    }
}

impl Candidates {
    /// Notes which of how many archives was opened, and of what it is a copy, and the damage of the
    /// medium outside of its archives. `has_key`: archives that a key does not open are passed.
    fn note(
        &self,
        select: &SelectArgs,
        location: &Location,
        session: &[u8; 16],
        hash: &[u8; 32],
        has_key: bool,
        summary: &mut Summary,
    ) {
        if !self.is_only {
            note_damage(&self.damage, summary.job == "verify", summary);
        }
        let is_it = |archive: &ListedArchive| {
            archive.header_hash() == Some(hash) && archive.session_id() == session
        };
        let mut numbered = self.all.iter().zip(1..);
        let taken = numbered.find(|(archive, _)| is_it(archive));
        let source = taken.and_then(|(archive, _)| {
            // A remark only: the archive has been opened.
            let medium = location.open().ok()?;
            archive.clone().with_source(medium).ok()?.copy_of()
        });
        summary.copy_of = source.as_ref().map(SourceEntry::new);
        let is_last = self.found.len() > 1 || !select.selects();
        if self.is_only || !is_last || self.all.len() <= 1 {
            return;
        }
        let which = taken.map_or_else(String::new, |(archive, number)| {
            format!(", number {number}, of session {}", archive.session_number())
        });
        let begun = taken.and_then(|(archive, _)| archive.created());
        let others = self.found.iter().filter(|other| !is_it(other));
        let may_be_newer =
            |other: &&ListedArchive| other.created().is_none() || other.created() > begun;
        let newer = others.filter(may_be_newer).count();
        let newer = match newer {
            0 => String::new(),
            newer => format!(
                "; {} not whole, or cannot be opened",
                count_of(
                    newer as u64,
                    "that may be newer is",
                    "that may be newer are"
                )
            ),
        };
        let opens = if has_key { " that opens" } else { "" };
        summary.notes.push(format!(
            "{location} has {}: this is the last whole one{opens}{which}{newer}; --sessions \
             lists them, and --archive selects one",
            count_of(self.all.len() as u64, "archive", "archives")
        ));
        let others = self.found.iter().filter(|other| !is_it(other));
        let is_unknown = |other: &&ListedArchive| other.is_finished() && other.created().is_none();
        let unknown = others.filter(is_unknown).count();
        if unknown > 0 {
            let what = format!(
                "{} of {location} cannot be read, and may be of a later one than the archive that \
                 was taken; --sessions lists them, and --archive selects one",
                count_of(unknown as u64, "archive header", "archive headers")
            );
            summary.add_error("", "header", what);
        }
    }
}

impl SelectArgs {
    /// True if an archive is selected.
    pub fn selects(&self) -> bool {
        self.session.is_some() || self.archive.is_some()
    }

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
        let failure = |error: OpenError| match error {
            OpenError::KeyNeeded => location.failure(format_args!(
                "{error} (--key-file, --passphrase-file or --identity)"
            )),
            error => location.failure(error),
        };
        let candidates = self.candidates(location, secret)?;
        let medium = location.open()?;
        let reader = match (candidates.is_only, &candidates.found[..]) {
            (true, _) => ArchiveReader::open(medium, secret),
            (_, [archive]) if self.selects() => ArchiveReader::open_listed(medium, archive, secret),
            (_, found) => ArchiveReader::open_last(medium, found, secret),
        };
        let reader = reader.map_err(failure)?;
        let (name, session) = (describe_name(reader.origin(), false), &reader.session().id);
        self.check_expected(location, &name, &reader.header_hash(), summary)?;
        let (hash, has_key) = (reader.header_hash(), secret.is_some());
        candidates.note(self, location, session, &hash, has_key, summary);
        Ok(reader)
    }

    /// Opens the archive that is selected, to read it without its key. Notes which of how many it
    /// is.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_stored(
        &self,
        location: &Location,
        summary: &mut Summary,
    ) -> Result<Stored, Failure> {
        let candidates = self.candidates(location, None)?;
        let medium = location.open()?;
        let stored = match (candidates.is_only, &candidates.found[..]) {
            (true, _) => StoredArchive::open(medium),
            (_, [archive]) if self.selects() => StoredArchive::open_listed(medium, archive),
            (_, found) => StoredArchive::open_last(medium, found),
        };
        let stored = stored.map_err(|error| location.failure(error))?;
        let name = describe_name(stored.origin(), stored.is_encrypted());
        let session = &stored.session().id;
        self.check_expected(location, &name, &stored.header_hash(), summary)?;
        candidates.note(
            self,
            location,
            session,
            &stored.header_hash(),
            false,
            summary,
        );
        Ok(stored)
    }

    /// Returns all archives of the medium, or of the session that is selected, in their order. Adds
    /// the damage that their list has met.
    ///
    /// # Errors
    ///
    /// Returns a failure if there is none, or the medium cannot be read.
    pub fn all(
        &self,
        location: &Location,
        summary: &mut Summary,
    ) -> Result<Vec<ListedArchive>, Failure> {
        let sessions = Sessions::read(location.open()?).map_err(|error| location.failure(error))?;
        if sessions.is_cut() {
            return Err(location.failure(
                "has more sessions than can be listed: copy one session after the other, with \
                 --session and --append",
            ));
        }
        let found = self.find(&sessions).map_err(|why| location.failure(why))?;
        note_damage(sessions.damage(), true, summary);
        Ok(found.into_iter().cloned().collect())
    }

    /// Checks the hash of an archive's header, if one is expected.
    fn check_expected(
        &self,
        location: &Location,
        name: &str,
        found: &[u8; 32],
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        if let Some(Hash(expected)) = self.expect
            && expected != *found
        {
            return Err(location.failure(format_args!(
                "the header of {name} has the hash {}, not {}: it is another archive than the one \
                 that is expected, and nothing was read",
                hex(found),
                hex(&expected)
            )));
        }
        summary.header_hash = Some(hex(found));
        Ok(())
    }

    /// Lists the medium, and returns the archives of which one is to be read.
    fn candidates(
        &self,
        location: &Location,
        secret: Option<&Secret>,
    ) -> Result<Candidates, Failure> {
        let sessions = match Sessions::read(location.open()?) {
            Ok(sessions) => sessions,
            Err(error) if self.selects() => return Err(location.failure(error)),
            // The archive may be read up to the place at which the medium fails.
            Err(_) => return Ok(Candidates::default()),
        };
        let sessions = match secret.filter(|_| self.may_be_a_name()) {
            None => sessions,
            Some(secret) => sessions
                .with_names(location.open()?, secret)
                .map_err(|error| location.failure(error))?,
        };
        if sessions.is_cut()
            && self
                .archive
                .as_deref()
                .is_none_or(|wanted| wanted == "last")
        {
            return Err(location.failure(
                "has more archives than can be listed, so the last one is not known; select one \
                 with --session and --archive",
            ));
        }
        let total = sessions.archives().count();
        let is_only = !self.selects() && total <= 1 && sessions.sessions().len() <= 1;
        let found = match is_only {
            true => sessions.archives().collect(),
            false => self.find(&sessions).map_err(|why| location.failure(why))?,
        };
        Ok(Candidates {
            is_only,
            found: found.into_iter().cloned().collect(),
            all: sessions.archives().cloned().collect(),
            damage: sessions.damage().to_vec(),
        })
    }

    /// True if an archive is selected, and perhaps by its name.
    fn may_be_a_name(&self) -> bool {
        let archive = self.archive.as_deref();
        archive.is_some_and(|wanted| wanted != "last")
    }

    /// Returns the archives that are selected: one, or those of which the last is to be read.
    fn find<'l>(&self, sessions: &'l Sessions) -> Result<Vec<&'l ListedArchive>, String> {
        let mut archives: Vec<_> = sessions.archives().collect();
        if let Some(wanted) = &self.session {
            let number = find_session(sessions, wanted)?;
            archives.retain(|archive| archive.session_number() == number);
        }
        let is_sealed = |archive: &&&ListedArchive| {
            archive.is_encrypted() == Some(true) && archive.name().is_none()
        };
        let sealed = archives.iter().filter(is_sealed).count() as u64;
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
                "there is no archive {} here{}; --sessions lists those that there are",
                escape(wanted.as_bytes()),
                match sealed {
                    0 => String::new(),
                    sealed => format!(
                        "; {} encrypted, which only the key opens: select such an archive by its \
                         number",
                        count_of(sealed, "name is", "names are")
                    ),
                }
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
        [] => {
            let is_short = wanted.len() < 8 && !wanted.bytes().all(|byte| byte.is_ascii_digit());
            Err(format!(
                "there is no session {}{}; --sessions lists those that there are",
                escape(wanted.as_bytes()),
                match is_short {
                    true =>
                        ": a session has a number, or an id of which at least 8 digits are given",
                    false => "",
                }
            ))
        }
        _ => Err(format!(
            "{} sessions have an id that begins with {}; give more digits",
            found.len(),
            escape(wanted.as_bytes())
        )),
    }
}
