//! The returns of a port: the leases that other threads of its process have dropped, until the port
//! frees them.
//!
//! ```text
//!   port's thread             another thread
//!   lend   -----------------> reads, fills
//!   free   <--- the list <--- drop, then a notification
//! ```
//!
//! Only the port's own thread frees, because a participant takes one step of the hand-over at a
//! time: a thread that is suspended in the middle of a free, while the port counts as asleep, would
//! look like corruption to the audit.
//!
//! The list is in the memory of the process and dies with it. The ledger says that the participant
//! holds each buffer that was lent, and reclaim deals with it as with any other.

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
use parking_lot::{Mutex, MutexGuard};

use crate::memory::event_count::EventCount;

use super::participant::Held;

/// Origin of a block that an instance holds, and what the instance owes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseKind {
    /// It was allocated.
    Loan,
    /// It was received, and not answered yet.
    Input,
    /// It was received, and its number is taken care of.
    Answered,
}

/// A buffer that another thread has returned, and what its port owes for it.
pub(super) type Returned = (Held, LeaseKind);

/// The leases that other threads have, by number, and those that they have returned.
#[derive(Debug)]
pub(super) struct Returns {
    state: Mutex<State>,
    /// Moves when a lease is returned.
    event: EventCount,
}

#[derive(Debug, Default)]
struct State {
    /// Leases that other threads have.
    lent: u32,
    /// Leases that were returned and not collected.
    returned: Vec<Returned>,
    /// The port has gone: the thread that returns the last lease does what the port would do.
    is_orphaned: bool,
}

/// State of the returns of a port that is about to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// These were returned: free them and ask again.
    Free(Vec<Returned>),
    /// All are back.
    AllBack,
    /// Other threads have some. The last one that returns a lease gets all.
    Orphaned,
}

impl Returns {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
            event: EventCount::default(),
        }
    }

    /// Moves when a lease is returned.
    pub(super) fn event(&self) -> &EventCount {
        &self.event
    }

    /// Counts a lease that goes to another thread.
    pub(super) fn lend(&self) {
        self.state().lent += 1;
    }

    /// Counts a lease that comes back to its port whole.
    pub(super) fn take_back(&self) {
        self.state().lent -= 1;
    }

    /// Returns a lease that is to be freed. If the port has gone and this was the last lease, the
    /// caller gets all that were returned, and frees them as the port would have done.
    pub(super) fn give(&self, returned: Returned) -> Option<Vec<Returned>> {
        let mut state = self.state();
        state.lent -= 1;
        state.returned.push(returned);
        if state.is_orphaned {
            return (state.lent == 0).then(|| std::mem::take(&mut state.returned));
        }
        // The lock is given back by a read-modify-write, which the notification must follow.
        drop(state);
        self.event.notify();
        None
    }

    /// Takes what was returned, and the number of leases that other threads still have.
    pub(super) fn collect(&self) -> (Vec<Returned>, u32) {
        let mut state = self.state();
        (std::mem::take(&mut state.returned), state.lent)
    }

    /// Takes what was returned, or else leaves the rest to the threads that have it.
    pub(super) fn close(&self) -> Closing {
        let mut state = self.state();
        if !state.returned.is_empty() {
            return Closing::Free(std::mem::take(&mut state.returned));
        }
        state.is_orphaned = state.lent > 0;
        if state.is_orphaned {
            Closing::Orphaned
        } else {
            Closing::AllBack
        }
    }

    #[cfg(not(loom))]
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    #[cfg(loom)]
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
