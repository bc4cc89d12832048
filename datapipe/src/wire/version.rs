//! Version of records and units.

use super::codec::{Bytes, DecodeError};

/// Version of records and units. A reader refuses any other.
pub const VERSION: u8 = 1;

/// Refuses another version than [`VERSION`]; `bytes` names what has it.
pub(super) fn check_version(bytes: &Bytes<'_>, version: u8) -> Result<(), DecodeError> {
    if version == VERSION {
        return Ok(());
    }
    Err(bytes.wrong(format!(
        "version {version}, but this reader knows {VERSION}"
    )))
}

/// Refuses a header whose last four bytes are not the CRC-32 of those before; `header` has its
/// whole length.
pub(super) fn check_crc(bytes: &Bytes<'_>, header: &[u8], crc: u32) -> Result<(), DecodeError> {
    let covered = header
        .get(..header.len().saturating_sub(4))
        .unwrap_or_default();
    if crc == crc32fast::hash(covered) {
        return Ok(());
    }
    Err(bytes.wrong("damaged (checksum)"))
}
