//! The sessions and archives of a medium.
//!
//! ```text
//!   [label ... session footer mark mark][label ... session footer mark mark]  end
//!      ^             ^   <------------------ ^             ^   <-------------
//!      +-------------+  own label's position +-------------+
//! ```
//!
//! A finished session costs its footer, its label, and a record for each archive. Before its label
//! are the two marks and the footer of the session before it. What an unfinished session has is
//! found by reading all of it, and so is what a session has whose records are out of place. Nothing
//! here is authenticated.

use std::fmt;
use std::sync::Arc;

use crate::limits::{MAX_LISTED_ARCHIVES, MAX_RECORD, MAX_VOLUMES};
use crate::media::{Item, MediumError, MediumReader, Position};
use crate::stage::DamageEntry;
use crate::wire::{
    Content, CopySource, RecordHeader, RecordKind, SessionFooter, SessionHeader, SessionsBefore,
    Time, UnitHeader, UnitKind,
};

use super::super::open_error::OpenError;
use super::super::place::{Place, is_before};
use super::back_reader::BackReader;
use super::header_facts::HeaderFacts;
use super::listed_header::{
    MAX_COPIES_READ, PlacedEntry, list_archive, places_in_order, read_source,
};
use super::session_end::{ListDamage, NO_HEADER, check_end, is_misplaced};
use super::session_scan::{label_headers, locate, scan};
use super::shared_medium::SharedMedium;

/// The sessions of a medium, with their archives.
///
/// The list is not authenticated: it says what the medium says of itself. It has at most
/// [`MAX_LISTED_ARCHIVES`] sessions and archives: the last ones of a medium whose sessions are all
/// finished, and otherwise the first ones of its unfinished part, too.
///
/// ```
/// use datapipe::archive::{ArchiveReader, Sessions};
/// # use datapipe::archive::{Session, SessionOptions};
/// use datapipe::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nightly.tap");
/// # let tape = VirtualTape::create(&path, VolumeOptions::default())?;
/// # let session = Session::new(tape, SessionOptions::new(""))?;
/// # for name in ["accounts", "letters"] {
/// #     let archive = ArchiveOptions::stream(name).plan()?;
/// #     Pipe::builder().head(StreamHead::new(&b"data"[..])).archive_in(archive, &session).run()?;
/// # }
/// # session.finish()?;
///
/// let sessions = Sessions::read(VirtualTape::open(&path)?)?;
/// let letters = sessions
///     .archives()
///     .find(|archive| archive.name() == Some("letters"))
///     .expect("the medium has it");
/// let reading = ArchiveReader::open_listed(VirtualTape::open(&path)?, letters, None)?.read();
/// reading.pipe.tail(StreamRestore::new(std::io::sink())).run()?;
/// assert!(reading.report.snapshot().complete);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sessions {
    sessions: Vec<ListedSession>,
    is_cut: bool,
    damage: Vec<DamageEntry>,
}

/// A session of a medium.
#[derive(Clone)]
pub struct ListedSession {
    pub(super) facts: Arc<SessionFacts>,
    number: u32,
    pub(super) archives: Vec<ListedArchive>,
}

/// Facts about a session that its archives share.
#[derive(Clone)]
pub(super) struct SessionFacts {
    pub(super) id: [u8; 16],
    pub(super) header: Option<SessionHeader>,
    /// Its first label, or its first record if that is lost.
    pub(super) label: Position,
    pub(super) footer: Option<Position>,
    pub(super) volumes_before: u32,
}

/// An archive of a medium.
#[derive(Clone)]
pub struct ListedArchive {
    pub(super) session: Arc<SessionFacts>,
    pub(super) session_number: u32,
    pub(super) number: u32,
    pub(super) at: Position,
    pub(super) has_footer: bool,
    pub(super) blocks: u64,
    pub(super) header: Option<HeaderFacts>,
    /// The header is at its place, and was not found as a copy.
    pub(super) has_header: bool,
    /// Position of its footer, if that was not read.
    pub(super) footer: Option<Position>,
    pub(super) copy_of: Option<CopySource>,
    pub(super) until: Option<Position>,
}

impl Sessions {
    /// Lists a medium, from its end. Where a session is unfinished, its end is damaged, or its
    /// records are not where its footer says, the records of the medium are read instead, up to the
    /// next session.
    ///
    /// # Errors
    ///
    /// [`OpenError::Medium`] if the medium fails. Damage is not an error: what cannot be found is
    /// not in the list, and [`damage`](Self::damage) has what was found damaged.
    pub fn read<M: MediumReader>(medium: M) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let _claim = medium.claim()?;
        Self::list(&medium)
    }

    pub(super) fn list<M: MediumReader>(medium: &SharedMedium<M>) -> Result<Self, OpenError> {
        let (mut newest_first, mut total) = (Vec::new(), 0);
        let mut copies = MAX_COPIES_READ;
        let (mut until, mut damage) = (None, ListDamage::default());
        let is_cut = loop {
            if total >= MAX_LISTED_ARCHIVES {
                break true;
            }
            match step_back(medium, until, Some(&mut copies), &mut damage) {
                Ok(None) => break false,
                Ok(Some(session)) => {
                    total += 1 + session.archives.len();
                    until = Some(session.facts.label);
                    newest_first.push(session);
                }
                Err(error) if is_failure(&error) => return Err(error),
                Err(_) => {
                    let from = unfinished_label(medium, newest_first.last(), until)?;
                    let room = MAX_LISTED_ARCHIVES - total;
                    let (found, is_cut) = scan(medium, from, until, room)?;
                    found
                        .iter()
                        .rev()
                        .for_each(|one| damage.add_lost_headers(one));
                    total += found
                        .iter()
                        .map(|found| 1 + found.archives.len())
                        .sum::<usize>();
                    newest_first.extend(found.into_iter().rev());
                    match from {
                        Some(from) if !is_cut => until = Some(from),
                        _ => break is_cut,
                    }
                }
            }
        };
        // It was found from the end on.
        damage.0.reverse();
        Ok(Self::numbered(newest_first, is_cut, damage.0))
    }

    /// Numbers the sessions, and limits each to its own part of the medium.
    fn numbered(newest_first: Vec<ListedSession>, is_cut: bool, damage: Vec<DamageEntry>) -> Self {
        let mut sessions: Vec<_> = newest_first.into_iter().rev().collect();
        let known = sessions
            .first()
            .and_then(|first| first.facts.header.as_ref());
        let before = known
            .filter(|_| is_cut)
            .map_or(0, |first| first.before.count);
        let mut until = None;
        for (index, session) in sessions.iter_mut().enumerate().rev() {
            session.number = before.saturating_add(index as u32).saturating_add(1);
            // A session that was put into this one does not end it.
            let goes_on = |until: &Position| {
                let footer = session.facts.footer;
                footer.is_some_and(|footer| is_before(*until, footer))
            };
            for archive in &mut session.archives {
                archive.session_number = session.number;
                archive.until = until.filter(|until| !goes_on(until));
            }
            until = Some(session.facts.label);
        }
        Self {
            sessions,
            is_cut,
            damage,
        }
    }

    /// Returns what the header of a session records that follows everything on the medium. Reads
    /// the last session only, if that is finished.
    ///
    /// Open the medium to append first: while another program writes to it, the end moves.
    ///
    /// ```
    /// use datapipe::archive::{Session, SessionOptions, Sessions};
    /// use datapipe::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("nightly.tap");
    ///
    /// for name in ["monday", "tuesday"] {
    ///     let tape = VirtualTape::append(&path, VolumeOptions::default())?;
    ///     let before = Sessions::before_next(VirtualTape::open(&path)?)?;
    ///     let session = Session::new(tape, SessionOptions::new(name).after(before))?;
    ///     let archive = ArchiveOptions::stream(name).plan()?;
    ///     Pipe::builder()
    ///         .head(StreamHead::new(&b"the only copy"[..]))
    ///         .archive_in(archive, &session)
    ///         .run()?;
    ///     session.finish()?;
    /// }
    /// assert_eq!(Sessions::read(VirtualTape::open(&path)?)?.sessions().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpenError::Medium`] if the medium fails.
    pub fn before_next<M: MediumReader>(medium: M) -> Result<SessionsBefore, OpenError> {
        let medium = SharedMedium::new(medium);
        let _claim = medium.claim()?;
        let last = match step_back(&medium, None, None, &mut ListDamage::default()) {
            Ok(last) => last,
            Err(error) if is_failure(&error) => return Err(error),
            Err(_) => Self::list(&medium)?.sessions.pop(),
        };
        let Some(last) = last else {
            return Ok(SessionsBefore::default());
        };
        let (facts, known) = (&last.facts, last.facts.header.as_ref());
        let count = known.map_or(0, |header| header.before.count);
        let at = match facts.footer {
            Some(footer) => counted(&medium, footer, &last)?,
            None => facts.label,
        };
        let mut medium = medium.clone();
        Ok(SessionsBefore {
            count: count.saturating_add(1).max(last.number),
            id: facts.id,
            volume: medium.volume_id(at.volume)?.id,
            record: at.record,
            byte: at.byte,
        })
    }

    /// The sessions, in the order of the medium.
    pub fn sessions(&self) -> &[ListedSession] {
        &self.sessions
    }

    /// The archives of all sessions, in the order of the medium.
    pub fn archives(&self) -> impl Iterator<Item = &ListedArchive> {
        self.sessions.iter().flat_map(|session| &session.archives)
    }

    pub(super) fn archives_mut(&mut self) -> impl Iterator<Item = &mut ListedArchive> {
        let sessions = self.sessions.iter_mut();
        sessions.flat_map(|session| &mut session.archives)
    }

    /// Reads the footers of all archives, too, a record for each: they say which archives are
    /// copies. `medium` is the one that was listed.
    ///
    /// ```
    /// use datapipe::archive::{Sessions, StoredArchive};
    /// use datapipe::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, other) = (dir.path().join("nightly.tap"), dir.path().join("copy.tap"));
    /// # let archive = ArchiveOptions::stream("nightly").plan()?;
    /// # let tape = VirtualTape::create(&path, VolumeOptions::default())?;
    /// # Pipe::builder().head(StreamHead::new(&b"data"[..])).archive(archive, tape).run()?;
    ///
    /// let source = StoredArchive::open(VirtualTape::open(&path)?)?;
    /// let tape = VirtualTape::create(&other, VolumeOptions::default())?;
    /// source.read().pipe.archive(source.copy().plan()?, tape).run()?;
    ///
    /// let sessions = Sessions::read(VirtualTape::open(&other)?)?;
    /// let sessions = sessions.with_sources(VirtualTape::open(&other)?)?;
    /// let copy = sessions.archives().next().expect("the medium has it");
    /// assert_eq!(copy.copy_of().map(|from| from.session), Some(source.session().id));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OpenError::Medium`] if the medium fails. A footer that is damaged says nothing.
    pub fn with_sources<M: MediumReader>(mut self, medium: M) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let _claim = medium.claim()?;
        for archive in self.archives_mut() {
            archive.add_source(&medium)?;
        }
        Ok(self)
    }

    /// True if the medium has sessions that are not in the list, for which there was no room.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Damage that the list has met: of labels, of the headers of archives, and of what follows the
    /// last archive of each session. Records that are out of place are damage, too.
    ///
    /// A list reads little, so a medium may have other damage: reading an archive finds its own.
    pub fn damage(&self) -> &[DamageEntry] {
        &self.damage
    }
}

impl ListedSession {
    pub(super) fn new(facts: Arc<SessionFacts>, archives: Vec<ListedArchive>) -> Self {
        Self {
            facts,
            number: 0,
            archives,
        }
    }

    /// Number of the session on the medium, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Id of the session.
    pub fn id(&self) -> &[u8; 16] {
        &self.facts.id
    }

    /// The header of the session, if one of its copies can be read.
    pub fn header(&self) -> Option<&SessionHeader> {
        self.facts.header.as_ref()
    }

    /// Position of its label on the medium, or of its first record if that is lost.
    pub fn position(&self) -> Position {
        self.facts.label
    }

    /// True if the session has its footer: its writer came to the end.
    pub fn is_finished(&self) -> bool {
        self.facts.footer.is_some()
    }

    /// Its archives, in the order of their numbers.
    pub fn archives(&self) -> &[ListedArchive] {
        &self.archives
    }
}

impl ListedArchive {
    /// Number of its session on the medium, from 1.
    pub fn session_number(&self) -> u32 {
        self.session_number
    }

    /// Id of its session.
    pub fn session_id(&self) -> &[u8; 16] {
        &self.session.id
    }

    /// Number of the archive in its session, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Id of the archive, if its header can be read.
    pub fn id(&self) -> Option<&[u8; 16]> {
        self.header.as_ref().map(|header| &header.id)
    }

    /// Name of the archive, if it can be read. That of an encrypted archive is encrypted, too:
    /// [`Sessions::with_names`] reads it.
    pub fn name(&self) -> Option<&str> {
        self.header
            .as_ref()
            .and_then(|header| header.name.as_deref())
    }

    pub(super) fn set_name(&mut self, name: String) {
        if let Some(header) = &mut self.header {
            header.name = Some(name);
        }
    }

    /// Time at which the archive was begun, if its header can be read.
    pub fn created(&self) -> Option<Time> {
        self.header.as_ref().map(|header| header.created)
    }

    /// Stream or tree, if its header can be read.
    pub fn content(&self) -> Option<Content> {
        self.header.as_ref().map(|header| header.content)
    }

    /// True if the archive is encrypted; `None` if its header cannot be read.
    pub fn is_encrypted(&self) -> Option<bool> {
        self.header.as_ref().map(|header| header.key_id.is_some())
    }

    /// SHA-256 of the identity of its header, if that can be read: of all that its key depends on.
    pub fn header_hash(&self) -> Option<&[u8; 32]> {
        self.header.as_ref().map(|header| &header.hash)
    }

    /// True if the archive has its footer: its writer came to the end.
    pub fn is_finished(&self) -> bool {
        self.has_footer
    }

    /// Number of its blocks, of all kinds, if it has its footer.
    pub fn blocks(&self) -> Option<u64> {
        self.has_footer.then_some(self.blocks)
    }

    /// The session from which the archive was copied, if it is a copy and has its footer, and
    /// [`Sessions::with_sources`] or [`with_source`](Self::with_source) has read that. It may
    /// itself have been a copy. Nothing proves it: the copy was made without a key.
    pub fn copy_of(&self) -> Option<CopySource> {
        self.copy_of
    }

    /// Reads the footer of the archive, as [`Sessions::with_sources`] does for all. `medium` is the
    /// one that was listed.
    ///
    /// # Errors
    ///
    /// [`OpenError::Medium`] if the medium fails. A footer that is damaged says nothing.
    pub fn with_source<M: MediumReader>(mut self, medium: M) -> Result<Self, OpenError> {
        let medium = SharedMedium::new(medium);
        let _claim = medium.claim()?;
        self.add_source(&medium)?;
        Ok(self)
    }

    fn add_source<M: MediumReader>(&mut self, medium: &SharedMedium<M>) -> Result<(), OpenError> {
        if let Some(at) = self.footer.take() {
            self.copy_of = read_source(medium, self.session.id, at)?;
        }
        Ok(())
    }

    /// The place of the archive, for its reader.
    pub(super) fn place(&self) -> Place {
        Place {
            archive: self.number,
            is_selected: true,
            volumes_before: self.session.volumes_before,
            start: Some(self.at),
            footer: self.session.footer,
            until: self.until,
        }
    }
}

impl fmt::Debug for ListedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedSession")
            .field("number", &self.number)
            .field("archives", &self.archives)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ListedArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedArchive")
            .field("session", &self.session_number)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// True if the medium failed, so that reading it in another way is of no use.
pub(super) fn is_failure(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Medium(
            MediumError::Io { .. } | MediumError::NoMemory { .. } | MediumError::BeingRead
        )
    )
}

/// Most marks that are passed at the end of a medium: a crash may leave zeros, which are marks.
const MAX_MARKS: u32 = 1 << 18;

/// Most bytes of records that are passed to find the start of a footer.
const MAX_FOOTER: usize = MAX_RECORD;

/// Finds the finished session before `until`, or at the end of the medium. Returns nothing at the
/// start of the medium. With `copies`, the bytes that may be read for copies of damaged headers,
/// it reads the headers of its archives, too.
///
/// # Errors
///
/// If the session has no footer, or the footer is not what it should be. What is damage, and not
/// only unfinished, is noted.
fn step_back<M: MediumReader>(
    medium: &SharedMedium<M>,
    until: Option<Position>,
    copies: Option<&mut u64>,
    damage: &mut ListDamage,
) -> Result<Option<ListedSession>, OpenError> {
    let Some((at, record)) = footer_before(medium, until, damage)? else {
        return Ok(None);
    };
    let mut reader = BackReader::new(medium, record.session);
    reader.seek(at)?;
    let footer = reader.read_unit(UnitKind::SessionFooter);
    let footer = footer.and_then(|(_, body)| Ok(SessionFooter::parse(&body)?));
    let footer = match footer {
        Err(error) if !is_failure(&error) => {
            damage.add(Some(at), "the footer of a session is damaged");
            return Err(error);
        }
        footer => footer?,
    };
    let volumes_before = at.volume.checked_sub(record.volume);
    let label = Position {
        volume: volumes_before.unwrap_or_default().saturating_add(1),
        record: footer.label.record,
        byte: footer.label.byte,
    };
    let is_after = !is_before(label, at) && label.volume >= at.volume && label.byte > 0;
    let Some(volumes_before) = volumes_before.filter(|_| !is_after) else {
        let what = "the footer of a session names a place for its label that cannot be right";
        damage.add(Some(at), what);
        return Err(OpenError::no_index("its label is not before its footer"));
    };
    let facts = Arc::new(SessionFacts {
        id: record.session,
        header: Some(read_label(medium, label, record.session, damage)?),
        label,
        footer: Some(at),
        volumes_before,
    });
    let entries: Vec<_> = places_in_order(&footer.archives, &facts).collect();
    check_end(medium, &facts, &entries, &record, damage)?;
    let archives = list_archives(medium, &facts, &entries, copies, damage)?;
    Ok(Some(ListedSession::new(facts, archives)))
}

/// Lists the archives of a finished session.
///
/// # Errors
///
/// If the medium fails, or an archive is not at its place, which is noted.
fn list_archives<M: MediumReader>(
    medium: &SharedMedium<M>,
    facts: &Arc<SessionFacts>,
    entries: &[PlacedEntry],
    mut copies: Option<&mut u64>,
    damage: &mut ListDamage,
) -> Result<Vec<ListedArchive>, OpenError> {
    let (mut archives, mut known) = (Vec::new(), facts.label);
    for (entry, number) in entries.iter().zip(1..) {
        let with_headers = copies.is_some();
        let mut archive = list_archive(medium, facts, entry, number, copies.as_deref_mut())?;
        if archive.has_header {
            known = archive.at;
        } else if with_headers {
            let at = archive.at;
            if entry.header.is_some()
                && is_misplaced(medium, facts.id, at, (UnitKind::ArchiveHeader, number))?
            {
                let what = format!("archive {number} of the session does not begin here");
                damage.add(Some(at), format!("{what}, where its session has it"));
                return Err(OpenError::no_index("an archive is not at its place"));
            }
            let what = match archive.header {
                Some(_) => "its header is damaged, and a copy of it was read",
                None => NO_HEADER,
            };
            damage.add(Some(at), format!("archive {number} of the session: {what}"));
            // It may be before its place: bytes may be missing.
            archive.at = known;
        }
        archives.push(archive);
    }
    Ok(archives)
}

/// Finds the record before `until`, or before the end of the medium, that begins with a session's
/// footer, or with what may be one, and is followed by two marks. Returns nothing at the start of
/// the medium.
fn footer_before<M: MediumReader>(
    medium: &SharedMedium<M>,
    until: Option<Position>,
    damage: &mut ListDamage,
) -> Result<Option<(Position, RecordHeader)>, OpenError> {
    let mut medium = medium.clone();
    match until {
        Some(until) => medium.seek(until)?,
        None => medium.seek_end(None)?,
    }
    let (mut record, mut marks, mut passed) = (Vec::new(), 0, 0);
    let mut volume = until.map(|until| until.volume);
    loop {
        match medium.read_back(&mut record)? {
            Item::Mark(_) if marks < MAX_MARKS => marks += 1,
            Item::Record(at) => {
                if let Some(header) = footer_in(&record, at, marks, damage)? {
                    return Ok(Some((at, header)));
                }
                passed += record.len();
                if passed > MAX_FOOTER {
                    return Err(OpenError::no_index("its end is longer than a footer"));
                }
            }
            Item::End => {
                let current = match (volume, medium.read(&mut record)?) {
                    (Some(volume), _) => volume,
                    (_, Item::Record(at) | Item::Mark(at) | Item::Damaged { at, .. }) => at.volume,
                    (None, Item::End) => last_volume(&mut medium),
                };
                if current <= 1 {
                    return match marks == 0 && passed == 0 {
                        true => Ok(None),
                        false => Err(OpenError::no_index("its first volume has no footer")),
                    };
                }
                volume = Some(current - 1);
                medium.seek_end(volume)?;
            }
            Item::Mark(_) | Item::Damaged { .. } => {
                return Err(OpenError::no_index("there is damage at its end"));
            }
        }
    }
}

/// Returns the header of a record, with `marks` marks after it, that begins with a session's
/// footer, or with a unit whose header is damaged; nothing if no unit begins with the record.
///
/// # Errors
///
/// If it ends an unfinished session, or is damaged, which is noted.
fn footer_in(
    record: &[u8],
    at: Position,
    marks: u32,
    damage: &mut ListDamage,
) -> Result<Option<RecordHeader>, OpenError> {
    if marks < 2 {
        return Err(OpenError::no_index("it does not end with two marks"));
    }
    let (header, content) = match RecordHeader::parse(record) {
        Ok(parsed) => parsed,
        Err(error) => {
            let what = format!("the last record of a session is damaged ({error})");
            damage.add(Some(at), what);
            return Err(error.into());
        }
    };
    let unit = UnitHeader::parse(content);
    let is_other = unit.is_ok_and(|unit| unit.kind != UnitKind::SessionFooter);
    match header.first {
        _ if header.kind != RecordKind::Data => {
            Err(OpenError::no_index("it does not end with two marks"))
        }
        Some(0) if is_other => Err(OpenError::no_index("it does not end with its footer")),
        first => Ok((first == Some(0)).then_some(header)),
    }
}

/// Returns the number of the last volume of a medium whose last volume is empty: it was begun, and
/// nothing was written to it.
fn last_volume<M: MediumReader>(medium: &mut SharedMedium<M>) -> u32 {
    let mut exists = |volume| {
        !matches!(
            medium.seek(Position::start_of(volume)),
            Err(MediumError::NoSuchPosition { .. })
        )
    };
    let mut next = 2;
    while next < MAX_VOLUMES && exists(next) {
        next = next.saturating_mul(2).min(MAX_VOLUMES);
    }
    let (mut exists_to, mut ends_at) = (1, next);
    while exists_to + 1 < ends_at {
        let middle = exists_to.midpoint(ends_at);
        match exists(middle) {
            true => exists_to = middle,
            false => ends_at = middle,
        }
    }
    exists_to
}

/// Reads the label of a session, and returns the copy of the session's header. A label that is
/// elsewhere is damaged, or several media were put together.
fn read_label<M: MediumReader>(
    medium: &SharedMedium<M>,
    label: Position,
    session: [u8; 16],
    damage: &mut ListDamage,
) -> Result<SessionHeader, OpenError> {
    let (mut medium, mut record) = (medium.clone(), Vec::new());
    let found = medium.seek(label).and_then(|()| medium.read(&mut record));
    match found.map_err(OpenError::from) {
        Err(error) if is_failure(&error) => return Err(error),
        Ok(Item::Record(_)) => {
            if let Ok((header, content)) = RecordHeader::parse(&record)
                && (header.kind, header.session) == (RecordKind::Label, session)
                && let Some(header) = label_headers(content)
            {
                return Ok(header);
            }
        }
        _ => {}
    }
    let what = "the label of a session is damaged, or is not where its footer has it";
    damage.add(Some(label), what);
    Err(OpenError::NoArchive("a label is damaged".to_owned()))
}

/// Returns the label of an unfinished session, which the session after it names.
fn unfinished_label<M: MediumReader>(
    medium: &SharedMedium<M>,
    next: Option<&ListedSession>,
    until: Option<Position>,
) -> Result<Option<Position>, OpenError> {
    let header = next.and_then(|next| next.facts.header.as_ref());
    match header.zip(until) {
        Some((header, until)) => locate(medium, &header.before, until),
        None => Ok(None),
    }
}

/// Returns the position of a session's footer, with the number of records before it, which is not
/// known of a position that was found from the end.
fn counted<M: MediumReader>(
    medium: &SharedMedium<M>,
    footer: Position,
    session: &ListedSession,
) -> Result<Position, OpenError> {
    let on_volume = |at: &Position| at.volume == footer.volume && is_before(*at, footer);
    let archives = session.archives.iter().rev();
    let known = archives.map(|archive| archive.footer.unwrap_or(archive.at));
    let mut known = known.chain([session.facts.label]);
    let from = known.find(on_volume);
    let mut medium = medium.clone();
    medium.seek(from.unwrap_or_else(|| Position::start_of(footer.volume)))?;
    let mut record = Vec::new();
    loop {
        match medium.read(&mut record)? {
            Item::Record(at) if at.byte == footer.byte && footer.byte > 0 => return Ok(at),
            Item::Record(at) | Item::Mark(at) | Item::Damaged { at, .. }
                if is_before(at, footer) => {}
            // The number is a hint, and the medium has none that can be found.
            _ => {
                return Ok(Position {
                    record: 0,
                    ..footer
                });
            }
        }
    }
}
