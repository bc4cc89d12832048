//! The workloads. `README.md` of this crate defines each of them, once; this folder implements the
//! definitions.
//!
//! ```text
//!   Workload -- prepare --> Comparison { ours: RunSpec, peer: RunSpec }   in pairs, a ratio each
//!            |- prepare --> Case { steps: [RunSpec, RunSpec, ...] }, ...  ours alone, in turn
//!            \- prepare --> RunSpec                                       ours alone, once
//!                              |
//!                 a command, its expected output, and the files that it must leave
//! ```
//!
//! This module does not measure anything. To add a workload, write a section in `README.md`, a file
//! here with a [`Workload`] and its programs, a line in [`ALL`] and one for each program in
//! [`program()`].

mod copy; // an archive to another medium, without its key
mod cores; // the kernel's source on more and more processors
mod deaths; // delays until the death of a process is noticed and its work goes on
mod file_totals; // number and size of the files in a directory
mod growth; // up to a million files, and a long stream, by our programs alone
mod hand_over; // buffers to another thread or process and back, without their content
mod kernel_tree; // the kernel's source to an archive, and back
mod memory_file; // an unnamed file in memory
mod net; // a stream over TCP connections
mod programs; // our programs, other programs, and shell commands
mod raw_stream; // a stream from memory to a checksum
mod registry; // all workloads and programs by name
mod run_spec; // a command with its expected results
mod scratch; // a directory in memory, removed in any case
mod source_tree; // a tree in memory, and the runs that archive it
mod space; // free memory and inodes
mod stream_to_tape; // a stream to a virtual tape
mod tiny_files; // a million tiny files to an archive
mod workload; // kinds of workloads, measures and bounds

pub(crate) use deaths::modules;
pub(crate) use file_totals::FileTotals;
pub(crate) use registry::{ALL, find, program};
pub(crate) use run_spec::{ExpectedFiles, ExpectedOutput, RunSpec};
pub(crate) use workload::{
    Bound, Case, Comparison, Delay, Measure, Prepare, Program, Step, Task, Workload,
};

use workload::PAIRS;
