//! What became of an archive that was written or read.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::media::Position;
use crate::stage::{Damage, DamageLog};
use crate::wire::codec::{Bytes, DecodeError, Put};

use super::read::unit_reader as units;

/// What a reader found, for whoever runs the pipe. Clones share one content.
#[derive(Clone, Debug, Default)]
pub struct ReadReport(Arc<Mutex<ReadOutcome>>);

/// How far an archive was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOutcome {
    /// The archive's footer was found, and says that these were all blocks.
    pub complete: bool,
    /// Blocks that were read whole from the medium. That one of them does not authenticate or
    /// decompress, the stages behind find out, and the log says.
    pub blocks: u64,
    /// Blocks that should be there and could not be read, as far as is known.
    pub missing: u64,
    /// Those of the blocks that inspection had rejected when the archive was written: they have no
    /// content.
    pub rejected: u64,
    /// Bytes before compression of the blocks that were read.
    pub plain: u64,
    /// Number of the first block behind the last file mark: what lies before it was on stable
    /// storage.
    pub checkpoint: u64,
    /// Bytes of the records that were read from the medium.
    pub read: u64,
    /// The last volume of which something was read.
    pub volumes: u32,
}

impl ReadReport {
    /// The state of the matter.
    pub fn outcome(&self) -> ReadOutcome {
        *self.0.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut ReadOutcome)) {
        change(&mut self.0.lock());
    }
}

impl ReadOutcome {
    /// As a process tells it.
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

    /// As a process has told it.
    pub(super) fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let mut data = Bytes::new("what a process says of an archive that it reads", data);
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

/// How far the writing of an archive has come, for whoever runs the pipe. Clones share one content.
#[derive(Clone, Debug, Default)]
pub struct WriteReport(Arc<Mutex<WriteOutcome>>);

/// How far an archive was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOutcome {
    /// Blocks that were written, and their bytes before compression.
    pub blocks: u64,
    /// See [`blocks`](Self::blocks).
    pub plain: u64,
    /// Blocks up to the last checkpoint: they are on stable storage, whatever happens.
    pub safe_blocks: u64,
    /// The bytes of those before compression.
    pub safe_plain: u64,
    /// The archive is whole, and all of it is on stable storage.
    pub complete: bool,
}

impl WriteReport {
    /// The state of the matter.
    pub fn outcome(&self) -> WriteOutcome {
        *self.0.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut WriteOutcome)) {
        change(&mut self.0.lock());
    }
}

impl WriteOutcome {
    /// As a process tells it.
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

    /// As a process has told it.
    pub(super) fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let mut data = Bytes::new("what a process says of an archive that it writes", data);
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

/// Where damage goes: to a log, and the reader goes on; or to the caller, and it stops.
#[derive(Clone, Debug, Default)]
pub(super) struct Reporter {
    pub(super) log: Option<DamageLog>,
}

impl Reporter {
    pub(super) fn say(&self, found: units::Damage) -> Result<(), StageError> {
        let damage = Damage {
            block: found.block,
            place: found.place.map(|place| place.to_string()),
            what: found.what,
        };
        match &self.log {
            Some(log) => {
                log.add(damage);
                Ok(())
            }
            None => Err(StageError::new(damage.to_string())),
        }
    }

    pub(super) fn note_place(&self, block: u64, place: Option<Position>) {
        if let (Some(log), Some(place)) = (&self.log, place) {
            log.note_place(block, place);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_processes_tell_arrives_whole_or_not_at_all() {
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
        let (mut told_read, mut told_written) = (read.encode(), written.encode());
        assert_eq!(ReadOutcome::decode(&told_read), Ok(read));
        assert_eq!(WriteOutcome::decode(&told_written), Ok(written));
        for len in 0..told_read.len() {
            assert!(ReadOutcome::decode(&told_read[..len]).is_err());
        }
        for len in 0..told_written.len() {
            assert!(WriteOutcome::decode(&told_written[..len]).is_err());
        }
        told_read.push(0);
        told_written.push(0);
        assert!(
            ReadOutcome::decode(&told_read).is_err()
                && WriteOutcome::decode(&told_written).is_err()
        );
    }
}
