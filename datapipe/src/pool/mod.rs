//! The buffers: their holders, the quota of each instance, and their way back to the free list.
//!
//! ```text
//!        alloc                    send                  receive
//!   free list ---> HELD by head ---> SENT, in queue 1 ---> HELD by stage 1 ---> ...
//!       ^                                                                        |
//!       +------------------------------- free -----------------------------------+
//! ```
//!
//! The module has the four primitives, on one ledger word per buffer; blocks that give their buffer
//! back when they are dropped; the reclaiming of what a dead participant held; the arithmetic of
//! the number of buffers that a pipe needs; and the audit that compares ledger and rings.
//!
//! This module does not run stages, and does not decide what to do about a death.

mod activity; // a participant's activity, as it last recorded it
#[cfg(not(loom))]
mod audit; // the comparison of every word with the ledger
#[cfg(not(loom))]
mod bell; // the end of a wait, from another thread
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "turns a held buffer into slices")]
mod block; // a buffer that an instance holds
#[cfg(not(loom))]
mod budget; // the number of buffers that a chain needs, and each instance's share
#[cfg(not(loom))]
mod create; // a segment whose buffers are all free
#[cfg(not(loom))]
mod lent; // blocks that another thread reads or fills
mod loans; // the outstanding buffers of an allocator
mod participant; // the four primitives, for one instance or the controller
#[cfg(not(loom))]
mod port; // the primitives with waiting, by role
#[cfg(not(loom))]
mod port_core; // the innards of a port of any role
#[cfg(not(loom))]
mod port_error; // the errors of the primitives
#[cfg(not(loom))]
mod port_wait; // the waits of a port
mod reclaim; // buffers of a dead participant
mod returns; // leases that other threads have returned to a port
#[cfg(not(loom))]
mod seat; // an instance's seat, before a port has taken it
#[cfg(not(loom))]
mod stop; // waits of a stage outside of the pipe, which a stop ends
mod wait; // the wait loop
mod word; // the ledger word

#[cfg(all(test, not(loom)))]
mod explorer; // kills at every atomic operation, on the heap
#[cfg(all(test, loom))]
#[allow(
    unsafe_code,
    reason = "reads and writes the cells that represent payloads"
)]
mod model; // the same types under the model checker

#[cfg(not(loom))]
pub use crate::block_info::{BlockInfo, Codec, ContentClass, Marks, UnknownCodec};
#[cfg(not(loom))]
pub use activity::Activity;
#[cfg(not(loom))]
#[doc(hidden)]
pub use audit::AuditFinding;
#[cfg(not(loom))]
pub(crate) use audit::{Tally, queue_depth, tally};
#[cfg(not(loom))]
pub use bell::Bell;
#[cfg(not(loom))]
pub use block::{Block, NoRoom};
#[cfg(not(loom))]
pub use budget::Refusal;
#[cfg(not(loom))]
#[doc(hidden)]
pub use budget::{Budget, StageNeeds};
#[cfg(not(loom))]
pub use lent::Lent;
#[cfg(not(loom))]
pub use port::{HeadPort, MiddlePort, TailPort};
#[cfg(not(loom))]
pub(crate) use port_core::PortCore;
#[cfg(not(loom))]
pub use port_error::{PortError, TryError};
#[doc(hidden)]
pub use reclaim::{Inputs, Reclaimed};
#[cfg(not(loom))]
pub use seat::AtLimit;
#[cfg(not(loom))]
#[doc(hidden)]
pub use seat::Seat;
#[cfg(not(loom))]
pub use stop::{Readiness, Stop};
#[cfg(not(loom))]
pub use wait::Blocked;
