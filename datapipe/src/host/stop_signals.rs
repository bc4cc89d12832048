//! The stop signals of a terminal, while a process is started.
//!
//! ```text
//!   controller's group | clone ---- setpgid ---- exec          a group of its own
//!                      |        ^
//!                   Ctrl-Z      stops the child here: `fg` continues the controller's group, which
//!                               the child has left, and the controller waits for the exec for ever
//! ```
//!
//! A child is in the controller's process group until it has made its own. Therefore the thread
//! that starts it blocks these signals meanwhile, and the child inherits that. One that arrived is
//! then pending in the child, which drops it: it was meant for the controller's group.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that a terminal sends to a process group to stop it.
const SIGNALS: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Blocks the stop signals for this thread, and for the processes it starts, until it is dropped.
#[derive(Debug)]
pub(crate) struct StopSignalsBlocked {
    before: SigSet,
}

impl StopSignalsBlocked {
    pub(crate) fn new() -> io::Result<Self> {
        let before = SigSet::thread_get_mask()?;
        SigSet::from_iter(SIGNALS).thread_block()?;
        Ok(Self { before })
    }
}

impl Drop for StopSignalsBlocked {
    fn drop(&mut self) {
        // Fails only for a set that is not one.
        let _ = self.before.thread_set_mask();
    }
}

/// Drops the stop signals that arrived while this process was started, and unblocks them.
pub(super) fn drop_pending() -> io::Result<()> {
    let signals = SigSet::from_iter(SIGNALS);
    let pending = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    while pending.read_signal()?.is_some() {}
    Ok(signals.thread_unblock()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::process::Command;

    use super::*;

    #[test]
    fn child_started_with_stop_signals_blocked_is_not_stopped() {
        let blocked = StopSignalsBlocked::new().unwrap();
        let status = Command::new("sh").args(["-c", "kill -TSTP $$"]).status();
        assert!(status.unwrap().success());
        drop(blocked);
        let mask = SigSet::thread_get_mask().unwrap();
        assert!(SIGNALS.iter().all(|signal| !mask.contains(*signal)));
    }

    #[test]
    fn pending_stop_signals_are_dropped() {
        let _blocked = StopSignalsBlocked::new().unwrap();
        nix::sys::signal::raise(Signal::SIGTSTP).unwrap();
        drop_pending().unwrap();
        // The signal would have stopped this process at once.
        assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGTSTP));
    }
}
