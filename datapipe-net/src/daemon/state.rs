//! State that the threads of a daemon share.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use super::connection_count::ConnectionCount;
use super::open_connections::OpenConnections;
use super::pipe_table::PipeTable;
use super::subscribers::Subscribers;
use super::temporary::Temporary;
use crate::config::Config;
use crate::show;
use crate::socket::Stop;

/// State that the threads of a daemon share.
pub(super) struct DaemonState {
    /// Present configuration. A reload replaces it; a request uses one throughout.
    config: RwLock<Arc<Config>>,
    pub(super) pipes: PipeTable,
    pub(super) subscribers: Subscribers,
    pub(super) connections: Arc<ConnectionCount>,
    pub(super) open: Arc<OpenConnections>,
    pub(super) temporary: Temporary,
    /// Stops the daemon: it accepts no further connection.
    pub(super) stop: Stop,
    /// Ends the connections, after the pipes have ended.
    pub(super) hang_up: Stop,
    log: Box<dyn Fn(&str) + Send + Sync>,
}

impl DaemonState {
    pub(super) fn new(
        config: Config,
        stop: Stop,
        hang_up: Stop,
        log: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        Self {
            config: RwLock::new(Arc::new(config)),
            pipes: PipeTable::default(),
            subscribers: Subscribers::default(),
            connections: Arc::default(),
            open: Arc::default(),
            temporary: Temporary::default(),
            stop,
            hang_up,
            log: Box::new(log),
        }
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    pub(super) fn replace_config(&self, config: Config) {
        let config = Arc::new(config);
        *self.config.write() = Arc::clone(&config);
        let closed = self.open.close_others(&config.access);
        if closed > 0 {
            self.log(&format!(
                "closed {closed} connections of users who may no longer connect"
            ));
        }
    }

    /// Logs one line: names and texts of clients are escaped.
    pub(super) fn log(&self, line: &str) {
        (self.log)(&show::escaped_line(line));
    }
}

impl fmt::Debug for DaemonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaemonState")
            .field("pipes", &self.pipes)
            .finish_non_exhaustive()
    }
}
