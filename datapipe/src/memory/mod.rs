//! The memory that participants share: one segment, its layout, its words, and waits on them.
//!
//! ```text
//!   one segment per pipe and machine
//!   +--------+--------+--------+-------+--------------+----------+----------+---
//!   | header | stages | queues | slots | participants | ledger   | buffer 0 | ...
//!   +--------+--------+--------+-------+--------------+----------+----------+---
//!    sizes,    end of   head,    (b, g)  take intent,   one word   headroom, payload, tailroom;
//!    ready,    stream   tail,            event,         per        starts on a page
//!    stop               event            counters       buffer
//! ```
//!
//! Only offsets and ids are stored, never pointers, locks, keys or counts of waiters. What is read
//! from the segment is copied out, checked, then used. `docs/shared-memory.md` is the normative
//! description.
//!
//! This module does not move buffers: the queues and the [`pool`](crate::pool) do, with these
//! words.

#![warn(clippy::indexing_slicing)]

pub(crate) mod atomic; // the shared words, in release, test and model-checking builds
#[cfg(not(loom))]
mod available; // memory that a pool may take: of the machine, and of control groups
#[cfg(not(loom))]
mod backing; // the memory of a segment, and its pages
#[cfg(not(loom))]
mod clock; // the clock that all processes share
mod corruption; // the error for words that contradict each other
#[cfg(not(loom))]
mod discard; // the return of memory that others still map
pub(crate) mod event_count; // the semaphore: wait for a word to move, stoppable
mod ids; // the ids and numbers, each with a type of its own
mod layout; // the offset of each table
#[cfg(not(loom))]
mod liveness; // the death of a process, as the operating system sees it
#[cfg(not(loom))]
mod map; // the mappings of a segment
#[cfg(not(loom))]
mod name; // one name for everything that belongs to a pipe
#[cfg(all(not(loom), feature = "named-segments"))]
mod named_map; // the mapping of a named segment by its creator
#[cfg(not(feature = "kill-points"))]
pub(crate) mod points; // labelled points at which a test can stop a process
#[cfg(feature = "kill-points")]
#[allow(
    clippy::indexing_slicing,
    reason = "the labels are compared in constant functions, within their lengths"
)]
pub mod points; // the same, in a build that stops there
#[cfg(not(loom))]
mod segment; // memfd or named memory, mapped, sealed, reserved
#[cfg(not(loom))]
mod segment_error; // the error for a segment that cannot be made or used
#[allow(
    clippy::indexing_slicing,
    reason = "the indices are stages and rings of the same shape"
)]
mod shape; // stages, instances, quotas, sizes: the input of the layout
#[cfg(not(loom))]
mod sweep; // named segments whose creators were killed: proof and removal
pub(crate) mod tables; // typed views of the segment

#[cfg(not(loom))]
pub use backing::{Backing, HugePages};
#[cfg(not(loom))]
pub(crate) use clock::now;
pub use corruption::Corruption;
pub(crate) use ids::{BufferId, Generation, Lap, RingPosition, TableIndex};
pub use ids::{InstanceId, Number, StageId};
#[doc(hidden)]
pub use ids::{ParticipantId, QueueId};
#[cfg(not(loom))]
#[doc(hidden)]
pub use liveness::Dead;
#[cfg(not(loom))]
pub use liveness::Process;
#[cfg(not(loom))]
pub use name::{PipeName, PipeNameError};
#[cfg(not(loom))]
#[doc(hidden)]
pub use segment::Segment;
#[cfg(not(loom))]
pub use segment_error::SegmentError;
pub(crate) use shape::RingUsers;
pub use shape::{Direction, ShapeError};
#[doc(hidden)]
pub use shape::{QueueKind, Shape, ShapeBuilder, StageShape};
#[cfg(not(loom))]
pub use sweep::sweep;
