//! The data key, and the keys of the archives that have it.

use std::array::TryFromSliceError;
use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::derive::derive;
use super::key_bytes::KeyBytes;
use super::key_error::KeyError;
use super::random::fill_random;
use super::secret_kind::KEY_LEN;

/// Purpose of a sub-key, which precedes the archive's id in HKDF's `info`.
const PURPOSE: &[u8] = b"datapipe 1 archive key";

/// Purpose of the id of a data key: HKDF's `info`.
const ID_PURPOSE: &[u8] = b"datapipe 1 key id";

/// Bytes of the id of a data key.
pub const KEY_ID_LEN: usize = 16;

/// The random key from which the keys of archives are derived. It does not seal anything itself.
/// The archives of a session may share it.
///
/// Erased from memory when it is dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DataKey(KeyBytes);

/// The key that one writer seals one archive with. Erased from memory when it is dropped; never
/// printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SubKey(KeyBytes);

impl DataKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the system has no random numbers.
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = KeyBytes::zeros();
        fill_random(&mut bytes[..])?;
        Ok(Self(bytes))
    }

    /// Derives the key of one archive from the salt that its writer drew, its id, and the SHA-256
    /// of its header's identity.
    ///
    /// Another header gives another key, so an archive whose header was changed does not open. A
    /// writer that begins again must draw another salt: the same three inputs would use the same
    /// nonces twice under one key.
    pub fn sub_key(
        &self,
        salt: &[u8; 32],
        archive_id: &[u8; 16],
        header_hash: &[u8; 32],
    ) -> SubKey {
        SubKey(derive(&self.0, salt, &[PURPOSE, archive_id, header_hash]))
    }

    /// The id of the key, which an archive's header has in clear. Slots that wrap the same key have
    /// the same id.
    pub fn id(&self) -> [u8; KEY_ID_LEN] {
        let derived = derive(&self.0, &[], &[ID_PURPOSE]);
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&derived[..KEY_ID_LEN]);
        id
    }

    pub(super) fn from_bytes(bytes: KeyBytes) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl SubKey {
    /// A key that another process has sent.
    ///
    /// # Errors
    ///
    /// An error, if `bytes` does not have the length of a key.
    pub(crate) fn from_slice(bytes: &[u8]) -> Result<Self, TryFromSliceError> {
        bytes.try_into().map(KeyBytes::copy_of).map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(secret)")
    }
}

impl fmt::Debug for SubKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::known_answers::hex;
    use super::*;

    #[test]
    fn data_keys_differ_and_are_not_printed() {
        let (one, two) = (DataKey::random().unwrap(), DataKey::random().unwrap());
        assert_ne!(*one.0, *two.0);
        assert_eq!(format!("{one:?}"), "DataKey(secret)");
        assert_eq!(
            format!("{:?}", one.sub_key(&[0; 32], &[0; 16], &[0; 32])),
            "SubKey(secret)"
        );
    }

    #[test]
    fn id_depends_on_the_key() {
        let key = |first: u8| {
            DataKey(KeyBytes::copy_of(&std::array::from_fn(|at| {
                first + u8::try_from(at).unwrap()
            })))
        };
        // Computed with Python's cryptography package.
        let expected = hex("aa56f0c066437201c3b98e9d4ffe7206");
        assert_eq!(key(0x40).id().to_vec(), expected);
        assert_ne!(key(0x41).id().to_vec(), expected);
    }

    #[test]
    fn sub_key_depends_on_data_key_salt_archive_and_header() {
        let (salt, archive, header) = ([1; 32], [2; 16], [3; 32]);
        let key = DataKey(KeyBytes::copy_of(&[9; 32]));
        // Computed with Python's cryptography package: HKDF(SHA256, 32, salt, info).derive(key).
        let expected = hex("a110a7454c29341bcb705a6249b105a5716450ea641ca9964790df66e61266f9");
        assert_eq!(key.sub_key(&salt, &archive, &header).0.to_vec(), expected);
        for other in [
            DataKey(KeyBytes::copy_of(&[8; 32])).sub_key(&salt, &archive, &header),
            key.sub_key(&[0; 32], &archive, &header),
            key.sub_key(&salt, &[0; 16], &header),
            key.sub_key(&salt, &archive, &[0; 32]),
        ] {
            assert_ne!(other.0.to_vec(), expected);
        }
    }
}
