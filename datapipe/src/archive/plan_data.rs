//! The data of a planned archive, as its stages share it.

use crate::wire::{ArchiveHeader, SessionHeader};

use super::key::ArchiveKey;

/// Everything that is decided before the first block is written.
pub(super) struct PlanData {
    pub(super) session: SessionHeader,
    pub(super) header: ArchiveHeader,
    /// `None` if the archive is not encrypted.
    pub(super) key: Option<ArchiveKey>,
    /// Bytes on the medium after which a chunk ends.
    pub(super) chunk_len: u64,
}
