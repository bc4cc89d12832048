//! The four primitives, without waiting: what one participant, or the controller, does to the
//! shared words.
//!
//! This is the machine whose every step may be a participant's last. The order of the steps is the
//! whole argument, and `docs/shared-memory.md`, "Hand-over", gives it; the step explorer and the
//! model checker run this file.

use crate::limits::GENERATION_BITS;
use crate::memory::atomic::Ordering;
use crate::memory::points::point;
use crate::memory::tables::Tables;
use crate::memory::{
    BufferId, Corruption, Generation, Lap, Number, ParticipantId, QueueId, QueueKind, RingPosition,
    StageId, TableIndex,
};
use crate::queue::{Claim, Put, Ring, Slot};

use super::loans::Loans;
use super::word::{CONTROLLER, NO_ONE, State, Word};

/// One participant's view of the tables. `id` is [`CONTROLLER`] for the controller, which frees and
/// sends for the dead, and never allocates or receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Participant<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) id: ParticipantId,
}

/// A buffer that a participant holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) buffer: BufferId,
    pub(crate) generation: Generation,
}

/// Outcome of an attempt to allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alloc {
    Got(Held),
    /// The participant has as many buffers outstanding as its quota allows.
    AtLimit,
    /// It may have one, but the free list is empty: another participant is about to put one
    /// there.
    NoneFree,
}

/// Puts every buffer into the reserve of a segment that no other process uses yet.
pub(crate) fn fill_reserve(tables: &Tables) {
    let (shape, reserve) = (&tables.shape, tables.shape.reserve());
    for queue in shape.ring_ids() {
        for slot in tables.ring(queue) {
            let empty = Slot::Empty { lap: Lap::FIRST };
            slot.word.store(empty.encode(), Ordering::Relaxed);
        }
    }
    let buffers = shape.buffers();
    debug_assert!(buffers < shape.ring_slots());
    for (buffer, slot) in shape.buffer_ids().zip(tables.ring(reserve)) {
        let word = Word {
            state: State::Sent,
            who: CONTROLLER,
            allocator: NO_ONE,
            generation: Generation::FIRST,
        };
        tables.buffers[buffer]
            .word
            .store(word.encode(), Ordering::Relaxed);
        tables.buffers[buffer]
            .destination
            .store(reserve.get(), Ordering::Relaxed);
        slot.word.store(
            Slot::Full {
                buffer,
                generation: Generation::FIRST,
            }
            .encode(),
            Ordering::Release,
        );
    }
    tables.queues[reserve]
        .tail
        .word
        .store(buffers.into(), Ordering::Release);
}

impl<'a> Participant<'a> {
    /// Takes a buffer from the free list, or else from the reserve, if the quota allows one more.
    #[inline]
    pub(crate) fn alloc(&self, loans: &mut Loans) -> Result<Alloc, Corruption> {
        if loans.reach(self.tables.shape.quota(self.id), self) {
            return Ok(Alloc::AtLimit);
        }
        // A buffer that was used before is warmer than one that never was: as long as enough come
        // back in time, the others are not touched, and the pipe works in the cache.
        let reserve = self.tables.shape.reserve();
        let scarce =
            || self.ring(QueueId::FREE_LIST).depth() < u64::from(self.tables.shape.slack());
        let order = if self.ring(reserve).depth() > 0 && scarce() {
            [reserve, QueueId::FREE_LIST]
        } else {
            [QueueId::FREE_LIST, reserve]
        };
        let taken = match self.take(order[0], Some(self.id))? {
            Some(taken) => Some(taken),
            None => self.take(order[1], Some(self.id))?,
        };
        let Some((held, _)) = taken else {
            return Ok(Alloc::NoneFree);
        };
        point!("alloc.taken");
        loans.note(held);
        Ok(Alloc::Got(held))
    }

    /// Takes the buffer at the head of `queue`, and returns it with its number.
    #[inline]
    pub(crate) fn receive(&self, queue: QueueId) -> Result<Option<(Held, Number)>, Corruption> {
        let Some((held, number)) = self.take(queue, None)? else {
            return Ok(None);
        };
        self.note_number(held, number);
        point!("receive.numbered");
        Ok(Some((held, number)))
    }

    /// Sends a held buffer to `queue`. On an ordered queue it goes to the position of
    /// `number`.
    ///
    /// If that position is taken, the buffer is freed and [`Put::Duplicate`] returned.
    #[inline]
    pub(crate) fn send(
        &self,
        held: Held,
        queue: QueueId,
        number: Number,
    ) -> Result<Put, Corruption> {
        let entry = &self.tables.buffers[held.buffer];
        self.note_number(held, number);
        point!("send.numbered");
        entry.destination.store(queue.get(), Ordering::Release); // SYNC(destination)
        point!("send.bound");
        self.leave_held(held)?;
        point!("send.sent");
        self.publish(held, queue, number)
    }

    /// Gives a held buffer back to the free list, and its credit to its allocator.
    #[inline]
    pub(crate) fn free(&self, held: Held) -> Result<(), Corruption> {
        let entry = &self.tables.buffers[held.buffer];
        // SYNC(destination): a reader of it sees, too, that the ledger says we took the buffer.
        // Reclaim reads it for the buffer's last sender: it must not believe that the send was
        // never finished.
        entry
            .destination
            .store(QueueId::FREE_LIST.get(), Ordering::Release);
        point!("free.bound");
        let word = self.leave_held(held)?;
        point!("free.sent");
        self.publish_free(held, word.allocator)
    }

    /// The rest of a send, once the ledger says sent: also what reclaim does for a sender that died
    /// before it.
    #[inline]
    pub(crate) fn publish(
        &self,
        held: Held,
        queue: QueueId,
        number: Number,
    ) -> Result<Put, Corruption> {
        let ring = self.ring(queue);
        let put = match self.tables.shape.queue_kind(queue) {
            QueueKind::Plain => ring.put(held.buffer, held.generation).map(|_| Put::Done)?,
            QueueKind::Ordered => ring.put_at(number.position(), held.buffer, held.generation)?,
        };
        match put {
            Put::Done => {
                ring.event().notify();
                point!("send.notified");
            }
            Put::Duplicate => self.free_unpublished(held)?,
        }
        Ok(put)
    }

    /// Passes over positions of an ordered queue that get no buffer. Those that were passed over,
    /// or have a buffer, stay as they are.
    #[cfg(not(loom))]
    pub(crate) fn pass(
        &self,
        queue: QueueId,
        numbers: impl Iterator<Item = Number>,
    ) -> Result<(), Corruption> {
        let ring = self.ring(queue);
        for number in numbers {
            ring.pass_at(number.position())?;
        }
        ring.event().notify();
        point!("pass.notified");
        Ok(())
    }

    /// The rest of a free, once the ledger says sent.
    #[inline]
    pub(crate) fn publish_free(
        &self,
        held: Held,
        allocator: ParticipantId,
    ) -> Result<(), Corruption> {
        if !self.tables.shape.has_participant(allocator) {
            return Err(
                Corruption::new("a buffer's allocator is not a participant").at_buffer(held.buffer)
            );
        }
        self.ring(QueueId::FREE_LIST)
            .put(held.buffer, held.generation)?;
        point!("free.put");
        self.ring(QueueId::FREE_LIST).event().notify();
        point!("free.notified");
        self.tables.participants[allocator].credit.event.notify();
        point!("free.credited");
        Ok(())
    }

    /// Records that a participant has sent everything it ever will.
    pub(crate) fn finish(&self, participant: ParticipantId) {
        let shape = &self.tables.shape;
        let Some(instance) = shape.instance_of(participant) else {
            return;
        };
        let stage = instance.stage();
        // SYNC(stage-done): all its sends come before it.
        self.tables.stages[stage]
            .done
            .fetch_or(1 << instance.index(), Ordering::AcqRel);
        point!("finish.marked");
        // The next stage may have come to the end of the stream; the tails wait for each other.
        let next = QueueId::input_of(stage.next().min(shape.tail()));
        self.ring(next).event().notify();
        point!("finish.notified");
    }

    /// Counts an end of an instance of the head, which has sent everything it ever will. Returns
    /// true if it is the last one to end and the tail wants to be sent a last block. Called once
    /// for each instance.
    #[cfg(not(loom))]
    pub(crate) fn is_last_to_end(&self) -> bool {
        let unended = &self.tables.stages[StageId::HEAD].unended;
        if unended.load(Ordering::Relaxed) == 0 {
            return false;
        }
        // SYNC(head-ended): released by each instance, after all that it has sent.
        // SYNC(head-ended): acquired by the last one, before it sends the last block.
        let before = unended.fetch_sub(1, Ordering::AcqRel);
        before == 1
    }

    /// Number of buffers that were ever put into a plain queue. Exact while its only feeder, if it
    /// has one, does not send.
    #[cfg(not(loom))]
    pub(crate) fn count_put(&self, queue: QueueId) -> Result<Number, Corruption> {
        Ok(self.ring(queue).end_of_puts()?.number())
    }

    /// Number of buffers that were ever taken from a queue. Exact while its only taker, if it has
    /// one, does not receive.
    #[cfg(not(loom))]
    pub(crate) fn count_taken(&self, queue: QueueId) -> Result<Number, Corruption> {
        let is_there = |buffer, generation| {
            let word = self
                .tables
                .shape
                .has_buffer(buffer)
                .then(|| self.word(buffer));
            word.is_some_and(|word| {
                word.is_ok_and(|word| word.state == State::Sent && word.generation == generation)
            })
        };
        Ok(self.ring(queue).end_of_takes(is_there)?.number())
    }

    /// True if every instance of the stage that feeds `queue` has finished. Look into the queue
    /// once more after that: what it holds then is the last.
    pub(crate) fn feeders_done(&self, queue: QueueId) -> bool {
        queue.feeder().is_some_and(|feeder| self.is_done(feeder))
    }

    /// True if every instance of a stage has finished.
    pub(crate) fn is_done(&self, stage: StageId) -> bool {
        let instances = self.tables.shape.stages()[stage.as_index()].instances;
        let all = u64::MAX >> (u64::BITS - instances);
        // SYNC(stage-done)
        self.tables.stages[stage].done.load(Ordering::Acquire) & all == all
    }

    /// True if a buffer counts against the participant's quota: it allocated the buffer, which has
    /// not been freed since.
    ///
    /// A buffer that is being freed may count for a moment longer. The one that frees it notifies
    /// the participant's credit afterwards, so that the participant does not sleep on such an
    /// answer.
    pub(crate) fn is_outstanding(&self, buffer: BufferId) -> bool {
        let entry = &self.tables.buffers[buffer];
        let now = entry.word.load(Ordering::Acquire);
        // A word in no known state is met, and reported, by the participant that takes the buffer.
        let Some(word) = Word::decode(now) else {
            return false;
        };
        if word.allocator != self.id || word.state == State::Held {
            return word.allocator == self.id;
        }
        // SYNC(destination): a destination that belongs to a later word comes with that word.
        let queue = QueueId::new(entry.destination.load(Ordering::Acquire));
        !self.is_home(queue) || entry.word.load(Ordering::Acquire) != now
    }

    /// The ledger word of a buffer, decoded.
    #[inline]
    pub(crate) fn word(&self, buffer: BufferId) -> Result<Word, Corruption> {
        let word = self.tables.buffers[buffer].word.load(Ordering::Acquire);
        Word::decode(word)
            .ok_or_else(|| Corruption::new("a ledger word is in no known state").at_buffer(buffer))
    }

    /// The number of a buffer that a participant holds: as its descriptor says, or, if the
    /// participant died before it wrote that, as its last take intent says.
    pub(crate) fn number_of(&self, held: Held, holder: ParticipantId) -> Number {
        let entry = &self.tables.buffers[held.buffer];
        if entry.number_generation.load(Ordering::Acquire) == held.generation.get() {
            Number::new(entry.number.load(Ordering::Relaxed))
        } else {
            let intent = self.tables.participants[holder]
                .intent
                .load(Ordering::Acquire);
            RingPosition::new(intent & INTENT_POSITION).number()
        }
    }

    /// Writes down the number of a buffer of ours. The generation goes last: it says that the
    /// number is there.
    #[inline]
    pub(crate) fn note_number(&self, held: Held, number: Number) {
        let entry = &self.tables.buffers[held.buffer];
        entry.number.store(number.get(), Ordering::Relaxed);
        point!("number.stored");
        entry
            .number_generation
            .store(held.generation.get(), Ordering::Release);
    }

    /// True if a buffer that was sent to `queue` is not on loan.
    pub(crate) fn is_home(&self, queue: QueueId) -> bool {
        queue == QueueId::FREE_LIST || queue == self.tables.shape.reserve()
    }

    /// The ring of a queue.
    #[inline]
    pub(crate) fn ring(&self, queue: QueueId) -> Ring<'a> {
        Ring::new(
            queue,
            &self.tables.queues[queue],
            self.tables.ring(queue),
            self.tables.shape.users(queue),
        )
    }

    /// The only function in which a buffer changes hands.
    #[inline(always)]
    fn take(
        &self,
        queue: QueueId,
        allocator: Option<ParticipantId>,
    ) -> Result<Option<(Held, Number)>, Corruption> {
        let intent = &self.tables.participants[self.id].intent;
        let taken = self.ring(queue).take(|buffer, generation, position| {
            if !self.tables.shape.has_buffer(buffer) {
                return Err(
                    Corruption::new("a slot names a buffer that does not exist").at_queue(queue)
                );
            }
            intent.store(
                u64::from(queue.get()) << INTENT_BITS | position.get() & INTENT_POSITION,
                Ordering::Release,
            );
            point!("take.intent");
            let word = self.word(buffer)?;
            if word.state != State::Sent || word.generation != generation {
                return Ok(Claim::Lost);
            }
            let mine = word.taken_by(self.id, allocator.unwrap_or(word.allocator));
            let held = Held {
                buffer,
                generation: mine.generation,
            };
            // SYNC(changed-hands): what the last holder wrote is visible to the next.
            let entry = &self.tables.buffers[buffer].word;
            let won = entry.compare_exchange(
                word.encode(),
                mine.encode(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            point!("take.claimed");
            Ok(if won.is_ok() {
                Claim::Won(held)
            } else {
                Claim::Lost
            })
        })?;
        Ok(taken.map(|taken| (taken.claimed, taken.position.number())))
    }

    /// Moves the ledger word of a held buffer on to sent.
    #[inline]
    fn leave_held(&self, held: Held) -> Result<Word, Corruption> {
        let lost =
            || Corruption::new("a buffer changed hands while it was held").at_buffer(held.buffer);
        let word = self.word(held.buffer)?;
        if word.state != State::Held || word.who != self.id || word.generation != held.generation {
            return Err(lost());
        }
        let sent = Word {
            state: State::Sent,
            ..word
        };
        // Only the holder moves a word that says held, so nothing can have come in between.
        self.tables.buffers[held.buffer]
            .word
            .store(sent.encode(), Ordering::Release); // SYNC(changed-hands)
        Ok(word)
    }

    /// Frees a buffer whose word says sent, but which is not in any ring.
    fn free_unpublished(&self, held: Held) -> Result<(), Corruption> {
        let word = self.word(held.buffer)?;
        self.tables.buffers[held.buffer]
            .destination
            .store(QueueId::FREE_LIST.get(), Ordering::Release); // SYNC(destination)
        self.publish_free(held, word.allocator)
    }
}

/// A take intent: the queue in the upper bits, the low bits of the position in the others.
const INTENT_BITS: u32 = 56;
const INTENT_POSITION: u64 = (1 << INTENT_BITS) - 1;

const _: () = assert!(
    INTENT_BITS > GENERATION_BITS,
    "positions outlast generations"
);
