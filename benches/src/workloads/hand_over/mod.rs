//! `README.md`, from "hand-over" to "hand-over-pipe": buffers whose content no program reads.

mod crossbeam; // crossbeam-channel, between threads
#[cfg(feature = "iceoryx2")]
#[allow(
    unsafe_code,
    reason = "declares the bytes of a loan initialized, because their values do not matter"
)]
mod iceoryx; // iceoryx2, between threads and between processes
mod kernel_pipe; // a pipe of the kernel, which copies the bytes
mod ports; // datapipe, between threads and between processes
mod program; // names and arguments of the programs
mod receiver; // the process at the other end
mod workloads; // the four workloads and their bounds

pub(super) use program::program;
pub(super) use workloads::{CHANNEL, KERNEL_PIPE, PROCESSES, THREADS};

/// Number and size of the buffers, for all programs.
const BUFFERS: u32 = 64;
const BUFFER_SIZE: usize = 65_536;
