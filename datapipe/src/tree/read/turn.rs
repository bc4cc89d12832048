//! The state that all instances of a head share, and the turn in which each commits what it read.
//!
//! ```text
//!   batches  0        1        2        3        each read by one instance, all at once
//!   turn              ^ its reader commits it, then the turn passes to the next batch
//!   sent     [block 0][block 1] remainder        read, but too little for a block of its own
//! ```
//!
//! Blocks are numbered as they are sent. So only the instance that has the turn knows positions in
//! the archive: those of blocks, of the objects in the catalogue, and of the objects that have
//! further names. It moves no entries: what is read stays in its block, but for the end of one that
//! belongs to a later block, and that is copied after the turn (see [`super::unsent`]). Blocks are
//! then sent in the order of their numbers, so an instance that has copied waits for those before.

use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::StageError;
use crate::limits::MAX_CHECKPOINT_LINKS;
use crate::pool::{Block, BlockInfo};
use crate::stage::{Fill, put_checkpoint};
use crate::wire::BlockKind;

use super::catalogue::Catalogue;
use super::checkpoints::{Checkpoints, OpenObjectState};
use super::hard_links::HardLinks;
use super::object_reader::ObjectReader;
use super::owners::OwnerNames;
use super::reader_gate::{ReaderGate, thread_waits};
use super::report::TreeReport;
use super::unplaced::Unplaced;
use super::unsent::{BlockChange, Unsent};
use super::walk::Walk;

/// State that all instances of a head share.
#[derive(Debug)]
pub(super) struct SharedHead {
    pub(super) walk: Mutex<Walk>,
    pub(super) gate: ReaderGate,
    pub(super) owners: OwnerNames,
    order: Mutex<CommitOrder>,
    report: TreeReport,
    /// Notified when the turn passes, and when it never will again.
    turn_passed: Condvar,
    /// Notified when a block was sent, and when none will be again.
    block_sent: Condvar,
}

/// State that changes in the order of the batches, only by the instance whose turn it is.
#[derive(Debug, Default)]
struct CommitOrder {
    /// Number of the batch whose turn it is.
    turn: u64,
    /// An instance was dropped before or during its turn, so nothing can follow in order.
    abandoned: bool,
    /// Total time for which instances have sent a block and waited for the next buffer.
    buffer_wait: Duration,
    /// Start of the wait in progress, if the instance that sends the last block has no buffer yet.
    waiting_since: Option<Instant>,
    /// Threads on which instances run.
    threads: Vec<ThreadId>,
    /// Number of the next block.
    blocks: u64,
    /// Number of the next block to be sent: all before it are in the queue.
    unsent_block: u64,
    /// Bytes in all blocks that have numbers.
    bytes: u64,
    links: HardLinks,
    catalogue: Catalogue,
    /// Entries committed but in no block: they precede those of the instance that has the turn.
    remainder: Unsent,
    /// Objects that have ended in entries not sent.
    unplaced: Unplaced,
    checkpoints: Checkpoints,
}

/// Consecutive batches that an instance has read from and not committed completely.
#[derive(Debug, Default)]
pub(super) struct BatchRange {
    /// Number of the first batch, and one past the number of the last.
    bounds: Option<(u64, u64)>,
    has_turn: bool,
    /// Number of times that the instance's thread has waited for its turns.
    waits: u64,
}

/// The right to commit: the lock on the order, and the range of batches whose turn it is.
///
/// Dropping a `Turn` releases the lock. The range keeps the turn until [`place`](Self::place) or
/// [`resume`](Self::resume) passes it on.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    order: MutexGuard<'a, CommitOrder>,
    range: &'a mut BatchRange,
    turn_passed: &'a Condvar,
    report: &'a TreeReport,
    /// Time at which the lock was obtained.
    since: Instant,
}

impl SharedHead {
    /// `sources` is the digest of the sources for checkpoints.
    pub(super) fn new(
        walk: Walk,
        owners: OwnerNames,
        report: TreeReport,
        sources: [u8; 32],
    ) -> Self {
        let order = CommitOrder {
            checkpoints: Checkpoints::new(sources),
            ..CommitOrder::default()
        };
        Self {
            walk: Mutex::new(walk),
            report,
            gate: ReaderGate::new(),
            owners,
            order: Mutex::new(order),
            turn_passed: Condvar::new(),
            block_sent: Condvar::new(),
        }
    }

    /// Registers an instance on the calling thread. Returns false if another instance runs on the
    /// same thread: the two would wait for each other, so the first does all the work. `block` is
    /// any block of the pipe.
    pub(super) fn register_thread(&self, block: &Block) -> bool {
        let mut order = self.order.lock();
        order.blocks = order.blocks.max(block.first_of_head());
        order.unsent_block = order.unsent_block.max(block.first_of_head());
        order.checkpoints.set_every(block.checkpoint_every());
        if order.checkpoints.is_on() {
            order.links.keep_recent();
        }
        let here = thread::current().id();
        let is_first = !order.threads.contains(&here);
        order.threads.push(here);
        is_first
    }

    /// Waits until all batches before `range` are committed. Returns `None` if that never happens,
    /// because the pipe ends.
    ///
    /// The caller cannot continue while the instance that has the turn waits for a buffer. So that
    /// time counts as time for which `block` waited.
    pub(super) fn await_turn<'a>(
        &'a self,
        range: &'a mut BatchRange,
        block: &Block,
    ) -> Option<Turn<'a>> {
        let (first, _) = range.bounds?;
        let mut order = self.order.lock();
        let before = order.buffer_wait_so_far();
        if !range.has_turn && order.turn != first {
            let waits = thread_waits();
            while order.turn != first {
                if order.abandoned {
                    return None;
                }
                self.turn_passed.wait(&mut order);
            }
            range.waits += thread_waits() - waits;
        }
        range.has_turn = true;
        block.count_wait(order.buffer_wait_so_far().saturating_sub(before));
        Some(self.turn(order, range))
    }

    /// Returns the turn if `range` has it, and does not wait.
    pub(super) fn held_turn<'a>(&'a self, range: &'a mut BatchRange) -> Option<Turn<'a>> {
        range.has_turn.then(|| self.turn(self.order.lock(), range))
    }

    fn turn<'a>(
        &'a self,
        order: MutexGuard<'a, CommitOrder>,
        range: &'a mut BatchRange,
    ) -> Turn<'a> {
        Turn {
            order,
            range,
            turn_passed: &self.turn_passed,
            report: &self.report,
            since: Instant::now(),
        }
    }

    /// Waits until all blocks before this one are sent. Returns false if that never happens,
    /// because the pipe ends. The caller sends the block, and then calls
    /// [`block_sent`](Self::block_sent).
    pub(super) fn await_predecessors(&self, block: &Block) -> bool {
        let number = block.info().sequence;
        let mut order = self.order.lock();
        let before = order.buffer_wait_so_far();
        while number != Some(order.unsent_block) {
            if order.abandoned {
                return false;
            }
            self.block_sent.wait(&mut order);
        }
        block.count_wait(order.buffer_wait_so_far().saturating_sub(before));
        order.waiting_since = Some(Instant::now());
        true
    }

    /// Records that the instance has sent its block and obtained its next buffer.
    pub(super) fn block_sent(&self) {
        let mut order = self.order.lock();
        order.end_buffer_wait();
        order.unsent_block += 1;
        drop(order);
        self.block_sent.notify_all();
    }

    /// Releases all instances that wait for one that was dropped. The cause is reported by the
    /// runner of that instance.
    pub(super) fn abandon(&self) {
        self.order.lock().abandoned = true;
        self.turn_passed.notify_all();
        self.block_sent.notify_all();
        self.gate.open();
    }
}

impl BatchRange {
    /// Returns the number of the batch that would extend the range, or `None` for an empty range.
    pub(super) fn next(&self) -> Option<u64> {
        self.bounds.map(|(_, end)| end)
    }

    /// Returns the number of times that the instance's thread has waited for its turns.
    pub(super) fn waits(&self) -> u64 {
        self.waits
    }

    /// Extends the range by a batch, the one that [`next`](Self::next) returned if it is not empty.
    pub(super) fn add(&mut self, batch: u64) {
        let first = self.bounds.map_or(batch, |(first, _)| first);
        self.bounds = Some((first, batch + 1));
    }
}

impl Turn<'_> {
    /// Returns the table of hard links.
    pub(super) fn links(&mut self) -> &mut HardLinks {
        &mut self.order.links
    }

    /// Commits the entries that were read into `block`, whose whole entries end at `ends`, and
    /// passes the turn on unless more of the range or of the catalogue follows. The block is
    /// complete once the change is made.
    ///
    /// The result has no [`Fill`] if all of it was kept for a later block: `block` is empty after
    /// the change. This happens only if `must_send` is false.
    pub(super) fn place(
        mut self,
        block: &mut Block,
        reader: &mut ObjectReader,
        ends: &[usize],
        must_send: bool,
    ) -> Result<(Option<Fill>, BlockChange), StageError> {
        let (fill, change) = self.order.place(block, reader, ends, must_send)?;
        // A block that must be sent is followed by the rest of its range, or by the catalogue.
        if fill.is_none() || !must_send && !self.order.has_due(block.capacity()) {
            self.pass();
        }
        Ok((fill, change))
    }

    /// Continues the turn after the previous block was sent, with an empty `block`.
    ///
    /// Returns a block of the catalogue, or of a checkpoint, if one is due. Otherwise the turn
    /// passes if the `reader` is done, that is, all objects of the range are committed. If it is
    /// not, `block` begins with the remainder after the change.
    pub(super) fn resume(
        mut self,
        block: &mut Block,
        reader: &mut ObjectReader,
    ) -> Result<(Option<Fill>, BlockChange), StageError> {
        if let Some(fill) = self.order.piece(block)? {
            return Ok((Some(fill), BlockChange::default()));
        }
        if let Some((fill, change)) = self.order.checkpoint(block, reader)? {
            return Ok((Some(fill), change));
        }
        let change = if reader.is_done() {
            self.pass();
            BlockChange::default()
        } else {
            self.order.remainder.take()
        };
        Ok((None, change))
    }

    /// Fills a block with what follows all objects: the remainder, then the closing catalogue.
    /// Returns [`Fill::End`] if all of it was sent.
    pub(super) fn close(
        mut self,
        block: &mut Block,
        owners: &OwnerNames,
    ) -> Result<(Fill, BlockChange), StageError> {
        self.order.close(block, owners)
    }

    /// Empties the range and passes the turn to the batch that follows it.
    fn pass(&mut self) {
        if let Some((_, end)) = self.range.bounds.take() {
            self.order.turn = end;
        }
        self.range.has_turn = false;
        self.turn_passed.notify_all();
    }
}

/// Counts the time for which the lock was held.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.report.count_turn(self.since.elapsed());
    }
}

impl CommitOrder {
    /// Returns the total time of all waits for buffers, with that of the wait in progress.
    ///
    /// Two of its values differ by what falls between them: an instance that comes late does not
    /// count the time before.
    fn buffer_wait_so_far(&self) -> Duration {
        self.buffer_wait
            + self
                .waiting_since
                .map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn end_buffer_wait(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.buffer_wait += since.elapsed();
        }
    }

    /// See [`Turn::place`].
    ///
    /// The stream of entries is `remainder`, then the content of `block`. A block that is nearly
    /// full is sent as it is if there is no remainder. In all other cases the remainder precedes
    /// its content, up to the last entry that fits into one block with it, and the rest becomes the
    /// new remainder.
    fn place(
        &mut self,
        block: &mut Block,
        reader: &mut ObjectReader,
        ends: &[usize],
        must_send: bool,
    ) -> Result<(Option<Fill>, BlockChange), StageError> {
        let (before, len) = (self.remainder.len(), block.len());
        let (unplaced, mut open) = reader.unplaced();
        self.unplaced.append(unplaced, before);
        if let Some(open) = &mut open {
            open.shift(before);
        }
        // Copying costs less than blocks that hold little, unless there is hardly space for more.
        let is_nearly_full = len >= block.capacity() / 4 * 3;
        let mut change = BlockChange::default();
        let mut kept = len;
        if before > 0 || !must_send && !is_nearly_full {
            let spare = block.capacity() - before;
            if len <= spare && !must_send {
                self.remainder.add(0, len, &mut change);
                return Ok((None, change));
            }
            if len > spare {
                let fitting = ends.partition_point(|&end| end <= spare);
                kept = fitting.checked_sub(1).map_or(0, |last| ends[last]);
            }
            change = self.remainder.take();
            self.remainder.add(kept, len, &mut change);
        }
        if let Some(open) = open {
            open.assign_block(self.blocks, before + kept);
        }
        let fill = self.send_entries(block, before + kept)?;
        Ok((Some(fill), change))
    }

    /// True if a block of the catalogue or of a checkpoint is due, for blocks of `capacity` bytes.
    fn has_due(&mut self, capacity: usize) -> bool {
        self.catalogue.is_due(capacity, self.bytes)
            || self.checkpoints.is_begun()
            || self.is_checkpoint_due()
    }

    fn is_checkpoint_due(&mut self) -> bool {
        let is_forced = self.links.recent() >= MAX_CHECKPOINT_LINKS;
        self.checkpoints.is_due(is_forced)
    }

    /// Makes the remainder the content of an empty block.
    fn send_remainder(&mut self, block: &mut Block) -> Result<(Fill, BlockChange), StageError> {
        let len = self.remainder.len();
        let change = self.remainder.take();
        Ok((self.send_entries(block, len)?, change))
    }

    /// See [`Turn::close`].
    fn close(
        &mut self,
        block: &mut Block,
        owners: &OwnerNames,
    ) -> Result<(Fill, BlockChange), StageError> {
        if !self.remainder.is_empty() {
            return self.send_remainder(block);
        }
        if self.catalogue.goes_on()
            && let Some(fill) = self.piece(block)?
        {
            return Ok((fill, BlockChange::default()));
        }
        let put_names = |bytes: &mut Vec<u8>| owners.append_to(bytes);
        self.catalogue.fill_closing(block, put_names)?;
        let fill = match block.len() {
            0 => Fill::End,
            len => self.send(block, len, BlockKind::ClosingCatalogue),
        };
        Ok((fill, BlockChange::default()))
    }

    /// Fills an empty block with a piece of the catalogue, if enough entries are due.
    fn piece(&mut self, block: &mut Block) -> Result<Option<Fill>, StageError> {
        if !self.catalogue.is_due(block.capacity(), self.bytes) {
            return Ok(None);
        }
        self.catalogue.fill_piece(block)?;
        Ok(Some(self.send(block, block.len(), BlockKind::Catalogue)))
    }

    /// Fills an empty block with what a checkpoint needs, if one is due: first the entries that
    /// were not sent, then the catalogue of all objects that have ended, then the checkpoint.
    fn checkpoint(
        &mut self,
        block: &mut Block,
        reader: &mut ObjectReader,
    ) -> Result<Option<(Fill, BlockChange)>, StageError> {
        if !self.checkpoints.is_begun() {
            let is_due = self.is_checkpoint_due();
            if !is_due || matches!(reader.open_object(), OpenObjectState::Entries) {
                return Ok(None);
            }
            self.checkpoints.begin();
        }
        if !self.remainder.is_empty() {
            if let (_, Some(open)) = reader.unplaced() {
                open.assign_block(self.blocks, self.remainder.len());
            }
            return self.send_remainder(block).map(Some);
        }
        if self.catalogue.has_unsent() {
            self.catalogue.fill_piece(block)?;
            let fill = self.send(block, block.len(), BlockKind::Catalogue);
            return Ok(Some((fill, BlockChange::default())));
        }
        let (place, links) = ((self.blocks, block.capacity()), &mut self.links);
        let (bytes, is_last) =
            self.checkpoints
                .next(place, self.unplaced.last(), &reader.open_object(), |open| {
                    links.take_recent(open)
                })?;
        let info = BlockInfo {
            offset: self.bytes,
            entries: true,
            sequence: Some(self.blocks),
            ..BlockInfo::default()
        };
        put_checkpoint(block, &bytes, is_last, info)?;
        self.blocks += 1;
        Ok(Some((Fill::Block, BlockChange::default())))
    }

    /// Makes the next `len` bytes of entries the content of a block.
    fn send_entries(&mut self, block: &mut Block, len: usize) -> Result<Fill, StageError> {
        self.unplaced
            .assign_block(self.blocks, len, block.capacity(), &mut self.catalogue)?;
        Ok(self.send(block, len, BlockKind::Data))
    }

    /// Sets the kind, the offset and the number of a block that will have `len` bytes: the
    /// catalogue names the number, which is final.
    fn send(&mut self, block: &mut Block, len: usize, kind: BlockKind) -> Fill {
        let mut info = block.info();
        (info.offset, info.kind) = (self.bytes, kind.code());
        (info.entries, info.sequence) = (true, Some(self.blocks));
        block.set_info(info);
        match kind {
            BlockKind::Catalogue => self.checkpoints.add_catalogue(self.blocks),
            _ => self.checkpoints.add(len),
        }
        self.bytes += len as u64;
        self.blocks += 1;
        Fill::Block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_that_comes_late_does_not_count_the_wait_before() {
        let hour = Duration::from_secs(3600);
        let mut order = CommitOrder {
            waiting_since: Instant::now().checked_sub(hour),
            ..CommitOrder::default()
        };
        assert!(order.waiting_since.is_some(), "the clock began an hour ago");
        let before = order.buffer_wait_so_far();
        assert!(before >= hour);
        order.end_buffer_wait();
        assert!(order.buffer_wait_so_far() - before < hour);
        assert!(order.buffer_wait >= hour, "the wait itself counts");
    }
}
