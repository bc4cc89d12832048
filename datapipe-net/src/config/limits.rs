//! Limits that a configuration sets.

use std::time::Duration;

/// Limits of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Number of pipes at a time.
    pub pipes: u32,
    /// Number of connections at a time.
    pub connections: u32,
    /// Shared memory of one pipe, in bytes.
    pub memory_per_pipe: u64,
    /// Shared memory of all pipes, in bytes.
    pub memory: u64,
    /// Time that a pipe waits for its unbound head or tail.
    pub unbound_patience: Duration,
    /// Time that a module's process may be stopped before the controller kills it.
    pub stopped_limit: Duration,
    /// Time that a client has for its hello, and to complete a message that it has begun.
    pub client_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pipes: 16,
            connections: 64,
            memory_per_pipe: 1 << 30,
            memory: 4 << 30,
            unbound_patience: Duration::from_secs(60),
            stopped_limit: Duration::from_secs(60),
            client_patience: Duration::from_secs(10),
        }
    }
}
