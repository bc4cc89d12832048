//! What client and daemon say to each other, as bytes and as values: `docs/net-protocol.md` is
//! normative.
//!
//! ```text
//!   client hello  ->
//!                 <-  server hello: the version, or why not
//!   head  request ->                       length | kind | request's number
//!                 <-  head  reply          the body is a run of fields: tag | length | bytes
//!                 <-  head  event          with the number of the subscription
//! ```
//!
//! Pure: no sockets, no clock, nothing of a pipe. The same bytes are to travel over TCP.

mod fields; // tags, lengths, values
mod frame; // hellos, and what stands before a message
mod numbers; // what is a number on the wire, and has a name
mod reply; // what the daemon says
mod request; // what a client asks for
mod status; // a pipe at one moment

pub use fields::DecodeError;
pub(crate) use fields::cut;
pub use frame::{ClientHello, Closed, HEAD, HELLO, Head, ServerHello, VERSIONS, Versions};
pub use numbers::{Activity, EventKind, PipeState, RefusalCode, Role, Seat};
pub use reply::{Answer, PipeEvent, Refusal, Reply};
pub use request::{Initiate, PathAccess, Request, StageRequest};
pub use status::{Bottleneck, InstanceStatus, PipeEntry, PipeStatus, StageStatus};
