//! Facts of the header of a listed archive, and its name, which is in the block after the header.

use crate::media::{MediumReader, Position};
use crate::wire::{ArchiveHeader, CipherKind, Content, Locator, Time, UnitKind};

use super::super::key::header_hash;
use super::super::open_error::OpenError;
use super::back_reader::BackReader;
use super::front::origin_of;
use super::shared_medium::SharedMedium;
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// Facts of an archive's header, and its name.
#[derive(Clone)]
pub(super) struct HeaderFacts {
    pub(super) id: [u8; 16],
    /// `None` if it is encrypted, and was not decrypted, or if block 0 of the archive is damaged.
    pub(super) name: Option<String>,
    pub(super) created: Time,
    pub(super) content: Content,
    pub(super) key_id: Option<[u8; 16]>,
    pub(super) hash: [u8; 32],
}

impl HeaderFacts {
    pub(super) fn of(header: &ArchiveHeader, name: Option<String>) -> Self {
        Self {
            id: header.id,
            name,
            created: header.created,
            content: header.content,
            key_id: (header.cipher != CipherKind::None).then_some(header.key_id),
            hash: header_hash(header),
        }
    }
}

/// Most units before an archive's header, and up to its first block, in its record.
const MAX_UNITS_BEFORE: u32 = 6;

/// Reads the header of archive `number` of a session from the record at `at`, and the archive's
/// name from the block after it, which is in the same record, unless that is short.
pub(super) fn read_header<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    at: Position,
    number: u32,
) -> Result<HeaderFacts, OpenError> {
    let mut medium = medium.clone();
    medium.seek(at)?;
    let mut units = UnitReader::new(medium, Some(session));
    units.moved(at.volume);
    let mut found = None::<HeaderFacts>;
    for _ in 0..MAX_UNITS_BEFORE {
        match units.next() {
            Ok(UnitEvent::Unit(header, _))
                if (header.kind, header.archive) == (UnitKind::ArchiveHeader, number) =>
            {
                let facts = HeaderFacts::of(&ArchiveHeader::parse(units.body())?, None);
                let is_sealed = facts.key_id.is_some();
                found = Some(facts);
                if is_sealed {
                    break;
                }
            }
            Ok(UnitEvent::Unit(header, _)) if header.kind == UnitKind::Block => {
                if let Some(facts) = &mut found {
                    facts.name = origin_of(&header, units.body(), None).map(|origin| origin.name);
                }
                break;
            }
            Ok(UnitEvent::Unit(..) | UnitEvent::Label(..)) => {}
            Err(error) if found.is_none() => return Err(error.into()),
            _ => break,
        }
    }
    found.ok_or_else(|| OpenError::NoArchive("an archive header is damaged".to_owned()))
}

/// Reads the copy of an archive's header in its last locator, which precedes the mark before its
/// footer. `footer` is the place of that.
pub(super) fn read_header_copy<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    footer: Position,
) -> Result<HeaderFacts, OpenError> {
    let mut reader = BackReader::new(medium, session);
    reader.seek(footer)?;
    reader.back_to(|header| header.first == Some(0))?;
    let (_, body) = reader.read_unit(UnitKind::Locator)?;
    let locator = Locator::parse(&body)?;
    let header = ArchiveHeader::parse(&locator.archive)?;
    Ok(HeaderFacts::of(&header, None))
}
