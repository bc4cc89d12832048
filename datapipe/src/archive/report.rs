//! Reports of how far an archive was written or read, and the damage that a reader found.
//!
//! A stage in its own process keeps its own report, which the caller's report [mirrors](Mirror): a
//! message is an encoded outcome, which replaces the one before it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::media::Position;
use crate::stage::mirror::{Mirror, ReportKind, Update};
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
    /// Returns a copy of the outcome so far. It is final when the pipe has ended.
    pub fn snapshot(&self) -> ReadOutcome {
        *self.0.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut ReadOutcome)) {
        change(&mut self.0.lock());
    }
}

impl Mirror for ReadReport {
    const KIND: ReportKind = ReportKind::Read;
    type Cursor = ReadOutcome;

    fn delta(&self, sent: &mut ReadOutcome) -> Vec<Update> {
        let outcome = self.snapshot();
        if std::mem::replace(sent, outcome) == outcome {
            return Vec::new();
        }
        vec![Update::silent(outcome.encode())]
    }

    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        *self.0.lock() = ReadOutcome::decode(message)?;
        Ok(())
    }

    fn reject(&self, _: &DecodeError) {
        self.0.lock().complete = false;
    }
}

impl ReadOutcome {
    /// Encodes a message.
    fn encode(&self) -> Vec<u8> {
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

    /// Decodes a message from a process.
    fn decode(data: &[u8]) -> Result<Self, DecodeError> {
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
    /// Returns a copy of the outcome so far. It is final when the pipe has ended.
    pub fn snapshot(&self) -> WriteOutcome {
        *self.0.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut WriteOutcome)) {
        change(&mut self.0.lock());
    }
}

impl Mirror for WriteReport {
    const KIND: ReportKind = ReportKind::Write;
    type Cursor = WriteOutcome;

    fn delta(&self, sent: &mut WriteOutcome) -> Vec<Update> {
        let outcome = self.snapshot();
        if std::mem::replace(sent, outcome) == outcome {
            return Vec::new();
        }
        vec![Update::silent(outcome.encode())]
    }

    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        *self.0.lock() = WriteOutcome::decode(message)?;
        Ok(())
    }

    fn reject(&self, _: &DecodeError) {
        self.0.lock().complete = false;
    }
}

impl WriteOutcome {
    /// Encodes a message.
    fn encode(&self) -> Vec<u8> {
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

    /// Decodes a message from a process.
    fn decode(data: &[u8]) -> Result<Self, DecodeError> {
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
            place: damage.at.map(|at| at.to_string()),
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
            log.note_place(block, at);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::stage::mirror;

    #[test]
    fn outcomes_are_mirrored_and_nothing_else_decodes() {
        let (read, written) = (ReadReport::default(), WriteReport::default());
        read.update(|outcome| {
            *outcome = ReadOutcome {
                complete: true,
                blocks: 2,
                missing: 3,
                rejected: 4,
                plain: 5,
                checkpoint: 6,
                read: 7,
                volumes: 8,
            }
        });
        written.update(|outcome| {
            *outcome = WriteOutcome {
                blocks: 2,
                plain: 3,
                safe_blocks: 4,
                safe_plain: 5,
                complete: true,
            }
        });
        let (mut read_cursor, mut written_cursor) = Default::default();
        for _ in 0..2 {
            let (read_copy, written_copy) = (ReadReport::default(), WriteReport::default());
            mirror::copy(&read, &mut read_cursor, &read_copy);
            mirror::copy(&written, &mut written_cursor, &written_copy);
            assert_eq!(read_copy.snapshot(), read.snapshot());
            assert_eq!(written_copy.snapshot(), written.snapshot());
            assert_eq!(
                (
                    read.delta(&mut read_cursor),
                    written.delta(&mut written_cursor)
                ),
                (vec![], vec![])
            );
            read.update(|outcome| outcome.blocks += 1);
            written.update(|outcome| outcome.blocks += 1);
        }
        let cut = |data: &[u8], decodes: fn(&[u8]) -> bool| {
            assert!((0..data.len()).all(|len| !decodes(&data[..len])));
            assert!(decodes(data) && !decodes(&[data, b"x"].concat()));
        };
        cut(&read.snapshot().encode(), |data| {
            ReadOutcome::decode(data).is_ok()
        });
        cut(&written.snapshot().encode(), |data| {
            WriteOutcome::decode(data).is_ok()
        });
    }

    #[test]
    fn archive_of_a_malformed_report_is_not_complete() {
        let (read, written) = (ReadReport::default(), WriteReport::default());
        read.update(|outcome| outcome.complete = true);
        written.update(|outcome| outcome.complete = true);
        let error = DecodeError::new("it", "is nonsense");
        (read.reject(&error), written.reject(&error));
        assert!(!read.snapshot().complete && !written.snapshot().complete);
    }
}
