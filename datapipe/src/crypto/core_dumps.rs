//! Core dumps of a process that has keys.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Prevents core dumps of this process, and of those that it starts from now on.
///
/// The library keeps its keys on pages that are left out of dumps. But a thread that encrypts, or
/// has just done so, has parts of the key in its registers and on its stack, and what a program
/// keeps of a key itself is its own matter. The processes of pipes that get a key call this, and
/// so do the programs of this project if they are given one; the library does not in a process
/// that is not its own.
///
/// Sets the soft limit `RLIMIT_CORE` to 1 byte. No file is written below a limit of a page, and no
/// program receives a dump (`core_pattern` with `|`, as of `systemd-coredump`) at exactly 1.
///
/// If the hard limit is 0, the soft limit becomes 0. Then no file is written either, but a program
/// of `core_pattern` still receives dumps, because the kernel compares the limit with 1 only, and
/// this function does not raise a hard limit. Start the process with a hard limit of at least 1
/// byte, or let `core_pattern` name a file.
///
/// ```
/// datapipe::crypto::prevent_core_dumps()?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// An error of the system, if it does not let the limit be lowered.
pub fn prevent_core_dumps() -> io::Result<()> {
    let maximum = getrlimit(Resource::Core).maximum;
    let limit = Rlimit {
        current: Some(maximum.map_or(1, |most| most.min(1))),
        maximum,
    };
    Ok(setrlimit(Resource::Core, limit)?)
}
