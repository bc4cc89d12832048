//! The ring: take, put at the tail, put at a position. Lock-free, and complete even if a
//! participant dies at any step.
//!
//! After Dmitry Vyukov's bounded multi-producer multi-consumer queue, with two changes: the
//! sequence number shares its word with the content, so that one compare-and-swap fills a slot, and
//! emptying a slot only tidies up after a hand-over that the ledger has already decided, so that
//! any participant can do it.

use crate::limits::MAX_ROUNDS;
use crate::memory::atomic::{AtomicU64, Ordering};
use crate::memory::event_count::EventCount;
use crate::memory::points::point;
use crate::memory::tables::{QueueEntry, SlotEntry};
use crate::memory::{BufferId, Corruption, Generation, Lap, QueueId, RingPosition, RingUsers};

use super::slot::Slot;

/// A view of one ring.
#[derive(Clone, Copy)]
pub(crate) struct Ring<'a> {
    ends: &'a QueueEntry,
    slots: &'a [SlotEntry],
    /// The queue, for error messages.
    queue: QueueId,
    users: RingUsers,
}

/// Outcome of an attempt to claim a buffer in the ledger.
pub(crate) enum Claim<T> {
    /// It is ours.
    Won(T),
    /// It is no longer at the generation that the slot names.
    Lost,
}

/// A buffer that was taken, and its position.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    pub(crate) claimed: T,
    pub(crate) position: RingPosition,
}

/// Outcome of putting a buffer at a given position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is there.
    Done,
    /// Another buffer is or was there.
    Duplicate,
}

impl<'a> Ring<'a> {
    /// `slots.len()` is a power of two.
    #[inline]
    pub(crate) fn new(
        queue: QueueId,
        ends: &'a QueueEntry,
        slots: &'a [SlotEntry],
        users: RingUsers,
    ) -> Self {
        debug_assert!(slots.len().is_power_of_two());
        Self {
            ends,
            slots,
            queue,
            users,
        }
    }

    /// Takes the buffer at the head.
    ///
    /// `claim(buffer, generation, position)` must try to make the buffer the caller's in the
    /// ledger, in one step; it is called once for each slot that looks full.
    #[inline(always)]
    pub(crate) fn take<T>(
        &self,
        mut claim: impl FnMut(BufferId, Generation, RingPosition) -> Result<Claim<T>, Corruption>,
    ) -> Result<Option<Taken<T>>, Corruption> {
        for _ in 0..MAX_ROUNDS {
            let position = self.head();
            let word = self.slot(position).load(Ordering::Acquire); // SYNC(slot-filled)
            match Slot::decode(word) {
                Slot::Empty { lap } if lap == self.lap(position) => return Ok(None),
                Slot::Empty { lap } if lap == self.next_lap(position) => {
                    self.advance_head(position)
                }
                Slot::Empty { .. } => {} // the head has moved a lap since it was read
                Slot::Full { buffer, generation } => {
                    // Only while the head is still here does the slot speak of this lap: the head
                    // cannot be a lap late, for then more buffers would be in the ring than there
                    // are.
                    if self.head() != position {
                        continue;
                    }
                    let claim = claim(buffer, generation, position)?;
                    // From here on the buffer has moved. Any participant that sees that may empty
                    // the slot and move the head.
                    self.empty_slot(position, word);
                    point!("take.emptied");
                    self.advance_head(position);
                    point!("take.moved");
                    if let Claim::Won(claimed) = claim {
                        return Ok(Some(Taken { claimed, position }));
                    }
                }
            }
        }
        Err(self.corrupt("the head of a queue does not settle"))
    }

    /// Puts a buffer at the tail, and returns its position.
    #[inline]
    pub(crate) fn put(
        &self,
        buffer: BufferId,
        generation: Generation,
    ) -> Result<RingPosition, Corruption> {
        let full = Slot::Full { buffer, generation }.encode();
        for _ in 0..MAX_ROUNDS {
            let position = self.tail();
            let word = self.slot(position).load(Ordering::Acquire); // SYNC(slot-emptied)
            match Slot::decode(word) {
                Slot::Empty { lap } if lap == self.lap(position) => {
                    // SYNC(slot-filled): the payload and the descriptor come before it.
                    let put = self.slot(position).compare_exchange(
                        word,
                        full,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    if put.is_ok() {
                        point!("put.filled");
                        self.advance_tail(position);
                        point!("put.moved");
                        return Ok(position);
                    }
                }
                // Another participant filled this slot, and perhaps a taker has emptied it: the
                // tail is late.
                Slot::Full { .. } => self.advance_tail(position),
                Slot::Empty { lap } if lap == self.next_lap(position) => {
                    self.advance_tail(position)
                }
                Slot::Empty { .. } => {} // the tail has moved a lap since it was read
            }
        }
        Err(self.corrupt("the tail of a queue does not settle"))
    }

    /// Puts a buffer at a given position.
    #[inline]
    pub(crate) fn put_at(
        &self,
        position: RingPosition,
        buffer: BufferId,
        generation: Generation,
    ) -> Result<Put, Corruption> {
        let put = self.set_at(position, Slot::Full { buffer, generation })?;
        if put == Put::Done {
            point!("put.filled");
            self.raise_tail(position.next());
            point!("put.moved");
        }
        Ok(put)
    }

    /// Passes over a given position, which gets no buffer: its slot is empty, as after a take.
    #[cfg(not(loom))]
    pub(crate) fn pass_at(&self, position: RingPosition) -> Result<Put, Corruption> {
        let lap = self.next_lap(position);
        let put = self.set_at(position, Slot::Empty { lap })?;
        if put == Put::Done {
            point!("pass.emptied");
        }
        Ok(put)
    }

    /// Sets the slot of a given position, unless something is or was there.
    #[inline]
    fn set_at(&self, position: RingPosition, slot: Slot) -> Result<Put, Corruption> {
        let new = slot.encode();
        for _ in 0..MAX_ROUNDS {
            let word = self.slot(position).load(Ordering::Acquire); // SYNC(slot-emptied)
            if self.is_past(position, word) {
                return Ok(Put::Duplicate);
            }
            if word
                != (Slot::Empty {
                    lap: self.lap(position),
                })
                .encode()
            {
                return Err(self.corrupt("a number is beyond the window of its queue"));
            }
            // SYNC(slot-filled): the payload and the descriptor come before it.
            let put = self.slot(position).compare_exchange(
                word,
                new,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if put.is_ok() {
                return Ok(Put::Done);
            }
        }
        Err(self.corrupt("a slot does not settle"))
    }

    /// True if anything is or was at `position`.
    pub(crate) fn is_published(&self, position: RingPosition) -> bool {
        self.is_past(position, self.slot(position).load(Ordering::Acquire))
    }

    /// True if some slot names this buffer at this generation.
    pub(crate) fn holds(&self, buffer: BufferId, generation: Generation) -> bool {
        let full = Slot::Full { buffer, generation }.encode();
        self.slots
            .iter()
            .any(|slot| slot.word.load(Ordering::Acquire) == full)
    }

    /// Number of slots filled but not taken, as far as the hints know: exact when no participant is
    /// in the middle of anything.
    #[inline]
    pub(crate) fn depth(&self) -> u64 {
        let head = self.head().get();
        let filled = self.tail().get().saturating_sub(head);
        filled.min(self.slots.len() as u64)
    }

    /// Number of slots filled but not taken, counted one by one: for a queue with positions that
    /// are passed over.
    #[cfg(not(loom))]
    pub(crate) fn count_filled(&self) -> u64 {
        let filled = |slot: &&SlotEntry| {
            let word = slot.word.load(Ordering::Relaxed);
            matches!(Slot::decode(word), Slot::Full { .. })
        };
        self.slots.iter().filter(filled).count() as u64
    }

    /// Position of the next take, and one past the highest position filled, both as hinted.
    pub(crate) fn ends(&self) -> (RingPosition, RingPosition) {
        (self.head(), self.tail())
    }

    /// One past the highest position of a plain queue that was filled. The hint may lag, so this
    /// goes on from there.
    #[cfg(not(loom))]
    pub(crate) fn end_of_puts(&self) -> Result<RingPosition, Corruption> {
        let mut position = self.tail();
        // Fewer slots are full than there are, so an empty one on its lap ends this.
        for _ in 0..=self.slots.len() {
            match Slot::decode(self.slot(position).load(Ordering::Acquire)) {
                Slot::Empty { lap } if lap == self.lap(position) => return Ok(position),
                Slot::Empty { lap } if lap != self.next_lap(position) => break,
                // It was filled, and perhaps taken since.
                Slot::Empty { .. } | Slot::Full { .. } => position = position.next(),
            }
        }
        Err(self.corrupt("the tail of a queue is not where its slots say"))
    }

    /// The position of the next take. The hint may lag, so this goes on from there.
    /// `is_there(buffer, generation)` tells if a buffer has not been taken from its slot.
    #[cfg(not(loom))]
    pub(crate) fn end_of_takes(
        &self,
        is_there: impl Fn(BufferId, Generation) -> bool,
    ) -> Result<RingPosition, Corruption> {
        let mut position = self.head();
        for _ in 0..=self.slots.len() {
            match Slot::decode(self.slot(position).load(Ordering::Acquire)) {
                Slot::Empty { lap } if lap == self.lap(position) => return Ok(position),
                Slot::Empty { lap } if lap != self.next_lap(position) => break,
                Slot::Full { buffer, generation } if is_there(buffer, generation) => {
                    return Ok(position);
                }
                Slot::Empty { .. } | Slot::Full { .. } => position = position.next(),
            }
        }
        Err(self.corrupt("the head of a queue is not where its slots say"))
    }

    /// Every slot of the window that starts at the head, with its position.
    pub(crate) fn window(&self) -> impl Iterator<Item = (RingPosition, Slot)> {
        let head = self.head();
        (0..self.slots.len() as u64).map(move |i| {
            let position = head.ahead(i);
            (
                position,
                Slot::decode(self.slot(position).load(Ordering::Acquire)),
            )
        })
    }

    /// The lap of `position`.
    #[inline]
    pub(crate) fn lap(&self, position: RingPosition) -> Lap {
        Lap::new(position.get() >> self.slots.len().trailing_zeros())
    }

    /// Moves when the queue gets something, or its feeders finish.
    #[inline]
    pub(crate) fn event(&self) -> &'a EventCount {
        &self.ends.event.event
    }

    #[inline]
    fn next_lap(&self, position: RingPosition) -> Lap {
        self.lap(position).next()
    }

    /// True if `word`, read from the slot of `position`, says that something is or was there.
    #[inline]
    fn is_past(&self, position: RingPosition, word: u64) -> bool {
        match Slot::decode(word) {
            Slot::Empty { lap } => lap > self.lap(position),
            // Within the window that starts at the head a slot belongs to one position only.
            Slot::Full { .. } => {
                let window = self.slots.len() as u64;
                position.get() < self.head().get().saturating_add(window)
            }
        }
    }

    /// Empties the slot of `position`, which held `word`, unless another participant did.
    #[inline]
    fn empty_slot(&self, position: RingPosition, word: u64) {
        let empty = Slot::Empty {
            lap: self.next_lap(position),
        }
        .encode();
        // SYNC(slot-emptied)
        if self.users.one_taker {
            self.slot(position).store(empty, Ordering::Release);
        } else {
            let _ = self.slot(position).compare_exchange(
                word,
                empty,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }

    #[inline]
    fn advance_head(&self, position: RingPosition) {
        advance(&self.ends.head.word, position, self.users.one_taker);
    }

    #[inline]
    fn advance_tail(&self, position: RingPosition) {
        advance(&self.ends.tail.word, position, self.users.one_putter);
    }

    /// Moves the tail up to `end`, unless it is there.
    fn raise_tail(&self, end: RingPosition) {
        let word = &self.ends.tail.word;
        for _ in 0..MAX_ROUNDS {
            let tail = self.tail();
            if tail >= end
                || word
                    .compare_exchange(tail.get(), end.get(), Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
        }
    }

    #[inline]
    fn slot(&self, position: RingPosition) -> &'a AtomicU64 {
        let index = position.get() & (self.slots.len() as u64 - 1);
        &self.slots[index as usize].word
    }

    /// Position of the next take, as hinted.
    #[inline]
    fn head(&self) -> RingPosition {
        RingPosition::new(self.ends.head.word.load(Ordering::Acquire))
    }

    /// One past the highest position filled, as hinted.
    #[inline]
    fn tail(&self) -> RingPosition {
        RingPosition::new(self.ends.tail.word.load(Ordering::Acquire))
    }

    fn corrupt(&self, what: &'static str) -> Corruption {
        Corruption::new(what).at_queue(self.queue)
    }
}

/// Moves a hint on from `position`, unless another participant did.
#[inline]
fn advance(hint: &AtomicU64, position: RingPosition, is_ours_alone: bool) {
    let (old, new) = (position.get(), position.next().get());
    if is_ours_alone {
        hint.store(new, Ordering::Release);
    } else {
        let _ = hint.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
    }
}
