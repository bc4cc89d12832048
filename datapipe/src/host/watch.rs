//! A thread that watches the controller's life for a process that takes part in its pipe, and sends
//! the process's messages.
//!
//! An instance that sleeps in the pipe depends on others to wake it, and a controller that is
//! killed wakes none. So when the kernel reports its death, the watch stops the pipe: every
//! instance returns from its wait, frees the blocks that it holds, and ends.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Signal, getpid, kill_process};

use super::message_sources::MessageSources;
use crate::memory::{Process, Segment};

/// Interval at which messages are sent.
const INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// Time that a process has to end in order after the death of its controller.
const GRACE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 700_000_000,
};

/// Fate of the process after the death of its pipe's controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnControllerDeath {
    /// It was started for the pipe, and ends: by itself within [`GRACE`], or by force.
    End,
    /// It was not started for the pipe, and lives on.
    GoOn,
}

/// Handle of the thread that watches.
#[derive(Debug)]
pub(super) struct Watch {
    thread: Option<JoinHandle<()>>,
    /// Event that ends the thread.
    end: OwnedFd,
    messages: MessageSources,
}

impl Watch {
    pub(super) fn start(
        controller: Process,
        segment: &Segment,
        messages: &MessageSources,
        on_death: OnControllerDeath,
    ) -> io::Result<Self> {
        let end = eventfd(0, EventfdFlags::CLOEXEC)?;
        let mut watch = WatchThread {
            controller,
            segment: segment.clone(),
            end: end.try_clone()?,
            messages: messages.clone(),
            on_death,
        };
        let thread = Builder::new()
            .name("watch".to_owned())
            .spawn(move || watch.run())?;
        Ok(Self {
            thread: Some(thread),
            end,
            messages: messages.clone(),
        })
    }

    /// Ends the watch, and sends the last messages.
    pub(super) fn end(mut self) {
        self.join();
        // The results of all instances have been sent, so a failure changes nothing any more.
        let _ = self.messages.send_pending();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Cannot fail: the value fits into the counter, to which nothing else adds.
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

/// State of the thread that watches.
struct WatchThread {
    controller: Process,
    segment: Segment,
    end: OwnedFd,
    messages: MessageSources,
    on_death: OnControllerDeath,
}

impl WatchThread {
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
            if let Err(failed) = self.messages.send_pending() {
                self.messages.send_failure(failed);
            }
        }
        self.segment.cancel();
        if self.on_death == OnControllerDeath::End {
            // The process ends by itself meanwhile, unless a stage does not return. If the poll
            // fails, there is no way to know, so the process is killed now.
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
    use super::super::launch_request::control_pair;
    use super::*;
    use crate::memory::{Backing, HugePages, PipeName, Shape, StageShape};

    #[test]
    fn process_that_ends_within_the_grace_is_not_killed() {
        let shape = Shape::builder(2, 4096)
            .stages([StageShape::new(1).share(2), StageShape::new(1)])
            .build()
            .unwrap();
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
        let (_ours, theirs) = control_pair().unwrap();
        let watch = Watch::start(
            controller,
            &segment,
            &MessageSources::new(theirs),
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
