//! The daemon: it serves the requests of clients, as far as the configuration permits.
//!
//! ```text
//!   acceptor -> a thread per connection -> requests: checked, then served -> reply
//!                                             |
//!                            pipe_table: name -> controller, owner; a thread per pipe waits for
//!                                             |                     its end (supervision)
//!                            subscribers: bounded queues of events
//! ```
//!
//! Rights: `config/permissions.rs` decides who may do what. It is asked in `connection.rs` (may the
//! user connect), `stage_check.rs` (may the user have the module; `config/paths.rs` decides on
//! paths), `pipe_table.rs` (may the user see and stop the pipe) and `subscribers.rs` (may the user
//! see the event).
//!
//! When the daemon dies, its pipes end: the kernel notifies every process that it started, each of
//! them ends its pipe, and the memory is freed with the last of them. A new daemon finds nothing
//! but a socket.
//!
//! Pipes that have ended are in the history, which a thread writes to a file, and are counted for
//! the metrics (`records/`).
//!
//! This module moves no data, and decides nothing that the configuration does not determine.

mod acceptor; // incoming connections
mod accounts; // amounts that each user takes, and their limits
mod children; // processes that are kept from ending, or for which no pipe waits
mod connection; // one client
mod error; // failures of the daemon
mod event_relay; // from the controller's events to those of the protocol
mod lingering; // memory of ended pipes that a process still maps
mod live_pipe; // a pipe that has not ended
mod log; // bounded queue of lines, and its writer
mod module_user; // the user that a stage's processes run as
mod open_connections; // connections that a new configuration may close
mod pipe_description; // from a request to a pipe builder
mod pipe_table; // live and ended pipes, and their room
mod records; // history, problems and metrics
mod refused_users; // users that were refused lately
mod removal; // removal of directories of users
mod requests; // the work of each request
mod server; // life of the daemon
mod stage_check; // permission for each requested stage
mod state; // state that the threads share
mod subscribers; // queues of events
mod supervision; // the end of each pipe
mod temporary; // private directories for temporary files

pub use error::DaemonError;
pub use server::{Daemon, Handle};
