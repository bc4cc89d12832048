//! Programs of the child processes: names and arguments.

use std::error::Error;
use std::ffi::OsString;

use super::super::Program;
#[cfg(feature = "iceoryx2")]
use super::iceoryx;
use super::{crossbeam, kernel_pipe, ports};

/// Finds a program of this folder by its name.
pub(in super::super) fn program(name: &str) -> Option<Program> {
    Some(match name {
        "threads-datapipe" => ports::threads,
        "processes-datapipe" => ports::processes,
        ports::RECEIVER => ports::receiver,
        "threads-crossbeam" => crossbeam::threads,
        #[cfg(feature = "iceoryx2")]
        "threads-iceoryx2" => iceoryx::threads,
        #[cfg(feature = "iceoryx2")]
        "processes-iceoryx2" => iceoryx::processes,
        #[cfg(feature = "iceoryx2")]
        iceoryx::RECEIVER => iceoryx::receiver,
        "processes-pipe" => kernel_pipe::processes,
        kernel_pipe::RECEIVER => kernel_pipe::receiver,
        _ => return None,
    })
}

/// Reads the number of cycles, the first argument of every program.
pub(super) fn cycles(arguments: &[OsString]) -> Result<u64, Box<dyn Error>> {
    let first = arguments
        .first()
        .ok_or("an argument is missing: the number of cycles")?;
    Ok(first.to_string_lossy().parse()?)
}
