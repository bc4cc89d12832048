//! The options of a copy, the plan that is made from them, and the numbers of its blocks, which are
//! those that they have in the source.

use crate::error::StageError;
use crate::pool::{BlockInfo, Marks};
use crate::wire::{ArchiveHeader, CopySource, Framing, SessionHeader};

use super::super::plan_data::PlanData;
use super::options::{Archive, DEFAULT_CHUNK};
use super::plan_error::PlanError;
use super::session::SessionOptions;

/// Options of a copy of an archive, which is made without its key.
///
/// The blocks, their numbers, and the header of the archive with its key slots stay as they are, so
/// the copy opens with the secrets that open its source, and is verified and restored as the source
/// is. Session, chunks, and length of records are new. The footer of the copy says from which
/// session it was copied.
///
/// Blocks that the source has lost are lost in the copy, which is then incomplete.
/// [`StoredArchive::copy`](super::super::StoredArchive::copy) returns the options.
///
/// ```
/// use datapipe::archive::StoredArchive;
/// use datapipe::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// # let (path, other) = (dir.path().join("nightly.tap"), dir.path().join("copy.tap"));
///
/// let key = Secret::Key(Key::from_bytes([7; 32]));
/// let archive = ArchiveOptions::stream("nightly").encrypt(key.clone()).plan()?;
/// Pipe::builder()
///     .head(StreamHead::new(&b"the only copy"[..]))
///     .archive(archive, VirtualTape::create(&path, VolumeOptions::default())?)
///     .run()?;
///
/// let source = StoredArchive::open(VirtualTape::open(&path)?)?;
/// let copy = source.copy().record_len(64 << 10).plan()?;
/// let written = copy.report();
/// let reading = source.read();
/// let tape = VirtualTape::create(&other, VolumeOptions::default())?;
/// reading.pipe.archive(copy, tape).run()?;
/// assert!(reading.report.snapshot().complete && written.snapshot().complete);
///
/// let reader = ArchiveReader::open(VirtualTape::open(&other)?, Some(&key))?;
/// assert_eq!(reader.header_hash(), source.header_hash());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CopyOptions {
    header: ArchiveHeader,
    source: CopySource,
    session: SessionOptions,
    chunk_len: u64,
}

impl CopyOptions {
    pub(in crate::archive) fn new(session: &SessionHeader, header: &ArchiveHeader) -> Self {
        Self {
            header: header.clone(),
            source: CopySource {
                session: session.id,
                created: session.created,
            },
            session: SessionOptions::new(session.label.clone())
                .framing(session.framing)
                .record_len(session.record_len as usize),
            chunk_len: DEFAULT_CHUNK,
        }
    }

    /// Sets the label of the copy's session; that of the source's by default.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        let session = self.session.label(label);
        Self { session, ..self }
    }

    /// Sets which chunks have headers and footers; as in the source by default.
    #[must_use]
    pub fn framing(self, framing: Framing) -> Self {
        let session = self.session.framing(framing);
        Self { session, ..self }
    }

    /// Sets the length of records, as
    /// [`ArchiveOptions::record_len`](super::ArchiveOptions::record_len); that of the source by
    /// default.
    #[must_use]
    pub fn record_len(self, bytes: usize) -> Self {
        let session = self.session.record_len(bytes);
        Self { session, ..self }
    }

    /// Ends a chunk after `bytes` on the medium, and at least one block: it is on stable storage
    /// then. 1 GiB by default.
    #[must_use]
    pub fn chunk_len(self, bytes: u64) -> Self {
        Self {
            chunk_len: bytes,
            ..self
        }
    }

    /// Makes the plan of the copy: draws the id of its session. It ends a pipe that
    /// [`StoredArchive::read`](super::super::StoredArchive::read) has begun, without a stage
    /// between that changes blocks.
    ///
    /// # Errors
    ///
    /// [`PlanError`] if the label is longer than 255 bytes, or the system has no random numbers.
    pub fn plan(self) -> Result<Archive, PlanError> {
        let data = PlanData {
            session: self.session.header()?,
            header: self.header,
            key: None,
            origin: Vec::new(),
            chunk_len: self.chunk_len,
            copy_of: Some(self.source),
        };
        Ok(Archive::new(data, None, None))
    }
}

/// Returns the number that a block has in the source, and so in the copy. `next` is the one after
/// the last block.
///
/// # Errors
///
/// If the block does not come from the source of the copy, or not in order.
pub(super) fn copied_number(info: &BlockInfo, next: u64) -> Result<u64, StageError> {
    match info.sequence {
        None => Err(StageError::new(format!(
            "a block after block {next} of the source has no number there: a copy has the blocks \
             that StoredArchive::read returns, and no stage changes or adds any"
        ))),
        Some(number) if number < next => Err(StageError::new(format!(
            "block {number} of the source comes after block {}: let no stage reorder or repeat the \
             blocks of a copy",
            next - 1
        ))),
        Some(u64::MAX) => Err(StageError::new(
            "block 18446744073709551615 of the source: no archive has as many blocks",
        )),
        Some(number) => Ok(number),
    }
}

/// True if the block is the last one of the pipe itself. A copy has that of its source.
pub(super) fn is_own_last(info: &BlockInfo) -> bool {
    info.marks.contains(Marks::LAST) && info.sequence.is_none()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn numbers_ascend_and_leave_room_for_the_next_one() {
        let number = |sequence, next| {
            let info = BlockInfo {
                sequence,
                ..BlockInfo::default()
            };
            copied_number(&info, next).ok()
        };
        assert_eq!(number(Some(7), 7), Some(7));
        assert_eq!(number(Some(9), 7), Some(9));
        assert_eq!(number(Some(u64::MAX - 1), 7), Some(u64::MAX - 1));
        for refused in [None, Some(6), Some(u64::MAX)] {
            assert_eq!(number(refused, 7), None);
        }
    }
}
