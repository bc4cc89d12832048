//! The origin of an encrypted archive, which is in its first block.

use crate::crypto::{TAG_LEN, nonce};
use crate::media::{MediumError, MediumReader};
use crate::wire::{BlockKind, CipherKind, UnitHeader, UnitKind};

use super::super::key::ArchiveKey;
use super::super::origin::ArchiveOrigin;
use super::super::special::Special;
use super::shared_medium::SharedMedium;
use super::unit_event::UnitEvent;
use super::unit_reader::UnitReader;

/// Reads the first block of the archive of a session, from the start of the medium. Returns `None`
/// if it does not have the origin, as when it is damaged.
pub(super) fn read_origin<M: MediumReader>(
    medium: &SharedMedium<M>,
    session: [u8; 16],
    key: &ArchiveKey,
) -> Result<Option<ArchiveOrigin>, MediumError> {
    medium.clone().rewind()?;
    let mut units = UnitReader::new(medium.clone(), Some(session));
    loop {
        match units.next()? {
            UnitEvent::Unit(header, _) => match header.kind {
                UnitKind::Block => return Ok(origin_in(&header, units.body(), key)),
                UnitKind::ArchiveFooter | UnitKind::SessionFooter => return Ok(None),
                _ => {}
            },
            UnitEvent::End => return Ok(None),
            UnitEvent::Label(..) | UnitEvent::Damage(_) | UnitEvent::Mark => {}
        }
    }
}

/// Returns the origin that a block has.
fn origin_in(header: &UnitHeader, body: &[u8], key: &ArchiveKey) -> Option<ArchiveOrigin> {
    let is_special = header.number == 0
        && header.block_kind == BlockKind::Special
        && header.cipher == CipherKind::Aes256Gcm;
    let (data, tag) = body.split_last_chunk::<TAG_LEN>().filter(|_| is_special)?;
    let mut data = data.to_vec();
    let opened = key.cipher().open(
        &nonce(header.number),
        &header.associated_data(),
        &mut data,
        tag,
    );
    opened.ok()?;
    Special::parse(&data).ok()?.origin()
}
