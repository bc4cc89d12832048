//! Limits that a configuration sets.

use std::time::Duration;

/// Limits of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Number of pipes at a time.
    pub pipes: u32,
    /// Number of pipes of one user at a time. Root and the daemon's own user have no limits of
    /// their own.
    pub pipes_per_user: u32,
    /// Number of connections at a time.
    pub connections: u32,
    /// Number of connections of one user at a time.
    pub connections_per_user: u32,
    /// Number of processes of all pipes.
    pub processes: u32,
    /// Number of processes of the pipes of one user.
    pub processes_per_user: u32,
    /// Memory that each process may have besides the shared one, in bytes.
    pub memory_per_process: u64,
    /// Descriptors that connections and pipes may take; `None` for those that the daemon may open,
    /// except for a reserve.
    pub descriptors: Option<u64>,
    /// Descriptors that the connections and pipes of one user may take; `None` for half of all.
    pub descriptors_per_user: Option<u64>,
    /// Shared memory of one pipe, in bytes.
    pub memory_per_pipe: u64,
    /// Shared memory of all pipes, in bytes.
    pub memory: u64,
    /// Shared memory of all pipes of one user, in bytes.
    pub memory_per_user: u64,
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
            pipes_per_user: 8,
            connections: 64,
            connections_per_user: 32,
            processes: 256,
            processes_per_user: 128,
            memory_per_process: 1 << 30,
            descriptors: None,
            descriptors_per_user: None,
            memory_per_pipe: 1 << 30,
            memory: 4 << 30,
            memory_per_user: 2 << 30,
            unbound_patience: Duration::from_secs(60),
            stopped_limit: Duration::from_secs(60),
            client_patience: Duration::from_secs(10),
        }
    }
}
