//! The special headers at the start of an archive, some of which a reader must know.

use crate::crypto::{TAG_LEN, nonce};
use crate::limits::MAX_SPECIALS;
use crate::media::{MediumError, MediumReader};
use crate::pool::Codec;
use crate::wire::{BlockKind, CipherKind, UnitHeader, UnitKind};

use super::super::key::ArchiveKey;
use super::super::place::Place;
use super::super::special::Special;
use super::shared_medium::SharedMedium;
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// The special headers at the start of an archive, authenticated if it is encrypted.
#[derive(Clone, Debug, Default)]
pub(super) struct Front {
    /// Each with the number of its block, ascending.
    specials: Vec<(u64, Special)>,
    /// A block at the start that is not valid, and may have been a special header.
    lost: Option<u64>,
}

impl Front {
    /// Reads the first blocks of an archive, from its start, up to the first one of another kind. A
    /// block that does not come is lost.
    ///
    /// # Errors
    ///
    /// [`MediumError::Io`] and [`MediumError::NoMemory`]: another attempt may succeed.
    pub(super) fn read<M: MediumReader>(
        medium: &SharedMedium<M>,
        session: [u8; 16],
        place: &Place,
        key: Option<&ArchiveKey>,
    ) -> Result<Self, MediumError> {
        let mut front = Self::default();
        match front.read_from(medium, session, place, key) {
            Ok(true) => Ok(front),
            Err(error @ (MediumError::Io { .. } | MediumError::NoMemory { .. })) => Err(error),
            Ok(false) | Err(_) => {
                front.lost = Some(front.next());
                Ok(front)
            }
        }
    }

    /// Returns false if the archive ends before a block of another kind.
    fn read_from<M: MediumReader>(
        &mut self,
        medium: &SharedMedium<M>,
        session: [u8; 16],
        place: &Place,
        key: Option<&ArchiveKey>,
    ) -> Result<bool, MediumError> {
        let mut units = UnitReader::of_archive(medium, session, *place)?;
        loop {
            match units.next()? {
                UnitEvent::Unit(header, _) if header.archive > place.archive => return Ok(false),
                // Earlier archives of the session.
                UnitEvent::Unit(header, _)
                    if header.archive > 0 && header.archive < place.archive => {}
                UnitEvent::Unit(header, _) => match header.kind {
                    UnitKind::Block if self.take(&header, units.body(), key) => {}
                    UnitKind::Block => return Ok(true),
                    UnitKind::ArchiveFooter | UnitKind::SessionFooter => return Ok(false),
                    _ => {}
                },
                UnitEvent::End => return Ok(false),
                UnitEvent::Label(..) | UnitEvent::Damage(_) | UnitEvent::Mark => {}
            }
        }
    }

    /// Number of the next block.
    fn next(&self) -> u64 {
        self.specials.last().map_or(0, |(number, _)| number + 1)
    }

    /// Takes the next block. Returns false if no further special headers are to be read.
    fn take(&mut self, header: &UnitHeader, body: &[u8], key: Option<&ArchiveKey>) -> bool {
        let next = self.next();
        if header.number < next {
            // A repetition.
            return true;
        }
        let is_special = header.block_kind == BlockKind::Special;
        let content = content_of(header, body, BlockKind::Special, key);
        // One lost block before data that do not begin the stream had the data before them. Offsets
        // are not authenticated, so in an encrypted archive it may have been a special header.
        let lost = header.number - next;
        let has_gap = lost > 1 || lost == 1 && (is_special || key.is_some() || header.offset == 0);
        if has_gap || header.number == next && content.is_none() {
            self.lost = Some(next);
            return false;
        }
        if !is_special {
            return false;
        }
        let special = content.and_then(|content| Special::parse(&content).ok());
        match special {
            Some(special) if self.specials.len() < MAX_SPECIALS => {
                self.specials.push((header.number, special));
                true
            }
            _ => {
                self.lost = Some(header.number);
                false
            }
        }
    }

    /// The special headers, with the numbers of their blocks.
    pub(super) fn specials(&self) -> impl Iterator<Item = (u64, &Special)> {
        self.specials
            .iter()
            .map(|(number, special)| (*number, special))
    }

    /// Number of a block at the start that is not valid, and may have been a special header.
    pub(super) fn lost(&self) -> Option<u64> {
        self.lost
    }
}

/// Returns the data of a control block if they are valid; nothing of what is not of this kind.
pub(super) fn content_of(
    header: &UnitHeader,
    body: &[u8],
    kind: BlockKind,
    key: Option<&ArchiveKey>,
) -> Option<Vec<u8>> {
    let is_wanted = header.block_kind == kind;
    let is_stored = header.codec == Codec::NONE || !is_wanted;
    let Some(key) = key else {
        let is_valid = header.cipher == CipherKind::None && is_stored;
        return is_valid.then(|| if is_wanted { body } else { &[] }.to_vec());
    };
    let is_valid = header.cipher == CipherKind::Aes256Gcm && is_stored;
    let (data, tag) = body.split_last_chunk::<TAG_LEN>().filter(|_| is_valid)?;
    let (mut data, nonce) = (data.to_vec(), nonce(header.number));
    let associated = header.associated_data();
    let opened = key.cipher().open(&nonce, &associated, &mut data, tag);
    opened.ok().map(|()| data)
}
