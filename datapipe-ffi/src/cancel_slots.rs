//! Cancel tokens, in a fixed table of words, so that a signal handler can use it: it takes no lock
//! and no memory.
//!
//! ```text
//!   63           32 31                 1     0
//!   +--------------+-----------+-----------+------+
//!   | generation   | 0         | cancelled | live |
//!   +--------------+-----------+-----------+------+
//! ```

#![allow(
    clippy::disallowed_types,
    reason = "these words are not shared between processes, and a signal handler uses them"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::failure::Failure;
use crate::handle_bits::{HandleBits, HandleKind, first_generation};
use crate::status::{
    DP_ERR_BAD_HANDLE, DP_ERR_HANDLE_KIND, DP_ERR_LIMIT, DP_ERR_NULL, DP_ERR_STALE_HANDLE,
    dp_status,
};

/// Tokens that a process has at once.
pub(crate) const MAX_TOKENS: usize = 1024;

/// Longest time between two looks for a cancelled token: a signal handler cannot wake a thread.
pub(crate) const CANCEL_CHECKS: Duration = Duration::from_millis(50);

const LIVE: u64 = 1;
const CANCELLED: u64 = 2;

static SLOTS: [AtomicU64; MAX_TOKENS] = [const { AtomicU64::new(0) }; MAX_TOKENS];

/// A token that was found valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CancelToken(HandleBits);

/// Makes a token.
pub(crate) fn create() -> Result<HandleBits, Failure> {
    for (index, slot) in SLOTS.iter().enumerate() {
        let word = slot.load(Ordering::Relaxed);
        if word & LIVE != 0 {
            continue;
        }
        // An entry that had no handle yet begins at the random number.
        let generation = match word {
            0 => first_generation(),
            _ => ((word >> 32) as u32).wrapping_add(1),
        };
        let live = u64::from(generation) << 32 | LIVE;
        let taken = slot.compare_exchange(word, live, Ordering::AcqRel, Ordering::Relaxed);
        if taken.is_ok() {
            return Ok(HandleBits::new(HandleKind::Cancel, index, generation));
        }
    }
    Err(Failure::new(
        DP_ERR_LIMIT,
        format!(
            "{MAX_TOKENS} cancel tokens exist, and there can be no more: free those that are not \
             used"
        ),
    ))
}

/// Frees a token. A job that uses it goes on, and cannot be cancelled any more.
pub(crate) fn free(handle: HandleBits) -> Result<(), Failure> {
    change(handle, |word| word & !(LIVE | CANCELLED) | FREED).map_err(failure_of)
}

/// Mark of an entry that had a handle, so that its word is not 0.
const FREED: u64 = 4;

/// Cancels the jobs that use a token, now and later. Safe in a signal handler.
pub(crate) fn cancel(handle: HandleBits) -> Result<(), dp_status> {
    change(handle, |word| word | CANCELLED)
}

/// Finds a token that a job is to use.
pub(crate) fn find(handle: HandleBits) -> Result<CancelToken, Failure> {
    change(handle, |word| word).map_err(failure_of)?;
    Ok(CancelToken(handle))
}

impl CancelToken {
    /// True if the token was cancelled, and not freed.
    pub(crate) fn is_cancelled(self) -> bool {
        let word = SLOTS
            .get(self.0.index())
            .map(|slot| slot.load(Ordering::Acquire));
        let cancelled = u64::from(self.0.generation()) << 32 | LIVE | CANCELLED;
        word == Some(cancelled)
    }
}

/// Changes the word of a live token.
fn change(handle: HandleBits, change: impl Fn(u64) -> u64) -> Result<(), dp_status> {
    handle.check(HandleKind::Cancel)?;
    let slot = SLOTS.get(handle.index()).ok_or(DP_ERR_BAD_HANDLE)?;
    let mut word = slot.load(Ordering::Acquire);
    loop {
        if word == 0 {
            return Err(DP_ERR_BAD_HANDLE);
        }
        if (word >> 32) as u32 != handle.generation() || word & LIVE == 0 {
            return Err(DP_ERR_STALE_HANDLE);
        }
        // Each failure is the progress of another thread, and a token ends after a few changes.
        match slot.compare_exchange(word, change(word), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(()),
            Err(now) => word = now,
        }
    }
}

/// Failure because of a handle that is not a token.
fn failure_of(status: dp_status) -> Failure {
    let text = match status {
        DP_ERR_NULL => "the cancel token is NULL",
        DP_ERR_HANDLE_KIND => "the handle is not a cancel token",
        DP_ERR_STALE_HANDLE => "the cancel token was freed",
        _ => "this process has made no such cancel token",
    };
    Failure::new(status, text)
}
