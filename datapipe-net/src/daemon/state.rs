//! State that the threads of a daemon share.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use super::connection_count::ConnectionCount;
use super::counters::Counters;
use super::history::History;
use super::pipe_table::PipeTable;
use super::subscribers::Subscribers;
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
    pub(super) history: History,
    pub(super) metrics: Counters,
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
            history: History::default(),
            metrics: Counters::default(),
            stop,
            hang_up,
            log: Box::new(log),
        }
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    pub(super) fn replace_config(&self, config: Config) {
        *self.config.write() = Arc::new(config);
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
