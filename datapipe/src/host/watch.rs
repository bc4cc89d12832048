//! Watches the controller's life, for a process that takes part in its pipe, and passes the
//! process's notes on.
//!
//! Whoever sleeps in the pipe is woken by others, and a controller that is killed wakes nobody. So
//! when the kernel says that it is dead, its pipe is stopped: every instance gets back from its
//! wait, lets go of what it holds, and ends.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Signal, getpid, kill_process};

use super::modules::Notes;
use crate::memory::{Process, Segment};

/// How often notes are passed on.
const INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// How long a process may take to end in order when its controller has died.
const GRACE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 700_000_000,
};

/// What becomes of the process when its pipe's controller is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnControllerDeath {
    /// It was started for the pipe, and ends: by itself within the grace, or by force.
    End,
    /// It is somebody else's.
    GoOn,
}

/// A thread that watches.
#[derive(Debug)]
pub(super) struct Watch {
    thread: Option<JoinHandle<()>>,
    end: OwnedFd,
    notes: Notes,
}

impl Watch {
    pub(super) fn start(
        controller: Process,
        segment: &Segment,
        notes: &Notes,
        then: OnControllerDeath,
    ) -> io::Result<Self> {
        let end = eventfd(0, EventfdFlags::CLOEXEC)?;
        let mut watching = Watching {
            controller,
            segment: segment.clone(),
            end: end.try_clone()?,
            notes: notes.clone(),
            then,
        };
        let thread = Builder::new()
            .name("watch".to_owned())
            .spawn(move || watching.run())?;
        Ok(Self {
            thread: Some(thread),
            end,
            notes: notes.clone(),
        })
    }

    /// Ends the watch, and passes the last notes on.
    pub(super) fn end(mut self) {
        self.join();
        // How every instance ended has been said. What fails now changes nothing about that.
        let _ = self.notes.pass_on();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Eight bytes fit into a counter that nobody else adds to.
            let _ = rustix::io::write(&self.end, &1u64.to_le_bytes());
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.join();
    }
}

struct Watching {
    controller: Process,
    segment: Segment,
    end: OwnedFd,
    notes: Notes,
    then: OnControllerDeath,
}

impl Watching {
    fn run(&mut self) {
        loop {
            let mut polled = [
                PollFd::new(&self.controller, PollFlags::IN),
                PollFd::new(&self.end, PollFlags::IN),
            ];
            let ready = poll(&mut polled, Some(&INTERVAL));
            let [controller, end] = polled.map(|polled| !polled.revents().is_empty());
            if ready.is_ok() && end {
                return;
            }
            if ready.is_ok() && controller {
                break;
            }
            if let Err(failed) = self.notes.pass_on() {
                self.notes.tell_failure(failed);
            }
        }
        self.segment.stop();
        if self.then == OnControllerDeath::End {
            // This process ends meanwhile, unless a stage does not return. If nobody can say, it
            // has to be now.
            let mut polled = [PollFd::new(&self.end, PollFlags::IN)];
            let ended = retry_on_intr(|| poll(&mut polled, Some(&GRACE)));
            if !matches!(ended, Ok(1)) {
                let _ = kill_process(getpid(), Signal::KILL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::super::order::pair;
    use super::*;
    use crate::memory::{Backing, HugePages, PipeName, Shape, StageShape};

    #[test]
    fn who_ends_in_time_is_not_killed() {
        let stages = [StageShape::new(1, 2), StageShape::new(1, 0)];
        let shape = Shape::new(2, 4096, 0, 0, &stages).unwrap();
        let segment = Segment::create(
            &PipeName::new(),
            shape,
            &[],
            Backing::Anonymous,
            HugePages::No,
        )
        .unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let controller = Process::watch(child.id()).unwrap();
        let (_ours, theirs) = pair().unwrap();
        let watch = Watch::start(
            controller,
            &segment,
            &Notes::new(theirs),
            OnControllerDeath::End,
        )
        .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        while !segment.is_stopped() {
            std::thread::yield_now();
        }
        watch.end(); // and this process lives
    }
}
