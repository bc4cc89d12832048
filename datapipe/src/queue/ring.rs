//! The ring: take, put at the tail, put at a place. Lock-free, and complete
//! even if a participant dies at any step.
//!
//! After Dmitry Vyukov's bounded multi-producer multi-consumer queue, with two changes: the
//! sequence number shares its word with the content, so that one compare-and-swap fills a slot, and
//! emptying a slot only tidies up after a hand-over that the ledger has already decided, so that
//! any participant can do it.

use crate::limits::MAX_ROUNDS;
use crate::memory::Corruption;
use crate::memory::RingUsers;
use crate::memory::atomic::{AtomicU64, Ordering};
use crate::memory::event_count::EventCount;
use crate::memory::points::point;
use crate::memory::tables::{QueueEntry, SlotEntry};

use super::slot::Slot;

/// A view of one ring.
#[derive(Clone, Copy)]
pub(crate) struct Ring<'a> {
    ends: &'a QueueEntry,
    slots: &'a [SlotEntry],
    /// Index of the queue, for error messages.
    queue: u32,
    users: RingUsers,
}

/// Outcome of an attempt to claim a buffer in the ledger.
pub(crate) enum Claim<T> {
    /// It is ours.
    Won(T),
    /// It is no longer at the generation that the slot names.
    Lost,
}

/// A buffer that was taken, and its place.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    pub(crate) claimed: T,
    pub(crate) place: u64,
}

/// Outcome of putting a buffer at a given place.
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
        queue: u32,
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
    /// `claim(buffer, generation, place)` must try to make the buffer the caller's in the ledger,
    /// in one step; it is called once for each slot that looks full.
    #[inline(always)]
    pub(crate) fn take<T>(
        &self,
        mut claim: impl FnMut(u32, u64, u64) -> Result<Claim<T>, Corruption>,
    ) -> Result<Option<Taken<T>>, Corruption> {
        for _ in 0..MAX_ROUNDS {
            let place = self.head().load(Ordering::Acquire);
            let word = self.slot(place).load(Ordering::Acquire); // SYNC(slot-filled)
            match Slot::decode(word) {
                Slot::Empty { lap } if lap == self.lap(place) => return Ok(None),
                Slot::Empty { lap } if lap == self.next_lap(place) => self.advance_head(place),
                Slot::Empty { .. } => {} // the head has moved a lap since it was read
                Slot::Full { buffer, generation } => {
                    // Only while the head is still here does the slot speak of this lap: the head
                    // cannot be a lap late, for then more buffers would be in the ring than there
                    // are.
                    if self.head().load(Ordering::Acquire) != place {
                        continue;
                    }
                    let claim = claim(buffer, generation, place)?;
                    // From here on the buffer has moved. Any participant that sees that may empty
                    // the slot and move the head.
                    self.empty_slot(place, word);
                    point!("take.emptied");
                    self.advance_head(place);
                    point!("take.moved");
                    if let Claim::Won(claimed) = claim {
                        return Ok(Some(Taken { claimed, place }));
                    }
                }
            }
        }
        Err(self.corrupt("the head of a queue does not settle"))
    }

    /// Puts a buffer at the tail, and returns its place.
    #[inline]
    pub(crate) fn put(&self, buffer: u32, generation: u64) -> Result<u64, Corruption> {
        let full = Slot::Full { buffer, generation }.encode();
        for _ in 0..MAX_ROUNDS {
            let place = self.tail().load(Ordering::Acquire);
            let word = self.slot(place).load(Ordering::Acquire); // SYNC(slot-emptied)
            match Slot::decode(word) {
                Slot::Empty { lap } if lap == self.lap(place) => {
                    // SYNC(slot-filled): the payload and the descriptor come before it.
                    let put = self.slot(place).compare_exchange(
                        word,
                        full,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    if put.is_ok() {
                        point!("put.filled");
                        self.advance_tail(place);
                        point!("put.moved");
                        return Ok(place);
                    }
                }
                // Another participant filled this place, and perhaps a taker has emptied it: the
                // tail is late.
                Slot::Full { .. } => self.advance_tail(place),
                Slot::Empty { lap } if lap == self.next_lap(place) => self.advance_tail(place),
                Slot::Empty { .. } => {} // the tail has moved a lap since it was read
            }
        }
        Err(self.corrupt("the tail of a queue does not settle"))
    }

    /// Puts a buffer at a given place.
    #[inline]
    pub(crate) fn put_at(
        &self,
        place: u64,
        buffer: u32,
        generation: u64,
    ) -> Result<Put, Corruption> {
        let full = Slot::Full { buffer, generation }.encode();
        for _ in 0..MAX_ROUNDS {
            let word = self.slot(place).load(Ordering::Acquire); // SYNC(slot-emptied)
            if self.is_past(place, word) {
                return Ok(Put::Duplicate);
            }
            if word
                != (Slot::Empty {
                    lap: self.lap(place),
                })
                .encode()
            {
                return Err(self.corrupt("a number is beyond the window of its queue"));
            }
            // SYNC(slot-filled): the payload and the descriptor come before it.
            let put =
                self.slot(place)
                    .compare_exchange(word, full, Ordering::AcqRel, Ordering::Relaxed);
            if put.is_ok() {
                point!("put.filled");
                self.raise_tail(place.wrapping_add(1));
                point!("put.moved");
                return Ok(Put::Done);
            }
        }
        Err(self.corrupt("a slot does not settle"))
    }

    /// True if anything is or was at `place`.
    pub(crate) fn is_published(&self, place: u64) -> bool {
        self.is_past(place, self.slot(place).load(Ordering::Acquire))
    }

    /// True if some slot names this buffer at this generation.
    pub(crate) fn holds(&self, buffer: u32, generation: u64) -> bool {
        let full = Slot::Full { buffer, generation }.encode();
        self.slots
            .iter()
            .any(|slot| slot.word.load(Ordering::Acquire) == full)
    }

    /// Places filled but not taken, as far as the hints know: exact when no participant is in
    /// the middle of anything.
    #[inline]
    pub(crate) fn depth(&self) -> u64 {
        let head = self.head().load(Ordering::Acquire);
        self.tail()
            .load(Ordering::Acquire)
            .saturating_sub(head)
            .min(self.slots.len() as u64)
    }

    /// Place of the next take and one past the highest place filled, both as hinted.
    pub(crate) fn ends(&self) -> (u64, u64) {
        (
            self.head().load(Ordering::Acquire),
            self.tail().load(Ordering::Acquire),
        )
    }

    /// Every slot of the window that starts at the head, with its place.
    pub(crate) fn window(&self) -> impl Iterator<Item = (u64, Slot)> {
        let head = self.head().load(Ordering::Acquire);
        (0..self.slots.len() as u64).map(move |i| {
            let place = head.wrapping_add(i);
            (
                place,
                Slot::decode(self.slot(place).load(Ordering::Acquire)),
            )
        })
    }

    /// The lap of `place`.
    #[inline]
    pub(crate) fn lap(&self, place: u64) -> u64 {
        place >> self.slots.len().trailing_zeros()
    }

    /// Moves when the queue gets something, or its feeders finish.
    #[inline]
    pub(crate) fn event(&self) -> &'a EventCount {
        &self.ends.event.event
    }

    #[inline]
    fn next_lap(&self, place: u64) -> u64 {
        self.lap(place) + 1
    }

    /// True if `word`, read from the slot of `place`, says that something is or was there.
    #[inline]
    fn is_past(&self, place: u64, word: u64) -> bool {
        match Slot::decode(word) {
            Slot::Empty { lap } => lap > self.lap(place),
            // Within the window that starts at the head a slot belongs to one place only.
            Slot::Full { .. } => {
                place
                    < self
                        .head()
                        .load(Ordering::Acquire)
                        .saturating_add(self.slots.len() as u64)
            }
        }
    }

    /// Empties the slot of `place`, which held `word`, unless another participant did.
    #[inline]
    fn empty_slot(&self, place: u64, word: u64) {
        let empty = Slot::Empty {
            lap: self.next_lap(place),
        }
        .encode();
        // SYNC(slot-emptied)
        if self.users.one_taker {
            self.slot(place).store(empty, Ordering::Release);
        } else {
            let _ =
                self.slot(place)
                    .compare_exchange(word, empty, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    #[inline]
    fn advance_head(&self, place: u64) {
        advance(self.head(), place, self.users.one_taker);
    }

    #[inline]
    fn advance_tail(&self, place: u64) {
        advance(self.tail(), place, self.users.one_putter);
    }

    /// Moves the tail up to `end`, unless it is there.
    fn raise_tail(&self, end: u64) {
        for _ in 0..MAX_ROUNDS {
            let tail = self.tail().load(Ordering::Acquire);
            if tail >= end
                || self
                    .tail()
                    .compare_exchange(tail, end, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
        }
    }

    #[inline]
    fn slot(&self, place: u64) -> &'a AtomicU64 {
        let index = place & (self.slots.len() as u64 - 1);
        &self.slots[index as usize].word
    }

    #[inline]
    fn head(&self) -> &'a AtomicU64 {
        &self.ends.head.word
    }

    #[inline]
    fn tail(&self) -> &'a AtomicU64 {
        &self.ends.tail.word
    }

    fn corrupt(&self, what: &'static str) -> Corruption {
        Corruption::new(what).at_queue(self.queue)
    }
}

/// Moves a hint on from `place`, unless another participant did.
#[inline]
fn advance(hint: &AtomicU64, place: u64, is_ours_alone: bool) {
    let next = place.wrapping_add(1);
    if is_ours_alone {
        hint.store(next, Ordering::Release);
    } else {
        let _ = hint.compare_exchange(place, next, Ordering::AcqRel, Ordering::Relaxed);
    }
}
