//! A process that runs.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use super::error_output::ErrorOutput;
use crate::memory::Process;

/// Stack of a thread that only waits.
const REAPER_STACK: usize = 64 << 10;
/// Time between two looks at a process that does not end.
const LOOK: Duration = Duration::from_millis(20);

/// A process that runs. One that the controller started does not outlive this value.
#[derive(Debug)]
pub(super) struct RunningProcess {
    /// `None` if the controller did not start it.
    pub(super) child: Option<Child>,
    pub(super) process: Process,
    /// The controller's end of the control connection.
    pub(super) control: OwnedFd,
    /// Its standard error, if the controller reads it and it has not ended.
    pub(super) errors: Option<ErrorOutput>,
    /// True once the process has closed its end: it sends no more messages.
    pub(super) hung_up: bool,
    /// True if it has closed its end without having received its launch request.
    pub(super) left_request: bool,
    /// Time awake at which the controller first killed it.
    pub(super) killed_at: Cell<Option<Duration>>,
}

impl RunningProcess {
    pub(super) fn new(child: Option<Child>, process: Process, control: OwnedFd) -> Self {
        Self {
            child,
            process,
            control,
            errors: None,
            hung_up: false,
            left_request: false,
            killed_at: Cell::new(None),
        }
    }

    /// Returns the exit status of a process that has died, if it was a child. A process that traces
    /// the child gets its status first, and may never pass it on; then there is none.
    pub(super) fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        loop {
            let Some(child) = &mut self.child else {
                return Ok(None);
            };
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if self.tracer().is_some()
                && let Some(child) = self.child.take()
            {
                leave_to_reaper(child);
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Process that traces this one, if one does. It can keep a process that was killed from
    /// ending, and one that has ended from being waited for.
    pub(super) fn tracer(&self) -> Option<u32> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read(path).unwrap_or_default();
        let mut lines = status.split(|&byte| byte == b'\n');
        let tracer = lines.find_map(|line| line.strip_prefix(b"TracerPid:"))?;
        let tracer = std::str::from_utf8(tracer).ok()?.trim().parse().ok()?;
        (tracer != 0).then_some(tracer)
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

    /// Kills a process that the controller started, at the time awake `now`. One that has died
    /// meanwhile is not an error.
    pub(super) fn kill(&self, now: Duration) {
        if self.killed_at.get().is_none() {
            self.killed_at.set(Some(now));
        }
        let _ = self.process.kill();
    }
}

/// Waits for a child on a thread of its own, so that it does not stay in the table of processes. A
/// child that no thread can be started for stays there as long as this program runs.
fn leave_to_reaper(mut child: Child) {
    let thread = std::thread::Builder::new()
        .name("reaper".to_owned())
        .stack_size(REAPER_STACK);
    let _ = thread.spawn(move || child.wait());
}

impl Drop for RunningProcess {
    fn drop(&mut self) {
        if self.child.is_some() {
            // By its descriptor: if the application waits for all children, or ignores their
            // deaths, the id may be another process's by now. Both calls do nothing to a process
            // that is dead.
            let _ = self.process.kill();
            let _ = self.exit_status();
        }
    }
}
