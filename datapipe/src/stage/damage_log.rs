//! The log of damage that a salvaging reader and the stages after it have found, with its position
//! on the medium.
//!
//! ```text
//!   reader --record_position(block, position)--> ring of the last blocks
//!                                             |
//!   later stages --report(block, what)--------+--> entries, with their positions
//! ```
//!
//! The reader knows the position of a block, and the stages after it know if the block is intact:
//! the log brings both together. Its memory is bounded, however much is damaged.
//!
//! In its own process a stage keeps a local log and forwards new entries to the caller's. The
//! position of a block may arrive after the report of its damage, so an entry without a position
//! waits for it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{
    MAX_DAMAGE_TEXT, MAX_INSTANCES, MAX_LOG_ENTRIES, MAX_POSITIONS, MAX_STAGE_MESSAGE,
};
use crate::media::Position;
use crate::pool::Block;
use crate::wire::codec::{Bytes, DecodeError, Put, len_u16, truncate};

/// Module argument with which a stage continues after damage.
pub(crate) const SALVAGE: &str = "salvage";

/// One entry of a [`DamageLog`]: something that could not be read back intact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamageEntry {
    /// Number of the block, if it is known.
    pub block: Option<u64>,
    /// Position on the medium, if it is known.
    pub position: Option<String>,
    /// Description of the damage, truncated to [`MAX_DAMAGE_TEXT`] bytes.
    pub what: String,
}

impl fmt::Display for DamageEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.block, &self.position) {
            (Some(block), Some(position)) => write!(f, "block {block} at {position}: ")?,
            (Some(block), None) => write!(f, "block {block}: ")?,
            (None, Some(position)) => write!(f, "{position}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.what)
    }
}

/// Log of the damage found so far. Clones share one log.
///
/// ```
/// use datapipe::media::Position;
/// use datapipe::stage::DamageLog;
///
/// let log = DamageLog::new();
/// log.record_position(1204, Position { volume: 1, record: 17, byte: 1_048_640 });
/// log.report(1204, "authentication failed");
/// assert_eq!(
///     log.entries()[0].to_string(),
///     "block 1204 at volume 1, record 17 (byte 1,048,640): authentication failed"
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct DamageLog(Arc<Mutex<DamageLogInner>>);

#[derive(Debug, Default)]
struct DamageLogInner {
    /// Positions of the last blocks, each at the block's number modulo [`MAX_POSITIONS`]; empty
    /// before the first position is recorded.
    positions: Vec<Option<(u64, Position)>>,
    entries: Vec<DamageEntry>,
    /// Number of reports, including those that were not kept.
    count: u64,
    /// Numbers of the blocks whose positions are not known yet, each with the index of its entry.
    unlocated: BTreeSet<(u64, usize)>,
    /// Contents that another log has not received yet, if this log forwards to one.
    unsent: Option<Unsent>,
    report_hook: Option<ReportHook>,
}

/// The part of a log that has not been forwarded yet.
#[derive(Debug, Default)]
struct Unsent {
    /// Number of entries already forwarded.
    sent_entries: usize,
    /// Number of reports that were not kept.
    unkept: u64,
    /// Positions, the last [`MAX_POSITIONS`].
    positions: VecDeque<(u64, Position)>,
}

/// A function called after each report.
#[derive(Clone)]
struct ReportHook(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for ReportHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReportHook")
    }
}

/// Kinds of a forwarded message: its first byte.
const DAMAGE: u8 = 0;
const POSITIONS: u8 = 1;
const UNKEPT: u8 = 2;
/// Bytes of a position and its block in a message.
const POSITION_LEN: usize = 28;

/// Flags of a damage message: the fields that are present.
const HAS_BLOCK: u8 = 1;
const HAS_POSITION: u8 = 2;

/// Number of blocks that the processes of a stage can hold at once, and so report twice.
const MAX_REPEATED: usize = MAX_INSTANCES as usize;

impl DamageLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records the position of `block` on the medium. Of blocks whose numbers are [`MAX_POSITIONS`]
    /// apart, only the last is remembered.
    pub fn record_position(&self, block: u64, position: Position) {
        let mut inner = self.0.lock();
        inner.store_position(block, position);
        if let Some(unsent) = &mut inner.unsent {
            if unsent.positions.len() == MAX_POSITIONS {
                unsent.positions.pop_front();
            }
            unsent.positions.push_back((block, position));
        }
    }

    /// Reports that `block` is damaged, at the position that was recorded for it.
    pub fn report(&self, block: u64, what: impl Into<String>) {
        let position = self.0.lock().position_of(block);
        self.add(DamageEntry {
            block: Some(block),
            position,
            what: what.into(),
        });
    }

    /// Reports damage that belongs to no block with a known number, such as a record that cannot be
    /// read.
    pub fn report_at(&self, position: Position, what: impl Into<String>) {
        self.add(DamageEntry {
            block: None,
            position: Some(position.to_string()),
            what: what.into(),
        });
    }

    /// Adds an entry as it is, and calls the report hook.
    pub(crate) fn add(&self, entry: DamageEntry) {
        let hook = {
            let mut inner = self.0.lock();
            inner.push(entry);
            inner.report_hook.clone()
        };
        // Called without the lock, because the hook calls `delta`.
        if let Some(ReportHook(hook)) = hook {
            hook();
        }
    }

    /// From now on calls `hook` after each report, before the reporting call returns.
    pub(crate) fn on_report(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.0.lock().report_hook = Some(ReportHook(Arc::new(hook)));
    }

    /// An empty log of a process, which forwards its contents to the caller's log.
    pub(crate) fn for_process() -> Self {
        let log = Self::default();
        log.0.lock().unsent = Some(Unsent::default());
        log
    }

    /// Encodes everything reported and recorded since the last call, as messages of a text for
    /// people and data for [`apply`](Self::apply).
    pub(crate) fn delta(&self) -> Vec<(String, Vec<u8>)> {
        let inner = &mut *self.0.lock();
        let Some(unsent) = &mut inner.unsent else {
            return Vec::new();
        };
        let mut messages = Vec::new();
        // Positions come before the damage that was found at them.
        let positions: Vec<_> = unsent.positions.drain(..).collect();
        for positions in positions.chunks((MAX_STAGE_MESSAGE - 1) / POSITION_LEN) {
            messages.push((String::new(), encode_positions(positions)));
        }
        let new = inner.entries.get(unsent.sent_entries..).unwrap_or_default();
        messages.extend(new.iter().map(|entry| (entry.to_string(), encode(entry))));
        unsent.sent_entries = inner.entries.len();
        if let count @ 1.. = std::mem::take(&mut unsent.unkept) {
            let mut data = vec![UNKEPT];
            data.put_u64(count);
            messages.push((String::new(), data));
        }
        messages
    }

    /// Applies a message that another log's [`delta`](Self::delta) encoded. A message that does not
    /// decode becomes an entry itself.
    pub(crate) fn apply(&self, message: &[u8]) {
        let mut inner = self.0.lock();
        if let Err(error) = inner.apply(message) {
            inner.push(DamageEntry {
                block: None,
                position: None,
                what: error.to_string(),
            });
        }
    }

    /// The first [`MAX_LOG_ENTRIES`] reports, in the order of their arrival.
    pub fn entries(&self) -> Vec<DamageEntry> {
        self.0.lock().entries.clone()
    }

    /// Number of reports, including those that the log did not keep.
    pub fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// True if nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

impl DamageLogInner {
    fn push(&mut self, mut entry: DamageEntry) {
        self.count += 1;
        if self.entries.len() < MAX_LOG_ENTRIES {
            if entry.what.len() > MAX_DAMAGE_TEXT {
                entry.what = truncate(&entry.what, MAX_DAMAGE_TEXT).to_owned();
            }
            if let (Some(block), None) = (entry.block, &entry.position) {
                self.unlocated.insert((block, self.entries.len()));
            }
            self.entries.push(entry);
        } else if let Some(unsent) = &mut self.unsent {
            unsent.unkept += 1;
        }
    }

    fn apply(&mut self, message: &[u8]) -> Result<(), DecodeError> {
        let mut message = Bytes::new("a process's damage message", message);
        match message.u8()? {
            DAMAGE => self.apply_damage(message),
            POSITIONS => {
                while !message.rest().is_empty() {
                    let block = message.u64()?;
                    let position = Position {
                        volume: message.u32()?,
                        record: message.u64()?,
                        byte: message.u64()?,
                    };
                    self.apply_position(block, position);
                }
                Ok(())
            }
            UNKEPT => {
                self.count = self.count.saturating_add(message.u64()?);
                message.end()
            }
            other => Err(message.error(format!("is of an unknown kind, {other}"))),
        }
    }

    fn apply_damage(&mut self, mut message: Bytes<'_>) -> Result<(), DecodeError> {
        let flags = message.u8()?;
        let block = if flags & HAS_BLOCK != 0 {
            Some(message.u64()?)
        } else {
            None
        };
        let mut position = None;
        if flags & HAS_POSITION != 0 {
            let len = message.u16()?;
            position = Some(truncate(&message.text(len.into())?, MAX_DAMAGE_TEXT).to_owned());
        }
        let what = message.text(message.rest().len())?;
        let position = position.or_else(|| block.and_then(|block| self.position_of(block)));
        let is_same = |known: &DamageEntry| {
            known.block == block && known.what == truncate(&what, MAX_DAMAGE_TEXT)
        };
        // A process that is killed after it has reported a block leaves the block to its
        // replacement, which finds the same damage.
        if block.is_none() || !self.entries.iter().rev().take(MAX_REPEATED).any(is_same) {
            self.push(DamageEntry {
                block,
                position,
                what,
            });
        }
        Ok(())
    }

    /// Stores a position that another log has sent, and completes the entries that wait for it.
    fn apply_position(&mut self, block: u64, position: Position) {
        self.store_position(block, position);
        let waiting: Vec<_> = self
            .unlocated
            .range((block, 0)..=(block, usize::MAX))
            .copied()
            .collect();
        for (block, index) in waiting {
            self.unlocated.remove(&(block, index));
            if let Some(entry) = self.entries.get_mut(index) {
                entry.position = Some(position.to_string());
            }
        }
    }

    fn store_position(&mut self, block: u64, position: Position) {
        if self.positions.is_empty() {
            self.positions = vec![None; MAX_POSITIONS];
        }
        self.positions[slot(block)] = Some((block, position));
    }

    /// Position of a block, if it was recorded and no later block has taken its slot.
    fn position_of(&self, block: u64) -> Option<String> {
        let noted = self
            .positions
            .get(slot(block))
            .copied()
            .flatten()
            .filter(|(number, _)| *number == block);
        noted.map(|(_, position)| position.to_string())
    }
}

fn encode_positions(positions: &[(u64, Position)]) -> Vec<u8> {
    let mut data = vec![POSITIONS];
    for (block, position) in positions {
        data.put_u64(*block);
        data.put_u32(position.volume);
        data.put_u64(position.record);
        data.put_u64(position.byte);
    }
    data
}

fn encode(
    DamageEntry {
        block,
        position,
        what,
    }: &DamageEntry,
) -> Vec<u8> {
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    let mut data = vec![
        DAMAGE,
        flag(block.is_some(), HAS_BLOCK) | flag(position.is_some(), HAS_POSITION),
    ];
    if let Some(block) = block {
        data.put_u64(*block);
    }
    if let Some(position) = position {
        let position = truncate(position, MAX_DAMAGE_TEXT);
        data.put_u16(len_u16(position.len()));
        data.put(position.as_bytes());
    }
    data.put(what.as_bytes());
    data
}

/// Slot of a block in the ring of positions.
fn slot(block: u64) -> usize {
    (block % MAX_POSITIONS as u64) as usize
}

/// Number by which people know a block: its number in the archive if a sequencer assigned one,
/// otherwise its number in the pipe.
pub(super) fn archive_number(block: &Block) -> u64 {
    block.info().sequence.unwrap_or_else(|| block.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(record: u64) -> Position {
        Position {
            volume: 2,
            record,
            byte: record << 16,
        }
    }

    #[test]
    fn damage_reported_again_by_a_replacement_is_logged_once() {
        let (log, process) = (DamageLog::new(), DamageLog::for_process());
        let (from, to) = (process.clone(), log.clone());
        process.on_report(move || from.delta().iter().for_each(|(_, data)| to.apply(data)));
        for _ in 0..2 {
            process.report(7, "torn");
        }
        assert_eq!(
            (log.count(), process.count()),
            (1, 2),
            "forwarded at once, and logged once"
        );
        process.report(7, "also gone");
        process.report(8, "torn");
        (0..2).for_each(|_| process.report_at(position(9), "unreadable"));
        assert_eq!(log.count(), 5, "other damage is logged each time");
    }

    #[test]
    fn positions_are_remembered_for_the_blocks_in_flight() {
        let log = DamageLog::new();
        assert!(log.is_empty());
        log.report(3, "not noted");
        let last = MAX_POSITIONS as u64 + 4;
        (0..=last).for_each(|block| log.record_position(block, position(block)));
        for block in [4, 5, last, last + 1] {
            log.clone().report(block, "torn");
        }
        log.report_at(position(9), "unreadable");
        let text: Vec<String> = log.entries().iter().map(DamageEntry::to_string).collect();
        let expected = [
            "block 3: not noted".to_owned(),
            "block 4: torn".to_owned(),
            "block 5 at volume 2, record 5 (byte 327,680): torn".to_owned(),
            format!("block {last} at {}: torn", position(last)),
            format!("block {}: torn", last + 1),
            "volume 2, record 9 (byte 589,824): unreadable".to_owned(),
        ];
        assert_eq!(text, expected);
        let bare = DamageEntry {
            block: None,
            position: None,
            what: "gone".to_owned(),
        };
        assert_eq!(bare.to_string(), "gone");
    }

    #[test]
    fn log_is_bounded_and_counts_every_report() {
        let log = DamageLog::new();
        let long = "ä".repeat(MAX_DAMAGE_TEXT);
        (0..MAX_LOG_ENTRIES as u64 + 5).for_each(|block| log.report(block, long.clone()));
        assert_eq!(log.count(), MAX_LOG_ENTRIES as u64 + 5);
        let entries = log.entries();
        assert_eq!(entries.len(), MAX_LOG_ENTRIES);
        assert!(
            entries
                .iter()
                .all(|damage| damage.what.len() == MAX_DAMAGE_TEXT)
        );
        assert_eq!(
            entries.last().unwrap().block,
            Some(MAX_LOG_ENTRIES as u64 - 1)
        );
    }

    /// Forwards a process's damage to another log, and returns the entries of that.
    fn forward(from: &DamageLog, to: &DamageLog) -> Vec<String> {
        from.delta()
            .iter()
            .map(|(_, data)| to.apply(data))
            .for_each(drop);
        to.entries().iter().map(DamageEntry::to_string).collect()
    }

    #[test]
    fn damage_of_several_processes_is_merged() {
        let (reader, decoder, whole) = (
            DamageLog::for_process(),
            DamageLog::for_process(),
            DamageLog::new(),
        );
        decoder.report(4, "torn");
        assert_eq!(forward(&decoder, &whole), ["block 4: torn"]);
        reader.record_position(4, position(4));
        reader.record_position(5, position(5));
        reader.report_at(position(9), "unreadable");
        decoder.report(5, "torn, too");
        forward(&reader, &whole);
        let expected = [
            "block 4 at volume 2, record 4 (byte 262,144): torn",
            "volume 2, record 9 (byte 589,824): unreadable",
            "block 5 at volume 2, record 5 (byte 327,680): torn, too",
        ];
        assert_eq!(forward(&decoder, &whole), expected);
        assert!(
            reader.delta().is_empty() && decoder.delta().is_empty(),
            "nothing is sent twice"
        );
        assert!(whole.delta().is_empty(), "this log forwards to no other");
    }

    #[test]
    fn delta_of_many_reports_and_positions_is_split_into_messages() {
        let (process, whole) = (DamageLog::for_process(), DamageLog::new());
        (0..MAX_POSITIONS as u64 + 7)
            .for_each(|block| process.record_position(block, position(block)));
        (0..MAX_LOG_ENTRIES as u64 + 5)
            .for_each(|block| process.report(block + 7, "ä".repeat(300)));
        let messages = process.delta();
        assert!(
            messages
                .iter()
                .all(|(_, data)| data.len() <= MAX_STAGE_MESSAGE)
        );
        messages.iter().for_each(|(_, data)| whole.apply(data));
        assert_eq!(
            (whole.entries(), whole.count()),
            (process.entries(), process.count())
        );
        assert!(
            whole
                .entries()
                .iter()
                .all(|damage| damage.position.is_some())
        );
    }

    #[test]
    fn message_that_does_not_decode_becomes_an_entry() {
        let log = DamageLog::new();
        let damage = DamageEntry {
            block: Some(1),
            position: Some("x".to_owned()),
            what: "é".to_owned(),
        };
        let mut data = encode(&damage);
        log.apply(&data);
        assert_eq!(log.entries(), [damage]);
        data.pop();
        let cut_position = encode_positions(&[(1, position(1))]);
        let wrong = [
            &[][..],
            &[9],
            &data,
            &data[..5],
            &data[..11],
            &cut_position[..20],
            &[UNKEPT, 1],
        ];
        for (before, wrong) in wrong.into_iter().enumerate() {
            log.apply(wrong);
            assert_eq!(log.count(), before as u64 + 2);
            assert!(
                log.entries()[before + 1]
                    .what
                    .starts_with("a process's damage message: ")
            );
        }
    }
}
