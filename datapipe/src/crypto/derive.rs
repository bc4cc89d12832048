//! HKDF-SHA256 (RFC 5869), always to 32 bytes.

use hkdf::Hkdf;
use sha2::Sha256;

use super::clean_stack::on_clean_stack;
use super::key_bytes::KeyBytes;
use super::secret_kind::KEY_LEN;

/// Derives 32 bytes from `secret` and `salt`, for the purpose that `info` names. Its parts are
/// concatenated.
pub(super) fn derive(secret: &[u8; KEY_LEN], salt: &[u8], info: &[&[u8]]) -> KeyBytes {
    on_clean_stack(|| {
        let mut derived = KeyBytes::zeros();
        let expanded =
            Hkdf::<Sha256>::new(Some(salt), secret).expand_multi_info(info, &mut derived[..]);
        expanded.expect("HKDF-SHA256 gives up to 255 times 32 bytes");
        derived
    })
}
