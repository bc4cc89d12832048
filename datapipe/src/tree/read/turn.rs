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
//! further names.

use std::mem;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::StageError;
use crate::limits::MAX_CHECKPOINT_LINKS;
use crate::pool::{Block, BlockInfo};
use crate::shared_bytes::{NoMemory, SharedBytes, reserve};
use crate::stage::{Fill, put_checkpoint};
use crate::wire::BlockKind;

use super::catalogue::{Catalogue, whole_entries};
use super::checkpoints::{Checkpoints, OpenObjectState};
use super::hard_links::HardLinks;
use super::object_reader::ObjectReader;
use super::owners::OwnerNames;
use super::reader_gate::{ReaderGate, thread_waits};
use super::report::TreeReport;
use super::unplaced::{EntryPos, Unplaced};
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
}

/// State that changes in the order of the batches, only by the instance whose turn it is.
#[derive(Debug, Default)]
struct CommitOrder {
    /// Number of the batch whose turn it is.
    turn: u64,
    /// An instance was dropped before or during its turn, so nothing can follow in order.
    abandoned: bool,
    /// Total time for which instances have waited for buffers during their turns.
    buffer_wait: Duration,
    /// Start of the wait in progress, if the instance that has the turn waits for a buffer.
    waiting_since: Option<Instant>,
    /// Threads on which instances run.
    threads: Vec<ThreadId>,
    /// Number of the next block.
    blocks: u64,
    /// Bytes sent.
    bytes: u64,
    links: HardLinks,
    catalogue: Catalogue,
    /// Entries committed but not sent: they precede those of the instance that has the turn.
    remainder: Vec<u8>,
    /// Entries that follow `remainder` and did not fit into the same block.
    overflow: Vec<u8>,
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
        }
    }

    /// Registers an instance on the calling thread. Returns false if another instance runs on the
    /// same thread: the two would wait for each other, so the first does all the work. `block` is
    /// any block of the pipe.
    pub(super) fn register_thread(&self, block: &Block) -> bool {
        let mut order = self.order.lock();
        order.blocks = order.blocks.max(block.first_of_head());
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
        let before = order.buffer_wait;
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
        block.count_wait(order.buffer_wait.saturating_sub(before));
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

    /// Records that the instance leaves to obtain its next buffer. Only a wait during the turn
    /// counts.
    pub(super) fn buffer_wait_begins(&self, range: &BatchRange) {
        if range.has_turn {
            let mut order = self.order.lock();
            order.end_buffer_wait();
            order.waiting_since = Some(Instant::now());
        }
    }

    /// Records that the instance has obtained a buffer.
    pub(super) fn buffer_wait_ends(&self, range: &BatchRange) {
        if range.has_turn {
            self.order.lock().end_buffer_wait();
        }
    }

    /// Releases all instances that wait for one that was dropped. The cause is reported by the
    /// runner of that instance.
    pub(super) fn abandon(&self) {
        self.order.lock().abandoned = true;
        self.turn_passed.notify_all();
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

    /// Commits the entries that were read into `block`. `unplaced` are the objects that ended in
    /// them, `open` is the start of the object that has not ended.
    ///
    /// Returns `None` if all of it was kept for a later block. The turn has passed then, and
    /// `block` is empty. This happens only if `must_send` is false.
    pub(super) fn place(
        mut self,
        block: &mut Block,
        unplaced: &mut Unplaced,
        open: Option<&mut EntryPos>,
        must_send: bool,
    ) -> Result<Option<Fill>, StageError> {
        let fill = self.order.place(block, unplaced, open, must_send)?;
        if fill.is_none() {
            self.pass();
        }
        Ok(fill)
    }

    /// Continues the turn after the previous block was sent, with an empty `block`.
    ///
    /// Returns a block of the catalogue, or of a checkpoint, if one is due. Otherwise the turn
    /// passes if the `reader` is done, that is, all objects of the range are committed. If it is
    /// not, `block` begins with the remainder.
    pub(super) fn resume(
        mut self,
        block: &mut Block,
        reader: &mut ObjectReader,
    ) -> Result<Option<Fill>, StageError> {
        if let Some(fill) = self.order.piece(block)? {
            return Ok(Some(fill));
        }
        if let Some(fill) = self.order.checkpoint(block, reader)? {
            return Ok(Some(fill));
        }
        if reader.is_done() {
            self.pass();
        } else {
            self.order.take_remainder(block)?;
        }
        Ok(None)
    }

    /// Fills a block with what follows all objects: the remainder, then the closing catalogue.
    /// Returns [`Fill::End`] if all of it was sent.
    pub(super) fn close(
        mut self,
        block: &mut Block,
        owners: &OwnerNames,
    ) -> Result<Fill, StageError> {
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
    fn end_buffer_wait(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.buffer_wait += since.elapsed();
        }
    }

    /// See [`Turn::place`].
    ///
    /// The stream of entries is `remainder`, then the content of `block`. A block that is nearly
    /// full is sent as it is if there is no remainder. In all other cases its content is appended
    /// to the remainder, up to the last entry that fits into one block with it, and the rest
    /// becomes the overflow. If a block is to be sent, it is then the remainder that is sent, and
    /// the overflow takes its place.
    fn place(
        &mut self,
        block: &mut Block,
        unplaced: &mut Unplaced,
        mut open: Option<&mut EntryPos>,
        must_send: bool,
    ) -> Result<Option<Fill>, StageError> {
        let before = self.remainder.len();
        self.unplaced.append(unplaced, before);
        if let Some(open) = &mut open {
            open.shift(before);
        }
        // Copying costs less than blocks that hold little, unless there is hardly space for more.
        let is_nearly_full = block.len() >= block.capacity() / 4 * 3;
        if before > 0 || !must_send && !is_nearly_full {
            let fits = self.append_to_remainder(block)?;
            if fits && !must_send {
                return Ok(None);
            }
            self.take_remainder(block)?;
        }
        if let Some(open) = open {
            open.assign_block(self.blocks, block.len());
        }
        self.send_entries(block).map(Some)
    }

    /// Moves the entries of `block` to the remainder, and those that do not fit into one block with
    /// it to the overflow. Returns true if all of them fit.
    fn append_to_remainder(&mut self, block: &mut Block) -> Result<bool, NoMemory> {
        let spare = block.capacity() - self.remainder.len();
        let fits = block.len() <= spare;
        let before = self.remainder.len();
        reserve(&mut self.remainder, block.len())?;
        self.remainder.extend_from_slice(block.bytes());
        if !fits {
            // Of the private copy: another process may change the block meanwhile.
            let first = &self.remainder[before..][..spare];
            let len = before + whole_entries(SharedBytes::from(first));
            reserve(&mut self.overflow, self.remainder.len() - len)?;
            self.overflow.extend_from_slice(&self.remainder[len..]);
            self.remainder.truncate(len);
        }
        block.clear();
        Ok(fits)
    }

    /// Moves the remainder into an empty block, and the overflow into the remainder.
    fn take_remainder(&mut self, block: &mut Block) -> Result<(), StageError> {
        block.put(&self.remainder)?;
        self.remainder.clear();
        mem::swap(&mut self.remainder, &mut self.overflow);
        Ok(())
    }

    /// See [`Turn::close`].
    fn close(&mut self, block: &mut Block, owners: &OwnerNames) -> Result<Fill, StageError> {
        if !self.remainder.is_empty() {
            self.take_remainder(block)?;
            return self.send_entries(block);
        }
        if self.catalogue.goes_on()
            && let Some(fill) = self.piece(block)?
        {
            return Ok(fill);
        }
        let put_names = |bytes: &mut Vec<u8>| owners.append_to(bytes);
        self.catalogue.fill_closing(block, put_names)?;
        Ok(if block.is_empty() {
            Fill::End
        } else {
            self.send(block, BlockKind::ClosingCatalogue)
        })
    }

    /// Fills an empty block with a piece of the catalogue, if enough entries are due.
    fn piece(&mut self, block: &mut Block) -> Result<Option<Fill>, StageError> {
        if !self.catalogue.is_due(block.capacity(), self.bytes) {
            return Ok(None);
        }
        self.catalogue.fill_piece(block)?;
        Ok(Some(self.send(block, BlockKind::Catalogue)))
    }

    /// Fills an empty block with what a checkpoint needs, if one is due: first the entries that
    /// were not sent, then the catalogue of all objects that have ended, then the checkpoint.
    fn checkpoint(
        &mut self,
        block: &mut Block,
        reader: &mut ObjectReader,
    ) -> Result<Option<Fill>, StageError> {
        let is_forced = self.links.recent() >= MAX_CHECKPOINT_LINKS;
        if !self.checkpoints.is_begun() {
            let is_due = self.checkpoints.is_due(is_forced);
            if !is_due || matches!(reader.open_object(), OpenObjectState::Entries) {
                return Ok(None);
            }
            self.checkpoints.begin();
        }
        if !self.remainder.is_empty() {
            self.take_remainder(block)?;
            if let (_, Some(open)) = reader.unplaced() {
                open.assign_block(self.blocks, block.len());
            }
            return self.send_entries(block).map(Some);
        }
        if self.catalogue.has_unsent() {
            self.catalogue.fill_piece(block)?;
            return Ok(Some(self.send(block, BlockKind::Catalogue)));
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
        Ok(Some(Fill::Block))
    }

    fn send_entries(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        self.unplaced.assign_block(
            self.blocks,
            block.len(),
            block.capacity(),
            &mut self.catalogue,
        )?;
        Ok(self.send(block, BlockKind::Data))
    }

    /// Sets the kind, the offset and the number of a block, and counts it as sent: the catalogue
    /// names the number, which is final.
    fn send(&mut self, block: &mut Block, kind: BlockKind) -> Fill {
        let mut info = block.info();
        (info.offset, info.kind) = (self.bytes, kind.code());
        (info.entries, info.sequence) = (true, Some(self.blocks));
        block.set_info(info);
        match kind {
            BlockKind::Catalogue => self.checkpoints.add_catalogue(self.blocks),
            _ => self.checkpoints.add(block.len()),
        }
        self.bytes += block.len() as u64;
        self.blocks += 1;
        Fill::Block
    }
}
