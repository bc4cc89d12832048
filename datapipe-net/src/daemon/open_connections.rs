//! The open connections, so that those of users who may no longer connect can be closed.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::net::Shutdown;

use crate::config::Access;
use crate::socket::Peer;

/// The open connections of a daemon.
#[derive(Debug, Default)]
pub(super) struct OpenConnections(Mutex<Registry>);

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    open: HashMap<u64, (Peer, OwnedFd)>,
}

/// Entry of a connection, for as long as it is open.
#[derive(Debug)]
pub(super) struct OpenConnection {
    connections: Arc<OpenConnections>,
    number: u64,
}

impl OpenConnections {
    /// Registers a connection. That must happen before its user is checked: a configuration that
    /// is replaced in between would miss it.
    pub(super) fn register(
        self: &Arc<Self>,
        peer: Peer,
        socket: BorrowedFd<'_>,
    ) -> io::Result<OpenConnection> {
        let socket = socket.try_clone_to_owned()?;
        let mut registry = self.0.lock();
        let number = registry.next;
        registry.next += 1;
        registry.open.insert(number, (peer, socket));
        drop(registry);
        let connections = Arc::clone(self);
        Ok(OpenConnection {
            connections,
            number,
        })
    }

    /// Closes the connections of users that `access` does not allow. Returns the number of them.
    pub(super) fn close_others(&self, access: &Access) -> usize {
        // Looking up groups may take long, so not while new connections wait for the lock.
        let peers = |registry: &Registry| -> Vec<_> {
            registry
                .open
                .iter()
                .map(|(number, (peer, _))| (*number, *peer))
                .collect()
        };
        let peers = peers(&self.0.lock());
        let others = peers
            .iter()
            // A lookup that fails says nothing about the user.
            .filter(|(_, peer)| !access.allows(peer.user, peer.group).unwrap_or(true));
        let others: Vec<_> = others.map(|(number, _)| *number).collect();
        let registry = self.0.lock();
        let sockets = others.iter().filter_map(|number| registry.open.get(number));
        // A connection that the client has closed meanwhile is none to close.
        sockets
            .filter(|(_, socket)| rustix::net::shutdown(socket, Shutdown::Both).is_ok())
            .count()
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.0.lock().open.remove(&self.number);
    }
}
