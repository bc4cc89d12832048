//! Reports of how far an archive was written or read, and the damage that a reader found.
//!
//! A stage in its own process keeps its own report, which the caller's report [mirrors](Mirror): a
//! message is an encoded outcome, which replaces the one before it.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::StageError;
use crate::media::Position;
use crate::stage::mirror::{Mirror, ReportKind, Update};
use crate::stage::{DamageEntry, DamageLog, Notice};
use crate::wire::codec::{Bytes, DecodeError, Put};

/// Largest number of volumes that are reported at once: the last ones.
const MAX_VOLUME_NOTICES: u32 = 1000;

/// Progress of an [`ArchiveHead`](super::ArchiveHead), for the program that runs the pipe.
pub type ReadReport = ArchiveReport<ReadOutcome>;

/// Progress of the writing of an [`Archive`](super::Archive), for the program that runs the pipe.
pub type WriteReport = ArchiveReport<WriteOutcome>;

/// Progress of a stage that reads or writes an archive: a [`ReadReport`] or a [`WriteReport`].
/// Clones are handles of the same report.
#[derive(Clone, Debug, Default)]
pub struct ArchiveReport<O>(Arc<Mutex<O>>);

impl<O: Copy> ArchiveReport<O> {
    /// Returns a copy of the outcome so far. It is final when the pipe has ended.
    pub fn snapshot(&self) -> O {
        *self.0.lock()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut O)) {
        change(&mut self.0.lock());
    }
}

/// An outcome that is sent whole, as one message.
pub(super) trait Outcome: Copy + Default + PartialEq + Send + 'static {
    const KIND: ReportKind;

    fn encode(&self) -> Vec<u8>;
    fn decode(message: &[u8]) -> Result<Self, DecodeError>;

    /// Takes over an outcome that a process has sent.
    fn replace(&mut self, sent: Self) {
        *self = sent;
    }

    /// Notes that a process has sent a malformed outcome: the archive does not count as complete.
    fn spoil(&mut self);

    /// Number of problems in the outcome of a stage that went on to its end.
    fn problem_count(&self) -> u64 {
        0
    }

    fn describe_problems(&self) -> String {
        String::new()
    }
}

impl<O: Outcome> Mirror for ArchiveReport<O> {
    const KIND: ReportKind = O::KIND;
    type Cursor = O;

    fn delta(&self, sent: &mut O) -> Vec<Update> {
        let outcome = self.snapshot();
        if std::mem::replace(sent, outcome) == outcome {
            return Vec::new();
        }
        vec![Update::silent(outcome.encode())]
    }

    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        let sent = O::decode(message)?;
        self.0.lock().replace(sent);
        Ok(())
    }

    fn reject(&self, _: &DecodeError) {
        self.0.lock().spoil();
    }

    fn problem_count(&self) -> u64 {
        self.snapshot().problem_count()
    }

    fn describe_problems(&self) -> String {
        self.snapshot().describe_problems()
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

/// Counts of the parts of an archive that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOutcome {
    /// True if each block of the archive came whole, once and in order, up to its last one, no
    /// block was rejected, and the medium has no other archive. The stage that
    /// [checks](super::ArchiveHead::check) the blocks, before they are decompressed, says so at the
    /// end of the pipe: see [`Report::is_complete`](crate::Report::is_complete) for the rest.
    pub complete: bool,
    /// Number of blocks that were read whole from the medium, besides the last one, which has no
    /// data. Later stages may still find that one of them does not authenticate or decompress, and
    /// report it in the log.
    pub blocks: u64,
    /// Number of blocks that are known to exist and could not be read.
    pub missing: u64,
    /// Number of those of `blocks` that inspection rejected when the archive was written. They have
    /// no content.
    pub rejected: u64,
    /// The first of the rejected blocks. The log of a
    /// [salvaging](super::ArchiveReader::salvage) reader has an entry for each.
    pub first_rejected: Option<RejectedBlock>,
    /// Bytes of the blocks of data and catalogue that were read, before compression.
    pub plain: u64,
    /// Number of the first block after the last file mark, which ends a chunk.
    pub checkpoint: u64,
    /// Bytes of the records that were read from the medium.
    pub read: u64,
    /// Number of the last volume from which a record was read.
    pub volumes: u32,
    /// Content of the medium after the archive, if all of the archive was read.
    pub after_end: AfterEnd,
    /// Number of records of kinds that this version does not know, which later versions may write.
    /// They are not part of the archive, and were passed over.
    pub later_records: u64,
    /// Outcome of the check of the blocks, at its end.
    whole: Option<Whole>,
    /// A process has sent a malformed outcome.
    is_spoiled: bool,
}

/// Outcome of the check of the blocks that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Number of blocks that should have come and did not.
    pub(super) missing: u64,
    /// The archive's last block was among them.
    pub(super) has_last: bool,
    /// All blocks came, the last one among them, and none of them is damaged or was rejected.
    pub(super) is_complete: bool,
}

impl ReadOutcome {
    /// True if the archive's last block came, whole or partial as the reading was: no block after
    /// those that were read is missing. The stage that [checks](super::ArchiveHead::check) the
    /// blocks says so at the end of the pipe.
    pub fn reached_end(&self) -> bool {
        self.whole.is_some_and(|whole| whole.has_last)
    }

    /// Brings the fields that depend on head and check up to date.
    fn settle(&mut self) {
        let Some(whole) = self.whole else {
            return;
        };
        self.missing = self.missing.max(whole.missing);
        self.complete =
            whole.is_complete && self.after_end != AfterEnd::Archive && !self.is_spoiled;
    }
}

impl ReadReport {
    /// Sets the outcome of the check of the blocks.
    pub(super) fn set_whole(&self, whole: Whole) {
        self.update(|outcome| {
            outcome.whole = Some(whole);
            outcome.settle();
        });
    }
}

/// Content of a medium after the end of the archive that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterEnd {
    /// Nothing, or zeros, which a crash may leave.
    #[default]
    Nothing,
    /// Bytes that are not an archive. The archive before them is not affected.
    Bytes,
    /// Another archive, of the same session or of another one. It was not read, so the
    /// [outcome](ReadOutcome) is not complete, and the log of a
    /// [salvaging](super::ArchiveReader::salvage) reader has an entry.
    Archive,
}

impl AfterEnd {
    fn code(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Bytes => 1,
            Self::Archive => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Nothing),
            1 => Some(Self::Bytes),
            2 => Some(Self::Archive),
            _ => None,
        }
    }
}

/// A block of an archive whose content an inspection took away before it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RejectedBlock {
    /// Number of the block.
    pub block: u64,
    /// Offset in bytes at which the block began in the archive's data, before compression. A
    /// restored stream has zeros from here to the next block.
    pub offset: u64,
    /// Position of the block on the medium, if it is known.
    pub position: Option<Position>,
}

impl RejectedBlock {
    /// Returns the end of the sentence that begins with the block and its position.
    pub(super) fn what(&self) -> String {
        format!(
            "rejected by inspection when the archive was written: its data, from byte {}, is not \
             in the archive",
            self.offset
        )
    }
}

impl fmt::Display for RejectedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.block)?;
        if let Some(position) = &self.position {
            write!(f, " at {position}")?;
        }
        write!(f, ": {}", self.what())
    }
}

impl Outcome for ReadOutcome {
    const KIND: ReportKind = ReportKind::Read;

    fn encode(&self) -> Vec<u8> {
        let mut data = vec![self.after_end.code()];
        data.put_u64s(&[self.blocks, self.missing, self.rejected]);
        data.put_u64s(&[self.plain, self.checkpoint, self.read, self.later_records]);
        data.put_u32(self.volumes);
        let Some(rejected) = self.first_rejected else {
            data.put_u8(NONE);
            return data;
        };
        data.put_u8(match rejected.position {
            None => REJECTED,
            Some(_) => REJECTED_AT,
        });
        data.put_u64s(&[rejected.block, rejected.offset]);
        if let Some(at) = rejected.position {
            data.put_u32(at.volume);
            data.put_u64s(&[at.record, at.byte]);
        }
        data
    }

    fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut data = Bytes::new("a process's report of an archive that it reads", message);
        let code = data.u8()?;
        let Some(after_end) = AfterEnd::from_code(code) else {
            let what = format!("has an unknown code of what follows an archive, {code}");
            return Err(data.error(what));
        };
        let [blocks, missing, rejected] = data.u64s()?;
        let [plain, checkpoint, read, later_records] = data.u64s()?;
        let volumes = data.u32()?;
        let first_rejected = decode_rejected(&mut data)?;
        data.end()?;
        Ok(Self {
            blocks,
            missing,
            rejected,
            first_rejected,
            plain,
            checkpoint,
            read,
            volumes,
            after_end,
            later_records,
            ..Self::default()
        })
    }

    fn replace(&mut self, sent: Self) {
        *self = Self {
            whole: self.whole,
            is_spoiled: self.is_spoiled,
            ..sent
        };
        self.settle();
    }

    fn spoil(&mut self) {
        (self.complete, self.is_spoiled) = (false, true);
    }

    /// Rejected blocks, and an archive that was not read. A reader without a log fails at a missing
    /// block, and one with a log adds all of these to it.
    fn problem_count(&self) -> u64 {
        let unread = u64::from(self.after_end == AfterEnd::Archive);
        self.rejected.saturating_add(unread)
    }

    fn describe_problems(&self) -> String {
        match (&self.first_rejected, self.after_end) {
            (_, AfterEnd::Archive) => UNREAD_ARCHIVE.to_owned(),
            (Some(rejected), _) => {
                format!("{}; rejected blocks so far: {}", rejected, self.rejected)
            }
            (None, _) => String::new(),
        }
    }
}

/// Problem of a medium whose second archive was not read.
const UNREAD_ARCHIVE: &str = "the medium has another archive after this one, which was not read: \
                              to read it, copy it to a medium of its own";

/// Codes of [`ReadOutcome::first_rejected`]: there is none; block and offset; position as well.
const NONE: u8 = 0;
const REJECTED: u8 = 1;
const REJECTED_AT: u8 = 2;

fn decode_rejected(data: &mut Bytes<'_>) -> Result<Option<RejectedBlock>, DecodeError> {
    let code = data.u8()?;
    if code == NONE {
        return Ok(None);
    }
    if code > REJECTED_AT {
        return Err(data.error(format!("has an unknown code of a rejected block, {code}")));
    }
    let [block, offset] = data.u64s()?;
    let position = match code {
        REJECTED => None,
        _ => {
            let (volume, [record, byte]) = (data.u32()?, data.u64s()?);
            Some(Position {
                volume,
                record,
                byte,
            })
        }
    };
    Ok(Some(RejectedBlock {
        block,
        offset,
        position,
    }))
}

/// Counts of the parts of an archive that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteOutcome {
    /// Number of blocks that were written, besides the last one, which has no data.
    pub blocks: u64,
    /// Number of those blocks that an inspection rejected. The archive has their numbers and not
    /// their data.
    pub rejected: u64,
    /// Bytes of those that have data or a piece of a catalogue, before compression.
    pub plain: u64,
    /// Number of blocks up to the end of the last chunk that was synced. They are on stable storage
    /// and stay readable if the pipe fails.
    pub safe_blocks: u64,
    /// Bytes of those blocks before compression.
    pub safe_plain: u64,
    /// True if the whole archive is on stable storage, but for the data of rejected blocks. A copy
    /// is not complete if its source has lost blocks.
    pub complete: bool,
    /// Number of the volume that is being written, from 1; 0 before the first.
    pub volumes: u32,
}

impl WriteReport {
    /// Returns a source of notices about volumes and checkpoints.
    pub(super) fn notices(&self) -> impl FnMut() -> Vec<Notice> + Send + use<> {
        let (report, mut last) = (self.clone(), WriteOutcome::default());
        move || {
            let now = report.snapshot();
            let last = std::mem::replace(&mut last, now);
            let mut notices = volumes_between(last.volumes, now.volumes);
            if now.safe_blocks > last.safe_blocks {
                notices.push(Notice::Checkpoint {
                    blocks: now.safe_blocks,
                    bytes: now.safe_plain,
                });
            }
            notices
        }
    }
}

impl ReadReport {
    /// Returns a source of notices about volumes.
    pub(super) fn notices(&self) -> impl FnMut() -> Vec<Notice> + Send + use<> {
        let (report, mut last) = (self.clone(), 0);
        move || {
            let now = report.snapshot().volumes;
            volumes_between(std::mem::replace(&mut last, now), now)
        }
    }
}

/// Returns a notice for each volume after `last` up to `now`. The numbers may come from another
/// process, so no more than a few are listed.
fn volumes_between(last: u32, now: u32) -> Vec<Notice> {
    let first = last
        .saturating_add(1)
        .max(now.saturating_sub(MAX_VOLUME_NOTICES));
    (first..=now).map(Notice::Volume).collect()
}

impl Outcome for WriteOutcome {
    const KIND: ReportKind = ReportKind::Write;

    fn encode(&self) -> Vec<u8> {
        let mut data = vec![u8::from(self.complete)];
        data.put_u64s(&[self.blocks, self.plain, self.safe_blocks, self.safe_plain]);
        data.put_u64s(&[self.rejected]);
        data.put_u32(self.volumes);
        data
    }

    fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let mut data = Bytes::new("a process's report of an archive that it writes", message);
        let complete = data.u8()? == 1;
        let [blocks, plain, safe_blocks, safe_plain, rejected] = data.u64s()?;
        let volumes = data.u32()?;
        data.end()?;
        Ok(Self {
            blocks,
            rejected,
            plain,
            safe_blocks,
            safe_plain,
            complete,
            volumes,
        })
    }

    fn spoil(&mut self) {
        self.complete = false;
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

    /// Adds a rejected block to the log, if there is one: it is not damaged, so a reader without a
    /// log reads on.
    pub(super) fn note_rejected(&self, rejected: &RejectedBlock) {
        if let Some(log) = &self.log {
            log.add(DamageEntry {
                block: Some(rejected.block),
                position: rejected.position.map(|at| at.to_string()),
                what: rejected.what(),
            });
        }
    }

    /// Adds an archive that was not read to the log, if there is one: it is not damage, so a reader
    /// without a log reads on.
    pub(super) fn note_unread_archive(&self) {
        if let Some(log) = &self.log {
            log.add(DamageEntry {
                block: None,
                position: None,
                what: UNREAD_ARCHIVE.to_owned(),
            });
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
    use crate::stage::mirror;

    #[test]
    fn outcomes_are_mirrored_and_nothing_else_decodes() {
        let (read, written) = (ReadReport::default(), WriteReport::default());
        read.update(|outcome| {
            *outcome = ReadOutcome {
                later_records: 3,
                blocks: 2,
                missing: 3,
                rejected: 4,
                first_rejected: Some(RejectedBlock {
                    block: 9,
                    offset: 10,
                    position: Some(Position {
                        volume: 11,
                        record: 12,
                        byte: 13,
                    }),
                }),
                plain: 5,
                checkpoint: 6,
                read: 7,
                volumes: 8,
                after_end: AfterEnd::Bytes,
                ..ReadOutcome::default()
            }
        });
        written.update(|outcome| {
            *outcome = WriteOutcome {
                blocks: 2,
                rejected: 6,
                plain: 3,
                safe_blocks: 4,
                safe_plain: 5,
                complete: true,
                volumes: 6,
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
        read.reject(&error);
        written.reject(&error);
        assert!(!read.snapshot().complete && !written.snapshot().complete);
    }
}
