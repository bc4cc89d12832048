//! Reads backwards, from the end of a medium or of a chunk.

use crate::limits::MAX_RECORD;
use crate::media::{Item, MediumReader, Position};
use crate::wire::{Locator, RecordHeader, RecordKind, UnitHeader, UnitKind};

use super::super::open_error::OpenError;
use super::session_list::is_failure;
use super::session_scan::whole_unit;
use super::shared_medium::SharedMedium;
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// Evidence of a record that is read backwards on the locators of an archive.
enum Before<L = Box<Locator>> {
    /// It is one.
    Locator(L),
    /// None can be before it.
    Nothing,
    Unknown,
}

/// Tells if a record begins with a locator of the archive. One that is all in the record must be
/// intact; the rest of a longer one is in records after it.
fn unit_before(record: &[u8], session: &[u8; 16], archive: u32) -> Before<()> {
    let Ok((header, content)) = RecordHeader::parse(record) else {
        return Before::Unknown;
    };
    if header.session != *session {
        return Before::Unknown;
    }
    if header.kind == RecordKind::Label && header.volume == 1 {
        return Before::Nothing;
    }
    let first = header.first.filter(|_| header.kind == RecordKind::Data);
    let unit = first.and_then(|first| content.get(first as usize..));
    let is_damaged =
        |unit: &UnitHeader| content.len() >= unit.unit_len() && whole_unit(content).is_none();
    match unit.map(UnitHeader::parse) {
        Some(Ok(unit)) if unit.archive > 0 && unit.archive < archive => Before::Nothing,
        Some(Ok(unit))
            if (unit.kind, unit.archive, first) == (UnitKind::Locator, archive, Some(0))
                && !is_damaged(&unit) =>
        {
            Before::Locator(())
        }
        _ => Before::Unknown,
    }
}

/// Most locators that are tried where damage is read forwards: the last ones. Those that begin
/// there and are not whole may be damaged in a later record.
const MAX_TRIED: usize = 4;

/// Bytes at the end of damage that are looked at first.
const FIRST_STRETCH: u64 = 256 << 10;

/// Finds records before a position, and the units in them. Nothing here is trusted: any damage, and
/// anything unexpected, ends in [`OpenError::NoIndex`] after a bounded number of items.
pub(super) struct BackReader<M> {
    medium: SharedMedium<M>,
    units: UnitReader<SharedMedium<M>>,
    session: [u8; 16],
    /// Bytes of the records that were read backwards.
    passed: u64,
}

impl<M: MediumReader> BackReader<M> {
    pub(super) fn new(medium: &SharedMedium<M>, session: [u8; 16]) -> Self {
        Self {
            medium: medium.clone(),
            units: UnitReader::new(medium.clone(), Some(session)),
            session,
            passed: 0,
        }
    }

    /// Bytes of all records that were read.
    pub(super) fn bytes_read(&self) -> u64 {
        self.passed.saturating_add(self.units.totals().0)
    }

    pub(super) fn seek_end(&mut self) -> Result<(), OpenError> {
        Ok(self.medium.seek_end(None)?)
    }

    pub(super) fn seek(&mut self, to: Position) -> Result<(), OpenError> {
        Ok(self.medium.seek(to)?)
    }

    /// Moves back by one item, and returns it.
    pub(super) fn back(&mut self) -> Result<Item, OpenError> {
        let mut record = Vec::new();
        Ok(self.medium.read_back(&mut record)?)
    }

    /// Moves back to the start of the last record of data for which `is_it` is true, and returns
    /// its position. Marks and starts of volumes are passed.
    pub(super) fn back_to(
        &mut self,
        is_it: impl Fn(&RecordHeader) -> bool,
    ) -> Result<Position, OpenError> {
        self.record_before(is_it).map(|(at, _)| at)
    }

    /// As [`back_to`](Self::back_to), and returns the record's header, too.
    pub(super) fn record_before(
        &mut self,
        is_it: impl Fn(&RecordHeader) -> bool,
    ) -> Result<(Position, RecordHeader), OpenError> {
        let (mut record, mut left) = (Vec::new(), MAX_BACK);
        while left > 0 {
            let at = match self.medium.read_back(&mut record)? {
                Item::Record(at) => {
                    self.passed = self.passed.saturating_add(record.len() as u64);
                    at
                }
                Item::Mark(_) => {
                    left = left.saturating_sub(MARK_COST);
                    continue;
                }
                Item::End => {
                    self.previous_volume()?;
                    left = left.saturating_sub(MARK_COST);
                    continue;
                }
                Item::Damaged { .. } => {
                    return Err(OpenError::no_index("there is damage at its end"));
                }
            };
            let (header, _) = RecordHeader::parse(&record)?;
            if header.session != self.session {
                return Err(OpenError::no_index(
                    "there is a record of another session at its end",
                ));
            }
            if header.kind == RecordKind::Data && is_it(&header) {
                return Ok((at, header));
            }
            left = left.saturating_sub(record.len());
        }
        Err(OpenError::no_index(format!(
            "a record was not found within {MAX_BACK} bytes of its position"
        )))
    }

    /// Moves back to the last locator of an archive, which is within `left` bytes, and reads it.
    /// Damage, other sessions, and later archives of the session are passed.
    ///
    /// Reading back cannot pass damage, which a crash leaves at the end. The bytes before it are
    /// then read forwards, in stretches from the end on, each as long as all after it.
    pub(super) fn last_locator(
        &mut self,
        archive: u32,
        mut left: u64,
    ) -> Result<(Locator, Position), OpenError> {
        let mut record = Vec::new();
        while left > 0 {
            let cost = match self.medium.read_back(&mut record)? {
                Item::Record(at) => {
                    match self.locator_at(&record, at, archive)? {
                        Before::Locator(locator) => return Ok((*locator, at)),
                        Before::Nothing => break,
                        Before::Unknown => {}
                    }
                    record.len() as u64
                }
                Item::Damaged { at, skipped } => {
                    let found = self.locator_between(at, skipped.min(left), skipped, archive)?;
                    match found {
                        Some((Before::Locator(locator), at)) => return Ok((*locator, at)),
                        Some(_) => break,
                        None if skipped >= left => break,
                        None => {}
                    }
                    self.medium.seek(at)?;
                    skipped
                }
                Item::Mark(_) => MARK_COST as u64,
                Item::End => {
                    self.previous_volume()?;
                    MARK_COST as u64
                }
            };
            left = left.saturating_sub(cost.max(MARK_COST as u64));
        }
        Err(OpenError::no_index("it has no locator that can be read"))
    }

    /// Looks for the last locator in the last `reach` bytes of `len` that begin at `begins`.
    /// Returns nothing if the archive may have one before them.
    fn locator_between(
        &mut self,
        begins: Position,
        reach: u64,
        len: u64,
        archive: u32,
    ) -> Result<Option<(Before, Position)>, OpenError> {
        let end = begins.byte.saturating_add(len);
        let (first, mut to, mut record) = (end - reach, end, Vec::new());
        while to > first {
            let from = to.saturating_sub((end - to).max(FIRST_STRETCH)).max(first);
            let mut found = Vec::with_capacity(MAX_TRIED);
            self.medium.seek(Position {
                byte: from,
                ..begins
            })?;
            let mut is_over = false;
            loop {
                match self.medium.read(&mut record)? {
                    Item::End => break,
                    Item::Record(at) | Item::Mark(at) | Item::Damaged { at, .. }
                        if at.byte >= to =>
                    {
                        break;
                    }
                    Item::Record(at) => match unit_before(&record, &self.session, archive) {
                        Before::Nothing => is_over = true,
                        Before::Unknown => {}
                        Before::Locator(()) => {
                            if found.len() == MAX_TRIED {
                                found.remove(0);
                            }
                            found.push(at);
                        }
                    },
                    Item::Mark(_) | Item::Damaged { .. } => {}
                }
            }
            for at in found.into_iter().rev() {
                self.medium.seek(at)?;
                if let Some(locator) = self.read_locator()? {
                    return Ok(Some((Before::Locator(Box::new(locator)), at)));
                }
            }
            if is_over {
                return Ok(Some((Before::Nothing, begins)));
            }
            to = from;
        }
        Ok(None)
    }

    /// Reads the locator at this place, if it is intact.
    fn read_locator(&mut self) -> Result<Option<Locator>, OpenError> {
        match self.read_unit(UnitKind::Locator) {
            Err(error) if is_failure(&error) => Err(error),
            read => Ok(read.ok().and_then(|(_, body)| Locator::parse(&body).ok())),
        }
    }

    /// Returns the locator of the archive that begins a record, if it is one. The medium is before
    /// the record again.
    fn locator_at(
        &mut self,
        record: &[u8],
        at: Position,
        archive: u32,
    ) -> Result<Before<Box<Locator>>, OpenError> {
        match unit_before(record, &self.session, archive) {
            Before::Nothing => return Ok(Before::Nothing),
            Before::Unknown => return Ok(Before::Unknown),
            Before::Locator(()) => {}
        }
        self.medium.seek(at)?;
        let read = self.read_locator()?;
        self.medium.seek(at)?;
        Ok(read.map_or(Before::Unknown, |locator| {
            Before::Locator(Box::new(locator))
        }))
    }

    /// Moves back past the last mark.
    pub(super) fn back_to_mark(&mut self) -> Result<(), OpenError> {
        for _ in 0..MAX_ITEMS_TO_MARK {
            match self.back()? {
                Item::Mark(_) => return Ok(()),
                Item::Record(_) => {}
                Item::End => self.previous_volume()?,
                Item::Damaged { .. } => break,
            }
        }
        Err(OpenError::no_index("there is no mark before a chunk"))
    }

    /// Moves from the start of a volume to the end of the one before.
    fn previous_volume(&mut self) -> Result<(), OpenError> {
        let mut record = Vec::new();
        let volume = match self.medium.read(&mut record)? {
            Item::Record(at) | Item::Mark(at) | Item::Damaged { at, .. } => at.volume,
            Item::End => 1,
        };
        match volume.checked_sub(1) {
            None | Some(0) => Err(OpenError::no_index(
                "the start of its first volume was reached",
            )),
            before => Ok(self.medium.seek_end(before)?),
        }
    }

    /// Reads forward to the next unit, which must be of this kind.
    pub(super) fn read_unit(&mut self, kind: UnitKind) -> Result<(UnitHeader, Vec<u8>), OpenError> {
        self.units.moved(1);
        let (header, _) = self.next_unit(kind)?;
        Ok((header, self.units.body().to_vec()))
    }

    /// Reads on after [`read_unit`](Self::read_unit) to the next unit, which must be of this kind,
    /// and returns the position of the record in which it begins, if that is known.
    pub(super) fn position_of_next(
        &mut self,
        kind: UnitKind,
    ) -> Result<Option<Position>, OpenError> {
        self.next_unit(kind).map(|(_, at)| at)
    }

    /// As [`position_of_next`](Self::position_of_next), after a mark.
    pub(super) fn pass_mark_and(&mut self, kind: UnitKind) -> Result<(), OpenError> {
        match self.units.next()? {
            UnitEvent::Mark => self.next_unit(kind).map(drop),
            _ => Err(OpenError::no_index("there is no mark after its footer")),
        }
    }

    /// The next unit, which must be of this kind.
    fn next_unit(&mut self, kind: UnitKind) -> Result<(UnitHeader, Option<Position>), OpenError> {
        self.units.limit(longest(kind));
        loop {
            match self.units.next()? {
                UnitEvent::Unit(header, at) if header.kind == kind => return Ok((header, at)),
                UnitEvent::Label(..) => {}
                UnitEvent::Unit(header, _) => {
                    return Err(OpenError::no_index(format!(
                        "there is a {} in place of the {}",
                        header.kind.name(),
                        kind.name()
                    )));
                }
                UnitEvent::Damage(damage) => return Err(OpenError::no_index(damage.what)),
                UnitEvent::Mark | UnitEvent::End => {
                    return Err(OpenError::no_index(format!(
                        "its {} is missing",
                        kind.name()
                    )));
                }
            }
        }
    }
}

/// Bytes of records that are read for a unit of a kind at most, besides those of the last one. They
/// are more than a unit of a version 1 writer needs, in the smallest records.
pub(super) fn longest(kind: UnitKind) -> u64 {
    match kind {
        // That of 1,024 archives, or one extension of the largest size.
        UnitKind::SessionFooter | UnitKind::ArchiveFooter => 128 << 10,
        _ => 2 * MAX_RECORD as u64,
    }
}

/// Most bytes of records that [`BackReader::back_to`] passes: a locator is not longer.
const MAX_BACK: usize = 2 * MAX_RECORD;

/// Number of those bytes that a mark, or the start of a volume, counts as.
const MARK_COST: usize = 1024;

/// Most items between a mark and the record in which the first block of the next chunk begins,
/// labels included.
const MAX_ITEMS_TO_MARK: usize = 8;
