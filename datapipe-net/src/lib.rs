//! The daemon of DataPipe: it starts, watches and stops pipes for the users of one machine.
//!
//! ```text
//!   client ---- unix socket ----> datapiped: identity from the kernel,
//!                                     |      rights from the configuration
//!                                     +-- a pipe: its controller in the daemon, its modules in
//!                                     |     processes: head -> stage -> tail
//!                                     +-- a pipe whose head or tail is another process, which
//!                                           attached by the pipe's name
//! ```
//!
//! `docs/net-protocol.md` describes the protocol; a client can be written from it alone. The client
//! of this crate is [`Client`].
//!
//! - [`protocol`] has the messages, as bytes and as values.
//! - [`config`] has the configuration: users, modules, paths and limits.
//! - [`socket`] has the socket, the identity of a peer, and the exchange of messages.
//! - [`daemon`] serves the requests of clients.
//! - [`client`] sends requests.
//! - [`link`] has the protocol of the data connections between two machines.
//! - [`tls`] authenticates the machines of such a connection, and encrypts it.
//! - [`authority`] issues the certificates of machines, and revokes them.
//! - [`agent`] carries the blocks of one pipe to another over such connections. The daemon does not
//!   use it yet.
//! - [`show`] formats lists and statuses for a terminal and for programs.
//! - [`limits`] has every bound.
//!
//! # Rights
//!
//! `config/permissions.rs` decides who may connect, who may use a module, and who may see, stop and
//! attach to a pipe. `config/paths.rs` decides which paths a module may open. In `daemon/`,
//! `connection.rs` applies these decisions to connections, `stage_check.rs` to modules and paths,
//! `pipe_table.rs` to pipes, and `subscribers.rs` to events.
//!
//! # Limits of the crate
//!
//! The daemon moves no data: the pipe's processes do, in shared memory. It runs no program that its
//! configuration does not name, and reaches no other machine.

pub mod agent;
pub mod authority;
pub mod client;
pub mod config;
pub mod daemon;
pub mod limits;
pub mod link;
pub mod protocol;
pub mod show;
pub mod socket;
pub mod tls;

pub use client::{Client, ClientError};
pub use config::Config;
pub use daemon::Daemon;
pub use protocol::{AttachRole, Initiate, Participation, PathAccess, StageRequest};

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads of a program share these types, or pass them on.
    #[test]
    fn public_types_are_send_and_sync() {
        fn check<T: Send + Sync>() {}
        check::<authority::AuthorityError>();
        check::<authority::PrivateAuthority>();
        check::<Client>();
        check::<ClientError>();
        check::<client::Started>();
        check::<Config>();
        check::<config::ConfigError>();
        check::<Daemon>();
        check::<daemon::DaemonError>();
        check::<daemon::Handle>();
        check::<protocol::DecodeError>();
        check::<protocol::Request>();
        check::<protocol::ServerMessage>();
        check::<socket::Channel>();
        check::<socket::Listener>();
        check::<socket::Stop>();
        check::<tls::Handshake>();
        check::<tls::HandshakeError>();
        check::<tls::MachineIdentity>();
        check::<tls::Secured>();
        check::<tls::TlsAcceptor>();
        check::<tls::TlsReader>();
        check::<tls::TlsWriter>();
    }
}
