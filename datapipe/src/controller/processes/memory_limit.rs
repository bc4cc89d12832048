//! Limit of the memory that a process has besides the segment.
//!
//! The kernel enforces it (`RLIMIT_DATA`): private writable memory, which is the heap, the stacks
//! of threads and private mappings, and not the shared memory of the pipe. The process sets it
//! before it executes its program, and cannot raise it. The controller could set it from outside
//! on processes of its own user only, unless it has `CAP_SYS_RESOURCE`.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits the private memory of the processes of `command` to `bytes`, or to less if this process
/// may have less.
#[allow(unsafe_code, reason = "runs code between fork and exec")]
pub(super) fn limit_memory(command: &mut Command, bytes: u64) {
    let most = getrlimit(Resource::Data).maximum;
    let bytes = Some(most.map_or(bytes, |most| most.min(bytes)));
    let change = move || {
        let limit = Rlimit {
            current: bytes,
            maximum: bytes,
        };
        Ok(setrlimit(Resource::Data, limit)?)
    };
    // SAFETY: after a fork, only functions that are safe in a handler of signals may be called. The
    // closure makes one system call, and allocates and drops nothing.
    unsafe { command.pre_exec(change) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::process::Command;

    use super::*;

    #[test]
    fn limit_holds_for_the_process_and_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -d; sh -c 'ulimit -Hd'"]);
        limit_memory(&mut command, 64 << 20);
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "65536\n65536\n");
    }
}
