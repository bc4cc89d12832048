//! Acts first and last: checks what was asked for, owns the memory, starts every task, watches
//! them, and stops everything cleanly.
//!
//! ```text
//!   PipeBuilder -> plan -> segment -> launch, tail to head -> supervise -> report
//!                   |                                           |
//!                refused, with the sum            first failure: stop all, wait for all
//! ```
//!
//! One controller for each pipe on each machine. It runs on the thread that calls
//! [`PipeBuilder::run`], or on one that [`PipeBuilder::start`] makes, and moves no data.
//!
//! Does not know what the stages do, and decides nothing from what stands in shared memory alone.

mod builder; // what the caller asks for
mod cancel; // stop from outside
mod door; // where processes come in that somebody else starts
mod error; // the errors of a pipe, by the party at fault
mod event; // what happens to processes
mod launch; // threads and turns, tail to head
mod plan; // is it possible, and with which numbers
mod processes; // instances that are processes: started, watched, replaced
mod running; // a pipe that works in the background
mod status; // what everybody is doing
mod supervise; // who ended, who failed, does anything move

pub use builder::{AtLimit, PipeBuilder};
pub use cancel::Canceller;
pub use door::{AdmitError, Role};
pub use error::{Deadlock, Error, StageFailure, WaitingStage};
pub use event::Event;
pub use plan::Plan;
pub use running::Pipe;
pub use status::{ByteCount, InstanceStatus, Limit, Report, StageStatus, Status};
