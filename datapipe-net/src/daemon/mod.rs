//! Does what clients ask for, as far as the configuration lets it.
//!
//! ```text
//!   accept -> a thread for each connection -> request -> is it allowed? -> answer
//!                                                |
//!                            pipes: name -> controller, owner      a thread for each waits for its end
//!                                                |
//!                            subscribers: bounded queues of events
//! ```
//!
//! When the daemon dies, all of that is over: the kernel tells every process that it has started,
//! they end their pipes, and the memory goes with the last of them. So there is nothing to be found
//! again by the next daemon but a socket.
//!
//! Moves no data, and takes no decision that its configuration does not name.

mod build; // from a request to a pipe's description
mod connection; // one client
mod pipes; // which there are, and how they ended
mod requests; // what becomes of each request
mod subscribers; // who is told what happens

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::Builder;

use datapipe::Error;
use parking_lot::{Condvar, Mutex, RwLock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::connection::Connection;
use self::pipes::Pipes;
use self::subscribers::Subscribers;
use crate::config::{Config, User};
use crate::limits::{ACCEPT_PAUSE, RESERVED_CONNECTIONS};
use crate::protocol::{Closed, ServerHello};
use crate::show;
use crate::socket::{Channel, Deadline, ListenError, Listener, Peer, Stop};

/// A daemon that listens.
#[derive(Debug)]
pub struct Daemon {
    shared: Arc<Shared>,
    listener: Listener,
}

/// What stops a daemon from another thread, and gives it another configuration.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

/// What all threads of a daemon have in common.
struct Shared {
    config: RwLock<Arc<Config>>,
    pipes: Pipes,
    subscribers: Subscribers,
    connections: Connections,
    /// Ends the daemon: no connection is accepted any more.
    stop: Stop,
    /// Ends the connections, when the pipes are over.
    hang_up: Stop,
    log: Box<dyn Fn(&str) + Send + Sync>,
}

/// Why a daemon cannot serve.
#[derive(Debug)]
#[non_exhaustive]
pub enum DaemonError {
    /// Its socket cannot be had.
    Listen(ListenError),
    /// The machine refused.
    System(io::Error),
}

impl Daemon {
    /// Listens where `config` says. `log` is called with lines for an administrator: nothing of a
    /// name in them commands a terminal, or begins a line.
    ///
    /// # Errors
    ///
    /// If another daemon listens there, or the machine refuses.
    pub fn bind(
        config: Config,
        log: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, DaemonError> {
        let (stop, hang_up) = (Stop::new()?, Stop::new()?);
        let listener = Listener::bind(&config.socket, config.socket_mode, config.socket_group)?;
        let shared = Shared {
            config: RwLock::new(Arc::new(config)),
            pipes: Pipes::default(),
            subscribers: Subscribers::default(),
            connections: Connections::default(),
            stop,
            hang_up,
            log: Box::new(log),
        };
        Ok(Self {
            shared: Arc::new(shared),
            listener,
        })
    }

    /// What stops it.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Serves until it is stopped: then no more connections are accepted, all pipes are stopped and
    /// waited for, and the socket is removed.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked for connections any more. All else is as if it had been
    /// stopped.
    pub fn run(self) -> Result<(), DaemonError> {
        let Self { shared, listener } = self;
        let served = shared.accept(&listener);
        shared.pipes.close();
        shared.hang_up.stop();
        shared.connections.wait();
        drop(listener);
        served.map_err(DaemonError::System)
    }
}

impl Handle {
    /// Stops the daemon.
    pub fn stop(&self) {
        self.0.stop.stop();
    }

    /// From now on another configuration holds: for connections and pipes that come. Its socket is
    /// not looked at.
    pub fn reconfigure(&self, config: Config) {
        *self.0.config.write() = Arc::new(config);
    }
}

impl Shared {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    /// Whatever clients have put into it, it is one line.
    fn log(&self, line: &str) {
        (self.log)(&show::line(line));
    }

    fn accept(self: &Arc<Self>, listener: &Listener) -> io::Result<()> {
        let mut was_refused = false;
        loop {
            if self.poll_stop(Some(listener), None)? {
                return Ok(());
            }
            match listener.accept() {
                Ok(socket) => {
                    was_refused = false;
                    self.receive(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // No descriptors, no memory: some are given back, and until then nobody should turn
                // in circles.
                Err(error) => {
                    if !std::mem::replace(&mut was_refused, true) {
                        self.log(&format!("cannot accept connections for a while: {error}"));
                    }
                    let pause = Timespec {
                        tv_sec: ACCEPT_PAUSE.as_secs() as i64,
                        tv_nsec: ACCEPT_PAUSE.subsec_nanos().into(),
                    };
                    if self.poll_stop(None, Some(&pause))? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for a connection, and returns whether the daemon has been stopped.
    fn poll_stop(
        &self,
        listener: Option<&Listener>,
        timeout: Option<&Timespec>,
    ) -> io::Result<bool> {
        let mut polled = vec![PollFd::new(&self.stop, PollFlags::IN)];
        polled.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
        match poll(&mut polled, timeout) {
            Ok(_) => Ok(polled
                .first()
                .is_some_and(|stop| !stop.revents().is_empty())),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a connection a thread, or tells it that there is none to have.
    fn receive(self: &Arc<Self>, socket: OwnedFd) {
        let Ok(peer) = Peer::of(std::os::fd::AsFd::as_fd(&socket)) else {
            return;
        };
        let limit = self.config().limits.connections;
        let channel = Channel::new(socket, Some(self.hang_up.clone()));
        // It fits into the socket, or the client has gone.
        let busy = |channel: &Channel| {
            let _ = channel.write(
                &ServerHello::closed(Closed::BUSY).encode(),
                Deadline::after(Default::default()),
            );
        };
        if !self.connections.open(peer.user, limit) {
            return busy(&channel);
        }
        let shared = Arc::clone(self);
        let seat = ConnectionSeat(Arc::clone(self));
        let serve = move || {
            let _seat = seat; // given back however it ends
            Connection::new(shared, channel, peer).serve();
        };
        if let Err(error) = Builder::new().name("connection".to_owned()).spawn(serve) {
            self.log(&format!("cannot start a thread for a connection: {error}"));
        }
    }
}

/// How many connections there are.
#[derive(Debug, Default)]
struct Connections {
    open: Mutex<u32>,
    closed: Condvar,
}

/// One of them.
struct ConnectionSeat(Arc<Shared>);

impl Connections {
    /// Counts one more, if there may be one for this user.
    fn open(&self, user: User, limit: u32) -> bool {
        let limit = if user.is_privileged() {
            limit + RESERVED_CONNECTIONS
        } else {
            limit
        };
        let mut open = self.open.lock();
        let free = *open < limit;
        *open += u32::from(free);
        free
    }

    /// Waits until there is none.
    fn wait(&self) {
        let mut open = self.open.lock();
        self.closed.wait_while(&mut open, |open| *open > 0);
    }
}

impl Drop for ConnectionSeat {
    fn drop(&mut self) {
        let mut open = self.0.connections.open.lock();
        *open = open.saturating_sub(1);
        self.0.connections.closed.notify_all();
    }
}

/// The reason, as a pipe's owner is told.
fn explain(error: &Error) -> String {
    error.to_string()
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("pipes", &self.pipes)
            .finish_non_exhaustive()
    }
}

impl From<io::Error> for DaemonError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<ListenError> for DaemonError {
    fn from(error: ListenError) -> Self {
        Self::Listen(error)
    }
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::System(error) => write!(f, "the machine refused: {error}"),
        }
    }
}

impl std::error::Error for DaemonError {}
