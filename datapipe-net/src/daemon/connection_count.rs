//! Number of open connections, and its limit.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::config::User;
use crate::limits::RESERVED_CONNECTIONS;

/// Number of open connections.
#[derive(Debug, Default)]
pub(super) struct ConnectionCount {
    open: Mutex<u32>,
    closed: Condvar,
}

/// One counted connection. Dropping it lowers the count.
#[derive(Debug)]
pub(super) struct ConnectionSlot(Arc<ConnectionCount>);

impl ConnectionCount {
    /// Counts a connection of `user`; `None` if the limit is reached. Privileged users have some
    /// connections more.
    pub(super) fn open(self: &Arc<Self>, user: User, limit: u32) -> Option<ConnectionSlot> {
        let limit = if user.is_privileged() {
            limit + RESERVED_CONNECTIONS
        } else {
            limit
        };
        let mut open = self.open.lock();
        if *open >= limit {
            return None;
        }
        *open += 1;
        Some(ConnectionSlot(Arc::clone(self)))
    }

    /// Waits until no connection is open.
    pub(super) fn wait_until_none(&self) {
        let mut open = self.open.lock();
        self.closed.wait_while(&mut open, |open| *open > 0);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.0.open.lock();
        *open = open.saturating_sub(1);
        self.0.closed.notify_all();
    }
}
