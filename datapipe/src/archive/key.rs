//! The key of an archive's blocks.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::crypto::{Cipher, DataKey, SubKey};
use crate::wire::{ArchiveHeader, SessionHeader};

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

    /// Derives the key of an archive from the session's data key. It depends on both headers, so a
    /// reader that was given another header cannot open a block.
    pub(super) fn derive(
        data_key: &DataKey,
        session: &SessionHeader,
        archive: &ArchiveHeader,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(session.identity());
        hash.update(archive.to_bytes());
        Self::new(data_key.sub_key(&archive.salt, &archive.id, &hash.finalize().into()))
    }

    pub(super) fn cipher(&self) -> &Arc<Cipher> {
        &self.cipher
    }

    pub(super) fn key(&self) -> &SubKey {
        &self.key
    }
}
