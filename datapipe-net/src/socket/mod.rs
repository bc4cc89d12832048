//! The daemon's socket: its listener, the identity of a peer, and messages with deadlines.
//!
//! ```text
//!   Listener: lock, bind, accept          Peer: user and process, from the kernel
//!       |                                     |
//!       +---- connection ----> Channel: hellos and whole messages, with deadlines;
//!                              every wait ends with Stop
//! ```
//!
//! This module does not know the meaning of messages.

mod channel; // whole messages, with deadlines
mod listener; // one daemon for a path
mod peer; // identity of the connected process
mod stop; // end of every wait

pub use channel::{Channel, ChannelError, Deadline, Ready};
pub(crate) use listener::SocketFile;
pub use listener::{ListenError, Listener, fits_in_address};
pub use peer::Peer;
pub use stop::Stop;
