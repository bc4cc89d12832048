//! Numbers, and the order that they define: pure, without threads or shared memory.
//!
//! ```text
//!   a b c  ->  Sequencer  ->  a0 b1 c2  ->  (any order)  c2 a0 b1  ->  Resequencer  ->  a b c
//! ```
//!
//! Inside a pipe these are not needed: the rings keep every stage's input in order by themselves.
//! They are for blocks that leave the rings and come back: over several connections, or through a
//! program of your own.
//!
//! This module does not wait, and does not know blocks: the caller waits, and decides what is put
//! in order.

mod resequencer; // items in any order to items in order, within a window
mod sequencer; // the next number

pub use resequencer::{Rejected, Rejection, Resequencer};
pub use sequencer::Sequencer;
