//! The special headers at the start of an archive, some of which a reader must know.

use crate::crypto::{TAG_LEN, nonce};
use crate::limits::{MAX_SPECIAL, MAX_SPECIALS};
use crate::media::{MediumError, MediumReader};
use crate::pool::Codec;
use crate::wire::{BlockKind, CipherKind, UnitHeader, UnitKind};

use super::super::key::ArchiveKey;
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
    /// Reads the first blocks of the archive of a session, from the start of the medium, up to the
    /// first one of another kind. A block that the medium cannot read is lost.
    pub(super) fn read<M: MediumReader>(
        medium: &SharedMedium<M>,
        session: [u8; 16],
        key: Option<&ArchiveKey>,
    ) -> Self {
        let mut front = Self::default();
        if front.read_from(medium, session, key).is_err() {
            front.lost = Some(front.next());
        }
        front
    }

    fn read_from<M: MediumReader>(
        &mut self,
        medium: &SharedMedium<M>,
        session: [u8; 16],
        key: Option<&ArchiveKey>,
    ) -> Result<(), MediumError> {
        medium.clone().rewind()?;
        let mut units = UnitReader::new(medium.clone(), Some(session));
        loop {
            match units.next()? {
                UnitEvent::Unit(header, _) if header.archive > ARCHIVE => return Ok(()),
                UnitEvent::Unit(header, _) => match header.kind {
                    UnitKind::Block if self.take(&header, units.body(), key) => {}
                    UnitKind::Block | UnitKind::ArchiveFooter | UnitKind::SessionFooter => {
                        return Ok(());
                    }
                    _ => {}
                },
                UnitEvent::End => return Ok(()),
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
        let content = content_of(header, body, key);
        // Lost blocks before the first byte of data had none. Offsets are not authenticated, so in
        // an encrypted archive each lost block may have been a special header.
        let has_gap = header.number > next && (is_special || key.is_some() || header.offset == 0);
        if has_gap || header.number == next && content.is_none() {
            self.lost = Some(next);
            return false;
        }
        if !is_special {
            return false;
        }
        let special = content.and_then(|content| Special::parse(&content).ok());
        match special.filter(|special| special.bytes().len() <= MAX_SPECIAL) {
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

/// Number in its session of the archive that is read.
const ARCHIVE: u32 = 1;

/// Returns the data of a block if they are valid; nothing of what is not a special header.
fn content_of(header: &UnitHeader, body: &[u8], key: Option<&ArchiveKey>) -> Option<Vec<u8>> {
    let is_special = header.block_kind == BlockKind::Special;
    let is_stored = header.codec == Codec::NONE || !is_special;
    let Some(key) = key else {
        let is_valid = header.cipher == CipherKind::None && is_stored;
        return is_valid.then(|| if is_special { body } else { &[] }.to_vec());
    };
    let is_valid = header.cipher == CipherKind::Aes256Gcm && is_stored;
    let (data, tag) = body.split_last_chunk::<TAG_LEN>().filter(|_| is_valid)?;
    let (mut data, nonce) = (data.to_vec(), nonce(header.number));
    let associated = header.associated_data();
    let opened = key.cipher().open(&nonce, &associated, &mut data, tag);
    opened.ok().map(|()| data)
}
