//! A handle that stops a pipe from outside.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::memory::Segment;

/// Stops one pipe, from any thread, at any time: before it has started, while it runs, after it has
/// ended.
#[derive(Clone, Debug)]
pub struct Canceller {
    state: Arc<Mutex<CancelState>>,
}

#[derive(Debug)]
struct CancelState {
    cancelled: bool,
    /// The segment while the pipe runs. `None` before and after, so that a canceller keeps no
    /// memory mapped.
    segment: Option<Segment>,
}

impl Canceller {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(CancelState {
                cancelled: false,
                segment: None,
            })),
        }
    }

    /// Ends every wait of the pipe, also those through a [`Stop`](crate::pool::Stop). A stage that
    /// is in a system call of its own stops when that returns; until then
    /// [`Event::StillWaiting`](crate::Event::StillWaiting) names it.
    pub fn cancel(&self) {
        let mut state = self.state.lock();
        state.cancelled = true;
        if let Some(segment) = &state.segment {
            segment.cancel();
        }
    }

    /// True if the pipe was cancelled, through this handle or another.
    pub fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    /// Connects the canceller to `segment` for as long as the returned guard lives: cancelling
    /// stops the segment. If the pipe was cancelled before, this stops it at once.
    pub(super) fn arm(&self, segment: &Segment) -> ArmedGuard<'_> {
        let mut state = self.state.lock();
        if state.cancelled {
            segment.cancel();
        }
        state.segment = Some(segment.clone());
        ArmedGuard(self)
    }
}

/// Disconnects the canceller from its segment when dropped.
pub(super) struct ArmedGuard<'c>(&'c Canceller);

impl Drop for ArmedGuard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().segment = None;
    }
}
