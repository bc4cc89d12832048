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
//! In its own process a stage keeps a local log, which the caller's log [mirrors](super::mirror).
//! The position of a block may arrive after the report of its damage, so an entry without a
//! position waits for it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits::{MAX_DAMAGE_TEXT, MAX_INSTANCES, MAX_LOG_ENTRIES, MAX_POSITIONS};
use crate::position::Position;
use crate::wire::codec::{Bytes, DecodeError, Put, len_u16, truncate};

use super::mirror::{ChangeHook, MAX_PIECE, Mirror, ReportKind, Update};
use super::problem_sink::{Calls, PassedOn, ProblemSink};

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
///     log.snapshot().entries[0].to_string(),
///     "block 1204 at volume 1, record 17 (byte 1,048,640): authentication failed"
/// );
/// ```
#[derive(Clone, Debug, Default)]
pub struct DamageLog(Arc<Mutex<DamageLogInner>>);

/// Contents of a [`DamageLog`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamageOutcome {
    /// Number of reports, including those that the log did not keep.
    pub count: u64,
    /// The first [`MAX_LOG_ENTRIES`] reports, in the order of their arrival.
    pub entries: Vec<DamageEntry>,
}

#[derive(Debug, Default)]
struct DamageLogInner {
    outcome: DamageOutcome,
    /// Positions of the last blocks, each at the block's number modulo [`MAX_POSITIONS`]; empty
    /// before the first position is recorded.
    positions: Vec<Option<BlockPosition>>,
    /// The last [`MAX_POSITIONS`] positions in the order of their recording, for a log that
    /// receives them.
    recent: VecDeque<BlockPosition>,
    /// Number of positions recorded so far.
    recorded: u64,
    /// Numbers of the blocks whose positions are not known yet, each with the index of its entry.
    unlocated: BTreeSet<(u64, usize)>,
    report_hook: Option<ChangeHook>,
    onward: ProblemSink<DamageEntry>,
    /// Number of reports that were counted only.
    unkept: u64,
    /// Block and text of the last reports, of which a replacement may repeat some.
    last: VecDeque<(Option<u64>, String)>,
}

/// Position of a block.
#[derive(Clone, Copy, Debug)]
struct BlockPosition {
    block: u64,
    position: Position,
}

/// The part of a log that another log has received.
#[derive(Debug, Default)]
pub(crate) struct DamageCursor {
    /// Number of positions recorded.
    recorded: u64,
    entries: usize,
    /// Number of reports that were not kept.
    unkept: u64,
}

/// Kinds of messages: the first byte.
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
        self.0.lock().store_position(block, position);
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
            let calls = inner.push(entry);
            let hook = inner.report_hook.clone();
            drop(inner);
            calls.run();
            hook
        };
        // Called without the lock, because the hook calls `delta`.
        if let Some(hook) = hook {
            hook.call();
        }
    }

    /// Calls `sink` for each report from now on, also for those that the log does not keep. It
    /// replaces the function of an earlier call.
    ///
    /// The calls come from the threads that find damage, possibly several at once, and, for stages
    /// in processes, from the thread that supervises the pipe; there the position of a block may
    /// still be unknown. All have been made when the pipe has ended. The stage waits for the
    /// function, so it should be quick and must not panic.
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// use datapipe::stage::DamageLog;
    ///
    /// let log = DamageLog::new();
    /// let (sender, reports) = mpsc::channel();
    /// log.on_damage(move |entry| drop(sender.send(entry.to_string())));
    /// log.report(1204, "authentication failed");
    /// assert_eq!(reports.recv().unwrap(), "block 1204: authentication failed");
    /// ```
    pub fn on_damage(&self, sink: impl Fn(&DamageEntry) + Send + Sync + 'static) {
        self.0.lock().onward.set_sink(sink);
    }

    /// A copy of the contents so far. They are final when the pipe has ended.
    pub fn snapshot(&self) -> DamageOutcome {
        self.0.lock().outcome.clone()
    }

    /// [`DamageOutcome::count`] alone, without a copy of the entries.
    pub fn count(&self) -> u64 {
        self.0.lock().outcome.count
    }
}

impl Mirror for DamageLog {
    const KIND: ReportKind = ReportKind::Damage;
    type Cursor = DamageCursor;

    fn delta(&self, cursor: &mut DamageCursor) -> Vec<Update> {
        let (mut inner, mut updates) = (self.0.lock(), Vec::new());
        let unsent = inner.onward.take_unsent();
        // Positions come before the damage that was found at them.
        let positions = inner.positions_since(cursor.recorded);
        for positions in positions.chunks((MAX_PIECE - 1) / POSITION_LEN) {
            updates.push(Update::silent(encode_positions(positions)));
        }
        let (entries, unkept) = (&inner.outcome.entries, inner.unkept);
        let update = |entry: &DamageEntry| Update::problem(entry.to_string(), encode(entry));
        updates.extend(entries.iter().skip(cursor.entries).map(update));
        updates.extend(unsent.iter().map(update));
        if unkept > cursor.unkept {
            let mut data = vec![UNKEPT];
            data.put_u64(unkept - cursor.unkept);
            updates.push(Update::silent(data));
        }
        *cursor = DamageCursor {
            recorded: inner.recorded,
            entries: entries.len(),
            unkept,
        };
        updates
    }

    fn apply(&self, message: &[u8]) -> Result<(), DecodeError> {
        let calls = self.0.lock().apply(message)?;
        calls.run();
        Ok(())
    }

    fn reject(&self, error: &DecodeError) {
        let calls = self.0.lock().push(DamageEntry {
            block: None,
            position: None,
            what: format!("malformed report from a process: {error}"),
        });
        calls.run();
    }

    fn problem_count(&self) -> u64 {
        self.count()
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// A damaged block moves on only after its damage has been sent, so a replacement need not find
    /// it again.
    fn on_urgent_change(&self, hook: ChangeHook) {
        let mut inner = self.0.lock();
        inner.onward.set_send(hook.clone());
        inner.report_hook = Some(hook);
    }
}

impl DamageLogInner {
    fn push(&mut self, mut entry: DamageEntry) -> Calls<DamageEntry> {
        self.outcome.count = self.outcome.count.saturating_add(1);
        if entry.what.len() > MAX_DAMAGE_TEXT {
            entry.what = truncate(&entry.what, MAX_DAMAGE_TEXT).to_owned();
        }
        if self.last.len() == MAX_REPEATED {
            self.last.pop_front();
        }
        self.last.push_back((entry.block, entry.what.clone()));
        let entries = &mut self.outcome.entries;
        let (len, is_kept) = (entry.what.len(), entries.len() < MAX_LOG_ENTRIES);
        let PassedOn { calls, is_dropped } = self.onward.pass_on(&entry, len, is_kept);
        if is_kept {
            if let (Some(block), None) = (entry.block, &entry.position) {
                self.unlocated.insert((block, entries.len()));
            }
            entries.push(entry);
        }
        self.unkept += u64::from(is_dropped);
        calls
    }

    /// Returns the positions recorded after the first `recorded`, in order, if they are kept.
    fn positions_since(&self, recorded: u64) -> Vec<BlockPosition> {
        let new = usize::try_from(self.recorded - recorded).unwrap_or(usize::MAX);
        let kept = self.recent.len();
        self.recent.range(kept - new.min(kept)..).copied().collect()
    }

    fn apply(&mut self, message: &[u8]) -> Result<Calls<DamageEntry>, DecodeError> {
        let mut message = Bytes::new("a process's damage message", message);
        match message.u8()? {
            DAMAGE => return self.apply_damage(message),
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
            }
            UNKEPT => {
                self.outcome.count = self.outcome.count.saturating_add(message.u64()?);
                message.end()?;
            }
            other => return Err(message.error(format!("is of an unknown kind, {other}"))),
        }
        Ok(Calls::none())
    }

    fn apply_damage(&mut self, mut message: Bytes<'_>) -> Result<Calls<DamageEntry>, DecodeError> {
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
        let what = message.rest_as_text()?;
        let position = position.or_else(|| block.and_then(|block| self.position_of(block)));
        let is_same = |(known, text): &(Option<u64>, String)| {
            *known == block && text == truncate(&what, MAX_DAMAGE_TEXT)
        };
        // A process that is killed after it has reported a block leaves the block to its
        // replacement, which finds the same damage.
        if block.is_some() && self.last.iter().any(is_same) {
            return Ok(Calls::none());
        }
        Ok(self.push(DamageEntry {
            block,
            position,
            what,
        }))
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
            if let Some(entry) = self.outcome.entries.get_mut(index) {
                entry.position = Some(position.to_string());
            }
        }
    }

    fn store_position(&mut self, block: u64, position: Position) {
        if self.positions.is_empty() {
            self.positions = vec![None; MAX_POSITIONS];
        }
        let position = BlockPosition { block, position };
        self.positions[slot(block)] = Some(position);
        if self.recent.len() == MAX_POSITIONS {
            self.recent.pop_front();
        }
        self.recent.push_back(position);
        self.recorded += 1;
    }

    /// Position of a block, if it was recorded and no later block has taken its slot.
    fn position_of(&self, block: u64) -> Option<String> {
        let recorded = self
            .positions
            .get(slot(block))
            .copied()
            .flatten()
            .filter(|recorded| recorded.block == block);
        recorded.map(|recorded| recorded.position.to_string())
    }
}

fn encode_positions(positions: &[BlockPosition]) -> Vec<u8> {
    let mut data = vec![POSITIONS];
    for BlockPosition {
        block, position, ..
    } in positions
    {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::mirror;

    fn position(record: u64) -> Position {
        Position {
            volume: 2,
            record,
            byte: record << 16,
        }
    }

    #[test]
    fn damage_reported_again_by_a_replacement_is_logged_once() {
        let (log, process) = (DamageLog::new(), DamageLog::new());
        let (from, to, cursor) = (process.clone(), log.clone(), Mutex::default());
        process.on_urgent_change(ChangeHook::new(move || {
            drop(mirror::copy(&from, &mut cursor.lock(), &to));
        }));
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
        assert_eq!(log.snapshot(), DamageOutcome::default());
        log.report(3, "not recorded");
        let last = MAX_POSITIONS as u64 + 4;
        (0..=last).for_each(|block| log.record_position(block, position(block)));
        for block in [4, 5, last, last + 1] {
            log.clone().report(block, "torn");
        }
        log.report_at(position(9), "unreadable");
        let text = texts(&log);
        let expected = [
            "block 3: not recorded".to_owned(),
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
        let DamageOutcome { count, entries } = log.snapshot();
        assert_eq!(count, MAX_LOG_ENTRIES as u64 + 5);
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

    fn texts(log: &DamageLog) -> Vec<String> {
        let entries = log.snapshot().entries;
        entries.iter().map(DamageEntry::to_string).collect()
    }

    #[test]
    fn damage_of_several_processes_is_merged() {
        let (reader, decoder, whole) = (DamageLog::new(), DamageLog::new(), DamageLog::new());
        let (mut of_reader, mut of_decoder) = Default::default();
        decoder.report(4, "torn");
        mirror::copy(&decoder, &mut of_decoder, &whole);
        assert_eq!(texts(&whole), ["block 4: torn"]);
        reader.record_position(4, position(4));
        reader.record_position(5, position(5));
        reader.report_at(position(9), "unreadable");
        decoder.report(5, "torn, too");
        mirror::copy(&reader, &mut of_reader, &whole);
        let text = mirror::copy(&decoder, &mut of_decoder, &whole);
        assert_eq!(text, ["block 5: torn, too"]);
        let expected = [
            "block 4 at volume 2, record 4 (byte 262,144): torn",
            "volume 2, record 9 (byte 589,824): unreadable",
            "block 5 at volume 2, record 5 (byte 327,680): torn, too",
        ];
        assert_eq!(texts(&whole), expected);
        let rest = (reader.delta(&mut of_reader), decoder.delta(&mut of_decoder));
        assert_eq!(rest, (vec![], vec![]), "nothing is sent twice");
    }

    #[test]
    fn delta_of_many_reports_and_positions_is_split_into_messages() {
        let (process, whole) = (DamageLog::new(), DamageLog::new());
        let last = MAX_POSITIONS as u64 + 7;
        (0..last).for_each(|block| process.record_position(block, position(block)));
        (0..MAX_LOG_ENTRIES as u64 + 5)
            .for_each(|block| process.report(block + 7, "ä".repeat(300)));
        let mut cursor = DamageCursor::default();
        let updates = process.delta(&mut cursor);
        assert!(updates.iter().all(|update| update.data.len() <= MAX_PIECE));
        let apply = |update: &Update| Mirror::apply(&whole, &update.data).unwrap();
        updates.iter().for_each(apply);
        assert_eq!(whole.snapshot(), process.snapshot());
        let entries = whole.snapshot().entries;
        assert!(entries.iter().all(|damage| damage.position.is_some()));
        process.report(last, "torn");
        process.record_position(last, position(1));
        let updates = process.delta(&mut cursor);
        updates.iter().for_each(apply);
        assert_eq!(
            updates.len(),
            2,
            "one position, one report that is not kept"
        );
        assert_eq!(whole.count(), process.count());
    }

    #[test]
    fn function_of_the_caller_receives_every_report_of_a_process_once() {
        let (process, log) = (DamageLog::new(), DamageLog::new());
        let received = Arc::new(Mutex::new(Vec::new()));
        let (to, of) = (Arc::clone(&received), log.clone());
        log.on_damage(move |entry| {
            assert!(of.count() > 0, "the log is not locked");
            to.lock().push(entry.block);
        });
        let (from, to, cursor) = (process.clone(), log.clone(), Mutex::default());
        process.on_urgent_change(ChangeHook::new(move || {
            drop(mirror::copy(&from, &mut cursor.lock(), &to));
        }));
        let all = MAX_LOG_ENTRIES as u64 + 5;
        // A replacement reports the last ones again.
        for block in (0..all).chain(all - 5..all) {
            process.report(block, "torn");
        }
        assert!(*received.lock() == (0..all).map(Some).collect::<Vec<_>>());
        assert_eq!((log.count(), process.count()), (all, all + 5));
        assert_eq!(log.snapshot().entries.len(), MAX_LOG_ENTRIES);
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
        Mirror::apply(&log, &data).unwrap();
        assert_eq!(log.snapshot().entries, [damage]);
        data.pop();
        let cut_position = encode_positions(&[BlockPosition {
            block: 1,
            position: position(1),
        }]);
        let wrong = [
            &[][..],
            &[9],
            &data,
            &data[..5],
            &data[..11],
            &cut_position[..20],
            &[UNKEPT, 1],
        ];
        for wrong in wrong {
            let error = Mirror::apply(&log, wrong).unwrap_err();
            assert_eq!(error.what, "a process's damage message");
        }
        log.reject(&Mirror::apply(&log, &[9]).unwrap_err());
        let expected = "malformed report from a process: a process's damage message: is of an \
                        unknown kind, 9";
        assert_eq!((log.count(), &*texts(&log)[1]), (2, expected));
    }
}
