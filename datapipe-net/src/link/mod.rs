//! The link between the two halves of a pipe on two machines: the protocol of its data connections
//! as pure state machines. `docs/net-protocol.md` is normative.
//!
//! ```text
//!   sending half                                               receiving half
//!   parent --block(), end()--> Sender          Receiver <--stocked(), sent_on()-- parent
//!
//!   Sender::work   -> writer == HELLO, DATA, END ===> reader -> Receiver::frame
//!   Sender::frame <-  reader <=== WELCOME, ACK, RATE == writer <- Receiver::work
//! ```
//!
//! A block is sent if its number is below the receiver's limit, which is the number of buffers that
//! the receiver has allocated: buffer n is promised to block n, over any connection that brings it.
//! The sender frees blocks below the number that the receiver has sent on.
//!
//! This module has no sockets, clocks and threads. Its user calls a method for each event, with the
//! time in nanoseconds since an arbitrary beginning, carries out the actions, and calls `tick` when
//! the time of `timeout` has come. [`agent`](crate::agent) is its user.

mod connections; // connections of a half, and their common events
mod frame; // bytes of frames
#[cfg(test)]
mod hostile; // frames that a peer must not send
mod life; // timers, silence, pings, redialling
mod pace; // the rate of a link
mod receiver; // the half that receives
mod sender; // the half that sends
#[cfg(test)]
mod sim; // both halves over simulated connections
mod violation; // broken promises, and reasons for which a link ends
mod wrong; // wrong rules, which the simulation must find

pub use connections::{Action, ConnectError, ConnectionId, LinkSettings, Work};
pub use frame::{
    DataHead, FRAME_HEAD_LEN, Frame, FrameDecoder, INFO_LEN, Receipt, StopCode, StopReason,
};
pub use life::LinkTimers;
pub use pace::{Allowance, Pace, RateError};
pub use receiver::{Reading, Receiver};
pub use sender::Sender;
pub use violation::{LinkError, Violation};
