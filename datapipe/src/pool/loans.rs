//! The outstanding buffers of an allocator, as it counts them for itself.
//!
//! No word in shared memory counts loans: the ledger says of each buffer whose quota it counts
//! against, and where it is. An allocator remembers what it took, and asks the ledger what has come
//! home only when its quota seems to be used up. So the one that frees writes nothing that the
//! allocator reads but the ledger and the free list, and a death in between leaves no count to
//! repair.

use std::collections::VecDeque;

use super::participant::{Held, Participant};
use crate::memory::{Generation, TableIndex};

/// The buffers of one participant's quota. Private to the port that has its seat.
#[derive(Debug)]
pub(crate) struct Loans {
    /// Those that were outstanding when last looked at, the oldest first.
    taken: VecDeque<Held>,
    /// For each buffer the generation at which it was last taken here: what is in `taken` at
    /// another has come home, and gone out again.
    latest: Vec<Generation>,
}

impl Loans {
    /// The buffers that the ledger says are outstanding: none, or those that a predecessor in the
    /// seat left.
    pub(crate) fn of(me: &Participant<'_>) -> Self {
        let shape = &me.tables.shape;
        let mut loans = Self {
            taken: VecDeque::new(),
            latest: vec![Generation::FIRST; shape.buffers() as usize],
        };
        for buffer in shape
            .buffer_ids()
            .filter(|&buffer| me.is_outstanding(buffer))
        {
            loans.note(Held {
                buffer,
                generation: Generation::FIRST,
            });
        }
        loans
    }

    /// Notes a buffer that was just taken.
    #[inline]
    pub(crate) fn note(&mut self, held: Held) {
        self.latest[held.buffer.as_index()] = held.generation;
        self.taken.push_back(held);
    }

    /// True if `quota` buffers, or more, are outstanding.
    #[inline]
    pub(crate) fn reach(&mut self, quota: u32, me: &Participant<'_>) -> bool {
        self.taken.len() >= quota as usize && self.reach_in_truth(quota, me)
    }

    /// Number of outstanding buffers.
    #[cfg(all(test, loom))]
    pub(crate) fn count(&mut self, me: &Participant<'_>) -> usize {
        let latest = &self.latest;
        self.taken.retain(|&loan| is_out(loan, latest, me));
        self.taken.len()
    }

    #[cold]
    fn reach_in_truth(&mut self, quota: u32, me: &Participant<'_>) -> bool {
        let latest = &self.latest;
        // Most come home in the order in which they went.
        while self
            .taken
            .front()
            .is_some_and(|&loan| !is_out(loan, latest, me))
        {
            self.taken.pop_front();
        }
        if self.taken.len() >= quota as usize {
            self.taken.retain(|&loan| is_out(loan, latest, me));
        }
        self.taken.len() >= quota as usize
    }
}

fn is_out(loan: Held, latest: &[Generation], me: &Participant<'_>) -> bool {
    latest[loan.buffer.as_index()] == loan.generation && me.is_outstanding(loan.buffer)
}
