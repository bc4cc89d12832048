//! Messages between a client and the daemon, as bytes and as values. `docs/net-protocol.md` is
//! normative.
//!
//! ```text
//!   client hello  ->
//!                 <-  server hello: the version, or the reason for closing
//!   head  request ->                       length | kind | number of the request
//!                 <-  head  reply          the body is a run of fields: tag | length | bytes
//!                 <-  head  event          with the number of the subscription
//! ```
//!
//! This module is pure: it has no sockets and no clock, and knows no pipe. The same bytes are meant
//! to travel over TCP.

mod event; // events of a subscription
mod fields; // tags, lengths, values
mod frame; // hellos, and the heads of messages
mod message; // everything that a daemon sends after its hello
mod numbers; // named numbers of the protocol
mod past_pipe; // a pipe of the history
mod problems; // the last problems of a pipe
mod refusal; // the negative answer to a request
mod reply; // answers to requests
mod request; // requests of a client
mod role; // parts that a client's process can take in a pipe
mod stage_request; // a stage of a pipe that a client initiates
mod status; // a pipe at one moment

pub use event::PipeEvent;
pub use fields::DecodeError;
pub(crate) use fields::truncated;
pub use frame::{
    ClientHello, CloseReason, HEAD_LEN, HELLO_LEN, MessageHead, ServerHello, VERSIONS, Versions,
};
pub use message::ServerMessage;
pub use numbers::{Activity, EventKind, PipeState, RefusalCode};
pub use past_pipe::PastPipe;
pub use problems::{PipeProblem, PipeProblems};
pub use refusal::Refusal;
pub use reply::Reply;
pub use request::{Initiate, Request};
pub use role::{AttachRole, Participation};
pub use stage_request::{PathAccess, StageRequest};
pub use status::{Bottleneck, InstanceStatus, PipeEntry, PipeStatus, StageStatus};
