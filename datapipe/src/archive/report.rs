//! Reports of how far an archive was written or read, and the damage that a reader found.
//!
//! A stage in its own process keeps its own report, and sends the encoded outcome to the caller's.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::media::Position;
use crate::stage::{DamageEntry, DamageLog};
use crate::wire::codec::{Bytes, DecodeError, Put};

/// Progress of an [`ArchiveHead`](super::ArchiveHead), for the program that runs the pipe. Clones
/// are handles of the same report.
#[derive(Clone, Debug, Default)]
pub struct ReadReport(Arc<Mutex<ReadOutcome>>);

/// Counts of the parts of an archive that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOutcome {
    /// True if a valid archive footer was found: there are no blocks besides those in `blocks` and
    /// `missing`.
    pub complete: bool,
    /// Number of blocks that were read whole from the medium. Later stages may still find that one
    /// of them does not authenticate or decompress, and report it in the log.
    pub blocks: u64,
    /// Number of blocks that are known to exist and could not be read.
    pub missing: u64,
    /// Number of those of `blocks` that inspection rejected when the archive was written. They have
    /// no content.
    pub rejected: u64,
    /// Bytes of the blocks that were read, before compression.
    pub plain: u64,
    /// Number of the first block after the last file mark. The blocks before it were on stable
    /// storage when the mark was written.
    pub checkpoint: u64,
    /// Bytes of the records that were read from the medium.
    pub read: u64,
    /// Number of the last volume from which a record was read.
    pub volumes: u32,
}

impl ReadReport {
    /// Returns the outcome so far. It is final when the pipe has ended.
    pub fn outcome(&self) -> ReadOutcome {
        *self.0.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut ReadOutcome)) {
        change(&mut self.0.lock());
    }
}

impl ReadOutcome {
    /// Returns the data of the message that a process sends to its controller.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self {
            complete,
            blocks,
            missing,
            rejected,
            plain,
            checkpoint,
            read,
            volumes,
        } = *self;
        let mut data = vec![u8::from(complete)];
        [blocks, missing, rejected, plain, checkpoint, read]
            .into_iter()
            .for_each(|number| data.put_u64(number));
        data.put_u32(volumes);
        data
    }

    /// Decodes the data of a message from a process.
    pub(super) fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let mut data = Bytes::new("a process's report of an archive that it reads", data);
        let outcome = Self {
            complete: data.u8()? == 1,
            blocks: data.u64()?,
            missing: data.u64()?,
            rejected: data.u64()?,
            plain: data.u64()?,
            checkpoint: data.u64()?,
            read: data.u64()?,
            volumes: data.u32()?,
        };
        data.end()?;
        Ok(outcome)
    }
}

/// Progress of an [`ArchiveTail`](super::ArchiveTail), for the program that runs the pipe. Clones
/// are handles of the same report.
#[derive(Clone, Debug, Default)]
pub struct WriteReport(Arc<Mutex<WriteOutcome>>);

/// Counts of the parts of an archive that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOutcome {
    /// Number of blocks that were written.
    pub blocks: u64,
    /// Bytes of those blocks before compression.
    pub plain: u64,
    /// Number of blocks up to the last checkpoint. They are on stable storage and stay readable if
    /// the pipe fails.
    pub safe_blocks: u64,
    /// Bytes of those blocks before compression.
    pub safe_plain: u64,
    /// True if the whole archive is on stable storage.
    pub complete: bool,
}

impl WriteReport {
    /// Returns the outcome so far. It is final when the pipe has ended.
    pub fn outcome(&self) -> WriteOutcome {
        *self.0.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut WriteOutcome)) {
        change(&mut self.0.lock());
    }
}

impl WriteOutcome {
    /// Returns the data of the message that a process sends to its controller.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self {
            blocks,
            plain,
            safe_blocks,
            safe_plain,
            complete,
        } = *self;
        let mut data = vec![u8::from(complete)];
        [blocks, plain, safe_blocks, safe_plain]
            .into_iter()
            .for_each(|number| data.put_u64(number));
        data
    }

    /// Decodes the data of a message from a process.
    pub(super) fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let mut data = Bytes::new("a process's report of an archive that it writes", data);
        let outcome = Self {
            complete: data.u8()? == 1,
            blocks: data.u64()?,
            plain: data.u64()?,
            safe_blocks: data.u64()?,
            safe_plain: data.u64()?,
        };
        data.end()?;
        Ok(outcome)
    }
}

/// Damage to the stream, as a reader found it.
#[derive(Debug)]
pub(super) struct StreamDamage {
    /// Number of the block, if it is known.
    pub(super) block: Option<u64>,
    /// Position on the medium, if it is known.
    pub(super) at: Option<Position>,
    /// The defect, as the rest of a sentence about the block or the position.
    pub(super) what: String,
}

/// The destination of damage: a log, and the reader goes on; or the pipe's error, and it stops.
#[derive(Clone, Debug, Default)]
pub(super) struct DamageReporter {
    pub(super) log: Option<DamageLog>,
}

impl DamageReporter {
    /// Adds the damage to the log.
    ///
    /// # Errors
    ///
    /// The damage, if there is no log.
    pub(super) fn report(&self, damage: StreamDamage) -> Result<(), StageError> {
        let damage = DamageEntry {
            block: damage.block,
            position: damage.at.map(|at| at.to_string()),
            what: damage.what,
        };
        match &self.log {
            Some(log) => {
                log.add(damage);
                Ok(())
            }
            None => Err(StageError::new(damage.to_string())),
        }
    }

    /// Records the position of a block in the log, for stages that find damage in it later.
    pub(super) fn note_position(&self, block: u64, at: Option<Position>) {
        if let (Some(log), Some(at)) = (&self.log, at) {
            log.record_position(block, at);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn outcome_survives_encoding_and_nothing_else_decodes() {
        let read = ReadOutcome {
            complete: true,
            blocks: 2,
            missing: 3,
            rejected: 4,
            plain: 5,
            checkpoint: 6,
            read: 7,
            volumes: 8,
        };
        let written = WriteOutcome {
            blocks: 2,
            plain: 3,
            safe_blocks: 4,
            safe_plain: 5,
            complete: true,
        };
        let (mut read_data, mut written_data) = (read.encode(), written.encode());
        assert_eq!(ReadOutcome::decode(&read_data), Ok(read));
        assert_eq!(WriteOutcome::decode(&written_data), Ok(written));
        for len in 0..read_data.len() {
            assert!(ReadOutcome::decode(&read_data[..len]).is_err());
        }
        for len in 0..written_data.len() {
            assert!(WriteOutcome::decode(&written_data[..len]).is_err());
        }
        read_data.push(0);
        written_data.push(0);
        assert!(
            ReadOutcome::decode(&read_data).is_err()
                && WriteOutcome::decode(&written_data).is_err()
        );
    }
}
