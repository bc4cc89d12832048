//! Facts of the header of a listed archive, and its name.

use crate::wire::{ArchiveHeader, CipherKind, Content, Time};

use super::super::key::header_hash;

/// Facts of an archive's header, and its name.
#[derive(Clone)]
pub(super) struct HeaderFacts {
    pub(super) id: [u8; 16],
    /// `None` if it is encrypted, and was not decrypted, or if block 0 of the archive is damaged.
    pub(super) name: Option<String>,
    pub(super) created: Time,
    pub(super) content: Content,
    pub(super) key_id: Option<[u8; 16]>,
    pub(super) hash: [u8; 32],
}

impl HeaderFacts {
    pub(super) fn of(header: &ArchiveHeader, name: Option<String>) -> Self {
        Self {
            id: header.id,
            name,
            created: header.created,
            content: header.content,
            key_id: (header.cipher != CipherKind::None).then_some(header.key_id),
            hash: header_hash(header),
        }
    }

    /// True if the name is known, or cannot be without a key.
    pub(super) fn has_known_name(&self) -> bool {
        self.name.is_some() || self.key_id.is_some()
    }
}
