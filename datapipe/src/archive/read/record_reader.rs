//! Reads the records of one session, and reports what is wrong with them.

use std::collections::VecDeque;
use std::ops::Range;

use crate::media::{Item, MediumError, MediumReader, Position};
use crate::wire::{RECORD_HEADER_LEN, RecordHeader, RecordKind, UNIT_HEADER_LEN, UnitHeader};

use super::super::place::Place;
use super::super::report::{AfterEnd, StreamDamage};
use super::resync;
use super::unit_event::UnitEvent;

/// Reads records in the order of the medium, from volume to volume.
///
/// Everything but the records of the stream becomes an event: damage, foreign records, and the
/// copies of units on labels.
pub(super) struct RecordReader<M> {
    medium: M,
    /// The place of the session on the medium.
    place: Place,
    /// The session that is read; the session of the first intact record, if the caller gave none.
    session: Option<[u8; 16]>,
    /// The first other session of which a record was found.
    other_session: Option<[u8; 16]>,
    /// Sequence number of the next record.
    sequence: u64,
    /// Number of records before the next one whose headers were damaged. Some of them may not have
    /// been records of the session.
    guessed: u64,
    /// Number of the volume that is being read.
    volume: u32,
    /// The next item is the first of a volume, which should be its label.
    is_at_start: bool,
    /// Number of records of kinds that this version does not know, which were passed over.
    later: u64,
    /// The last record that was read, or damaged bytes.
    record: Vec<u8>,
    /// The part of it that is the content of the last item.
    content: Range<usize>,
    /// The part of it that is damaged and was not searched yet, and its position.
    damaged: Option<(usize, Position)>,
    /// The last item was found in damaged bytes, or its header is guessed.
    is_loose: bool,
    /// Other records may be missing after the last item.
    leaves_gap: bool,
    /// Events that the caller has not taken yet.
    events: VecDeque<UnitEvent>,
    /// Records are missing here, and that was reported.
    has_gap: bool,
    /// Records of another session are here, and that was reported.
    is_foreign: bool,
    /// Bytes of all records that were read.
    bytes_read: u64,
    /// Number of the last volume from which a record was read.
    last_volume: u32,
    /// Bytes after which the reader ends, if only the start of something is read.
    budget: Option<u64>,
}

/// Most items that are looked at after the end of the session. A mark is one, and zeros are marks.
const MAX_ITEMS_AFTER_END: u32 = 1 << 18;

/// Bytes that an item counts as which has fewer, or none.
const MIN_COST: u64 = 512;

/// Bytes of an item of a medium, for a reader that is limited.
fn cost_of(item: &Result<Item, MediumError>, len: usize) -> u64 {
    match item {
        Ok(Item::Record(_) | Item::Damaged { .. }) => MIN_COST.max(len as u64),
        _ => MIN_COST,
    }
}

/// A part of the medium that is, or delimits, a part of the stream.
pub(super) enum StreamItem {
    /// A record of data, whose content [`RecordReader::content`] returns, and its position.
    Record(RecordHeader, Position),
    /// Damaged bytes of an unknown position in the stream, which the content is, and their position
    /// on the medium. There may be units among them.
    Loose(Position),
    Mark,
    End,
}

impl<M: MediumReader> RecordReader<M> {
    /// Reads from the current position of the medium, which is the start of the session.
    pub(super) fn new(medium: M, session: Option<[u8; 16]>) -> Self {
        Self {
            medium,
            place: Place::ONLY,
            session,
            other_session: None,
            sequence: 0,
            guessed: 0,
            volume: 1,
            is_at_start: true,
            later: 0,
            record: Vec::new(),
            content: 0..0,
            damaged: None,
            is_loose: false,
            leaves_gap: false,
            events: VecDeque::new(),
            has_gap: false,
            is_foreign: false,
            bytes_read: 0,
            last_volume: 0,
            budget: None,
        }
    }

    /// Ends after the item with which `bytes` have been read from here: what a medium says of
    /// itself must not make a list read it again and again. One item is always read.
    pub(super) fn limit(&mut self, bytes: u64) {
        self.budget = Some(bytes.max(1));
    }

    /// Reads the session at `place` only, up to the next one.
    pub(super) fn within(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Number of the archive that is read, in its session.
    pub(super) fn archive(&self) -> u32 {
        self.place.archive
    }

    /// Continues at another position, in `volume`, to which the caller has moved the medium. The
    /// next record may have any sequence number.
    pub(super) fn moved(&mut self, volume: u32) {
        (self.sequence, self.guessed, self.volume) = (0, 0, volume);
        self.is_at_start = false;
        self.events.clear();
        self.damaged = None;
        (self.has_gap, self.is_foreign) = (true, false);
    }

    pub(super) fn session(&self) -> Option<[u8; 16]> {
        self.session
    }

    pub(super) fn other_session(&self) -> Option<[u8; 16]> {
        self.other_session
    }

    /// Number of records of kinds that this version does not know, which were passed over.
    pub(super) fn later_records(&self) -> u64 {
        self.later
    }

    /// Bytes of all records that were read, and the last volume from which one was.
    pub(super) fn totals(&self) -> (u64, u32) {
        (self.bytes_read, self.last_volume)
    }

    /// Content of the last record, or the damaged bytes, that [`read`](Self::read) returned.
    pub(super) fn content(&self) -> &[u8] {
        &self.record[self.content.clone()]
    }

    /// True if the content was found in damaged bytes: some may be missing among them, or inserted,
    /// and there may be others after its end.
    pub(super) fn is_loose(&self) -> bool {
        self.is_loose
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn next_event(&mut self) -> Option<UnitEvent> {
        self.events.pop_front()
    }

    pub(super) fn push_event(&mut self, event: UnitEvent) {
        self.events.push_back(event);
    }

    pub(super) fn report(&mut self, block: Option<u64>, at: Option<Position>, what: String) {
        self.push_event(UnitEvent::Damage(StreamDamage { block, at, what }));
    }

    /// Reports that a part of the stream is missing.
    fn report_gap(&mut self, at: Position, what: String) {
        self.has_gap = true;
        self.report(None, Some(at), what);
    }

    /// Notes that the last record was used, so that the stream has no gap before the next one. If
    /// it was found in damaged bytes, there may be one, which was reported with them.
    pub(super) fn accept(&mut self) {
        self.has_gap = self.leaves_gap;
    }

    /// Looks at the medium after the end of the session, to its end or to the next record. Errors
    /// are not reported: the archive was read, and some drives cannot read on after the last mark.
    pub(super) fn look_after_end(&mut self) -> AfterEnd {
        let mut after = AfterEnd::Nothing;
        for _ in 0..MAX_ITEMS_AFTER_END {
            let bytes = match self.medium.read(&mut self.record) {
                Ok(Item::Record(_) | Item::Damaged { .. }) => &self.record,
                Ok(Item::Mark(_)) => continue,
                // It has what another medium had there.
                Err(MediumError::WrongVolume { .. }) => return AfterEnd::Archive,
                Ok(Item::End) | Err(MediumError::MissingVolume { .. }) => {
                    match self.medium.next_volume() {
                        Ok(true) => continue,
                        Err(MediumError::WrongVolume { .. }) => return AfterEnd::Archive,
                        _ => break,
                    }
                }
                Err(_) => break,
            };
            if resync::find_record(bytes, None).is_some() {
                return AfterEnd::Archive;
            }
            after = AfterEnd::Bytes;
        }
        after
    }

    /// Reads one item of the medium. `position` is the position in the stream at which the next
    /// record should begin. Returns `None` if the item is not part of the stream.
    pub(super) fn read(&mut self, position: u64) -> Result<Option<StreamItem>, MediumError> {
        if let Some((from, at)) = self.damaged.take() {
            return Ok(self.search_damage(from, at));
        }
        if self.budget == Some(0) {
            return Ok(Some(StreamItem::End));
        }
        let item = self.medium.read(&mut self.record);
        if let Some(budget) = &mut self.budget {
            *budget = budget.saturating_sub(cost_of(&item, self.record.len()));
        }
        let is_first = std::mem::take(&mut self.is_at_start);
        match item {
            Ok(Item::Record(at) | Item::Mark(at) | Item::Damaged { at, .. })
                if self.place.is_past(at) =>
            {
                Ok(Some(StreamItem::End))
            }
            Ok(Item::Record(at)) => {
                self.bytes_read += self.record.len() as u64;
                self.last_volume = self.last_volume.max(at.volume);
                Ok(self.sort_record(at, position, is_first))
            }
            Ok(Item::Mark(_)) => Ok(Some(StreamItem::Mark)),
            Ok(Item::Damaged { at, skipped }) => {
                self.bytes_read += self.record.len() as u64;
                let bytes = if skipped == 1 {
                    "byte that is"
                } else {
                    "bytes that are"
                };
                self.report_gap(at, format!("{skipped} {bytes} not a record"));
                Ok(self.search_damage(0, at))
            }
            Ok(Item::End) | Err(MediumError::MissingVolume { .. }) => self.next_volume(),
            Err(error @ MediumError::WrongVolume { .. }) => {
                self.report_gap(Position::start_of(self.volume), error.to_string());
                self.next_volume()
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the next part of the damaged bytes, which begins at byte `from` of them: up to the
    /// next header of a record, or that record's content, up to the next one.
    ///
    /// The lengths in these headers are not used: the bytes of a record may be more than they say,
    /// or less. Units that begin in what is returned state their positions. Only what follows a
    /// label, or another record that has no part of the stream, is searched from its end on: the
    /// header of the record after it may be damaged.
    fn search_damage(&mut self, from: usize, at: Position) -> Option<StreamItem> {
        let next = |from: usize| {
            let found = resync::find_record(&self.record[from..], self.session);
            found.map(|(offset, header)| (from + offset, header))
        };
        let (begins, header) = match next(from) {
            Some((begins, header)) if begins == from => (from + RECORD_HEADER_LEN, Some(header)),
            Some((begins, _)) => {
                self.damaged = Some((begins, at));
                self.content = from..begins;
                (from, None)
            }
            None => {
                self.content = from..self.record.len();
                (from, None)
            }
        };
        (self.is_loose, self.leaves_gap) = (true, true);
        let Some(header) = header else {
            let is_enough = self.content.len() >= UNIT_HEADER_LEN && self.session.is_some();
            return is_enough.then_some(StreamItem::Loose(at));
        };
        let mut end = next(begins).map_or(self.record.len(), |(end, _)| end);
        if header.kind != RecordKind::Data {
            end = end.min(begins.saturating_add(header.length as usize));
        }
        if end < self.record.len() {
            self.damaged = Some((end, at));
        }
        self.content = begins..end;
        self.sort(header, at)
    }

    fn next_volume(&mut self) -> Result<Option<StreamItem>, MediumError> {
        match self.medium.next_volume() {
            Ok(true) => {
                self.volume += 1;
                self.is_at_start = true;
                Ok(None)
            }
            Ok(false) => Ok(Some(StreamItem::End)),
            Err(error @ (MediumError::MissingVolume { .. } | MediumError::WrongVolume { .. })) => {
                self.volume += 1;
                self.report_gap(Position::start_of(self.volume), error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the record that was read if it belongs to the stream. Reports damage, and reads the
    /// copies of units if the record is a label.
    fn sort_record(&mut self, at: Position, position: u64, is_first: bool) -> Option<StreamItem> {
        match RecordHeader::parse(&self.record) {
            Ok((header, content)) => {
                self.content = RECORD_HEADER_LEN..RECORD_HEADER_LEN + content.len();
                (self.is_loose, self.leaves_gap) = (false, false);
                if header.kind == RecordKind::Data && is_first {
                    self.report(None, Some(at), "the volume has no label".to_owned());
                }
                self.sort(header, at)
            }
            Err(error) => {
                let had_gap = self.has_gap;
                self.report_gap(at, error.to_string());
                let is_moved = resync::find_record(&self.record, self.session).is_some();
                // After a gap, the position of the next record is not known.
                if is_moved || had_gap {
                    self.search_damage(0, at)
                } else {
                    self.guess_record(at, position, is_first)
                }
            }
        }
    }

    /// Returns the record with this header if it belongs to the stream.
    fn sort(&mut self, header: RecordHeader, at: Position) -> Option<StreamItem> {
        // A volume record belongs to no session, and may be where volumes were put together.
        if header.kind == RecordKind::Volume
            || !self.is_of_session(&header, at)
            || !self.is_in_sequence(&header, at)
        {
            return None;
        }
        if header.kind == RecordKind::Label
            && header.volume.checked_add(self.place.volumes_before) != Some(at.volume)
        {
            let what = format!(
                "this is volume {} of the session, out of order; if files were renamed by mistake, \
                 give each the number on its label",
                header.volume
            );
            self.report(None, Some(at), what);
        }
        match header.kind {
            RecordKind::Data => Some(StreamItem::Record(header, at)),
            RecordKind::Volume => None,
            RecordKind::Later(_) => {
                self.later += 1;
                // It was one of the session, at its place: nothing is missing here.
                self.accept();
                None
            }
            RecordKind::Label => {
                let content = self.content();
                let len = content.len().min(header.length as usize);
                let content = content[..len].to_vec();
                self.read_label(&content, at);
                None
            }
        }
    }

    /// True if a record belongs to the session that is read. Only the first of several foreign
    /// records in a row is reported.
    fn is_of_session(&mut self, header: &RecordHeader, at: Position) -> bool {
        if header.session == *self.session.get_or_insert(header.session) {
            self.is_foreign = false;
            return true;
        }
        self.other_session.get_or_insert(header.session);
        if !self.is_foreign {
            self.is_foreign = true;
            let what = match header.kind {
                RecordKind::Label => "the wrong volume: it belongs to another session",
                _ => "a foreign record: it belongs to another session",
            };
            self.report(None, Some(at), what.to_owned());
        }
        false
    }

    /// True if a record is the next one of its session or a later one. Reports that records before
    /// it are missing, unless a gap was reported here already.
    ///
    /// Each record with a damaged header has advanced the expected number, and some of them may not
    /// have belonged to the session. So a number that is smaller by up to that many is accepted: a
    /// guess too many must not cost the next intact record.
    fn is_in_sequence(&mut self, header: &RecordHeader, at: Position) -> bool {
        let expected = self.sequence;
        let guessed = std::mem::take(&mut self.guessed);
        if header.sequence < expected.saturating_sub(guessed) {
            let what = format!(
                "record {} of the session follows a later one",
                header.sequence
            );
            self.report(None, Some(at), what);
            return false;
        }
        if header.sequence > expected && !self.has_gap {
            let missing = match header.sequence - expected {
                1 => "1 record of the session is".to_owned(),
                missing => format!("{missing} records of the session are"),
            };
            self.report_gap(at, format!("{missing} missing before this one"));
        }
        self.sequence = header.sequence.saturating_add(1);
        true
    }

    /// Takes a record whose header is damaged for the next one of the session, at `position`. Its
    /// units carry their positions, so if it is another record they are not accepted.
    fn guess_record(&mut self, at: Position, position: u64, is_first: bool) -> Option<StreamItem> {
        let Some(len) = resync::content_len(self.record.len()) else {
            return self.search_damage(0, at);
        };
        let sequence = self.sequence;
        self.sequence = sequence.saturating_add(1);
        self.guessed = self.guessed.saturating_add(1);
        // The first record of a volume is its label, whose content is not part of the stream.
        if is_first {
            return None;
        }
        let header = resync::guess_header(len, self.session?, sequence, at.volume, position)?;
        self.content = RECORD_HEADER_LEN..self.record.len();
        (self.is_loose, self.leaves_gap) = (true, false);
        Some(StreamItem::Record(header, at))
    }

    /// Reads the copies of units from the content of a label.
    fn read_label(&mut self, mut content: &[u8], at: Position) {
        while !content.is_empty() {
            let header = match UnitHeader::parse(content) {
                Ok(header) if header.unit_len() <= content.len() => header,
                _ => return self.report_damaged_label(at),
            };
            let (unit, rest) = content.split_at(header.unit_len());
            let body = &unit[UNIT_HEADER_LEN..][..header.stored as usize];
            if crc32fast::hash(body) == header.body_crc {
                self.push_event(UnitEvent::Label(header, body.to_vec()));
            } else {
                self.report_damaged_label(at);
            }
            content = rest;
        }
    }

    fn report_damaged_label(&mut self, at: Position) {
        self.report(None, Some(at), "the volume's label is damaged".to_owned());
    }
}
