//! The daemon of DataPipe: pipes that are started, watched and stopped for others on this machine.
//!
//! ```text
//!   client ---- unix socket ----> datapiped: who is it (the kernel says), what is allowed (the configuration says)
//!                                     |
//!                                     +-- a pipe: its controller in the daemon, its modules in processes
//!                                     |     head -> stage -> tail
//!                                     +-- a pipe whose head or tail is another process, attached by the pipe's name
//! ```
//!
//! `docs/net-protocol.md` describes what is said over the socket; a client can be written from it
//! alone. This crate's own is [`Client`].
//!
//! - [`protocol`] has the messages, as bytes and as values.
//! - [`config`] has what an administrator allows: who, which modules, which paths, how much.
//! - [`socket`] has the socket, who is on its other side, and how messages go over it.
//! - [`daemon`] does what clients ask for.
//! - [`client`] asks.
//! - [`show`] puts lists and statuses on a terminal.
//! - [`limits`] has every bound.
//!
//! # What it does not do
//!
//! It moves no data: that is between the pipe's processes and their shared memory. It runs no
//! program that its configuration does not name, and reaches no other machine.

pub mod client;
pub mod config;
pub mod daemon;
pub mod limits;
pub mod protocol;
pub mod show;
pub mod socket;

pub use client::{Client, ClientError};
pub use config::Config;
pub use daemon::Daemon;
pub use protocol::{Initiate, PathAccess, Role, Seat, StageRequest};
