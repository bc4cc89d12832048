//! The runner: moves blocks between the pool and a stage, one step at a time.
//!
//! ```text
//!   step:  input?  output?  call the stage  send      -> Moved, Ended, or Blocked and on what
//!
//!   thread: step until blocked, sleep on that one event, step again
//!   inline: step every task in turn, sleep on all events at once when none moved
//!   process: as a thread, in a process that has the segment; see `host`
//! ```
//!
//! A step never waits, so a stage's code cannot tell where it runs. This module does not know the
//! other stages.

pub(crate) mod inline; // all tasks in turn on one thread
mod task; // the step of each kind of stage
pub(crate) mod thread; // one task on one thread
mod worker; // an instance on its way to the thread where it runs

pub(crate) use worker::Worker;
