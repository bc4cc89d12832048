//! What the daemon counts for its metrics, from its start.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::{CloseReason, PipeState, RefusalCode};

/// Largest number of a refusal or a reason that is counted on its own.
const NUMBERS: usize = 32;

/// Counters of a daemon. They only grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    started: AtomicU64,
    /// By the number of the final state.
    ended: Numbered,
    problems: AtomicU64,
    /// By the number of the refusal.
    refusals: Numbered,
    /// By the reason of the closing.
    closed: Numbered,
    deaths: AtomicU64,
    replacements: AtomicU64,
    /// Number of open connections, which also falls.
    connections: AtomicU64,
    /// Largest number of bytes that was reported.
    bytes: AtomicU64,
    metrics_failures: AtomicU64,
}

/// Counters by number.
#[derive(Debug)]
struct Numbered([AtomicU64; NUMBERS]);

impl Default for Numbered {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Numbered {
    fn count(&self, number: usize) {
        if let Some(counter) = self.0.get(number) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn get(&self, number: usize) -> u64 {
        let counter = self.0.get(number);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// An open connection. Dropping it lowers the count.
#[derive(Debug)]
pub(super) struct OpenConnection<'c>(&'c AtomicU64);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    pub(super) fn count_start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_end(&self, state: PipeState, problems: u64) {
        self.ended.count(state.0.into());
        // Saturates, because a process may count any number.
        let _ = self
            .problems
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| {
                Some(sum.saturating_add(problems))
            });
    }

    pub(super) fn count_refusal(&self, code: RefusalCode) {
        self.refusals.count(code.0.into());
    }

    pub(super) fn count_closed(&self, reason: CloseReason) {
        self.closed.count(reason.0.into());
    }

    pub(super) fn count_death(&self, replaced: bool) {
        self.deaths.fetch_add(1, Ordering::Relaxed);
        if replaced {
            self.replacements.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_metrics_failure(&self) {
        self.metrics_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection until the result is dropped.
    pub(super) fn open_connection(&self) -> OpenConnection<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(&self.connections)
    }

    pub(super) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    pub(super) fn ended(&self, state: PipeState) -> u64 {
        self.ended.get(state.0.into())
    }

    pub(super) fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }

    pub(super) fn refusals(&self, code: RefusalCode) -> u64 {
        self.refusals.get(code.0.into())
    }

    pub(super) fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason.0.into())
    }

    pub(super) fn deaths(&self) -> u64 {
        self.deaths.load(Ordering::Relaxed)
    }

    pub(super) fn replacements(&self) -> u64 {
        self.replacements.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn metrics_failures(&self) -> u64 {
        self.metrics_failures.load(Ordering::Relaxed)
    }

    /// Returns the largest of `bytes` and all numbers before: a pipe that ends at this moment may be
    /// missing in `bytes`, and a counter does not fall.
    pub(super) fn bytes(&self, bytes: u64) -> u64 {
        self.bytes.fetch_max(bytes, Ordering::Relaxed).max(bytes)
    }
}
