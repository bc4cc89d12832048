//! The controller: checks a description, owns the memory, starts every task, watches them, and
//! stops everything cleanly.
//!
//! ```text
//!   PipeBuilder -> plan -> segment -> launch, tail to head -> supervise -> report
//!                   |                                           |
//!                refused, with the sum            first failure: stop all, wait for all
//! ```
//!
//! Each pipe has one controller on each machine. It runs on the thread that calls
//! [`PipeBuilder::run`], or on a thread that [`PipeBuilder::start`] makes, and moves no data.
//!
//! This module does not know what the stages do, and decides nothing from the contents of shared
//! memory alone.

#[cfg(feature = "processes")]
mod admission; // attach points for processes that the caller starts
mod awake_clock; // time without the pauses of a stopped process
mod builder; // the caller's description of a pipe
mod byte_count; // byte counts in text
mod cancel; // a stop from outside
mod description; // the description itself, without the methods that build it
mod error; // errors of a pipe, by the party at fault
mod event; // events of instances and processes
mod instance; // identity and end of an instance
mod launch; // threads and turns, tail to head
mod observer; // events of instances, stalls, and notices of stages
mod pipe; // a pipe that runs in the background
mod plan; // checks of a description, and its numbers
#[cfg(feature = "processes")]
mod processes; // instances in processes: started, watched, replaced
#[cfg(not(feature = "processes"))]
#[path = "no_processes.rs"]
mod processes; // the same interface in a build without processes
mod progress; // the caller's view of a running pipe
mod report; // result of a pipe
#[cfg(feature = "serde")]
mod serialize; // durations and exit statuses in serialized forms
mod status; // activity and counters of every instance
mod supervise; // ends, failures, and progress of a running pipe
mod supervisor_context; // parts of a pipe for its other threads
mod trace; // spans and events for the crate tracing
mod work_watch; // time that each instance works on a block

pub use crate::pool::AtLimit;
pub use crate::stage::Role;
#[cfg(feature = "processes")]
pub use admission::AdmitError;
pub use builder::PipeBuilder;
pub use byte_count::ByteCount;
pub use cancel::Canceller;
pub use error::{Deadlock, Error, WaitingStage};
pub use event::Event;
pub use pipe::Pipe;
pub use plan::Plan;
pub use progress::Progress;
pub use report::Report;
pub use status::{InstanceStatus, Limit, StageStatus, Status};
pub use work_watch::BlockWork;
