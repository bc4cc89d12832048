//! The bell: ends a wait of a port from another thread of the same process.

use std::sync::Arc;

use crate::memory::atomic::{AtomicU32, Ordering};
use crate::memory::event_count::EventCount;

/// Bell that other threads ring to end a port's `wait`, when something has happened that the port
/// waits for: a connection has data, a [`Lent`](super::Lent) is filled, a time has been set.
///
/// A clone is the same bell. A ring is not counted, and carries nothing: what has happened is
/// recorded elsewhere first, and the attempt of the wait finds it there. A ring before the wait is
/// not lost, because the wait begins with an attempt.
///
/// ```
/// use std::sync::{Mutex, PoisonError};
/// use std::thread;
///
/// use datapipe::prelude::*;
/// use datapipe::pool::{Bell, Blocked};
///
/// // A head whose data come from another thread.
/// let lines = Mutex::new(Vec::new());
/// let bell = Bell::new();
/// let head = Stage::head_port("lines", |port| {
///     thread::scope(|scope| {
///         scope.spawn(|| {
///             for line in ["one", "two", "three"] {
///                 lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
///                 bell.ring();
///             }
///         });
///         for _ in 0..3 {
///             let line = port.wait(&bell, None, || {
///                 let next = lines.lock().unwrap_or_else(PoisonError::into_inner).pop();
///                 next.ok_or(Blocked::Outside.into())
///             });
///             let mut block = port.alloc()?;
///             block.put(line?.as_bytes())?;
///             port.send(block)?;
///         }
///         Ok(())
///     })
/// });
/// let mut got = Vec::new();
/// Pipe::builder().head(head).tail(StreamTail::new(&mut got)).run()?;
/// assert_eq!(got.len(), 11);
/// # Ok::<(), datapipe::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Rung>);

#[derive(Debug, Default)]
struct Rung {
    /// Never read: its change orders what was recorded before the notification.
    rings: AtomicU32,
    event: EventCount,
}

impl Bell {
    /// A new bell, which no other thread has.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the wait that goes on at this bell, if there is one, so that its attempt looks again.
    /// Takes some nanoseconds if no port sleeps. Never waits.
    pub fn ring(&self) {
        // The caller may have recorded what has happened by a plain store, and a notification
        // follows a read-modify-write.
        self.0.rings.fetch_add(1, Ordering::AcqRel);
        self.0.event.notify();
    }

    pub(super) fn event(&self) -> &EventCount {
        &self.0.event
    }
}
