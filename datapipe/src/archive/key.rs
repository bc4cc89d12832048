//! The key of an archive's blocks.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::crypto::{Cipher, DataKey, SubKey};
use crate::wire::ArchiveHeader;

/// SHA-256 of the identity of an archive's header.
pub(super) fn header_hash(header: &ArchiveHeader) -> [u8; 32] {
    Sha256::digest(header.identity()).into()
}

/// The key of an archive's blocks and its cipher. Clones share the cipher.
#[derive(Clone)]
pub(super) struct ArchiveKey {
    cipher: Arc<Cipher>,
    /// The key itself, for stages in other processes, which make the cipher from it again.
    key: SubKey,
}

impl ArchiveKey {
    pub(super) fn new(key: SubKey) -> Self {
        Self {
            cipher: Arc::new(Cipher::new(&key)),
            key,
        }
    }

    /// Derives the key of an archive from the data key. It depends on the identity of the archive's
    /// header, so a reader that was given another header cannot open a block; and on nothing of the
    /// session, so the archive can be copied into another one.
    pub(super) fn derive(data_key: &DataKey, archive: &ArchiveHeader) -> Self {
        let hash = header_hash(archive);
        Self::new(data_key.sub_key(&archive.salt, &archive.id, &hash))
    }

    pub(super) fn cipher(&self) -> &Arc<Cipher> {
        &self.cipher
    }

    pub(super) fn key(&self) -> &SubKey {
        &self.key
    }
}
