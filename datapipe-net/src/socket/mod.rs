//! The socket: who has it, who is on its other side, and how messages go over it.
//!
//! ```text
//!   Listener: lock, bind, accept          Peer: user and process, as the kernel says
//!       |                                     |
//!       +---- connection ----> Channel: hellos and whole messages, with deadlines; every wait ends with Stop
//! ```
//!
//! Does not know what the messages mean.

mod channel; // whole messages, with deadlines
mod listener; // one daemon for a path
mod peer; // who is on the other side
mod stop; // ends every wait

pub use channel::{Channel, ChannelError, Deadline, Ready};
pub use listener::{ListenError, Listener, is_short_enough};
pub use peer::Peer;
pub use stop::Stop;
