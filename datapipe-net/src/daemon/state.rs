//! State that the threads of a daemon share.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;

use super::accounts::Accounts;
use super::children::Children;
use super::log::{Kind, Log};
use super::open_connections::OpenConnections;
use super::pipe_table::PipeTable;
use super::records::{Counters, History};
use super::refused_users::RefusedUsers;
use super::subscribers::Subscribers;
use super::temporary::Temporary;
use crate::config::{Config, User};
use crate::socket::{SocketFile, Stop};

/// State that the threads of a daemon share.
pub(super) struct DaemonState {
    /// Present configuration. A reload replaces it; a request uses one throughout.
    config: RwLock<Arc<Config>>,
    socket: SocketFile,
    /// Directory of the history, if there is one.
    state_dir: Option<PathBuf>,
    pub(super) pipes: PipeTable,
    pub(super) subscribers: Subscribers,
    /// Taken amounts of each user.
    pub(super) accounts: Arc<Accounts>,
    /// Children that are kept from ending, or for which no pipe waits.
    pub(super) children: Children,
    pub(super) refused_users: RefusedUsers,
    pub(super) open: Arc<OpenConnections>,
    pub(super) temporary: Temporary,
    pub(super) history: History,
    pub(super) metrics: Counters,
    /// Stops the daemon: it accepts no further connection.
    pub(super) stop: Stop,
    /// Ends the connections, after the pipes have ended.
    pub(super) hang_up: Stop,
    pub(super) log: Log,
}

impl DaemonState {
    pub(super) fn new(
        config: Config,
        socket: &SocketFile,
        [stop, hang_up]: [Stop; 2],
        log: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: socket.clone(),
            state_dir: config.state_dir.clone(),
            config: RwLock::new(Arc::new(config)),
            pipes: PipeTable::default(),
            subscribers: Subscribers::default(),
            accounts: Arc::default(),
            children: Children::default(),
            refused_users: RefusedUsers::default(),
            open: Arc::default(),
            temporary: Temporary::default(),
            history: History::default(),
            metrics: Counters::default(),
            stop,
            hang_up,
            log: Log::start(log)?,
        })
    }

    /// Number of processes of `user` that are children of this process, and dead or stopped by a
    /// tracer. Waits for those of all users that it can, and that no pipe may be waiting for.
    pub(super) fn kept_processes(&self, user: User) -> u64 {
        let has_processes = |user| self.accounts.has_processes(user);
        self.children.look(user, Instant::now(), has_processes)
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    pub(super) fn replace_config(&self, config: Config) {
        let config = Arc::new(config);
        *self.config.write() = Arc::clone(&config);
        self.apply_to_socket(&config);
        if config.state_dir != self.state_dir {
            self.log("state_dir takes effect when the daemon is started again");
        }
        self.refused_users.clear();
        let closed = self.open.close_others(&config.access);
        if closed > 0 {
            self.log(&format!(
                "closed {closed} connections of users who may no longer connect"
            ));
        }
    }

    /// Gives the socket the permissions and the group of a configuration.
    fn apply_to_socket(&self, config: &Config) {
        let path = self.socket.path();
        if config.socket != path {
            self.log("socket takes effect when the daemon is started again");
        }
        let set = self
            .socket
            .set_access(config.socket_mode, config.socket_group);
        if let Err(error) = set {
            let path = path.display();
            self.log(&format!(
                "{path}: cannot set socket_mode and socket_group: {error}; start the daemon again"
            ));
        }
    }

    /// Logs one line: names and texts of clients are escaped. Does not wait until it is written.
    pub(super) fn log(&self, line: &str) {
        self.log.line(line);
    }

    /// Logs a line that `user` can cause at will, unless there were many of its `kind` lately.
    pub(super) fn log_limited(&self, kind: Kind, user: User, line: impl FnOnce() -> String) {
        self.log.limited(kind, user, line);
    }
}

impl fmt::Debug for DaemonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaemonState")
            .field("pipes", &self.pipes)
            .finish_non_exhaustive()
    }
}
