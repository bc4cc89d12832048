//! The ring that moves descriptors between stages, never bytes.
//!
//! ```text
//!            head                     tail
//!             v                        v
//!   ... EMPTY  FULL(b,g) FULL  FULL  EMPTY  EMPTY ...        position p is slot p mod slots,
//!       lap 3                        lap 2                   on lap p / slots
//! ```
//!
//! A ring holds more slots than there are buffers. A slot names a buffer and a generation, and is
//! worth nothing unless the buffer's ledger word is at that generation: the ledger decides who
//! holds a buffer, the ring only says where to look. So a participant may die between any two
//! steps, and the next one to come by finishes for it.
//!
//! The same ring serves two kinds of queue. Plain: a buffer is put at the tail, and its position
//! becomes its number. Ordered: a buffer is put at the position of its number, and the ring is
//! queue, resequencer and duplicate filter in one. Takers cannot tell the difference.
//!
//! This module does not know the ledger: a taker passes a function that claims the buffer there.

mod ring; // take, put at the tail, put at a position
mod slot; // the word of one slot

pub(crate) use ring::{Claim, Put, Ring};
pub(crate) use slot::Slot;
