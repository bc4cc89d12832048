//! The process at the other end: another process of this program, which inherits standard output
//! and dies with the first process.

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
    let all = [OsStr::new(crate::RUN_PROGRAM), program.as_ref()];
    Command::new(env::current_exe()?)
        .args(all)
        .args(arguments)
        .stdin(Stdio::from(input))
        .spawn()
}

/// Waits for the end of the receiver, which must be successful.
pub(super) fn wait(mut receiver: Child) -> Result<(), Box<dyn Error>> {
    let status = receiver.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the receiving process ended with {status}").into())
    }
}

/// Takes the descriptor that the first process passed as standard input, so that dropping it closes
/// it. From now on this process is killed when the first process ends.
pub(super) fn take_standard_input() -> Result<OwnedFd, Box<dyn Error>> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(input)
}
