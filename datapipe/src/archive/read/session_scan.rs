//! Finds sessions by reading records, where their footers are missing.
//!
//! Bounded memory: a record, and the list. Every record is read once.

use std::sync::Arc;

use crate::media::{Item, MediumError, MediumReader, Position};
use crate::wire::{
    ArchiveFooter, ArchiveHeader, CopySource, RecordHeader, RecordKind, SessionHeader,
    SessionsBefore, UNIT_HEADER_LEN, UnitHeader, UnitKind,
};

use super::super::open_error::OpenError;
use super::super::place::{Place, is_before};
use super::front::origin_of;
use super::header_facts::{HeaderFacts, read_header};
use super::session_list::{ListedArchive, ListedSession, SessionFacts, is_failure};
use super::shared_medium::SharedMedium;

/// A session whose records were found.
struct Found {
    facts: SessionFacts,
    archives: Vec<FoundArchive>,
}

/// An archive of which units were found.
struct FoundArchive {
    number: u32,
    at: Position,
    header: Option<HeaderFacts>,
    /// Number of its blocks, if its footer was found.
    blocks: Option<u64>,
    /// The session of which it is a copy, if its footer says so.
    copy_of: Option<CopySource>,
}

/// Reads the records from `from`, or from the start of the medium, up to `until`, or to its end.
/// Returns at most `room` sessions and archives, and true if there are more.
pub(super) fn scan<M: MediumReader>(
    medium: &SharedMedium<M>,
    from: Option<Position>,
    until: Option<Position>,
    room: usize,
) -> Result<(Vec<ListedSession>, bool), OpenError> {
    let mut reader = medium.clone();
    match from {
        Some(from) => reader.seek(from)?,
        None => reader.rewind()?,
    }
    let limit = Place {
        until,
        ..Place::ONLY
    };
    let (mut record, mut found, mut left) = (Vec::new(), Vec::<Found>::new(), room);
    let is_cut = loop {
        match reader.read(&mut record) {
            Ok(Item::Record(at) | Item::Mark(at) | Item::Damaged { at, .. })
                if limit.is_past(at) =>
            {
                break false;
            }
            Ok(Item::Record(at)) => {
                if !note_record(&mut found, &record, at, &mut left) {
                    break true;
                }
            }
            Ok(Item::Mark(_) | Item::Damaged { .. }) => {}
            Ok(Item::End)
            | Err(MediumError::MissingVolume { .. } | MediumError::WrongVolume { .. }) => {
                if !next_volume(&mut reader)? {
                    break false;
                }
            }
            Err(error) => return Err(error.into()),
        }
    };
    let sessions = found.into_iter().map(|found| found.listed(medium));
    Ok((sessions.collect::<Result<_, _>>()?, is_cut))
}

/// Goes to the next volume that exists. Returns false if there is none.
fn next_volume<M: MediumReader>(medium: &mut SharedMedium<M>) -> Result<bool, MediumError> {
    loop {
        match medium.next_volume() {
            Err(MediumError::MissingVolume { .. } | MediumError::WrongVolume { .. }) => {}
            other => return other,
        }
    }
}

/// Notes a record. Returns false if there is no room for another session or archive.
fn note_record(found: &mut Vec<Found>, record: &[u8], at: Position, left: &mut usize) -> bool {
    let Ok((header, content)) = RecordHeader::parse(record) else {
        return true;
    };
    if !matches!(header.kind, RecordKind::Label | RecordKind::Data) {
        return true;
    }
    // Records of an earlier session among those of another one belong to a tape that was itself
    // backed up, or are copies.
    let is_last = |found: &Found| found.facts.id == header.session;
    if !found.last().is_some_and(is_last) {
        let Some(volumes_before) = at.volume.checked_sub(header.volume) else {
            return true;
        };
        if found.iter().any(is_last) {
            return true;
        }
        if *left == 0 {
            return false;
        }
        *left -= 1;
        let facts = SessionFacts {
            id: header.session,
            header: None,
            label: at,
            footer: None,
            volumes_before,
        };
        let archives = Vec::new();
        found.push(Found { facts, archives });
    }
    let session = found.last_mut().expect("there is one");
    if header.kind == RecordKind::Label {
        let known = session.facts.header.take();
        session.facts.header = known.or_else(|| label_headers(content));
        return true;
    }
    session.note_units(&header, content, at, left)
}

/// Returns the copy of the session's header on a label.
pub(super) fn label_headers(content: &[u8]) -> Option<SessionHeader> {
    let (header, body) = whole_unit(content)?;
    let is_session = header.kind == UnitKind::SessionHeader;
    is_session
        .then(|| SessionHeader::parse(body).ok())
        .flatten()
}

/// Returns the unit at the start of the bytes, if they have all of it.
fn whole_unit(bytes: &[u8]) -> Option<(UnitHeader, &[u8])> {
    let header = UnitHeader::parse(bytes).ok()?;
    let body = bytes
        .get(UNIT_HEADER_LEN..)?
        .get(..header.stored as usize)?;
    (crc32fast::hash(body) == header.body_crc).then_some((header, body))
}

impl Found {
    /// Notes the units that begin in a record. Returns false if there is no room for an archive.
    fn note_units(
        &mut self,
        record: &RecordHeader,
        content: &[u8],
        at: Position,
        left: &mut usize,
    ) -> bool {
        let Some(mut offset) = record.first.map(|first| first as usize) else {
            return true;
        };
        while let Some(bytes) = content.get(offset..) {
            let Ok(unit) = UnitHeader::parse(bytes) else {
                return true;
            };
            let position = record.position.checked_add(offset as u64);
            if !record.session.starts_with(&unit.session) || position != Some(unit.position) {
                return true;
            }
            match unit.kind {
                UnitKind::SessionFooter => self.facts.footer = Some(at),
                UnitKind::SessionHeader if self.facts.header.is_none() => {
                    self.facts.header = label_headers(bytes);
                }
                _ if unit.archive > 0 && !self.note_archive(&unit, bytes, at, left) => {
                    return false;
                }
                _ => {}
            }
            offset += unit.unit_len();
        }
        true
    }

    /// Notes a unit of an archive.
    fn note_archive(
        &mut self,
        unit: &UnitHeader,
        bytes: &[u8],
        at: Position,
        left: &mut usize,
    ) -> bool {
        let is_it = |archive: &FoundArchive| archive.number == unit.archive;
        if !self.archives.last().is_some_and(is_it) {
            if self.archives.iter().any(is_it) {
                return true;
            }
            if *left == 0 {
                return false;
            }
            *left -= 1;
            self.archives.push(FoundArchive {
                number: unit.archive,
                at,
                header: None,
                blocks: None,
                copy_of: None,
            });
        }
        let is_first = unit.kind == UnitKind::Block && unit.number == 0;
        if !is_first && !matches!(unit.kind, UnitKind::ArchiveHeader | UnitKind::ArchiveFooter) {
            // Their bodies are not looked at.
            return true;
        }
        let archive = self.archives.last_mut().expect("there is one");
        let body = whole_unit(bytes).map(|(_, body)| body);
        match (unit.kind, body) {
            (UnitKind::ArchiveHeader, Some(body)) => {
                archive.at = at;
                let header = ArchiveHeader::parse(body).ok();
                archive.header = header.map(|header| HeaderFacts::of(&header, None));
            }
            (UnitKind::Block, Some(body)) => {
                let origin = origin_of(unit, body, None);
                if let Some(header) = &mut archive.header {
                    header.name = origin.map(|origin| origin.name);
                }
            }
            (UnitKind::ArchiveHeader, None) => archive.at = at,
            (UnitKind::ArchiveFooter, Some(body)) => {
                let footer = ArchiveFooter::parse(body).ok();
                archive.blocks = footer.map(|footer| footer.blocks);
                archive.copy_of = footer.and_then(|footer| footer.copy_of);
            }
            _ => {}
        }
        true
    }

    /// The session as a list has it. Headers and names that are in several records are read again.
    fn listed<M: MediumReader>(self, medium: &SharedMedium<M>) -> Result<ListedSession, OpenError> {
        let facts = Arc::new(self.facts);
        let mut archives = Vec::new();
        for FoundArchive {
            number,
            at,
            mut header,
            blocks,
            copy_of,
        } in self.archives
        {
            let is_known = |header: &HeaderFacts| header.name.is_some() || header.key_id.is_some();
            if !header.as_ref().is_some_and(is_known) {
                header = match read_header(medium, facts.id, at, number) {
                    Err(error) if is_failure(&error) => return Err(error),
                    found => found.ok().or(header),
                };
            }
            archives.push(ListedArchive {
                session: Arc::clone(&facts),
                session_number: 0,
                number,
                at,
                has_footer: blocks.is_some(),
                blocks: blocks.unwrap_or_default(),
                header,
                footer: None,
                copy_of,
                until: None,
            });
        }
        Ok(ListedSession::new(facts, archives))
    }
}

/// Most volumes in which the label of an unfinished session is looked for.
const MAX_VOLUMES_BACK: u32 = 1024;

/// Finds the label of an unfinished session before `until`, by what the header of the session after
/// it says.
pub(super) fn locate<M: MediumReader>(
    medium: &SharedMedium<M>,
    before: &SessionsBefore,
    until: Position,
) -> Result<Option<Position>, OpenError> {
    let (mut medium, mut record) = (medium.clone(), Vec::new());
    if before.volume == [0; 16] {
        return Ok(None);
    }
    for volume in (1..=until.volume).rev().take(MAX_VOLUMES_BACK as usize) {
        match medium.volume_id(volume) {
            Ok(found) if found.id == before.volume => {}
            _ => continue,
        }
        let label = Position {
            volume,
            record: before.record,
            byte: before.byte,
        };
        let is_found = is_before(label, until)
            && medium.seek(label).is_ok()
            && matches!(medium.read(&mut record), Ok(Item::Record(_)))
            && RecordHeader::parse(&record).is_ok_and(|(header, _)| {
                (header.kind, header.session) == (RecordKind::Label, before.id)
            });
        return Ok(is_found.then_some(label));
    }
    Ok(None)
}
