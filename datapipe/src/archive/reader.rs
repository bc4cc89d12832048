//! Finds the headers of an archive, and unlocks its keys.

use std::fmt;

use crate::controller::{Pipe, PipeBuilder};
use crate::crypto::{KeySlot, Secret, UnlockError, unlock};
use crate::limits::MIN_BUFFER_SIZE;
use crate::media::{Medium, MediumError};
use crate::memory::Direction;
use crate::stage::{DamageLog, MiddleStage, decompress, decompress_salvaging};
use crate::wire::{self, ArchiveHeader, ChunkFooter, DecodeError, SessionHeader, UnitKind};

use super::blocks::BlockSet;
use super::head::{self, ArchiveHead};
use super::index::Index;
use super::plan::key_of;
use super::report::{ReadReport, Reporter};
use super::seal::{self, ArchiveKey};
use super::shared::Shared;
use super::units::{Event, Units};

/// An archive whose headers were read, and whose keys are unlocked.
///
/// It can be read more than once, but by one pipe at a time: they share the medium.
///
/// ```
/// # use datapipe::archive::ArchiveOptions;
/// # use datapipe::media::VirtualTape;
/// use datapipe::archive::{ArchiveReader, StreamRestore};
/// use datapipe::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nightly.tap");
/// # let archive = ArchiveOptions::new("nightly").plan()?;
/// # let (_, tail) = archive.stages(VirtualTape::create(&path, Default::default())?);
/// # Pipe::builder().head(StreamHead::new(&[7u8; 100_000][..])).stage(Zstd::level(3)).tail(tail).run()?;
///
/// let tape = VirtualTape::open(&path)?;
/// let reading = ArchiveReader::open(tape, None)?.read(2);
/// reading.pipe.tail(StreamRestore::new(std::io::sink())).run()?;
/// assert!(reading.report.outcome().complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ArchiveReader<M> {
    medium: Shared<M>,
    session: SessionHeader,
    header: ArchiveHeader,
    key: Option<ArchiveKey>,
    reporter: Reporter,
}

/// A pipe that reads an archive, but for its tail.
#[derive(Debug)]
pub struct Reading {
    /// Reads, decrypts and decompresses. Add a tail.
    pub pipe: PipeBuilder<'static>,
    /// What becomes of it: final when the pipe has ended.
    pub report: ReadReport,
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
    Malformed(DecodeError),
    /// The secret does not open it.
    Locked(UnlockError),
    /// It is encrypted, and no secret was given.
    KeyNeeded,
    /// It is not encrypted, although a secret was given.
    NotEncrypted,
    /// Its end does not say where its blocks stand: it is incomplete, or damaged there. It can be
    /// read from its start.
    NoIndex(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium(error) => error.fmt(f),
            Self::NoIndex(why) => write!(f, "the archive does not say where its blocks stand: {why}"),
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

impl From<DecodeError> for OpenError {
    fn from(malformed: DecodeError) -> Self {
        Self::Malformed(malformed)
    }
}

impl<M: Medium + 'static> ArchiveReader<M> {
    /// Reads the headers of the first archive on a medium. If they are damaged, their copies are
    /// looked for.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(medium: M, secret: Option<&Secret>) -> Result<Self, OpenError> {
        let medium = Shared::new(medium);
        let (session, header) = find_headers(&medium)?;
        let encrypted = header.cipher != wire::CipherKind::None;
        let key = match (encrypted, secret) {
            (true, None) => return Err(OpenError::KeyNeeded),
            (false, Some(_)) => return Err(OpenError::NotEncrypted),
            (false, None) => None,
            (true, Some(secret)) => {
                let slots: Vec<_> = session.slots.iter().map(KeySlot::from_bytes).collect();
                let key = unlock(&slots, secret, &session.id).map_err(OpenError::Locked)?;
                Some(key_of(&key, &session, &header))
            }
        };
        Ok(Self {
            medium,
            session,
            header,
            key,
            reporter: Reporter::default(),
        })
    }

    /// Goes on behind damage, and writes it down here, instead of ending with the first. Give the
    /// same log to the stage that decompresses.
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

    /// Reads the end of the medium, which says where the blocks of a whole archive stand.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoIndex`] if it does not. Other errors, but for [`MediumError::Io`], mean the
    /// same: the end is damaged, and the archive can still be read from its start.
    pub fn index(&self) -> Result<Index, OpenError> {
        let cipher = self.key.as_ref().map(ArchiveKey::cipher);
        Index::read(
            &self.medium,
            self.session.id,
            self.session.framing,
            |header, body| head::open_footer(cipher, header, body),
        )
    }

    /// A pipe that reads all blocks from the start, in order, on `instances` threads for each of
    /// its stages.
    pub fn read(&self, instances: u32) -> Reading {
        self.reading(self.head(), instances)
    }

    /// A pipe that reads these blocks only.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`].
    pub fn read_blocks(
        &self,
        index: &Index,
        blocks: &BlockSet,
        instances: u32,
    ) -> Result<Reading, MediumError> {
        Ok(self.reading(self.head_of(index, blocks)?, instances))
    }

    fn reading(&self, head: ArchiveHead<M>, instances: u32) -> Reading {
        let report = head.report();
        let decompress = self
            .reporter
            .log
            .as_ref()
            .map_or_else(decompress, decompress_salvaging);
        let mut pipe = Pipe::builder()
            .label("restore")
            .direction(Direction::Restore);
        pipe = pipe
            .buffer_size(self.header.block_len.max(MIN_BUFFER_SIZE))
            .head(head);
        if let Some(open) = self.open_blocks() {
            pipe = pipe.stage(open.instances(instances));
        }
        Reading {
            pipe: pipe.stage(decompress.instances(instances)),
            report,
        }
    }

    /// The stage that decrypts, if the archive is encrypted.
    pub fn open_blocks<'a>(&self) -> Option<MiddleStage<'a>> {
        let key = self.key.clone()?;
        Some(seal::opening(key, self.reporter.log.clone()))
    }

    /// The head that reads all blocks. The pipe's buffers have to be as large as the archive's
    /// blocks: [`ArchiveHeader::block_len`].
    pub fn head(&self) -> ArchiveHead<M> {
        let units = Units::new(self.medium.clone(), Some(self.session.id));
        let (medium, block_len) = (self.medium.clone(), self.header.block_len);
        ArchiveHead::new(
            medium,
            units,
            block_len,
            self.key.clone(),
            self.reporter.clone(),
        )
    }

    /// The head that reads these blocks only.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`].
    pub fn head_of(&self, index: &Index, blocks: &BlockSet) -> Result<ArchiveHead<M>, MediumError> {
        let runs = index.runs(&self.medium, self.session.id, blocks)?;
        Ok(self.head().only(runs))
    }
}

/// Finds both headers. The first record says which session is looked for; if that one has no
/// archive here, but another session has records, it is that one.
fn find_headers<M: Medium>(
    medium: &Shared<M>,
) -> Result<(SessionHeader, ArchiveHeader), OpenError> {
    let mut units = Units::new(medium.clone(), None);
    let error = match find_headers_in(&mut units) {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let Some(other) = units.other_session() else {
        return Err(error);
    };
    medium.clone().rewind()?;
    find_headers_in(&mut Units::new(medium.clone(), Some(other))).map_err(|_| error)
}

/// Reads on until both headers were found: where they belong, or as copies.
fn find_headers_in<M: Medium>(
    units: &mut Units<M>,
) -> Result<(SessionHeader, ArchiveHeader), OpenError> {
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
            UnitKind::SessionHeader => session = Some(SessionHeader::parse(&body)?),
            UnitKind::ArchiveHeader => archive = Some(ArchiveHeader::parse(&body)?),
            UnitKind::ChunkFooter => {
                let footer = ChunkFooter::parse(&body)?;
                session = Some(SessionHeader::parse(&footer.session)?);
                archive = Some(ArchiveHeader::parse(&footer.archive)?);
            }
            _ => {}
        }
        let ours = session
            .as_ref()
            .is_some_and(|session| Some(session.id) == units.session());
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
        f.debug_struct("ArchiveReader")
            .field("name", &self.header.name)
            .finish_non_exhaustive()
    }
}
