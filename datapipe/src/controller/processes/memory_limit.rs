//! Limit of the memory that a process has besides the segment.
//!
//! The kernel enforces it (`RLIMIT_DATA`): private writable memory, which is the heap, the stacks
//! of threads and private mappings, and not the shared memory of the pipe. The process cannot raise
//! it.
//!
//! The controller sets it on the process that it has just started, so that no code has to run
//! between fork and exec. The kernel permits that to the process's own user only, or with
//! `CAP_SYS_RESOURCE`. So a process of another user sets its own limit when it becomes that user.

use std::io;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// Most private memory of a process that is about to start.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryLimit(Rlimit);

impl MemoryLimit {
    /// Limit of `bytes`, or the controller's own if that is lower: a process inherits it, and
    /// cannot have more.
    pub(super) fn new(bytes: u64) -> Self {
        let own = getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX);
        let limit = Some(bytes.min(own));
        Self(Rlimit {
            current: limit,
            maximum: limit,
        })
    }

    /// Limits the process that calls this. It takes no lock and no memory, so it may be called
    /// between fork and exec.
    pub(super) fn set_on_self(self) -> io::Result<()> {
        Ok(setrlimit(Resource::Data, self.0)?)
    }

    /// Limits the process `id`, a child of the controller's user that was not waited for.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(super) fn set_on_child(self, id: u32) -> io::Result<()> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        match prlimit(pid, Resource::Data, self.0) {
            // It has ended.
            Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => {
                let (error, bytes) = (io::Error::from(errno), self.0.current.unwrap_or_default());
                let text = format!("cannot limit its memory to {bytes} bytes: {error}");
                Err(io::Error::new(error.kind(), text))
            }
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
        MemoryLimit::new(64 << 20).set_on_child(child.id()).unwrap();
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "65536\n65536\n");
    }
}
