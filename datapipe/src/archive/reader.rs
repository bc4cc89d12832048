//! Finds the headers of an archive, and unlocks its keys.

use std::fmt;
use std::sync::Arc;

use crate::crypto::{Cipher, KeySlot, Secret, UnlockError, unlock};
use crate::media::{Medium, MediumError, Place};
use crate::stage::{DamageLog, MiddleStage};
use crate::wire::{self, ArchiveHeader, ChunkFooter, Kind, Malformed, SessionHeader};

use super::head::ArchiveHead;
use super::plan::cipher_of;
use super::report::{ReadReport, Reporter};
use super::seal;
use super::units::{Event, Units};

/// An archive whose headers were read, and whose keys are unlocked.
///
/// ```
/// # use datapipe::archive::ArchiveOptions;
/// # use datapipe::media::VirtualTape;
/// use datapipe::archive::{ArchiveReader, StreamRestore};
/// use datapipe::prelude::*;
/// use datapipe::stage::decompress;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nightly.tap");
/// # let archive = ArchiveOptions::new("nightly").plan()?;
/// # let (_, tail) = archive.stages(VirtualTape::create(&path, Default::default())?);
/// # Pipe::builder().head(StreamHead::new(&[7u8; 100_000][..])).stage(Zstd::level(3)).tail(tail).run()?;
///
/// let tape = VirtualTape::open(&path, datapipe::wire::looks_like_record)?;
/// let reader = ArchiveReader::open(tape, None)?;
/// let report = reader.report();
/// let open = reader.open_blocks();
/// let mut pipe = Pipe::builder().head(reader.into_head());
/// if let Some(open) = open {
///     pipe = pipe.stage(open.instances(2));
/// }
/// pipe.stage(decompress()).tail(StreamRestore::new(std::io::sink())).run()?;
/// assert!(report.outcome().complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ArchiveReader<M> {
    medium: M,
    session: SessionHeader,
    header: ArchiveHeader,
    cipher: Option<Arc<Cipher>>,
    reporter: Reporter,
    report: ReadReport,
}

/// Why an archive cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The medium failed.
    Medium(MediumError),
    /// There is no archive, or nothing of its headers is left.
    NoArchive(String),
    /// A header says what no writer writes.
    Malformed(Malformed),
    /// The secret does not open it.
    Locked(UnlockError),
    /// It is encrypted, and no secret was given.
    KeyNeeded,
    /// It is not encrypted, although a secret was given.
    NotEncrypted,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium(error) => error.fmt(f),
            Self::NoArchive(why) => write!(f, "there is no archive to be read: {why}"),
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Locked(error) => error.fmt(f),
            Self::KeyNeeded => f.write_str("the archive is encrypted: give its key or its passphrase"),
            Self::NotEncrypted => f.write_str(
                "the archive is not encrypted, although a key was given: anybody may have written it; read it without a key if you trust it",
            ),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<MediumError> for OpenError {
    fn from(error: MediumError) -> Self {
        Self::Medium(error)
    }
}

impl From<Malformed> for OpenError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl<M: Medium> ArchiveReader<M> {
    /// Reads the headers of the first archive on a medium. If they are damaged, their copies are looked for.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(medium: M, secret: Option<&Secret>) -> Result<Self, OpenError> {
        let (medium, session, header) = find_headers(medium)?;
        let encrypted = header.cipher != wire::Cipher::None;
        let cipher = match (encrypted, secret) {
            (true, None) => return Err(OpenError::KeyNeeded),
            (false, Some(_)) => return Err(OpenError::NotEncrypted),
            (false, None) => None,
            (true, Some(secret)) => {
                let slots: Vec<_> = session.slots.iter().map(KeySlot::parse).collect();
                let key = unlock(&slots, secret, &session.id).map_err(OpenError::Locked)?;
                Some(cipher_of(&key, &session, &header))
            }
        };
        let (reporter, report) = (Reporter::default(), ReadReport::default());
        Ok(Self { medium, session, header, cipher, reporter, report })
    }

    /// Goes on behind damage, and writes it down here, instead of ending with the first. Give the same log to the
    /// stage that decompresses.
    #[must_use]
    pub fn salvage(mut self, log: &DamageLog) -> Self {
        self.reporter.log = Some(log.clone());
        self
    }

    /// What stands at the start of the session.
    pub fn session(&self) -> &SessionHeader {
        &self.session
    }

    /// What stands at the start of the archive.
    pub fn header(&self) -> &ArchiveHeader {
        &self.header
    }

    /// What becomes of the reading: final when the pipe has ended.
    pub fn report(&self) -> ReadReport {
        self.report.clone()
    }

    /// The stage that decrypts, if the archive is encrypted.
    pub fn open_blocks<'a>(&self) -> Option<MiddleStage<'a>> {
        let cipher = self.cipher.clone()?;
        Some(seal::opening(cipher, self.reporter.log.clone()))
    }

    /// The head that reads the blocks. The pipe's buffers have to be as large as the archive's blocks:
    /// [`ArchiveHeader::block_len`].
    pub fn into_head(self) -> ArchiveHead<M> {
        let units = Units::new(self.medium, Some(self.session.id));
        ArchiveHead::new(units, self.header, self.cipher, self.reporter, self.report)
    }
}

/// Finds both headers, and goes back to the start. The first record says which session is looked for; if that one has
/// no archive here, but another session has records, it is that one.
fn find_headers<M: Medium>(medium: M) -> Result<(M, SessionHeader, ArchiveHeader), OpenError> {
    let mut units = Units::new(medium, None);
    let found = find_headers_in(&mut units);
    let other = units.other_session();
    let mut medium = units.into_medium();
    rewind(&mut medium)?;
    let error = match found {
        Ok((session, header)) => return Ok((medium, session, header)),
        Err(error) => error,
    };
    let Some(other) = other else { return Err(error) };
    let mut units = Units::new(medium, Some(other));
    let (session, header) = find_headers_in(&mut units).map_err(|_| error)?;
    let mut medium = units.into_medium();
    rewind(&mut medium)?;
    Ok((medium, session, header))
}

/// Goes to the first volume that is there.
fn rewind<M: Medium>(medium: &mut M) -> Result<(), MediumError> {
    let mut volume = 1;
    loop {
        match medium.seek(Place::start_of(volume)) {
            Err(MediumError::MissingVolume { last, .. }) if volume < last => volume += 1,
            other => return other,
        }
    }
}

/// Reads on until both headers were found: where they belong, or as copies.
fn find_headers_in<M: Medium>(units: &mut Units<M>) -> Result<(SessionHeader, ArchiveHeader), OpenError> {
    let (mut session, mut archive) = (None, None);
    let mut wrong = None;
    loop {
        let (header, body) = match units.next()? {
            Event::Unit(header, _) => (header, units.body().to_vec()),
            Event::Label(header, body) => (header, body),
            Event::Damage(damage) => {
                wrong.get_or_insert(damage.what);
                continue;
            }
            Event::Mark => continue,
            Event::End => break,
        };
        match header.kind {
            Kind::SessionHeader => session = Some(SessionHeader::parse(&body)?),
            Kind::ArchiveHeader => archive = Some(ArchiveHeader::parse(&body)?),
            Kind::ChunkFooter => {
                let footer = ChunkFooter::parse(&body)?;
                session = Some(SessionHeader::parse(&footer.session)?);
                archive = Some(ArchiveHeader::parse(&footer.archive)?);
            }
            _ => {}
        }
        let ours = session.as_ref().is_some_and(|session| Some(session.id) == units.session());
        if let (true, Some(session), Some(archive)) = (ours, &session, &archive) {
            return Ok((session.clone(), archive.clone()));
        }
    }
    let what = match (session, archive) {
        (None, _) => "no session header",
        (Some(_), None) => "no archive header",
        (Some(_), Some(_)) => "no headers that belong together",
    };
    let why = wrong.map_or_else(|| what.to_owned(), |wrong| format!("{what} ({wrong})"));
    Err(OpenError::NoArchive(why))
}

impl<M> fmt::Debug for ArchiveReader<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveReader").field("name", &self.header.name).finish_non_exhaustive()
    }
}
