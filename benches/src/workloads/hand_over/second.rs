//! The process at the other end: this program once more, which inherits standard output, and dies
//! with the first.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

/// Starts one of this executable's own programs, with `input` as its standard input.
pub(super) fn start(program: &str, input: OwnedFd, arguments: &[OsString]) -> io::Result<Child> {
    let all = [OsStr::new(crate::DO), program.as_ref()];
    Command::new(env::current_exe()?)
        .args(all)
        .args(arguments)
        .stdin(Stdio::from(input))
        .spawn()
}

/// Waits until it has done its work.
pub(super) fn wait(mut second: Child) -> Result<(), Box<dyn Error>> {
    let status = second.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the second process ended with {status}").into())
    }
}

/// What the second process was given, by the first, and nobody else has. That one's end is its own
/// from here on.
pub(super) fn standard_input() -> Result<OwnedFd, Box<dyn Error>> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let given = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(given)
}
