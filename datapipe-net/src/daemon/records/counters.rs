//! Counts for the metrics, from the start of the daemon.

use parking_lot::Mutex;

use crate::limits::MOST_PROBLEMS_OF_A_PIPE;
use crate::protocol::{CloseReason, PipeState, RefusalCode};

/// Largest number of a refusal or a reason that is counted on its own.
const NUMBERS: usize = 32;

/// Counters of a daemon.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Counters(Mutex<Counts>);

/// Counts of a daemon at one moment. All but the number of connections only grow.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::daemon) struct Counts {
    /// Pipes that were started.
    pub(in crate::daemon) started: u64,
    /// Pipes that have ended, by the number of the final state.
    ended: [u64; NUMBERS],
    /// Problems of the pipes that have ended.
    pub(in crate::daemon) problems: u64,
    /// Refused requests, by the number of the refusal.
    refusals: [u64; NUMBERS],
    /// Refused connections, by the number of the reason.
    closed: [u64; NUMBERS],
    /// Processes that died.
    pub(in crate::daemon) deaths: u64,
    /// Processes that died and were replaced.
    pub(in crate::daemon) replacements: u64,
    /// Open connections.
    pub(in crate::daemon) connections: u64,
    /// Largest number of bytes that was reported.
    bytes: u64,
    /// Failures to write the file of the metrics.
    pub(in crate::daemon) metrics_failures: u64,
}

/// An open connection. Dropping it lowers the count.
#[derive(Debug)]
pub(in crate::daemon) struct OpenConnection<'c>(&'c Counters);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock();
        counts.connections = counts.connections.saturating_sub(1);
    }
}

impl Counters {
    pub(in crate::daemon) fn count_start(&self) {
        self.0.lock().started += 1;
    }

    pub(in crate::daemon) fn count_end(&self, state: PipeState, problems: u64) {
        let mut counts = self.0.lock();
        count(&mut counts.ended, state.0.into());
        // A process may count any number. It must not fill the sum of all users.
        let problems = problems.min(MOST_PROBLEMS_OF_A_PIPE);
        counts.problems = counts.problems.saturating_add(problems);
    }

    pub(in crate::daemon) fn count_refusal(&self, code: RefusalCode) {
        count(&mut self.0.lock().refusals, code.0.into());
    }

    pub(in crate::daemon) fn count_closed(&self, reason: CloseReason) {
        count(&mut self.0.lock().closed, reason.0.into());
    }

    pub(in crate::daemon) fn count_death(&self, replaced: bool) {
        let mut counts = self.0.lock();
        counts.deaths += 1;
        counts.replacements += u64::from(replaced);
    }

    pub(in crate::daemon) fn count_metrics_failure(&self) {
        self.0.lock().metrics_failures += 1;
    }

    /// Counts a connection until the result is dropped.
    pub(in crate::daemon) fn open_connection(&self) -> OpenConnection<'_> {
        self.0.lock().connections += 1;
        OpenConnection(self)
    }

    /// The counts of this moment.
    pub(in crate::daemon) fn now(&self) -> Counts {
        *self.0.lock()
    }

    /// Returns the largest of `bytes` and all numbers before: a pipe that ends at this moment may
    /// be missing in `bytes`, and a counter does not fall.
    pub(in crate::daemon) fn bytes(&self, bytes: u64) -> u64 {
        let mut counts = self.0.lock();
        counts.bytes = counts.bytes.max(bytes);
        counts.bytes
    }
}

impl Counts {
    pub(in crate::daemon) fn ended(&self, state: PipeState) -> u64 {
        at(&self.ended, state.0.into())
    }

    pub(in crate::daemon) fn refusals(&self, code: RefusalCode) -> u64 {
        at(&self.refusals, code.0.into())
    }

    pub(in crate::daemon) fn closed(&self, reason: CloseReason) -> u64 {
        at(&self.closed, reason.0.into())
    }
}

fn count(counters: &mut [u64], number: usize) {
    if let Some(counter) = counters.get_mut(number) {
        *counter += 1;
    }
}

fn at(counters: &[u64], number: usize) -> u64 {
    counters.get(number).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipe_with_absurd_counts_does_not_fill_the_sum() {
        let counters = Counters::default();
        counters.count_end(PipeState::STOPPED, u64::MAX);
        let before = counters.now().problems;
        counters.count_end(PipeState::INCOMPLETE, 3);
        assert_eq!(counters.now().problems, before + 3);
    }
}
