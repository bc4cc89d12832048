//! The archives of a finished session, by the entries of its footer.
//!
//! Nothing of it is authenticated, and a forged footer may name any place. So each read is limited,
//! and the places of a session ascend between its label and its footer: each of its records is read
//! a few times at most.

use std::sync::Arc;

use crate::media::{MediumReader, Position};
use crate::wire::{ArchiveEntry, ArchiveHeader, CopySource, Locator, UnitKind};

use super::super::open_error::OpenError;
use super::super::place::{is_before, on_medium};
use super::back_reader::BackReader;
use super::footer::parse_footer;
use super::front::origin_of;
use super::header_facts::HeaderFacts;
use super::session_list::{ListedArchive, SessionFacts, is_failure};
use super::shared_medium::SharedMedium;
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// Bytes of records that a list may read for copies of headers that are damaged. An intact medium
/// needs none of them, and each forged entry could name another place.
pub(super) const MAX_COPIES_READ: u64 = 256 << 20;

/// Bytes of records that are read for an archive's header, besides those of the last one: a header
/// of the largest size has fewer, in the smallest records.
const MAX_HEADER_READ: u64 = 64 << 10;

/// Most units before an archive's header in its record, and up to its first block.
const MAX_UNITS_BEFORE: u32 = 6;

/// Returns the entries with positions on the medium. A position that is not after all before it,
/// and before the session's footer, does not count: archives follow each other, and sessions do. So
/// a list reads each record a few times at most.
pub(super) fn places_in_order<'e>(
    entries: &'e [ArchiveEntry],
    facts: &SessionFacts,
) -> impl Iterator<Item = PlacedEntry> + use<'e> {
    let (mut last, volumes_before, end) = (facts.label, facts.volumes_before, facts.footer);
    let mut in_order = move |place: Position| {
        let at = on_medium(place, volumes_before);
        let is_within =
            place.volume > 0 && is_before(last, at) && !end.is_some_and(|end| is_past(at, end));
        is_within.then(|| last = at).map(|()| at)
    };
    entries.iter().map(move |entry| PlacedEntry {
        id: entry.id,
        blocks: entry.blocks,
        has_footer: entry.has_footer(),
        header: in_order(entry.header),
        footer: entry.has_footer().then(|| in_order(entry.place)).flatten(),
    })
}

/// True if `at` is not before the end of its session. Some media have no bytes, and the end, which
/// was found from the end of the medium, has no record's number there: then only volumes count.
fn is_past(at: Position, end: Position) -> bool {
    at.volume > end.volume || at.volume == end.volume && at.byte > 0 && !is_before(at, end)
}

/// An archive as the footer of its session has it.
pub(super) struct PlacedEntry {
    id: [u8; 16],
    blocks: u64,
    has_footer: bool,
    /// The record in which its header begins, if that is known.
    pub(super) header: Option<Position>,
    /// The record of its footer, if that is known.
    pub(super) footer: Option<Position>,
}

/// Lists an archive by the entry of its session's footer.
pub(super) fn list_archive<M: MediumReader>(
    medium: &SharedMedium<M>,
    facts: &Arc<SessionFacts>,
    entry: &PlacedEntry,
    number: u32,
    copies: Option<&mut u64>,
) -> Result<ListedArchive, OpenError> {
    let is_it = |header: &ArchiveHeader| header.id == entry.id;
    let found = |found: Result<ArchiveHeader, OpenError>| match found {
        Err(error) if is_failure(&error) => Err(error),
        found => Ok(found.ok().filter(is_it)),
    };
    let (mut header, mut name, mut has_header) = (None, None, false);
    if let (Some(copies), Some(at)) = (copies, entry.header) {
        let (own, found_name) = match read_front(medium, facts.id, at, number) {
            Err(error) => (Err(error), None),
            Ok(front) => front,
        };
        (header, name) = (found(own)?, found_name);
        has_header = header.is_some();
        if let (None, Some(footer)) = (&header, entry.footer) {
            header = found(read_header_copy(medium, facts.id, footer, copies))?;
        }
    }
    let header = header.map(|header| HeaderFacts::of(&header, name));
    Ok(ListedArchive {
        session: Arc::clone(facts),
        session_number: 0,
        number,
        // Without a position the archive is looked for from the start of its session.
        at: entry.header.unwrap_or(facts.label),
        has_footer: entry.has_footer,
        blocks: entry.blocks,
        header,
        has_header,
        footer: entry.footer,
        copy_of: None,
        until: None,
    })
}

/// Reads the archive footer at `at`, and returns the session of which the archive is a copy, if it
/// is one.
pub(super) fn read_source<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    at: Position,
) -> Result<Option<CopySource>, OpenError> {
    let mut reader = BackReader::new(medium, session);
    let footer = reader
        .seek(at)
        .and_then(|()| reader.read_unit(UnitKind::ArchiveFooter));
    match footer {
        Err(error) if is_failure(&error) => Err(error),
        Err(_) => Ok(None),
        Ok((header, body)) => {
            let footer = parse_footer(&header, &body).ok();
            Ok(footer.and_then(|footer| footer.copy_of))
        }
    }
}

/// Reads the header of archive `number` of a session from the record at `at`, and the archive's
/// name from the block after it, which is in the same record, unless that is short.
pub(super) fn read_header<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    at: Position,
    number: u32,
) -> Result<HeaderFacts, OpenError> {
    let (header, name) = read_front(medium, session, at, number)?;
    Ok(HeaderFacts::of(&header?, name))
}

/// Reads the start of archive `number` from the record at `at`: its header, and its name, unless
/// that is encrypted or damaged.
fn read_front<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    at: Position,
    number: u32,
) -> Result<(Result<ArchiveHeader, OpenError>, Option<String>), OpenError> {
    let mut medium = medium.clone();
    medium.seek(at)?;
    let mut units = UnitReader::new(medium, Some(session));
    units.moved(at.volume);
    units.limit(MAX_HEADER_READ);
    let why = "an archive header is damaged".to_owned();
    let mut header = Err(OpenError::NoArchive(why));
    for _ in 0..MAX_UNITS_BEFORE {
        match units.next() {
            Ok(UnitEvent::Unit(unit, _)) if unit.archive == number => match unit.kind {
                UnitKind::ArchiveHeader => {
                    header = ArchiveHeader::parse(units.body()).map_err(OpenError::from);
                }
                UnitKind::Block => {
                    let origin = origin_of(&unit, units.body(), None);
                    return Ok((header, origin.map(|origin| origin.name)));
                }
                _ => {}
            },
            Ok(UnitEvent::Unit(..) | UnitEvent::Label(..) | UnitEvent::Damage(_)) => {}
            Ok(UnitEvent::End | UnitEvent::Mark) => break,
            Err(error) if header.is_err() => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok((header, None))
}

/// Reads the copy of an archive's header in its last locator, which precedes the mark before its
/// footer. `footer` is the place of that, and `left` the bytes that may be read.
fn read_header_copy<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    footer: Position,
    left: &mut u64,
) -> Result<ArchiveHeader, OpenError> {
    if *left == 0 {
        let why = "the copies of too many damaged headers were looked for";
        return Err(OpenError::NoArchive(why.to_owned()));
    }
    let mut reader = BackReader::new(medium, session);
    reader.seek(footer)?;
    let found = reader.back_to(|header| header.first == Some(0));
    let found = found.and_then(|_| reader.read_unit(UnitKind::Locator));
    *left = left.saturating_sub(reader.bytes_read());
    let (_, body) = found?;
    let locator = Locator::parse(&body)?;
    Ok(ArchiveHeader::parse(&locator.archive)?)
}
