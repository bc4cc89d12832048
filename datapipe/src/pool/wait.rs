//! The wait loop: how an instance waits for a buffer or for input.
//!
//! ```text
//!   attempt -> look LOOKS times, with pauses -> prepare_wait -> attempt -> sleep -+
//!                                                    ^                            |
//!                                                    +----------------------------+
//! ```
//!
//! Ports and the model checker run this same loop. They differ in a [`Waiter`]: a port has a clock,
//! counters and the kernel's futex; the model has none of them.

use std::fmt;

use crate::memory::atomic::spin_loop;
use crate::memory::event_count::EventCount;
use crate::memory::{QueueId, StageId};

use super::participant::Participant;

/// Reason that an attempt which does not wait got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blocked {
    /// The instance has as many buffers outstanding as its quota allows.
    AtLimit,
    /// The free list is empty for the moment.
    NoneFree,
    /// There is no input.
    NoInput,
    /// Something outside of the pipe has not happened yet. No primitive returns it: an attempt of
    /// a port's `wait` does, and only a [`Bell`](super::Bell) ends it.
    Outside,
}

impl Blocked {
    /// The event that ends this for a participant of stage `stage`.
    pub(super) fn event<'a>(self, participant: &Participant<'a>, stage: StageId) -> &'a EventCount {
        match self {
            Self::AtLimit => &participant.tables.participants[participant.id].credit.event,
            Self::NoneFree => participant.ring(QueueId::FREE_LIST).event(),
            Self::NoInput => participant.ring(QueueId::input_of(stage)).event(),
            // For a stop only. The instance moves the event of its own output, so while it sleeps
            // nothing else does, and a tail has no credit that could come back.
            Self::Outside if stage == participant.tables.shape.tail() => {
                &participant.tables.participants[participant.id].credit.event
            }
            Self::Outside => participant.ring(QueueId::output_of(stage)).event(),
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtLimit => "all buffers that the instance may have are outstanding",
            Self::NoneFree => "no buffer is free at present",
            Self::NoInput => "there is no input at present",
            Self::Outside => "what is outside of the pipe has not happened yet",
        })
    }
}

impl std::error::Error for Blocked {}

/// The parts of a wait that a port and its model do in different ways.
pub(super) trait Waiter {
    /// Looks before a sleep.
    const LOOKS: u32;
    /// The processor's own short pauses before each look.
    const PAUSES: u32;
    /// Marks of a sleeper on the events that end a wait.
    type Keys;

    /// Marks a sleeper on each event that ends `blocked`.
    fn mark(&self, blocked: Blocked) -> Self::Keys;

    /// True if the time for the wait is over.
    fn is_over(&self) -> bool;

    /// Sleeps until one of the events moves on from its key, or the time for the wait is over. May
    /// return early.
    fn sleep(&self, blocked: Blocked, keys: Self::Keys);
}

/// Repeats `attempt` until it gets something. If the time for the wait is over before, returns what
/// blocked the last attempt.
///
/// `attempt` must itself notice a stop, as every `try_` primitive does.
#[inline(always)]
pub(super) fn wait<T, E>(
    waiter: &impl Waiter,
    mut attempt: impl FnMut() -> Result<Result<T, Blocked>, E>,
) -> Result<Result<T, Blocked>, E> {
    match attempt()? {
        Ok(done) => Ok(Ok(done)),
        Err(blocked) => wait_longer(waiter, blocked, attempt),
    }
}

/// The rest of a wait whose first attempt was `blocked`.
#[cold]
#[inline(never)]
fn wait_longer<W: Waiter, T, E>(
    waiter: &W,
    mut blocked: Blocked,
    mut attempt: impl FnMut() -> Result<Result<T, Blocked>, E>,
) -> Result<Result<T, Blocked>, E> {
    for _ in 0..W::LOOKS {
        (0..W::PAUSES).for_each(|_| spin_loop());
        match attempt()? {
            Ok(done) => return Ok(Ok(done)),
            Err(now) => blocked = now,
        }
    }
    // One more look without a pause, which is cheaper than the mark and often succeeds.
    if W::LOOKS > 0 {
        match attempt()? {
            Ok(done) => return Ok(Ok(done)),
            Err(now) => blocked = now,
        }
    }
    loop {
        let keys = waiter.mark(blocked);
        // The attempt after the mark: a waker that missed the mark published before this look.
        match attempt()? {
            Ok(done) => return Ok(Ok(done)),
            // Another event will end it, on which no sleeper is marked yet.
            Err(other) if other != blocked => blocked = other,
            Err(_) if waiter.is_over() => return Ok(Err(blocked)),
            Err(_) => waiter.sleep(blocked, keys),
        }
    }
}
