//! The agents of a link: a tail that sends the blocks of its pipe to another pipe over k TCP
//! connections, and a head that receives them there.
//!
//! ```text
//!   sending half                                               receiving half
//!   pipe -> parent == lends blocks ==> k writers ====> k readers == lent rooms == parent -> pipe
//!             ^                        k readers <==== k writers                    |
//!             +------------ frees what was sent on      acknowledges what it has sent on
//! ```
//!
//! Each half is one stage with one instance, the parent. It lends its buffers to the threads of the
//! connections, which write the blocks to their sockets from where they are in the pool, and read
//! them from there into the pool. [`link`](crate::link) decides which block goes where;
//! `docs/net-protocol.md` is normative for the bytes.
//!
//! A connection that ends, is silent or holds up the others is given up: its blocks go over the
//! others, and it is dialled again. A half fails when it has had no connection for a time.
//!
//! This module does not know pipes by name, and does not start the other half. Until the daemon
//! serves data connections, each connection of a link has an address of its own.

mod carry; // threads of one connection
mod dial; // sockets: made, accepted, and secured
mod error; // reasons for which a half ends
mod half; // state that the threads of a half share
mod receiving; // the parent of the receiving half
mod sending; // the parent of the sending half
mod settings; // settings of both halves, checked
mod wire; // bytes of a connection, with or without TLS

pub use error::{AgentError, LinkSide, SetupError};
pub use settings::{ReceivingLink, SendingLink};
