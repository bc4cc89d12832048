//! Finds sessions by reading records, where their footers are missing.
//!
//! ```text
//!   A A A B A A | B B B B      a stray record of B, then B itself
//!         \---> interrupted: it goes on after the last record of A, or begins anew
//! ```
//!
//! Bounded memory: a record, and the list. Every record is read once, and again only for a header
//! or a name that goes on in the next one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::media::{Item, MediumError, MediumReader, Position};
use crate::wire::{
    ArchiveFooter, ArchiveHeader, CopySource, Locator, RecordHeader, RecordKind, SessionHeader,
    SessionsBefore, UNIT_HEADER_LEN, UnitHeader, UnitKind,
};

use super::super::open_error::OpenError;
use super::super::place::{Place, is_before};
use super::front::origin_of;
use super::header_facts::HeaderFacts;
use super::listed_header::read_header;
use super::session_list::{ListedArchive, ListedSession, SessionFacts, is_failure};
use super::shared_medium::SharedMedium;

/// Id of a session.
type Id = [u8; 16];

/// The sessions of which records were found.
struct Scan {
    /// By their indexes, which ascend in the order in which they begin. One that begins anew gets
    /// another index, and leaves nothing at its old one.
    sessions: BTreeMap<usize, Found>,
    /// Index of the next session.
    next: usize,
    /// Index of each session.
    by_id: HashMap<Id, usize>,
    /// Index of the session to which the last record belonged.
    current: Option<usize>,
    /// The first damage after the last record that was noted. Records may be in it.
    damage: Option<Position>,
    /// Number of sessions and archives for which there is room.
    left: usize,
}

/// A session whose records were found.
struct Found {
    facts: SessionFacts,
    has_label: bool,
    /// The last record in which a unit was found. Before the first one it is where the session may
    /// have begun: its label, or the damage before its first record.
    last_unit: Position,
    /// Number of its records, and the sequence numbers of the first and of the last one.
    records: u64,
    first: u64,
    last: u64,
    /// The session of which a record came after those of this one, which was there before, and the
    /// number of records that session had by then. One of the two records is out of place.
    interrupted: Option<(Id, u64)>,
    /// By their numbers.
    archives: BTreeMap<u32, FoundArchive>,
}

/// An archive of which units were found.
struct FoundArchive {
    at: Position,
    header: Option<HeaderFacts>,
    /// The record in which its header begins: usually `at`.
    header_at: Option<Position>,
    /// The header is a copy in a locator.
    is_copy: bool,
    /// The header goes on in the next record.
    is_cut: bool,
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
    let (mut record, mut scan) = (Vec::new(), Scan::new(room));
    let is_cut = loop {
        match reader.read(&mut record) {
            Ok(Item::Record(at) | Item::Mark(at) | Item::Damaged { at, .. })
                if limit.is_past(at) =>
            {
                break false;
            }
            Ok(Item::Record(at)) => {
                if !scan.note_record(&record, at) {
                    break true;
                }
            }
            Ok(Item::Damaged { at, .. }) => scan.note_damage(at),
            Ok(Item::Mark(_)) => {}
            Ok(Item::End)
            | Err(MediumError::MissingVolume { .. } | MediumError::WrongVolume { .. }) => {
                if !next_volume(&mut reader)? {
                    break false;
                }
            }
            Err(error) => return Err(error.into()),
        }
    };
    Ok((scan.listed(medium)?, is_cut))
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

impl Scan {
    fn new(room: usize) -> Self {
        Self {
            sessions: BTreeMap::new(),
            next: 0,
            by_id: HashMap::new(),
            current: None,
            damage: None,
            left: room,
        }
    }

    /// Notes bytes in which a reader of the session after them may find units.
    fn note_damage(&mut self, at: Position) {
        self.damage.get_or_insert(at);
    }

    /// Notes a record. Returns false if there is no room for another session or archive.
    fn note_record(&mut self, record: &[u8], at: Position) -> bool {
        let Ok((header, content)) = RecordHeader::parse(record) else {
            self.note_damage(at);
            return true;
        };
        if !matches!(header.kind, RecordKind::Label | RecordKind::Data) {
            return true;
        }
        let Some(volumes_before) = at.volume.checked_sub(header.volume) else {
            return true;
        };
        match self.place_of(&header) {
            RecordPlace::Current => {}
            RecordPlace::Next(index) => self.go_to(index),
            RecordPlace::Elsewhere => return true,
            RecordPlace::New => {
                let old = self.by_id.get(&header.session);
                let old = old.and_then(|index| self.sessions.remove(index));
                // What is taken out makes room.
                self.left += old.as_ref().map_or(0, |old| 1 + old.archives.len());
                if self.left == 0 {
                    return false;
                }
                self.left -= 1;
                let (id, first) = (header.session, header.sequence);
                let damage = self.damage.filter(|_| header.sequence > 0);
                let mut found = Found::new(id, at, damage, volumes_before, first);
                if let Some(old) = old {
                    (found.has_label, found.facts.header) = (old.has_label, old.facts.header);
                }
                self.begin(found);
            }
        }
        self.damage = None;
        let current = self.current;
        let Some(session) = current.and_then(|index| self.sessions.get_mut(&index)) else {
            return true;
        };
        session.records += 1;
        session.last = session.last.max(header.sequence);
        if header.kind == RecordKind::Label {
            session.has_label = true;
            let known = session.facts.header.take();
            session.facts.header = known.or_else(|| label_headers(content));
            return true;
        }
        session.note_units(&header, content, at, &mut self.left)
    }

    /// Decides where a record belongs.
    ///
    /// A record of an earlier session that comes after the last one of it continues that session:
    /// those in between were out of place, or it is itself, which the next record shows. Any other
    /// one belongs to a tape that was itself backed up, or is a copy. A session of which a record
    /// was out of place begins where its first record is.
    fn place_of(&self, header: &RecordHeader) -> RecordPlace {
        let index = self.by_id.get(&header.session);
        let Some((&index, found)) = index.and_then(|at| self.sessions.get_key_value(at)) else {
            return RecordPlace::New;
        };
        if self.current == Some(index) {
            return RecordPlace::Current;
        }
        let is_label = header.kind == RecordKind::Label;
        match found.interrupted {
            // Its label was out of place: it begins here.
            Some(_) if found.archives.is_empty() => RecordPlace::New,
            _ if header.sequence > found.last => RecordPlace::Next(index),
            Some(_) => RecordPlace::New,
            // What was there may have been one record of it that was out of place.
            None if is_label && found.may_be_stray() => RecordPlace::New,
            None => RecordPlace::Elsewhere,
        }
    }

    /// Continues an earlier session.
    fn go_to(&mut self, index: usize) {
        let returned = self.sessions.get_mut(&index).map(|found| {
            found.interrupted = None;
            (found.facts.id, found.records)
        });
        let left = self.current.replace(index);
        // Going back to an earlier session interrupts the one that came after it.
        if let Some(left) = left.filter(|&left| left > index)
            && let Some(found) = self.sessions.get_mut(&left)
        {
            found.interrupted = returned;
        }
    }

    fn begin(&mut self, found: Found) {
        let index = self.next;
        self.next += 1;
        self.by_id.insert(found.facts.id, index);
        self.current = Some(index);
        self.sessions.insert(index, found);
    }

    /// The sessions as a list has them, without those that are stray records of another medium.
    fn listed<M: MediumReader>(
        mut self,
        medium: &SharedMedium<M>,
    ) -> Result<Vec<ListedSession>, OpenError> {
        let records_of = |id: &Id| {
            let found = self.by_id.get(id);
            let found = found.and_then(|index| self.sessions.get(index));
            found.map_or(0, |one| one.records)
        };
        let is_stray = |found: &Found| {
            let has_content = found.has_label && !found.archives.is_empty();
            let after = found
                .interrupted
                .map_or(0, |(id, before)| records_of(&id).saturating_sub(before));
            !has_content && after >= found.records
        };
        let strays = self.sessions.iter().filter(|(_, found)| is_stray(found));
        let strays: Vec<usize> = strays.map(|(&index, _)| index).collect();
        for index in strays {
            self.sessions.remove(&index);
        }
        self.sessions
            .into_values()
            .map(|found| found.listed(medium))
            .collect()
    }
}

/// Place of a record among the sessions.
enum RecordPlace {
    /// To the session of the record before.
    Current,
    /// To an earlier session, which it continues.
    Next(usize),
    /// To no session that is there.
    Elsewhere,
    /// To a session that begins with it.
    New,
}

/// Returns the copy of the session's header on a label.
pub(super) fn label_headers(content: &[u8]) -> Option<SessionHeader> {
    let (header, body) = whole_unit(content)?;
    let is_session = header.kind == UnitKind::SessionHeader;
    is_session
        .then(|| SessionHeader::parse(body).ok())
        .flatten()
}

/// Returns the unit at the start of the bytes, if they have all of it and its body is intact.
pub(super) fn whole_unit(bytes: &[u8]) -> Option<(UnitHeader, &[u8])> {
    let header = UnitHeader::parse(bytes).ok()?;
    let body = bytes
        .get(UNIT_HEADER_LEN..)?
        .get(..header.stored as usize)?;
    (crc32fast::hash(body) == header.body_crc).then_some((header, body))
}

impl Found {
    fn new(
        id: Id,
        label: Position,
        damage: Option<Position>,
        volumes_before: u32,
        first: u64,
    ) -> Self {
        Self {
            facts: SessionFacts {
                id,
                header: None,
                label,
                footer: None,
                volumes_before,
            },
            has_label: false,
            last_unit: damage.unwrap_or(label),
            records: 0,
            first,
            last: first,
            interrupted: None,
            archives: BTreeMap::new(),
        }
    }

    /// True if the session has no label here, and perhaps more does not belong here.
    fn may_be_stray(&self) -> bool {
        !self.has_label && (self.records == 1 || self.first > 1)
    }

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
            self.last_unit = at;
            offset += unit.unit_len();
        }
        true
    }

    /// Notes a unit of an archive. The bodies of most units are not looked at.
    ///
    /// An archive without its header begins after the last unit that was found before it: damage
    /// may have destroyed the header only, and not the blocks after it.
    fn note_archive(
        &mut self,
        unit: &UnitHeader,
        bytes: &[u8],
        at: Position,
        left: &mut usize,
    ) -> bool {
        let is_new = !self.archives.contains_key(&unit.archive);
        if is_new && *left == 0 {
            return false;
        }
        *left -= usize::from(is_new);
        let archive = self.archives.entry(unit.archive);
        let archive = archive.or_insert_with(|| FoundArchive::at(self.last_unit));
        match unit.kind {
            UnitKind::ArchiveHeader if archive.header_at.is_none() => {
                archive.header_at = Some(at);
                // Blocks before it are not lost if it is not the first.
                if is_new {
                    archive.at = at;
                }
                let body = whole_unit(bytes).map(|(_, body)| body);
                let header = body.and_then(|body| ArchiveHeader::parse(body).ok());
                archive.is_cut = bytes.len() < unit.unit_len();
                if let Some(header) = header {
                    let facts = HeaderFacts::of(&header, None);
                    (archive.header, archive.is_copy) = (Some(facts), false);
                }
            }
            UnitKind::Block if unit.number == 0 => {
                if let (Some(header), Some((_, body))) = (&mut archive.header, whole_unit(bytes))
                    && header.name.is_none()
                {
                    header.name = origin_of(unit, body, None).map(|origin| origin.name);
                }
            }
            UnitKind::ArchiveFooter => {
                let footer =
                    whole_unit(bytes).and_then(|(_, body)| ArchiveFooter::parse(body).ok());
                archive.blocks = footer.map(|footer| footer.blocks);
                archive.copy_of = footer.and_then(|footer| footer.copy_of);
            }
            UnitKind::Locator if archive.header.is_none() && !archive.is_cut => {
                let locator = whole_unit(bytes).and_then(|(_, body)| Locator::parse(body).ok());
                let header = locator.and_then(|found| ArchiveHeader::parse(&found.archive).ok());
                archive.header = header.map(|header| HeaderFacts::of(&header, None));
                archive.is_copy = archive.header.is_some();
            }
            _ => {}
        }
        true
    }

    /// The session as a list has it. A header or a name that goes on in the next record is read
    /// again.
    fn listed<M: MediumReader>(self, medium: &SharedMedium<M>) -> Result<ListedSession, OpenError> {
        let facts = Arc::new(self.facts);
        let mut archives = Vec::new();
        for (number, found) in self.archives {
            let is_named = found
                .header
                .as_ref()
                .is_some_and(HeaderFacts::has_known_name);
            let mut header = found.header;
            let at = found.header_at;
            let is_wanted = found.is_cut || header.is_some() && !is_named;
            if let Some(at) = at.filter(|_| is_wanted) {
                header = match read_header(medium, facts.id, at, number) {
                    Err(error) if is_failure(&error) => return Err(error),
                    read => read.ok().or(header),
                };
            }
            archives.push(ListedArchive {
                session: Arc::clone(&facts),
                session_number: 0,
                number,
                at: found.at,
                has_footer: found.blocks.is_some(),
                blocks: found.blocks.unwrap_or_default(),
                has_header: at == Some(found.at) && !found.is_copy && header.is_some(),
                header,
                footer: None,
                copy_of: found.copy_of,
                until: None,
            });
        }
        Ok(ListedSession::new(facts, archives))
    }
}

impl FoundArchive {
    fn at(at: Position) -> Self {
        Self {
            at,
            header: None,
            header_at: None,
            is_copy: false,
            is_cut: false,
            blocks: None,
            copy_of: None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(session: u8, sequence: u64) -> Vec<u8> {
        let header = RecordHeader {
            kind: RecordKind::Data,
            session: [session; 16],
            sequence,
            volume: 1,
            length: 8,
            position: 0,
            first: None,
        };
        [&header.to_bytes()[..], &[0; 8]].concat()
    }

    /// A record of a session without a label, amid those of another one, begins it anew each time.
    #[test]
    fn sessions_that_begin_anew_need_no_more_memory() {
        let mut scan = Scan::new(4);
        for sequence in 1..1000 {
            for session in [1, 2] {
                let at = Position {
                    volume: 1,
                    record: 2 * sequence + u64::from(session),
                    byte: 80 * (2 * sequence + u64::from(session)),
                };
                assert!(scan.note_record(&record(session, sequence), at));
                assert!(scan.sessions.len() <= 2, "after {sequence} of each");
            }
        }
        assert_eq!((scan.sessions.len(), scan.left), (2, 2));
        assert!(scan.next > 900, "{} sessions began", scan.next);
    }
}
