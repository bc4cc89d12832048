//! The buffers: who has which, who may have how many, and how they come back.
//!
//! ```text
//!        alloc                    send                  receive
//!   free list ---> HELD by head ---> SENT, in queue 1 ---> HELD by stage 1 ---> ...
//!       ^                                                                        |
//!       +------------------------------- free -----------------------------------+
//! ```
//!
//! The four primitives, on one ledger word per buffer; leases that give a buffer back when they are
//! dropped; the reclaiming of what a dead participant held; the arithmetic of how many buffers a
//! pipe needs; and the audit that compares ledger and rings.
//!
//! Does not run stages, and does not decide what to do about a death.

#[cfg(not(loom))]
mod audit; // does everything agree with the ledger
#[cfg(not(loom))]
mod budget; // how many buffers a chain needs, and who gets how many
#[cfg(not(loom))]
mod create; // a segment whose buffers are all free
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "turns a held buffer into slices")]
mod lease; // a buffer in somebody's hands
mod loans; // what an allocator has outstanding
mod participant; // the four primitives, for one instance or the controller
#[cfg(not(loom))]
mod port; // the primitives with waiting, for one instance
mod reclaim; // what a dead participant held
mod word; // the ledger word

#[cfg(all(test, not(loom)))]
mod explorer; // kills at every atomic operation, on the heap
#[cfg(all(test, loom))]
#[allow(
    unsafe_code,
    reason = "reads and writes the cells that stand for payloads"
)]
mod model; // the same types under the model checker

#[cfg(not(loom))]
pub use crate::block_info::{BlockInfo, Codec, ContentClass, Marks};
#[cfg(not(loom))]
pub use audit::AuditFinding;
#[cfg(not(loom))]
pub(crate) use audit::{Tally, queue_depth, tally};
#[cfg(not(loom))]
pub use budget::{Budget, Refusal, StageNeeds};
#[cfg(not(loom))]
pub use lease::{Block, NoRoom};
#[cfg(not(loom))]
pub use participant::Activity;
#[cfg(not(loom))]
pub use port::{Blocked, HeadPort, MiddlePort, PortError, Seat, TailPort};
#[cfg(not(loom))]
pub(crate) use port::{PortCore, now};
pub use reclaim::{Inputs, Reclaimed};
