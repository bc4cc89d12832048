//! Limit of the memory that a process has besides the segment.
//!
//! The kernel enforces it (`RLIMIT_DATA`): private writable memory, which is the heap, the stacks
//! of threads and private mappings, and not the shared memory of the pipe. The controller sets it
//! on the process that it has just started, so that no code has to run between fork and exec, and
//! the process cannot raise it.

use std::io;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Limits the private memory of the process `id`, a child that was not waited for, to `bytes`.
///
/// # Errors
///
/// If the kernel refuses: a process of another user can be limited by root, or with the capability
/// `CAP_SYS_RESOURCE`.
pub(super) fn limit_memory(id: u32, bytes: u64) -> io::Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    match prlimit(pid, Resource::Data, limit) {
        // It has ended.
        Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => {
            let error = io::Error::from(errno);
            let text = format!(
                "cannot limit its memory to {bytes} bytes: {error}; a controller that starts \
                 processes of other users needs the capability CAP_SYS_RESOURCE"
            );
            Err(io::Error::new(error.kind(), text))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn limit_holds_for_the_process_and_its_children() {
        let mut child = Command::new("sh")
            .args(["-c", "read line; ulimit -d; sh -c 'ulimit -d'"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        limit_memory(child.id(), 64 << 20).unwrap();
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "65536\n65536\n");
    }
}
