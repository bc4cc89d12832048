//! The archive footer, checked. It is in clear, and helps a reader to find and to explain; the last
//! block proves the end.

use crate::wire::{ArchiveFooter, UnitHeader};

/// Decodes the archive footer.
///
/// # Errors
///
/// The reason why it is not valid, as the rest of a sentence about the footer.
pub(super) fn parse_footer(header: &UnitHeader, body: &[u8]) -> Result<ArchiveFooter, String> {
    let footer = ArchiveFooter::parse(body).map_err(|error| error.to_string())?;
    if footer.blocks != header.number {
        return Err("contradicts itself".to_owned());
    }
    Ok(footer)
}
