//! Finds the headers of an archive, unlocks its keys, and makes the stages that read it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::controller::{Pipe, PipeBuilder};
use crate::crypto::{KeySlot, Secret, SecretKind, unlock_slot};
use crate::limits::MIN_BUFFER_SIZE;
use crate::media::{MediumError, MediumReader};
use crate::memory::Direction;
use crate::stage::{DamageLog, MiddleStage, decompress, decompress_salvaging};
use crate::wire::{self, ArchiveHeader, ChunkFooter, Content, Locator, SessionHeader, UnitKind};

use super::super::key::ArchiveKey;
use super::super::open_error::OpenError;
use super::super::origin::ArchiveOrigin;
use super::super::place::Place;
use super::super::report::{DamageReporter, ReadReport};
use super::super::seal;
use super::super::shared_key::SharedKey;
use super::super::special::Special;
use super::block_set::BlockSet;
use super::ending::Ending;
use super::front::{Front, read_origin};
use super::head::ArchiveHead;
use super::index::Index;
use super::order::{OnSpecial, unknown_special};
use super::shared_medium::SharedMedium;
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// An archive whose headers were read and whose keys are unlocked.
///
/// It can be read more than once, but by one pipe at a time, because all pipes share the medium. A
/// second one fails with [`MediumError::BeingRead`], before it has read anything.
///
/// ```
/// # use datapipe::archive::ArchiveOptions;
/// # use datapipe::media::VirtualTape;
/// use datapipe::archive::{ArchiveReader, StreamRestore};
/// use datapipe::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nightly.tap");
/// # let archive = ArchiveOptions::stream("nightly").plan()?;
/// # let tape = VirtualTape::create(&path, Default::default())?;
/// # let data = [7u8; 100_000];
/// # Pipe::builder().head(StreamHead::new(&data[..])).stage(zstd(3)).archive(archive, tape).run()?;
///
/// let tape = VirtualTape::open(&path)?;
/// let reading = ArchiveReader::open(tape, None)?.read().instances(2);
/// reading.pipe.tail(StreamRestore::new(std::io::sink())).run()?;
/// assert!(reading.report.snapshot().complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ArchiveReader<M> {
    medium: SharedMedium<M>,
    session: SessionHeader,
    header: ArchiveHeader,
    place: Place,
    /// Without the key of an encrypted archive it is not known.
    origin: Option<ArchiveOrigin>,
    /// Read when it is needed first.
    front: Arc<OnceLock<Front>>,
    /// The data key, which would open other archives, is not kept.
    key: Option<ArchiveKey>,
    /// Kind of the secret that has opened the key.
    opened_by: Option<SecretKind>,
    reporter: DamageReporter,
    on_special: Option<OnSpecial>,
}

/// A pipe that reads an archive, without its tail.
///
/// Exhaustive: it is taken apart into the pipe and its report.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct Reading {
    /// The pipe that reads, decrypts and decompresses. Add a tail.
    pub pipe: PipeBuilder<'static>,
    /// Report of the reading. It is final when the pipe has ended.
    pub report: ReadReport,
}

impl Reading {
    /// Runs `n` instances of each stage that decrypts or decompresses, instead of one.
    #[must_use]
    pub fn instances(mut self, n: u32) -> Self {
        self.pipe = self.pipe.map_middles(|stage| stage.instances(n));
        self
    }
}

impl<M: MediumReader + 'static> ArchiveReader<M> {
    /// Reads the headers of the first archive on a medium. If they are damaged, their copies are
    /// searched for. A passphrase is stretched for each key slot that has one: at most eight times.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(medium: M, secret: Option<&Secret>) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let headers = find_headers(&medium)?;
        let key = unlock(&headers.archive, secret)?;
        Self::new(medium, headers, Place::ONLY, key, secret).with_origin()
    }

    /// Reads the origin.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`] and [`MediumError::NoMemory`].
    pub(super) fn with_origin(mut self) -> Result<Self, OpenError> {
        let is_sealed = self.key.is_none() && self.header.cipher != wire::CipherKind::None;
        if !is_sealed {
            let (session, place) = (self.session.id, &self.place);
            self.origin = read_origin(&self.medium, session, place, self.key.as_ref())?;
        }
        Ok(self)
    }

    /// Makes the reader of an archive whose key, if it is encrypted, was unlocked with `secret`.
    pub(super) fn new(
        medium: SharedMedium<M>,
        headers: Headers,
        place: Place,
        key: Option<SharedKey>,
        secret: Option<&Secret>,
    ) -> Self {
        let place = Place {
            archive: headers.number,
            ..place
        };
        let header = headers.archive;
        let opened_by = key.as_ref().and(secret).map(Secret::kind);
        Self {
            medium,
            session: headers.session,
            place,
            key: key
                .as_ref()
                .map(|key| ArchiveKey::derive(&key.data_key, &header)),
            origin: None,
            header,
            front: Arc::default(),
            opened_by,
            reporter: DamageReporter::default(),
            on_special: None,
        }
    }

    pub(super) fn shared_medium(&self) -> &SharedMedium<M> {
        &self.medium
    }

    /// The key of the archive's blocks.
    pub(super) fn key(&self) -> Option<&ArchiveKey> {
        self.key.as_ref()
    }

    /// Records damage in `log` and reads on after it, instead of failing at the first. Give the
    /// same log to the stage that decompresses.
    #[must_use]
    pub fn salvage(mut self, log: &DamageLog) -> Self {
        self.reporter.log = Some(log.clone());
        self
    }

    /// Calls `on_special` with each special header of an application, once in each pipe that reads
    /// the archive, after it has been authenticated. It returns true if it knows the identifier. A
    /// header that is [required](Special::is_required) and that it does not know ends the pipe with
    /// an error. It is called on the thread of the [check](ArchiveHead::check).
    ///
    /// A pipe that reads some blocks only has those special headers, too, that are at the start of
    /// the archive, before the first block of data: they are read in advance, once. If one of them
    /// is damaged, that is damage of such a pipe.
    #[must_use]
    pub fn on_special(
        mut self,
        on_special: impl Fn(&Special) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.on_special = Some(Arc::new(on_special));
        self
    }

    /// The header of the session.
    pub fn session(&self) -> &SessionHeader {
        &self.session
    }

    /// The header of the archive.
    pub fn header(&self) -> &ArchiveHeader {
        &self.header
    }

    /// Name of the archive, and of the host and the program that wrote it: authenticated, if the
    /// archive is encrypted. `None` if block 0 of the archive, which has them, is damaged: a pipe
    /// that reads the archive reports that.
    pub fn origin(&self) -> Option<&ArchiveOrigin> {
        self.origin.as_ref()
    }

    /// The kind of the secret that has opened the archive; `None` if it is not encrypted.
    ///
    /// An archive that a key file or a passphrase opens was written by a party that knew it, or
    /// that could open an archive with the same data key in another way. With
    /// [`SecretKind::Identity`] nothing is known of the writer: every party that knows the
    /// recipient can have made the whole archive.
    pub fn opened_by(&self) -> Option<SecretKind> {
        self.opened_by
    }

    /// Reads the index: the end of a complete archive lists the positions of its blocks.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoIndex`] if it does not. Other errors mean the same, except
    /// [`MediumError::Io`], [`MediumError::NoMemory`] and [`MediumError::BeingRead`]: the end is
    /// damaged, and the archive can still be read from its start. `NoIndex`, too, if the archive
    /// begins with a [required](Special::is_required) special header that this reader cannot know:
    /// a pipe that reads the archive then fails with the reason.
    pub fn index(&self) -> Result<Index, OpenError> {
        let _claim = self.medium.claim()?;
        self.check_specials()?;
        Index::read(&self.medium, &self.session, &self.place)
    }

    /// Checks that the special headers at the start of the archive can be known.
    pub(super) fn check_specials(&self) -> Result<(), OpenError> {
        let can_know = |special: &Special| {
            special.id() & Special::OWN != 0 && self.on_special.is_some() || !special.is_required()
        };
        let mut specials = self.front()?.specials();
        if let Some((number, special)) = specials.find(|(_, special)| !can_know(special)) {
            return Err(OpenError::no_index(unknown_special(number, special)));
        }
        Ok(())
    }

    /// The place of the archive on its medium.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns a pipe that reads all blocks from the start, in order, on threads.
    pub fn read(&self) -> Reading {
        self.reading(self.head())
    }

    /// Returns a pipe that reads only `blocks`.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`], and [`MediumError::BeingRead`] while a pipe reads.
    pub fn read_blocks(&self, index: &Index, blocks: &BlockSet) -> Result<Reading, MediumError> {
        Ok(self.reading(self.head_of(index, blocks)?))
    }

    /// Returns the special headers at the start of the archive. The caller has claimed the medium.
    fn front(&self) -> Result<&Front, MediumError> {
        if let Some(front) = self.front.get() {
            return Ok(front);
        }
        let front = Front::read(
            &self.medium,
            self.session.id,
            &self.place,
            self.key.as_ref(),
        )?;
        Ok(self.front.get_or_init(|| front))
    }

    pub(super) fn reading(&self, head: ArchiveHead<M>) -> Reading {
        let (pipe, report) = self.pipe_of(head);
        Reading { pipe, report }
    }

    /// Returns the log of a salvaging reader.
    pub(crate) fn log(&self) -> Option<&DamageLog> {
        self.reporter.log.as_ref()
    }

    /// Returns a reader of the same archive that fails at the first damage.
    pub(crate) fn without_log(&self) -> Self {
        Self {
            reporter: DamageReporter::default(),
            ..self.clone()
        }
    }

    /// Returns a pipe that reads the blocks of `head`, without its tail, and the head's report. The
    /// tail may borrow what the caller has.
    pub(crate) fn pipe_of<'a>(&self, head: ArchiveHead<M>) -> (PipeBuilder<'a>, ReadReport) {
        let (report, check) = (head.report(), head.check());
        let decompress = match &self.reporter.log {
            Some(log) => decompress_salvaging(log),
            None => decompress(),
        };
        let pipe = Pipe::builder()
            .label("restore")
            .direction(Direction::Restore)
            .buffer_size(self.header.block_len.max(MIN_BUFFER_SIZE))
            .head(head)
            .stages(self.open_blocks())
            .stage(check)
            .stage(decompress);
        (pipe, report)
    }

    /// Returns the stage that decrypts, if the archive is encrypted.
    pub fn open_blocks<'a>(&self) -> Option<MiddleStage<'a>> {
        let key = self.key.clone()?;
        Some(seal::open_stage(key, self.reporter.log.clone()))
    }

    /// Returns the head that reads all blocks. After [`open_blocks`](Self::open_blocks) comes the
    /// head's [`check`](ArchiveHead::check). The pipe's buffers must be as large as the archive's
    /// blocks: [`ArchiveHeader::block_len`].
    pub fn head(&self) -> ArchiveHead<M> {
        let units = UnitReader::new(self.medium.clone(), Some(self.session.id));
        ArchiveHead::new(
            self.medium.clone(),
            units,
            self.header.block_len,
            self.reporter.clone(),
        )
        .at(self.place)
        .of_tree(self.header.content == Content::Tree)
        .encrypted(self.key.is_some())
        .on_special(self.on_special.clone())
    }

    /// Returns the head that reads only `blocks`.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`], and [`MediumError::BeingRead`] while a pipe reads.
    pub fn head_of(&self, index: &Index, blocks: &BlockSet) -> Result<ArchiveHead<M>, MediumError> {
        let _claim = self.medium.claim()?;
        let runs = index.runs(&self.medium, self.session.id, blocks)?;
        Ok(self.head().only(runs).after_front(self.front()?.clone()))
    }
}

/// The headers of an archive.
pub(super) struct Headers {
    pub(super) session: SessionHeader,
    pub(super) archive: ArchiveHeader,
    /// Number of the archive in the session.
    pub(super) number: u32,
}

/// Unlocks the key of an archive.
pub(super) fn unlock(
    header: &ArchiveHeader,
    secret: Option<&Secret>,
) -> Result<Option<SharedKey>, OpenError> {
    let is_encrypted = header.cipher != wire::CipherKind::None;
    match (is_encrypted, secret) {
        (true, None) => Err(OpenError::KeyNeeded),
        (false, Some(_)) => Err(OpenError::NotEncrypted),
        (false, None) => Ok(None),
        (true, Some(secret)) => {
            let slots: Vec<_> = header.slots.iter().map(KeySlot::from_bytes).collect();
            let opened = unlock_slot(&slots, secret, &header.key_id);
            let (slot, key) = opened.map_err(OpenError::Locked)?;
            Ok(Some(SharedKey::new(key, vec![header.slots[slot]])))
        }
    }
}

/// Finds both headers. The first record tells which session to search for. If that session has no
/// archive here, but another session has records, both are searched for in that one.
pub(super) fn find_headers<M: MediumReader>(
    medium: &SharedMedium<M>,
) -> Result<Headers, OpenError> {
    let mut units = UnitReader::new(medium.clone(), None);
    let error = match find_headers_in(&mut units, None) {
        Ok(headers) => return Ok(headers),
        Err(error) => error,
    };
    let Some(other) = units.other_session() else {
        return Err(error);
    };
    medium.clone().rewind()?;
    find_headers_in(&mut UnitReader::new(medium.clone(), Some(other)), None).map_err(|_| error)
}

/// Reads until both headers are found: in their own units, or as copies on a label, in a chunk
/// footer or in a locator. The session header must be that of the session whose records are read.
/// With `wanted`, the archive of this number is searched for, up to the next one.
pub(super) fn find_headers_in<M: MediumReader>(
    units: &mut UnitReader<M>,
    wanted: Option<(u32, Option<SessionHeader>)>,
) -> Result<Headers, OpenError> {
    let (wanted, mut session) =
        wanted.map_or((None, None), |(number, session)| (Some(number), session));
    let (mut archive, mut number) = (None::<ArchiveHeader>, 1);
    let mut first_damage = None;
    let mut ending = wanted.map(|wanted| Ending::new(wanted, false));
    loop {
        let (header, body) = match units.next()? {
            UnitEvent::Unit(header, _) => (header, units.body().to_vec()),
            UnitEvent::Label(header, body) => (header, body),
            UnitEvent::Damage(damage) => {
                first_damage.get_or_insert(damage.what);
                continue;
            }
            UnitEvent::Mark => continue,
            UnitEvent::End => break,
        };
        if ending.as_mut().is_some_and(|end| end.has_come(&header)) {
            break;
        }
        let is_wanted = wanted.is_none_or(|wanted| header.archive == wanted);
        match header.kind {
            UnitKind::SessionHeader => session = Some(SessionHeader::parse(&body)?),
            UnitKind::ArchiveHeader if is_wanted => {
                archive = Some(ArchiveHeader::parse(&body)?);
                number = header.archive;
            }
            UnitKind::ChunkFooter if is_wanted => {
                let footer = ChunkFooter::parse(&body)?;
                session = Some(SessionHeader::parse(&footer.session)?);
                archive = Some(ArchiveHeader::parse(&footer.archive)?);
                number = header.archive;
            }
            UnitKind::Locator if is_wanted => {
                let locator = Locator::parse(&body)?;
                session = Some(SessionHeader::parse(&locator.session)?);
                archive = Some(ArchiveHeader::parse(&locator.archive)?);
                number = header.archive;
            }
            _ => {}
        }
        if let (Some(session), Some(archive)) = (&session, &archive)
            && Some(session.id) == units.session()
        {
            return Ok(Headers {
                session: session.clone(),
                archive: archive.clone(),
                number,
            });
        }
    }
    let mut why = match (session, archive) {
        (None, _) => "no session header",
        (Some(_), None) => "no archive header",
        (Some(_), Some(_)) => "no headers that belong together",
    }
    .to_owned();
    if let Some(damage) = first_damage {
        why = format!("{why} ({damage})");
    }
    Err(OpenError::NoArchive(why))
}

/// Clones share the medium: one pipe at a time reads it.
impl<M> Clone for ArchiveReader<M> {
    fn clone(&self) -> Self {
        Self {
            medium: self.medium.clone(),
            session: self.session.clone(),
            header: self.header.clone(),
            place: self.place,
            origin: self.origin.clone(),
            front: Arc::clone(&self.front),
            key: self.key.clone(),
            opened_by: self.opened_by,
            reporter: self.reporter.clone(),
            on_special: self.on_special.clone(),
        }
    }
}

impl<M> fmt::Debug for ArchiveReader<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveReader")
            .field("name", &self.origin.as_ref().map(|origin| &origin.name))
            .finish_non_exhaustive()
    }
}
