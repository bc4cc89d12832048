//! Instances in processes: started or admitted, watched through the kernel, replaced when they are
//! killed.
//!
//! ```text
//!   start -> running -> dead --+-- it reported its end ---------------> exit, as a thread's
//!     ^         ^              +-- killed by a signal, replaceable -+
//!     |         attached       +-- else: stop the pipe, release ----|-> exit, with the death
//!     +----------- what it held is reclaimed, inputs kept ----------+
//! ```
//!
//! All of it runs on one thread, which lives until the last process is dead: the signal that tells
//! a child of its parent's death is sent when the thread that started the child ends.
//!
//! This module does not decide from shared memory who is dead, and does not kill a process that it
//! did not start.

mod error_output; // standard error of a process of another user
mod identity; // the user that a process runs as
mod kept_arguments; // arguments of a module, outside of this process's memory
mod memory_limit; // limit of a process's own memory
mod running_process; // a process that runs
mod slot; // instances of one process, and its history
mod spec; // specification of a process
mod start; // the start of a process, watched
mod supervisor; // the thread that looks after all of them

pub(super) use super::admission::AttachPoint;
pub(super) use crate::host::serves;
pub(super) use spec::ProcessSpec;
pub(super) use supervisor::run;

/// A seat that a process may attach to, and the launch request for that process.
pub(super) type UnboundSeat = (
    crate::memory::InstanceId,
    crate::host::launch_request::LaunchRequest,
);
