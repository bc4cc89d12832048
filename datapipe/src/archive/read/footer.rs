//! The archive footer, decrypted and checked.

use crate::crypto::{Cipher, NonceKind, TAG_LEN, nonce};
use crate::wire::{self, ArchiveFooter, UnitHeader};

/// Decrypts the archive footer, if the archive is encrypted, and decodes it.
///
/// # Errors
///
/// The reason why it is not valid, as the rest of a sentence about the footer.
pub(super) fn open_footer(
    cipher: Option<&Cipher>,
    header: &UnitHeader,
    body: &[u8],
) -> Result<ArchiveFooter, String> {
    let mut body = body.to_vec();
    match (cipher, header.cipher) {
        (Some(cipher), wire::CipherKind::Aes256Gcm) => {
            let (data, tag) = body
                .split_last_chunk_mut::<TAG_LEN>()
                .ok_or("is too short")?;
            let nonce = nonce(header.number, NonceKind::ArchiveFooter);
            cipher
                .open(&nonce, &header.associated_data(), data, tag)
                .map_err(|_| "does not authenticate")?;
            body.truncate(body.len() - TAG_LEN);
        }
        (None, wire::CipherKind::None) => {}
        (Some(_), _) => return Err("is not encrypted, although the archive is".to_owned()),
        (None, _) => return Err("is encrypted, although the archive is not".to_owned()),
    }
    let footer = ArchiveFooter::parse(&body).map_err(|error| error.to_string())?;
    if footer.blocks != header.number {
        return Err("contradicts itself".to_owned());
    }
    Ok(footer)
}
