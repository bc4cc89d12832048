//! Incoming connections: each gets a thread, or an answer that refuses it. An answer costs a system
//! call or two, and no thread, so that a flood of connections does not keep others from connecting.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::accounts::{Charge, Usage};
use super::connection::{Connection, log_refused};
use super::log::Kind;
use super::state::DaemonState;
use crate::limits::ACCEPT_PAUSE;
use crate::protocol::{CloseReason, ServerHello};
use crate::socket::{Channel, Deadline, Listener, Peer};

/// Accepts connections until the daemon stops.
pub(super) struct Acceptor<'d> {
    state: &'d Arc<DaemonState>,
    listener: &'d Listener,
}

impl<'d> Acceptor<'d> {
    pub(super) fn new(state: &'d Arc<DaemonState>, listener: &'d Listener) -> Self {
        Self { state, listener }
    }

    pub(super) fn run(&self) -> io::Result<()> {
        let mut has_failed = false;
        loop {
            if self.wait(Some(self.listener), None)? {
                return Ok(());
            }
            match self.listener.accept() {
                Ok(socket) => {
                    has_failed = false;
                    self.start_connection(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // No descriptor or no memory is left. Others may release some; the pause keeps this
                // loop from spinning until then.
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        self.state
                            .log(&format!("cannot accept connections for a while: {error}"));
                    }
                    let pause = Timespec {
                        tv_sec: ACCEPT_PAUSE.as_secs() as i64,
                        tv_nsec: ACCEPT_PAUSE.subsec_nanos().into(),
                    };
                    if self.wait(None, Some(&pause))? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for a connection or the timeout. Returns true if the daemon has been stopped.
    fn wait(&self, listener: Option<&Listener>, timeout: Option<&Timespec>) -> io::Result<bool> {
        let mut polled = vec![PollFd::new(&self.state.stop, PollFlags::IN)];
        polled.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
        match poll(&mut polled, timeout) {
            Ok(_) => Ok(polled
                .first()
                .is_some_and(|stop| !stop.revents().is_empty())),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts a thread for a connection, or refuses it.
    fn start_connection(&self, socket: OwnedFd) {
        let Ok(peer) = Peer::of(socket.as_fd()) else {
            return;
        };
        let channel = Channel::new(socket, Some(self.state.hang_up.clone()));
        let charge = match self.admit(&peer) {
            Ok(charge) => charge,
            Err(reason) => {
                // The hello fits in the empty buffer of the socket. If it cannot be written, the
                // client is gone.
                self.state.metrics.count_closed(reason);
                let hello = ServerHello::closing(reason).encode();
                let _ = channel.write(&hello, Deadline::after(Duration::ZERO));
                return;
            }
        };
        let state = Arc::clone(self.state);
        let serve = move || {
            // Dropped in any case, also if the connection panics.
            let _charge = charge;
            Connection::new(state, channel, peer).serve();
        };
        if let Err(error) = Builder::new().name("connection".to_owned()).spawn(serve) {
            self.state
                .log_limited(Kind::ConnectionsWithoutThread, peer.user, || {
                    format!("cannot start a thread for a connection: {error}")
                });
        }
    }

    /// Charges the connection to its user. The error is the reason to refuse it.
    ///
    /// A user is judged here if the configuration and a recent refusal suffice for that. Otherwise
    /// the connection's thread looks the user up, which may take long, within the user's limit of
    /// connections.
    fn admit(&self, peer: &Peer) -> Result<Charge, CloseReason> {
        let Peer { user, group, .. } = *peer;
        let config = self.state.config();
        let refused = match config.access.allows_without_lookup(user, group) {
            Some(allowed) => !allowed,
            None => (self.state.refused_users).contains(user, group, Instant::now()),
        };
        if refused {
            log_refused(self.state, user);
            return Err(CloseReason::ACCESS);
        }
        let charge = (self.state.accounts).charge(user, Usage::connection(), &config.limits);
        charge.map_err(|why| {
            self.state
                .log_limited(Kind::ConnectionsOverLimit, user, || {
                    format!("refused a connection of user id {}: {why}", user.0)
                });
            CloseReason::BUSY
        })
    }
}
