//! The user that a process runs as, from its first instruction on.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::fs::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::stage::ProcessUser;

/// Variables of the environment that a process of another user gets: none that could be a secret
/// of the controller's user.
const VARIABLES: [&str; 6] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "RUST_BACKTRACE",
    "LLVM_PROFILE_FILE",
];

/// Lets `command` run as `user`: with the user's groups and ids and, unless it is root, without any
/// capability; no program that it executes can get more rights.
///
/// The user may look into the process, and take what it has. So it has nothing of the controller:
/// not its standard output and error (`errors` is the end of a pipe that only the controller
/// reads), which may be a log or a terminal, nor its session, whose terminal every process of it
/// may open, nor its working directory, nor a descriptor that the controller has inherited.
///
/// The order matters: only a privileged process may set its groups, so they come first, and the
/// user's id, with which the rights end, comes last. The new environment has nothing of the
/// controller's that the user should not read.
#[allow(unsafe_code, reason = "runs code between fork and exec")]
pub(super) fn run_as(command: &mut Command, user: &ProcessUser, errors: OwnedFd) {
    let kept = VARIABLES
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(kept);
    command.stdout(Stdio::null()).stderr(errors);
    let (uid, gid) = (Uid::from_raw(user.user()), Gid::from_raw(user.group()));
    let groups: Vec<_> = user
        .supplementary()
        .iter()
        .map(|id| Gid::from_raw(*id))
        .collect();
    let change = move || -> io::Result<()> {
        keep_no_descriptors()?;
        rustix::process::setsid()?;
        rustix::process::chdir("/")?;
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        if !uid.is_root() {
            // The change of the user clears them too, unless the controller is set to keep them.
            let none = CapabilitySet::empty();
            rustix::thread::set_capabilities(
                None,
                CapabilitySets {
                    effective: none,
                    permitted: none,
                    inheritable: none,
                },
            )?;
        }
        rustix::thread::set_no_new_privs(true)?;
        Ok(())
    };
    // SAFETY: after a fork, only functions that are safe in a handler of signals may be called. The
    // closure makes system calls, which use memory that was allocated before: no lock, no
    // allocation. It drops nothing, because it is called in the child, which executes or exits.
    unsafe { command.pre_exec(change) };
}

/// Marks all descriptors above standard error, so that the program does not inherit them. This
/// program opens none that is inherited, but the one that started it may have.
#[allow(unsafe_code, reason = "rustix does not have the call")]
fn keep_no_descriptors() -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: the call takes three numbers. It changes flags of descriptors of the child, whose
    // table is a copy, and closes none before the program is executed.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
