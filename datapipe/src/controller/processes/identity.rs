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
/// may open, nor its keyring, nor its working directory, nor a descriptor that the controller has
/// inherited.
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
        // It counts for the user.
        leave_session_keyring()?;
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

/// Gives this process a session keyring of its own. That of the controller's login may have keys,
/// which every process that has the keyring may read.
#[allow(unsafe_code, reason = "rustix does not have the call")]
fn leave_session_keyring() -> io::Result<()> {
    let (join, without_name) = (
        libc::c_ulong::from(libc::KEYCTL_JOIN_SESSION_KEYRING),
        0usize,
    );
    // SAFETY: the call takes two numbers, of which the second is a null pointer: no name.
    if unsafe { libc::syscall(libc::SYS_keyctl, join, without_name) } >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // A kernel without keyrings, or a filter of system calls, which the program inherits.
        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    #![allow(unsafe_code, reason = "rustix does not have the call")]
    use std::thread;

    use super::*;

    /// Name of a key that this process has in a session keyring of its own.
    const KEY: &std::ffi::CStr = c"datapipe:a-secret-of-the-controller";

    /// The list of keys that a process sees, which is started as another user or not.
    fn keys_of_a_process(user: Option<&ProcessUser>) -> String {
        let mut command = Command::new("cat");
        command.arg("/proc/keys");
        if let Some(user) = user {
            let errors = std::fs::File::create("/dev/null").unwrap();
            run_as(&mut command, user, errors.into());
        }
        let output = command.stdout(Stdio::piped()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// A user could read the keys in the session keyring of the login that had started the daemon.
    #[test]
    fn process_of_another_user_has_no_key_of_the_controller() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can become another user");
            return;
        }
        // The kernel keeps the keyring of each thread.
        let keys = thread::spawn(|| {
            leave_session_keyring().unwrap();
            let (kind, value, session) = (c"user", b"secret", -3isize);
            // SAFETY: two texts with their ends, and bytes with their number.
            let key = unsafe {
                let (kind, name, value) = (kind.as_ptr(), KEY.as_ptr(), value.as_ptr());
                libc::syscall(libc::SYS_add_key, kind, name, value, 6usize, session)
            };
            let other = ProcessUser::new(4_000_000_001, 4_000_000_001);
            (key > 0).then(|| [None, Some(&other)].map(keys_of_a_process))
        });
        let Some([own, of_another]) = keys.join().unwrap() else {
            println!("skipped: this kernel has no keyrings");
            return;
        };
        let name = KEY.to_str().unwrap();
        assert!(own.contains(name), "{own}");
        assert!(!of_another.contains(name), "{of_another}");
    }
}
