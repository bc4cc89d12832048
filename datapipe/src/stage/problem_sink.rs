//! The way of problems out of a report: to the caller's function, and from a process to its
//! controller.
//!
//! ```text
//!   stage --record--> list, up to its limit --delta--> the caller's report --> function
//!                \--> unsent, beyond it ----delta--/
//! ```
//!
//! A report keeps the first problems only. The caller's function receives all of them, so those
//! beyond the limit must leave a process too: they wait in a list that is sent when it is full. The
//! stage that records a problem then waits until the controller has taken them.

use std::fmt;
use std::sync::Arc;

use crate::limits::MAX_UNSENT_PROBLEMS;

use super::mirror::ChangeHook;

/// The caller's function.
type Sink<T> = Arc<dyn Fn(&T) + Send + Sync>;

/// The function of one report, and the problems that wait to be sent. The report's lock protects
/// it.
pub(crate) struct ProblemSink<T> {
    sink: Option<Sink<T>>,
    /// Sends what is new in the report, in a process.
    send: Option<ChangeHook>,
    unsent: Vec<T>,
    /// Bytes of what is unsent.
    bytes: usize,
}

impl<T> Default for ProblemSink<T> {
    fn default() -> Self {
        Self {
            sink: None,
            send: None,
            unsent: Vec::new(),
            bytes: 0,
        }
    }
}

impl<T> fmt::Debug for ProblemSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProblemSink")
            .field("has_sink", &self.sink.is_some())
            .field("unsent", &self.unsent.len())
            .finish_non_exhaustive()
    }
}

/// Calls that follow a change of a report. The report must not be locked, because the functions
/// may look at it.
#[must_use = "the calls are made by `run`"]
pub(crate) struct Calls<T> {
    sink: Option<(Sink<T>, T)>,
    send: Option<ChangeHook>,
}

impl<T> Calls<T> {
    /// No calls.
    pub(crate) fn none() -> Self {
        Self {
            sink: None,
            send: None,
        }
    }

    pub(crate) fn run(self) {
        if let Some((sink, problem)) = self.sink {
            sink(&problem);
        }
        if let Some(send) = self.send {
            send.call();
        }
    }
}

/// Outcome of [`ProblemSink::pass_on`].
pub(crate) struct PassedOn<T> {
    pub(crate) calls: Calls<T>,
    /// True if the problem is in no list: it is counted only, here or in the controller.
    pub(crate) is_dropped: bool,
}

impl<T: Clone> ProblemSink<T> {
    pub(crate) fn set_sink(&mut self, sink: impl Fn(&T) + Send + Sync + 'static) {
        self.sink = Some(Arc::new(sink));
    }

    /// Keeps the problems beyond the limit from now on, until `send` has sent them.
    pub(crate) fn set_send(&mut self, send: ChangeHook) {
        self.send = Some(send);
    }

    /// Passes on a problem with `len` bytes of paths and texts, which the report keeps if
    /// `is_kept`.
    pub(crate) fn pass_on(&mut self, problem: &T, len: usize, is_kept: bool) -> PassedOn<T> {
        let sink = self.sink.clone().map(|sink| (sink, problem.clone()));
        let mut calls = Calls { sink, send: None };
        if is_kept {
            return PassedOn {
                calls,
                is_dropped: false,
            };
        }
        // Sending makes room, unless it has failed, and with it the stage.
        let is_dropped = self.send.is_none() || self.bytes > 4 * MAX_UNSENT_PROBLEMS;
        if !is_dropped {
            self.unsent.push(problem.clone());
            self.bytes += len + size_of::<T>();
            calls.send = self
                .send
                .clone()
                .filter(|_| self.bytes > MAX_UNSENT_PROBLEMS);
        }
        PassedOn { calls, is_dropped }
    }

    /// Takes the problems that wait to be sent.
    pub(crate) fn take_unsent(&mut self) -> Vec<T> {
        self.bytes = 0;
        std::mem::take(&mut self.unsent)
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn unsent_problems_are_bounded_and_sent_when_there_are_many() {
        let mut sink = ProblemSink::<u8>::default();
        assert!(sink.pass_on(&1, 10, false).is_dropped, "not in a process");
        let sent = Arc::new(Mutex::new(0));
        let calls = Arc::clone(&sent);
        sink.set_send(ChangeHook::new(move || {
            *calls.lock() += 1;
        }));
        let mut pass_on = || {
            let PassedOn { calls, is_dropped } = sink.pass_on(&1, MAX_UNSENT_PROBLEMS / 2, false);
            calls.run();
            is_dropped
        };
        assert!(!pass_on() && !pass_on());
        assert_eq!(*sent.lock(), 1, "the second is one too many");
        // Nothing is taken.
        assert!((0..100).filter(|_| !pass_on()).count() < 10);
        assert_eq!(sink.take_unsent().len() + 2, *sent.lock() + 3);
        assert!(!sink.pass_on(&1, 10, false).is_dropped);
    }
}
