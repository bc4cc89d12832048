//! The data of a planned archive, as its stages share it.

use crate::wire::{ArchiveHeader, CopySource, SessionHeader};

use super::key::ArchiveKey;

/// Everything that is decided before the first block is written.
pub(super) struct PlanData {
    pub(super) session: SessionHeader,
    pub(super) header: ArchiveHeader,
    /// `None` if the archive is not encrypted.
    pub(super) key: Option<ArchiveKey>,
    /// Block 0, as it is stored; empty in a copy, which gets that of its source.
    pub(super) origin: Vec<u8>,
    /// Bytes on the medium after which a chunk ends.
    pub(super) chunk_len: u64,
    /// The session from which the archive is copied. Its blocks then keep their numbers and
    /// offsets.
    pub(super) copy_of: Option<CopySource>,
}
