//! Checks of a finished session, by which records that are out of place are noticed.
//!
//! ```text
//!   [label ... last archive footer | mark, list of volumes, session footer mark mark]
//!                  ^--- read from here on ---------------------^ must be the one that was found
//! ```
//!
//! A footer may be a copy of another one, which comes after sessions that it does not name, and
//! bytes that are missing or were inserted move all that follows them. Nothing here is
//! authenticated.

use crate::media::{Item, MediumReader, Position};
use crate::stage::DamageEntry;
use crate::wire::{RecordHeader, RecordKind, UnitHeader, UnitKind};

use super::super::open_error::OpenError;
use super::super::place::{Place, is_same};
use super::super::report::StreamDamage;
use super::back_reader::longest;
use super::listed_header::PlacedEntry;
use super::session_list::{ListedSession, SessionFacts, is_failure};
use super::shared_medium::SharedMedium;
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// Bytes that are read at the end of a session, besides those of its list of volumes and of its
/// footer.
const MAX_END: u64 = 48 << 10;

/// Bytes of an entry of the list of volumes, with its share of the headers of the smallest records,
/// and the most entries.
const VOLUME_ENTRY: u64 = 2 * 24;
const MAX_ENTRIES: u64 = 1 << 16;

/// Damage of the parts of a medium that belong to no archive.
#[derive(Default)]
pub(super) struct ListDamage(pub(super) Vec<DamageEntry>);

impl ListDamage {
    pub(super) fn add(&mut self, at: Option<Position>, what: impl Into<String>) {
        self.0.push(DamageEntry {
            block: None,
            position: at.map(|at| at.to_string()),
            what: what.into(),
        });
    }

    /// Adds the archives of a session without a header, if their records were read.
    pub(super) fn add_lost_headers(&mut self, session: &ListedSession) {
        for archive in session.archives.iter().rev() {
            if archive.header.is_none() {
                let what = format!("archive {} of the session: {NO_HEADER}", archive.number);
                self.add(Some(archive.at), what);
            }
        }
    }
}

/// Text about an archive whose header and all copies of it are damaged.
pub(super) const NO_HEADER: &str = "neither its header nor a copy of it can be read";

/// Text about a session whose records are not where its footer says.
const OUT_OF_PLACE: &str = "records are out of place at the end of this session, or before it: \
                            bytes are missing, or were added or moved, or the session is here \
                            twice";

/// Checks that a session's footer, in a record with this header, follows the session's last
/// archive. Notes damage that is between them.
///
/// Reading begins at the footer of the last archive. If the place of that is not known, it begins
/// at the header, and may end before the session's footer comes: then the record before the footer
/// must be one of the session.
///
/// # Errors
///
/// If it does not follow, or the medium fails.
pub(super) fn check_end<M: MediumReader>(
    medium: &SharedMedium<M>,
    facts: &SessionFacts,
    entries: &[PlacedEntry],
    record: &RecordHeader,
    damage: &mut ListDamage,
) -> Result<(), OpenError> {
    let mut found = Vec::new();
    match follows_its_archive(medium, facts, entries, record, &mut found) {
        Err(error) if is_failure(&error) => return Err(error),
        Ok(true) => {}
        _ => {
            damage.add(facts.footer, OUT_OF_PLACE);
            return Err(OpenError::no_index("its records are out of place"));
        }
    }
    for StreamDamage { at, what, .. } in found {
        damage.add(at, what);
    }
    Ok(())
}

/// True if a session's footer follows the session's last archive. Damage between them is added to
/// `found`.
fn follows_its_archive<M: MediumReader>(
    medium: &SharedMedium<M>,
    facts: &SessionFacts,
    entries: &[PlacedEntry],
    record: &RecordHeader,
    found: &mut Vec<StreamDamage>,
) -> Result<bool, OpenError> {
    let footer = facts.footer.unwrap_or(facts.label);
    let last = entries.last();
    let (start, is_end) = match (last.and_then(|last| last.footer), last) {
        (Some(known), _) => {
            let number = u32::try_from(entries.len()).unwrap_or(u32::MAX);
            if is_misplaced(medium, facts.id, known, (UnitKind::ArchiveFooter, number))? {
                return Ok(false);
            }
            (known, true)
        }
        (None, None) => (facts.label, true),
        (None, Some(last)) => (last.header.unwrap_or(facts.label), false),
    };
    let place = Place {
        archive: u32::MAX,
        is_selected: true,
        volumes_before: facts.volumes_before,
        start: Some(start),
        ..Place::ONLY
    };
    let mut units = UnitReader::of_archive(medium, facts.id, place)?;
    let volumes = u64::from(record.volume).min(MAX_ENTRIES);
    // Where reading begins at a header, it may end before the footer comes.
    let footer_len = if is_end {
        longest(UnitKind::SessionFooter)
    } else {
        0
    };
    units.limit(MAX_END + footer_len + VOLUME_ENTRY * volumes);
    loop {
        let event = units.next()?;
        if units.other_session().is_some() {
            return Ok(false);
        }
        match event {
            UnitEvent::Unit(header, at) if header.kind == UnitKind::SessionFooter => {
                return Ok(at.is_some_and(|at| is_same(at, footer)));
            }
            // Damage within an archive is for the reader of that to report.
            UnitEvent::Damage(damage) if is_end => found.push(damage),
            UnitEvent::End if is_end => return Ok(false),
            UnitEvent::End => return follows_its_session(medium, footer, record),
            _ => {}
        }
    }
}

/// True if the record before a session's footer is the one of the session before it.
fn follows_its_session<M: MediumReader>(
    medium: &SharedMedium<M>,
    footer: Position,
    header: &RecordHeader,
) -> Result<bool, OpenError> {
    let (mut medium, mut record) = (medium.clone(), Vec::new());
    medium.seek(footer)?;
    loop {
        return Ok(match medium.read_back(&mut record)? {
            Item::Mark(_) => continue,
            // Reading began at an earlier place. A record that is damaged says nothing.
            Item::End => true,
            Item::Damaged { .. } => false,
            Item::Record(_) => RecordHeader::parse(&record).map_or(true, |(before, _)| {
                before.session == header.session
                    && before.sequence.checked_add(1) == Some(header.sequence)
            }),
        });
    }
}

/// True if the record at `at`, where a unit of this kind of an archive should begin, is not the one
/// with that unit: it has other units, or there is no record. A record that is damaged may be it.
pub(super) fn is_misplaced<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    at: Position,
    unit: (UnitKind, u32),
) -> Result<bool, OpenError> {
    let (mut medium, mut record) = (medium.clone(), Vec::new());
    let item = medium.seek(at).and_then(|()| medium.read(&mut record));
    match item.map_err(OpenError::from) {
        Err(error) if is_failure(&error) => Err(error),
        Err(_) | Ok(Item::Mark(_) | Item::Damaged { .. } | Item::End) => Ok(true),
        Ok(Item::Record(_)) => Ok(match RecordHeader::parse(&record) {
            Err(_) => false,
            Ok((header, _)) if header.session != session => true,
            Ok((header, content)) => {
                header.kind == RecordKind::Data && has_other_units(&header, content, unit)
            }
        }),
    }
}

/// True if units begin in a record, all of them can be read, and none is of this kind and of the
/// archive with this number.
fn has_other_units(header: &RecordHeader, content: &[u8], wanted: (UnitKind, u32)) -> bool {
    let Some(first) = header.first else {
        return false;
    };
    let mut offset = first as usize;
    while let Some(bytes) = content.get(offset..).filter(|bytes| !bytes.is_empty()) {
        match UnitHeader::parse(bytes) {
            Ok(unit) if (unit.kind, unit.archive) == wanted => return false,
            Ok(unit) => offset = offset.saturating_add(unit.unit_len()),
            Err(_) => return false,
        }
    }
    true
}
