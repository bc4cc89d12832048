//! Life of a daemon: bind, serve, stop.

use std::sync::Arc;
use std::time::Duration;

use super::acceptor::Acceptor;
use super::children::check_lists;
use super::error::DaemonError;
use super::records::{MetricsFile, attach_history};
use super::state::DaemonState;
use super::temporary::remove_left;
use crate::config::{Config, User};
use crate::limits::LOG_PATIENCE;
use crate::socket::{Listener, Stop};

/// Daemon that listens at its socket.
#[derive(Debug)]
pub struct Daemon {
    state: Arc<DaemonState>,
    listener: Listener,
}

/// Handle of a daemon, to stop or reconfigure it from another thread.
#[derive(Clone, Debug)]
pub struct Handle(Arc<DaemonState>);

impl Daemon {
    /// Listens at the socket of `config`.
    ///
    /// The daemon calls `log` with lines for an administrator, on a thread of its own. Names in
    /// them are escaped: they contain no line break and no command of a terminal. `log` may wait:
    /// meanwhile a bounded number of lines is kept ([`LOG_LINES`](crate::limits::LOG_LINES)), and
    /// the number of lines that are lost after that is logged as soon as it returns. Lines that
    /// clients can cause at will are limited, and counted.
    ///
    /// A program with a daemon starts no processes of other users itself: the daemon waits for dead
    /// children of users without a pipe.
    ///
    /// # Errors
    ///
    /// If another daemon listens there, or the system refuses.
    pub fn bind(config: Config, log: impl Fn(&str) + Send + 'static) -> Result<Self, DaemonError> {
        let (stop, hang_up) = (Stop::new()?, Stop::new()?);
        let listener = Listener::bind(&config.socket, config.socket_mode, config.socket_group)?;
        remove_left(&config.temporary_directory);
        let state = Arc::new(DaemonState::new(
            config,
            listener.file(),
            [stop, hang_up],
            log,
        )?);
        attach_history(&state);
        // Only root has processes of others.
        if let (User(0), Err(error)) = (User::own(), check_lists()) {
            state.log(&format!(
                "/proc/thread-self/children: {error}: processes that their users keep from ending \
                 by tracing them do not count, and dead children that no pipe knows stay; use a \
                 kernel with CONFIG_PROC_CHILDREN"
            ));
        }
        Ok(Self { state, listener })
    }

    /// Returns a handle of the daemon.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.state))
    }

    /// Serves until the daemon is stopped. Then it accepts no further connection, stops all pipes,
    /// waits for their ends, closes the connections, and removes the socket. At last it waits until
    /// the log is written, for a bounded time ([`LOG_PATIENCE`]).
    ///
    /// # Errors
    ///
    /// If the daemon can no longer wait for connections. It stops in the same way first.
    pub fn run(self) -> Result<(), DaemonError> {
        let Self { state, listener } = self;
        let metrics = MetricsFile::start(&state);
        let served = Acceptor::new(&state, &listener).run();
        state.pipes.close();
        // Only now: until here the connections deliver the ends of the pipes.
        state.hang_up.stop();
        state.accounts.wait_until_no_connection();
        if !state.history.close() {
            state.log("the end of the history is not written: its directory does not answer");
        }
        metrics.close();
        drop(listener);
        state.log.flush(LOG_PATIENCE);
        served.map_err(DaemonError::System)
    }
}

impl Handle {
    /// Stops the daemon.
    pub fn stop(&self) {
        self.0.stop.stop();
    }

    /// Replaces the configuration for future connections and pipes, and closes the connections of
    /// users who may no longer connect; their pipes go on. The socket gets its permissions and its
    /// group. Another path of the socket and another directory of the history are ignored, which is
    /// logged.
    pub fn reconfigure(&self, config: Config) {
        self.0.replace_config(config);
    }

    /// Adds a line to the daemon's log. Does not wait until it is written.
    pub fn log(&self, line: &str) {
        self.0.log(line);
    }

    /// Waits until the log is written, for `patience` at most. Returns true if it is.
    pub fn flush_log(&self, patience: Duration) -> bool {
        self.0.log.flush(patience)
    }
}
