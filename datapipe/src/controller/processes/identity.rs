//! The user that a process runs as, from its first instruction on.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

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
/// The order matters: only a privileged process may set its groups, so they come first, and the
/// user's id, with which the rights end, comes last. The new environment has nothing of the
/// controller's that the user should not read.
#[allow(unsafe_code, reason = "runs code between fork and exec")]
pub(super) fn run_as(command: &mut Command, user: &ProcessUser) {
    let kept = VARIABLES
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(kept);
    let (uid, gid) = (Uid::from_raw(user.user()), Gid::from_raw(user.group()));
    let groups: Vec<_> = user
        .supplementary()
        .iter()
        .map(|id| Gid::from_raw(*id))
        .collect();
    let change = move || -> io::Result<()> {
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
