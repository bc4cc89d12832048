//! Checks that the headers of records and of units share: version and checksum.

use super::codec::{Bytes, DecodeError};

/// Version of records and units. A reader refuses any other.
pub const VERSION: u8 = 1;

/// Bytes of a header of 64 that its CRC covers: all before the CRC itself.
const COVERED: usize = 60;

/// Refuses a version other than [`VERSION`]. `bytes` is the cursor over the header.
pub(super) fn check_version(bytes: &Bytes<'_>, version: u8) -> Result<(), DecodeError> {
    if version == VERSION {
        return Ok(());
    }
    Err(bytes.error(format!(
        "version {version}, but this reader knows {VERSION}"
    )))
}

/// Refuses a header whose checksum is not `crc`. `bytes` is the cursor over the header.
pub(super) fn check_crc(bytes: &Bytes<'_>, header: &[u8], crc: u32) -> Result<(), DecodeError> {
    if crc == crc32fast::hash(header.get(..COVERED).unwrap_or_default()) {
        return Ok(());
    }
    Err(bytes.error("damaged (checksum)"))
}
