//! Numbers, and the order that they define: pure, without threads or shared memory.
//!
//! ```text
//!   a b c  ->  Sequencer  ->  a0 b1 c2  ->  (any order)  c2 a0 b1  ->  Resequencer  ->  a b c
//! ```
//!
//! Inside a pipe these are not needed: the rings keep every stage's input in order by themselves.
//! They are for where blocks leave the rings and come back: over several connections, or through a
//! plan of your own.
//!
//! This module does not wait: a caller that must, does so outside.

mod resequencer;
mod sequencer;

pub use resequencer::{Rejected, Rejection, Resequencer};
pub use sequencer::Sequencer;
