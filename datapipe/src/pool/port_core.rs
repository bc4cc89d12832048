//! The innards of a port of any role: the rules of its stage, its counters, its waits.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::block_info::{BlockInfo, Marks};
use crate::memory::atomic::{AtomicU64, Ordering};
use crate::memory::points::point;
use crate::memory::tables::{ParticipantEntry, Tables};
use crate::memory::{
    Corruption, InstanceId, Number, ParticipantId, QueueId, QueueKind, Segment, StageId, now,
};
use crate::queue::Put;

use super::activity::Activity;
use super::block::{Block, CONTROL, VACANT};
use super::lent::{Lender, Lent};
use super::loans::Loans;
use super::participant::{Alloc, Held, Participant};
use super::port_error::PortError;
use super::returns::{Closing, LeaseKind};
use super::seat::AtLimit;
use super::stop::Stop;
use super::wait::Blocked;
use super::word::State;

/// The part of a port that every role has in common.
#[derive(Debug)]
pub(crate) struct PortCore {
    pub(crate) tables: Arc<Tables>,
    pub(super) id: ParticipantId,
    instance: InstanceId,
    pub(super) numbered: bool,
    /// Positions that each number has in the next queue.
    parts: u32,
    /// The last of the inputs that a dead predecessor held, if there are any: it may have sent a
    /// part of its answer.
    last_inherited: Option<Number>,
    at_limit: AtLimit,
    /// Buffers that count against the quota.
    loans: RefCell<Loans>,
    /// Inputs that a dead predecessor held, in the order of their numbers.
    inherited: RefCell<VecDeque<(Held, Number)>>,
    /// Inputs that were received and are neither answered nor gone.
    open: Cell<u32>,
    /// The highest number that was answered, and one more: a numbered stage answers in order.
    answered: Cell<Number>,
    /// Matters that every primitive deals with first: [`UNANSWERED`], [`LENT`].
    attention: Cell<u8>,
    /// The side of the port that threads with its lent blocks share; none before the first loan.
    lender: OnceCell<Arc<Lender>>,
    /// A writer that was to become blocks was dropped with data in it.
    unsent: Cell<bool>,
    /// Flags of the blocks that are not shown to the stage: vacant ones are freed here, and control
    /// blocks go on, or are freed by a tail.
    hidden: Cell<u32>,
    /// The last block of the stream, which came and goes on when the stage has sent all others. Its
    /// number in the input is with it.
    last: Cell<Option<(Held, Number)>>,
    /// The stream was seen to have ended: true from the start for a head.
    drained: Cell<bool>,
}

/// A numbered stage let go of an input without answering it.
const UNANSWERED: u8 = 1;
/// Other threads have blocks of the port, or have returned some.
const LENT: u8 = 2;

impl PortCore {
    /// Takes the seat of an instance, with the policy for its quota.
    pub(super) fn take_seat(
        segment: &Segment,
        instance: InstanceId,
        at_limit: AtLimit,
    ) -> Result<Rc<Self>, PortError> {
        let tables = Arc::clone(segment.tables());
        let shape = &tables.shape;
        let id = shape.participant_of(instance);
        // SYNC(seat-taken): one port for each seat, or two blocks could be of one buffer.
        let owner = &tables.participants[id].owner;
        let taken = owner.compare_exchange(0, process_id(), Ordering::AcqRel, Ordering::Acquire);
        if let Err(process) = taken {
            return Err(PortError::SeatTaken { instance, process });
        }
        point!("seat.taken");
        let parts = shape.parts(instance.stage());
        let is_numbered = shape.is_numbered(instance.stage());
        let inherited = inheritance(&tables, id);
        // Only `send_part` sends where a number has several positions: `answer` refuses it, as if
        // every input had been answered.
        let answered = if parts > 1 {
            Number::new(u64::MAX)
        } else {
            Number::FIRST
        };
        let core = Self {
            id,
            instance,
            numbered: is_numbered,
            parts,
            last_inherited: inherited.back().map(|&(_, number)| number),
            at_limit,
            loans: RefCell::new(Loans::of(&Participant {
                tables: &tables,
                id,
            })),
            inherited: RefCell::new(inherited),
            open: Cell::new(0),
            answered: Cell::new(answered),
            attention: Cell::new(0),
            lender: OnceCell::new(),
            hidden: Cell::new(if is_numbered { 0 } else { CONTROL }),
            last: Cell::new(None),
            unsent: Cell::new(false),
            drained: Cell::new(instance.stage() == StageId::HEAD),
            tables,
        };
        let entry = core.entry();
        entry.started.store(now(), Ordering::Relaxed);
        entry.ended.store(0, Ordering::Relaxed);
        point!("seat.started");
        core.set_activity(Activity::Working);
        point!("seat.working");
        Ok(Rc::new(core))
    }

    /// The stage whose instance the port is of.
    #[inline]
    pub(super) fn stage(&self) -> StageId {
        self.instance.stage()
    }

    /// The queue that the stage receives from.
    #[inline]
    fn input(&self) -> QueueId {
        QueueId::input_of(self.stage())
    }

    #[inline]
    pub(crate) fn participant(&self) -> Participant<'_> {
        Participant {
            tables: &self.tables,
            id: self.id,
        }
    }

    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.tables.header().stop.word.load(Ordering::Relaxed) != 0
    }

    /// Allocates a buffer that is not a block yet: fewer words to move about.
    ///
    /// Returns two results, one in the other, as every attempt that the wait loop repeats: the loop
    /// needs what blocks the attempt, and passes any other error on.
    #[inline(always)]
    pub(super) fn try_loan(&self) -> Result<Result<Held, Blocked>, PortError> {
        self.check()?;
        match self.participant().alloc(&mut self.loans.borrow_mut())? {
            Alloc::Got(held) => Ok(Ok(held)),
            Alloc::AtLimit => self.at_limit(),
            Alloc::NoneFree => Ok(Err(Blocked::NoneFree)),
        }
    }

    #[cold]
    fn at_limit<T>(&self) -> Result<Result<T, Blocked>, PortError> {
        match self.tables.shape.quota(self.id) {
            0 => Err(PortError::Misuse(
                "a stage that was described as never allocating wants a buffer",
            )),
            quota if self.at_limit == AtLimit::Terminate => Err(PortError::AtLimit { quota }),
            _ => Ok(Err(Blocked::AtLimit)),
        }
    }

    /// The next block that the stage wants to see. `next` gets a buffer that is not a block yet,
    /// by an attempt, a wait, or a wait with a deadline.
    ///
    /// The block is built here, where it is returned: each layer that passes a whole block on costs
    /// a load that waits for several narrow stores.
    #[inline(always)]
    pub(super) fn receive_by<E: From<PortError>>(
        self: &Rc<Self>,
        next: impl Fn() -> Result<Option<(Held, Number)>, E>,
    ) -> Result<Option<Block>, E> {
        loop {
            let Some((held, number)) = next()? else {
                return Ok(None);
            };
            let block = self.accept(held, number)?;
            if !block.has_flags(self.hidden.get()) {
                return Ok(Some(block));
            }
            self.hide(block)?;
        }
    }

    /// Frees vacant blocks from now on, or no longer. Not for numbered
    /// stages, which owe an answer to each.
    pub(crate) fn skip_vacant(&self, skip: bool) {
        self.set_hidden(VACANT, skip);
    }

    /// Shows control blocks to the stage. Without this they are hidden: a tail frees them, and
    /// another stage sends them on, the last block of the stream at its end. Numbered stages see
    /// them all, because they owe an answer to each.
    pub(crate) fn take_control_blocks(&self) {
        self.set_hidden(CONTROL, false);
    }

    fn set_hidden(&self, flag: u32, hide: bool) {
        let others = self.hidden.get() & !flag;
        let hidden = if hide && !self.numbered { flag } else { 0 };
        self.hidden.set(others | hidden);
    }

    /// Takes a block out of what the stage receives.
    #[cold]
    fn hide(&self, block: Block) -> Result<(), PortError> {
        if block.is_vacant() || self.stage() == self.tables.shape.tail() {
            return Ok(());
        }
        let number = block.number();
        self.answer(&block)?;
        if !block.info().marks.contains(Marks::LAST) {
            return self.send(block, number);
        }
        if let Some((earlier, _)) = self.last.replace(Some((block.release(), number))) {
            self.participant().free(earlier)?;
            return Err(PortError::Misuse("a stream has two last blocks"));
        }
        Ok(())
    }

    /// Bytes of data after which the pipe's head makes a checkpoint; `u64::MAX`: only when it
    /// decides to; 0: never.
    #[cfg(all(not(loom), feature = "archive"))]
    pub(crate) fn checkpoint_every(&self) -> u64 {
        let head = &self.tables.stages[StageId::HEAD];
        head.checkpoint.load(Ordering::Relaxed)
    }

    /// True if the library sends the last block of an archive after what the head sends.
    pub(super) fn ends_archive(&self) -> bool {
        let head = &self.tables.stages[StageId::HEAD];
        head.unended.load(Ordering::Relaxed) > 0
    }

    /// Ends the stream of this instance: if it is the last instance of the head to end, and the
    /// pipe's tail wants it, an empty block with the mark [`Marks::LAST`] is sent; if the last
    /// block was kept back, it goes on.
    ///
    /// A head that has a block in hand gives it as `spare`.
    pub(super) fn end_stream(self: &Rc<Self>, spare: Option<Block>) -> Result<(), PortError> {
        if let Some((held, number)) = self.last.take() {
            let block = Block::input(self, held, number)?;
            block.set_answered();
            return self.send(block, number);
        }
        if self.stage() != StageId::HEAD || !self.participant().is_last_to_end() {
            return Ok(());
        }
        let mut block = match spare {
            Some(block) => block,
            None => {
                let loan = self.wait(None, || self.try_loan_at_limit())?;
                let held = loan.expect("a wait without a deadline ends with something");
                Block::loan(self, held)
            }
        };
        block.set_info(BlockInfo::last());
        self.send(block, Number::FIRST)
    }

    /// As [`try_loan`](Self::try_loan), but waits where the policy is to fail: the stage has asked
    /// for nothing.
    fn try_loan_at_limit(&self) -> Result<Result<Held, Blocked>, PortError> {
        self.check()?;
        match self.participant().alloc(&mut self.loans.borrow_mut())? {
            Alloc::Got(held) => Ok(Ok(held)),
            Alloc::AtLimit => Ok(Err(Blocked::AtLimit)),
            Alloc::NoneFree => Ok(Err(Blocked::NoneFree)),
        }
    }

    /// Receives a buffer that is not a block yet.
    #[inline(always)]
    pub(super) fn try_input(&self) -> Result<Result<Option<(Held, Number)>, Blocked>, PortError> {
        self.check()?;
        let inherited = self.inherited.borrow_mut().pop_front();
        let queue = self.input();
        let got = match inherited {
            Some(input) => Some(input),
            None => self.participant().receive(queue)?,
        };
        if got.is_some() {
            Ok(Ok(got))
        } else {
            self.no_input()
        }
    }

    /// Decides if an empty queue is the end of the stream.
    #[cold]
    fn no_input(&self) -> Result<Result<Option<(Held, Number)>, Blocked>, PortError> {
        let queue = self.input();
        if !self.participant().feeders_done(queue) {
            return Ok(Err(Blocked::NoInput));
        }
        // What they sent last may have come between the two looks.
        let got = self.participant().receive(queue)?;
        if got.is_some() {
            return Ok(Ok(got));
        }
        let (head, tail) = self.participant().ring(queue).ends();
        // Each number that the feeders took they have answered, and each answer was taken.
        let ordered = self.tables.shape.queue_kind(queue) == QueueKind::Ordered;
        let short = queue.feeder().filter(|_| ordered).is_some_and(|feeder| {
            let (taken, _) = self.participant().ring(QueueId::input_of(feeder)).ends();
            let parts = self.tables.shape.parts(feeder);
            taken.number().part(0, parts).position() != head
        });
        if tail > head || short {
            return Err(
                Corruption::new("a number is missing at the end of the stream")
                    .at_queue(queue)
                    .into(),
            );
        }
        self.drained.set(true);
        Ok(Ok(None))
    }

    #[inline(always)]
    fn accept(self: &Rc<Self>, held: Held, number: Number) -> Result<Block, PortError> {
        let block = Block::input(self, held, number)?;
        self.open.set(self.open.get() + 1);
        let counters = &self.entry().counters;
        add(&counters.blocks_in, u64::from(!block.is_vacant()));
        add(&counters.bytes_in, block.len() as u64);
        point!("receive.counted");
        Ok(block)
    }

    #[inline]
    pub(crate) fn send(&self, block: Block, number: Number) -> Result<(), PortError> {
        self.check()?;
        if !block.is_of(self) {
            return Err(PortError::Misuse(
                "a block belongs to the port that it came from",
            ));
        }
        if self.numbered && block.lease_kind() == LeaseKind::Input {
            return Err(PortError::Misuse(
                "an input that was not answered cannot be another's answer",
            ));
        }
        let (vacant, len) = (block.is_vacant(), block.len() as u64);
        let output = QueueId::output_of(self.stage());
        let put = self.participant().send(block.release(), output, number)?;
        if put == Put::Duplicate {
            return Err(PortError::Misuse("a number was answered twice"));
        }
        let counters = &self.entry().counters;
        add(&counters.blocks_out, u64::from(!vacant));
        add(&counters.bytes_out, len);
        point!("send.counted");
        Ok(())
    }

    /// Notes that `input` is being answered.
    pub(crate) fn answer(&self, input: &Block) -> Result<(), PortError> {
        if !input.is_of(self) {
            return Err(PortError::Misuse(
                "a block belongs to the port that it came from",
            ));
        }
        match input.lease_kind() {
            LeaseKind::Loan => Err(PortError::Misuse(
                "a block that was not received cannot be answered",
            )),
            LeaseKind::Answered if self.numbered => {
                Err(PortError::Misuse("an input was answered twice"))
            }
            LeaseKind::Answered => Ok(()),
            // The answer to a later number waits in its queue for the earlier one. An instance that
            // then waited for a buffer to answer the earlier one with would wait for ever.
            LeaseKind::Input if self.numbered && input.number() < self.answered.get() => {
                Err(PortError::Misuse(if self.parts > 1 {
                    "a stage that answers with several blocks sends them by its Outputs"
                } else {
                    "a numbered stage answers its inputs in their order"
                }))
            }
            LeaseKind::Input => {
                input.set_answered();
                self.open.set(self.open.get() - 1);
                self.answered.set(input.number().next());
                Ok(())
            }
        }
    }

    /// Positions that each number has in the next queue.
    pub(crate) fn parts(&self) -> u32 {
        self.parts
    }

    /// Sends a block as one part of the answer to `input`, whose parts go in their order. A part
    /// that a dead predecessor has sent is freed.
    pub(crate) fn send_part(
        &self,
        output: Block,
        input: &Block,
        part: u32,
    ) -> Result<(), PortError> {
        self.check()?;
        let ours = output.is_of(self) && input.is_of(self) && part < self.parts;
        let kinds = (output.lease_kind(), input.lease_kind());
        if !ours || !self.numbered || kinds != (LeaseKind::Loan, LeaseKind::Input) {
            return Err(PortError::Misuse(
                "a block cannot be a part of the answer to another",
            ));
        }
        let (vacant, len) = (output.is_vacant(), output.len() as u64);
        let queue = QueueId::output_of(self.stage());
        let number = input.number().part(part, self.parts);
        let put = self.participant().send(output.release(), queue, number)?;
        if put == Put::Duplicate {
            let inherited = self.last_inherited.is_some_and(|n| input.number() <= n);
            return inherited
                .then_some(())
                .ok_or(PortError::Misuse("a number was answered twice"));
        }
        let counters = &self.entry().counters;
        add(&counters.blocks_out, u64::from(!vacant));
        add(&counters.bytes_out, len);
        point!("send.counted");
        Ok(())
    }

    /// Completes the answer to `input`, of which the first `sent` parts, at least one, were sent.
    ///
    /// The other positions are passed over without a buffer. The one buffer that each input has in
    /// the queue, or else its own, bounds the positions in use: a ring has slots for all of them.
    pub(crate) fn end_parts(&self, input: &Block, sent: u32) -> Result<(), PortError> {
        self.check()?;
        debug_assert!(sent > 0 && input.lease_kind() == LeaseKind::Input);
        if sent < self.parts {
            let queue = QueueId::output_of(self.stage());
            let rest = (sent..self.parts).map(|part| input.number().part(part, self.parts));
            self.participant().pass(queue, rest)?;
        }
        input.set_answered();
        self.open.set(self.open.get() - 1);
        Ok(())
    }

    /// Frees a block of ours that was dropped.
    #[inline]
    pub(super) fn on_drop(&self, held: Held, kind: LeaseKind) {
        // An error here means that the shared words are corrupt. A drop cannot say so: the next
        // primitive that meets the buffer does, or the controller's audit.
        let _ = self.participant().free(held);
        if kind == LeaseKind::Input {
            self.open.set(self.open.get() - 1);
            if self.numbered {
                self.attention.set(self.attention.get() | UNANSWERED);
            }
        }
    }

    /// Notes that data which was to be sent is lost.
    pub(crate) fn note_unsent(&self) {
        self.unsent.set(true);
    }

    pub(super) fn check_finished(&self) -> Result<(), PortError> {
        if !self.drained.get() {
            return Err(PortError::Misuse(
                "the stage returned before the end of its input",
            ));
        }
        if self.unsent.get() {
            return Err(PortError::Misuse(
                "a writer was dropped before it had sent what was written to it",
            ));
        }
        if self.numbered && self.open.get() > 0 {
            return Err(PortError::Misuse(
                "a numbered stage ended with an input that it has not answered",
            ));
        }
        self.attend()
    }

    #[inline]
    pub(super) fn check(&self) -> Result<(), PortError> {
        if self.is_stopped() {
            return Err(PortError::Stopped);
        }
        self.attend()
    }

    #[inline]
    fn attend(&self) -> Result<(), PortError> {
        match self.attention.get() {
            0 => Ok(()),
            _ => self.attend_now(),
        }
    }

    /// Frees what other threads have returned, and fails if an input was lost without an answer.
    #[cold]
    fn attend_now(&self) -> Result<(), PortError> {
        self.collect_returns();
        if self.attention.get() & UNANSWERED != 0 {
            return Err(PortError::Misuse(
                "a numbered stage let go of an input without sending or dropping it",
            ));
        }
        Ok(())
    }

    /// The side of the port that threads with its lent blocks share.
    pub(super) fn lender(&self) -> &Arc<Lender> {
        let new = || Arc::new(Lender::new(Arc::clone(&self.tables), self.id));
        self.lender.get_or_init(new)
    }

    /// Notes that a block was lent to another thread.
    pub(super) fn note_lent(&self) {
        self.attention.set(self.attention.get() | LENT);
    }

    /// True if another thread has a block of the port, as far as it has looked.
    pub(super) fn is_lent(&self) -> bool {
        self.attention.get() & LENT != 0
    }

    /// Frees what other threads have returned.
    pub(super) fn collect_returns(&self) {
        if !self.is_lent() {
            return;
        }
        let (returned, lent) = self.lender().returns().collect();
        if lent == 0 {
            self.attention.set(self.attention.get() & !LENT);
        }
        for (held, kind) in returned {
            self.on_drop(held, kind);
        }
    }

    /// Takes back a block that another thread had.
    pub(super) fn take_back(self: &Rc<Self>, lent: Lent) -> Result<Block, PortError> {
        if lent.is_of(self.lender()) {
            Ok(Block::taken_back(lent, self))
        } else {
            Err(PortError::Misuse(
                "a block that was lent goes back to the port that it came from",
            ))
        }
    }

    pub(super) fn stop(&self) -> Stop {
        Stop::new(Arc::clone(&self.tables), self.id)
    }

    /// The participant whose seat this is.
    pub(crate) fn id(&self) -> ParticipantId {
        self.id
    }

    /// Counts time as time spent waiting for buffers: another instance did that, and this one
    /// waited for it.
    pub(crate) fn count_wait(&self, time: Duration) {
        add(
            &self.entry().counters.alloc_wait,
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        );
    }

    pub(super) fn set_activity(&self, activity: Activity) {
        activity.record(&self.tables, self.id, false);
    }

    #[inline]
    pub(super) fn entry(&self) -> &ParticipantEntry {
        &self.tables.participants[self.id]
    }
}

impl Drop for PortCore {
    fn drop(&mut self) {
        if let Some((held, _)) = self.last.take() {
            // As in `on_drop`.
            let _ = self.participant().free(held);
        }
        while let Some(lender) = self.lender.get() {
            match lender.returns().close() {
                Closing::Free(returned) => {
                    returned
                        .into_iter()
                        .for_each(|(held, kind)| self.on_drop(held, kind));
                }
                Closing::AllBack => break,
                // The stage has failed. Its threads notice that the pipe stops, and the last one
                // to drop a lent block leaves the seat.
                Closing::Orphaned => return,
            }
        }
        leave_seat(&self.tables, self.id);
    }
}

/// Leaves the seat of a participant that holds nothing any more.
pub(super) fn leave_seat(tables: &Tables, id: ParticipantId) {
    let entry = &tables.participants[id];
    entry.ended.store(now(), Ordering::Relaxed);
    point!("leave.timed");
    Activity::Ended.record(tables, id, false);
    point!("leave.ended");
    // SYNC(seat-taken): the last block is gone, too, for each holds a count of the port, or is
    // lent, and the last of those is back.
    entry.owner.store(0, Ordering::Release);
    point!("leave.left");
}

/// The inputs that participant `id` already holds, in the order of their numbers: its predecessor
/// died with them.
pub(super) fn inheritance(tables: &Tables, id: ParticipantId) -> VecDeque<(Held, Number)> {
    let participant = Participant { tables, id };
    let mut inputs: Vec<_> = tables
        .shape
        .buffer_ids()
        .filter_map(|buffer| {
            let word = participant.word(buffer).ok()?;
            let held = Held {
                buffer,
                generation: word.generation,
            };
            let input = word.state == State::Held && word.who == id && word.allocator != id;
            input.then(|| (held, participant.number_of(held, id)))
        })
        .collect();
    inputs.sort_by_key(|&(_, number)| number);
    inputs.into()
}

/// Adds to a counter that only the caller writes.
#[inline]
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(amount),
        Ordering::Relaxed,
    );
}

fn process_id() -> u32 {
    rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}
