//! State that the threads of a daemon share.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use super::accounts::Accounts;
use super::log::{Kind, Log};
use super::open_connections::OpenConnections;
use super::pipe_table::PipeTable;
use super::records::{Counters, History};
use super::refused_users::RefusedUsers;
use super::subscribers::Subscribers;
use super::temporary::Temporary;
use crate::config::{Config, User};
use crate::socket::Stop;

/// State that the threads of a daemon share.
pub(super) struct DaemonState {
    /// Present configuration. A reload replaces it; a request uses one throughout.
    config: RwLock<Arc<Config>>,
    pub(super) pipes: PipeTable,
    pub(super) subscribers: Subscribers,
    /// Taken amounts of each user.
    pub(super) accounts: Arc<Accounts>,
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
        stop: Stop,
        hang_up: Stop,
        log: impl Fn(&str) + Send + 'static,
    ) -> io::Result<Self> {
        Ok(Self {
            config: RwLock::new(Arc::new(config)),
            pipes: PipeTable::default(),
            subscribers: Subscribers::default(),
            accounts: Arc::default(),
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

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    pub(super) fn replace_config(&self, config: Config) {
        let config = Arc::new(config);
        *self.config.write() = Arc::clone(&config);
        self.refused_users.clear();
        let closed = self.open.close_others(&config.access);
        if closed > 0 {
            self.log(&format!(
                "closed {closed} connections of users who may no longer connect"
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
