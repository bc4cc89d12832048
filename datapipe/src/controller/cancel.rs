//! Stops a pipe from outside.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::memory::Segment;

/// Stops one pipe, from any thread, at any time: before it has started, while it runs, after it has
/// ended.
#[derive(Clone, Debug)]
pub struct Canceller {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    cancelled: bool,
    /// The segment while the pipe runs. Not before and not after, so that a canceller keeps no
    /// memory.
    segment: Option<Segment>,
}

impl Canceller {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                cancelled: false,
                segment: None,
            })),
        }
    }

    /// Ends every wait of the pipe. A stage that is in a system call of its own stops when that
    /// returns.
    pub fn cancel(&self) {
        let mut state = self.state.lock();
        state.cancelled = true;
        if let Some(segment) = &state.segment {
            segment.stop();
        }
    }

    /// Whether anybody has cancelled the pipe.
    pub fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    /// As long as the guard lives, cancelling stops this segment; if it has happened already, it is
    /// stopped at once.
    pub(super) fn arm(&self, segment: &Segment) -> Armed<'_> {
        let mut state = self.state.lock();
        if state.cancelled {
            segment.stop();
        }
        state.segment = Some(segment.clone());
        Armed(self)
    }
}

/// Lets the canceller forget its segment.
pub(super) struct Armed<'c>(&'c Canceller);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.state.lock().segment = None;
    }
}
