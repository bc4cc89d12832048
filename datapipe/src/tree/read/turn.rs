//! What all instances of a head share, and whose turn it is to send.
//!
//! ```text
//!   batches  0        1        2        3          each read by one instance, all at once
//!   turn              ^ this one places what it has read, then the next one
//!   sent     [block 0][block 1] rest                what was read, and is too little for a block of its own
//! ```
//!
//! Blocks are numbered as they are sent. So places are known to whoever has the turn, and only to
//! him: of blocks, of the objects that the catalogue speaks of, of the objects that have further
//! names.

use std::mem;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::StageError;
use crate::pool::Block;
use crate::stage::Fill;
use crate::wire::BlockKind;

use super::catalogue::{Catalogue, whole_entries};
use super::hard_links::Links;
use super::object_reader::Reader;
use super::unplaced::Pending;
use super::walk::Walk;

/// What all instances of a head share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) walk: Mutex<Walk>,
    order: Mutex<Order>,
    /// The turn has passed, or nobody has it any more.
    turned: Condvar,
}

/// What is done in the order of the batches, by the one whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The batch whose turn it is.
    turn: u64,
    /// An instance was dropped before its turn came, or in it: nothing can follow in order.
    abandoned: bool,
    /// For how long those who had the turn have waited for buffers, and since when the one who has
    /// it does.
    held_up: Duration,
    since: Option<Instant>,
    /// Where instances run.
    threads: Vec<ThreadId>,
    /// Blocks and bytes that were sent.
    blocks: u64,
    bytes: u64,
    pub(super) links: Links,
    catalogue: Catalogue,
    /// Entries that are to stand before those of whose turn it is, and the objects that have ended
    /// there.
    rest: Vec<u8>,
    pending: Pending,
    /// What did not fit behind them.
    behind: Vec<u8>,
}

/// The batches that an instance has read from, in a row, and that were not sent as a whole.
#[derive(Debug, Default)]
pub(super) struct Span {
    /// The first of them, and the one behind the last.
    batches: Option<(u64, u64)>,
    has_turn: bool,
}

impl Shared {
    pub(super) fn new(walk: Walk) -> Self {
        Self {
            walk: Mutex::new(walk),
            order: Mutex::default(),
            turned: Condvar::new(),
        }
    }

    /// Notes that an instance runs on this thread. False if another does: they would wait for each
    /// other, so all work is that one's.
    pub(super) fn begin(&self) -> bool {
        let mut order = self.order.lock();
        let here = thread::current().id();
        let alone = !order.threads.contains(&here);
        order.threads.push(here);
        alone
    }

    pub(super) fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock()
    }

    /// Waits until all batches before are sent. `None` if that will never be, because the pipe
    /// ends. If whoever has it waits for buffers meanwhile, then so does the one who has `block`.
    pub(super) fn await_turn(
        &self,
        span: &mut Span,
        block: &Block,
    ) -> Option<MutexGuard<'_, Order>> {
        let (first, _) = span.batches?;
        let mut order = self.order.lock();
        let before = order.held_up;
        while !span.has_turn && order.turn != first {
            if order.abandoned {
                return None;
            }
            self.turned.wait(&mut order);
        }
        span.has_turn = true;
        block.count_wait(order.held_up.saturating_sub(before));
        Some(order)
    }

    /// Whoever has the turn goes to fetch a buffer, or comes back with it.
    pub(super) fn note_fetch(&self, span: &Span, goes: bool) {
        if span.has_turn {
            let mut order = self.order.lock();
            let since = mem::replace(&mut order.since, goes.then(Instant::now));
            order.held_up += since.map_or(Duration::ZERO, |since| since.elapsed());
        }
    }

    /// Ends a span, and passes the turn on to the batch behind it.
    pub(super) fn pass_turn(&self, order: &mut Order, span: &mut Span) {
        if let Some((_, end)) = span.batches.take() {
            order.turn = end;
        }
        span.has_turn = false;
        self.turned.notify_all();
    }

    /// Lets nobody wait for an instance that is no more. It knows nothing of why: whoever ran it
    /// does, and says so.
    pub(super) fn abandon(&self) {
        self.order.lock().abandoned = true;
        self.turned.notify_all();
    }
}

impl Span {
    /// The batch that would follow, if there is a span.
    pub(super) fn next(&self) -> Option<u64> {
        self.batches.map(|(_, end)| end)
    }

    /// Takes a batch, which follows.
    pub(super) fn add(&mut self, batch: u64) {
        let first = self.batches.map_or(batch, |(first, _)| first);
        self.batches = Some((first, batch + 1));
    }

    pub(super) fn has_turn(&self) -> bool {
        self.has_turn
    }
}

impl Order {
    /// Finds the place of what was read into `block`. `now`: the block is to be sent in any case.
    pub(super) fn place(
        &mut self,
        block: &mut Block,
        reader: &mut Reader,
        now: bool,
    ) -> Result<Option<Fill>, StageError> {
        let before = self.rest.len();
        self.pending.append(&mut reader.pending, before);
        if let Some(first) = reader.first() {
            first.shift(before);
        }
        // Copying costs less than blocks that have little in them, unless there is hardly room for
        // more.
        if before > 0 || !now && block.len() < block.capacity() / 4 * 3 {
            let room = block.capacity() - before;
            let fits = block.len() <= room;
            let len = if fits {
                block.len()
            } else {
                whole_entries(&block.bytes()[..room])
            };
            self.rest.extend_from_slice(&block.bytes()[..len]);
            self.behind.extend_from_slice(&block.bytes()[len..]);
            block.clear();
            if fits && !now {
                return Ok(None);
            }
            self.take_rest(block)?;
        }
        if let Some(first) = reader.first() {
            first.settle(self.blocks, block.len());
        }
        self.send_entries(block).map(Some)
    }

    /// Moves the rest into an empty block, to be sent or to go on behind it. What is behind it is
    /// the rest then.
    pub(super) fn take_rest(&mut self, block: &mut Block) -> Result<(), StageError> {
        block.put(&self.rest)?;
        self.rest.clear();
        mem::swap(&mut self.rest, &mut self.behind);
        Ok(())
    }

    /// Fills a block with what stands behind all objects; it stays empty if that was all.
    pub(super) fn close(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if !self.rest.is_empty() {
            self.take_rest(block)?;
            return self.send_entries(block);
        }
        self.catalogue.fill_closing(block)?;
        Ok(if block.is_empty() {
            Fill::End
        } else {
            self.send(block, BlockKind::ClosingCatalogue)
        })
    }

    /// Fills an empty block with a piece of the catalogue, if there is enough for one.
    pub(super) fn piece(&mut self, block: &mut Block) -> Result<Option<Fill>, StageError> {
        if !self.catalogue.is_due(block.capacity()) {
            return Ok(None);
        }
        self.catalogue.fill_piece(block)?;
        Ok(Some(self.send(block, BlockKind::Catalogue)))
    }

    fn send_entries(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        self.pending
            .settle(self.blocks, block.len(), &mut self.catalogue)?;
        Ok(self.send(block, BlockKind::Data))
    }

    /// Gives a block its number and its offset.
    fn send(&mut self, block: &mut Block, what: BlockKind) -> Fill {
        let mut info = block.info();
        (info.offset, info.kind) = (self.bytes, what.code());
        block.set_info(info);
        self.bytes += block.len() as u64;
        self.blocks += 1;
        Fill::Block
    }
}
