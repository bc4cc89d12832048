//! A process that runs.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};

use crate::memory::Process;

/// A process that runs. One that the controller started does not outlive this value.
#[derive(Debug)]
pub(super) struct RunningProcess {
    /// `None` if the controller did not start it.
    pub(super) child: Option<Child>,
    pub(super) process: Process,
    /// The controller's end of the control connection.
    pub(super) control: OwnedFd,
    /// True once the process has closed its end: it sends no more messages.
    pub(super) hung_up: bool,
    /// True if it has closed its end without having received its launch request.
    pub(super) left_request: bool,
}

impl RunningProcess {
    /// Returns the exit status of a process that has died, if it was a child.
    pub(super) fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.as_mut().map(Child::wait).transpose()
    }

    /// True if the process is stopped, by SIGSTOP say, and does not run until it is continued.
    pub(super) fn is_stopped(&self) -> bool {
        let stat = std::fs::read(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        // The state follows the name in parentheses. The name may contain any characters, also
        // parentheses, but none follow it.
        let state = stat
            .iter()
            .rposition(|&byte| byte == b')')
            .and_then(|end| stat.get(end + 2));
        state == Some(&b'T')
    }

    /// Kills a process that the controller started. One that has died meanwhile is not an error.
    pub(super) fn kill(&self) {
        let _ = self.process.kill();
    }
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // By its descriptor: if the application waits for all children, or ignores their
            // deaths, the id may be another process's by now. Both calls do nothing to a process
            // that is dead.
            let _ = self.process.kill();
            let _ = child.wait();
        }
    }
}
