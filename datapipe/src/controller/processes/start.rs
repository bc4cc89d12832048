//! The start of a process, which is watched as its life is.
//!
//! The call that starts a process returns when the child executes its program. Until then the
//! supervisor can neither see the child nor do anything else, so a thread beside it looks after the
//! child: one that was stopped on the way (SIGSTOP to the process group that it was still in) is
//! continued, and one that is not wanted any more, or takes too long, is killed.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::thread::{self, Builder};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::running_process::RunningProcess;
use super::spec::ProcessSpec;
use crate::memory::{Process, Segment};

/// Time between two looks at a process that is being started.
const TICK: Duration = Duration::from_millis(250);
/// Longest time from the request to start a process until its program runs. It is counted in looks,
/// so that a time for which the controller was stopped itself does not count.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts the process of a slot. Returns `None` if the controller does not start it.
///
/// # Errors
///
/// Those of [`ProcessSpec::start`] and of starting a thread, and [`io::ErrorKind::TimedOut`].
pub(super) fn start(spec: &ProcessSpec, segment: &Segment) -> io::Result<Option<RunningProcess>> {
    if !spec.is_bound() {
        return Ok(None);
    }
    let starter = rustix::thread::gettid().as_raw_nonzero().get();
    let before = children_of(starter);
    thread::scope(|scope| {
        let (done, starting) = bounded::<()>(0);
        let watch = move || watch(starter, &before, &starting, segment);
        let watch = Builder::new()
            .name("start".to_owned())
            .spawn_scoped(scope, watch)?;
        let started = spec.start(segment);
        drop(done);
        match watch.join() {
            // The process, if there is one, ends with its value.
            Ok(true) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "its program does not run {} s after the start: see if its file can be read",
                    LIMIT.as_secs()
                ),
            )),
            _ => started,
        }
    })
}

/// Looks after the child that a thread starts, until the start is done. Returns true if it took too
/// long and the child was killed.
fn watch(starter: i32, before: &HashSet<u32>, starting: &Receiver<()>, segment: &Segment) -> bool {
    let (mut time, mut too_long) = (Duration::ZERO, false);
    while starting.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        time += TICK;
        let new = children_of(starter);
        for child in new.difference(before) {
            // While the starter waits, its child is not waited for, and its id is not used again.
            let Ok(child) = Process::watch(*child) else {
                continue;
            };
            if time > LIMIT || segment.is_stopped() {
                too_long |= time > LIMIT;
                let _ = child.kill();
            } else {
                let _ = child.resume();
            }
        }
    }
    too_long
}

/// Returns the ids of the processes that a thread of this process has started. Empty if the kernel
/// does not list them.
fn children_of(thread: i32) -> HashSet<u32> {
    let children = fs::read_to_string(format!("/proc/self/task/{thread}/children"));
    let children = children.unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::process::Command;

    use super::*;
    use crate::memory::{Backing, HugePages, PipeName, Shape, StageShape};

    fn segment() -> Segment {
        let shape = Shape::builder(2, 4096)
            .stages([StageShape::new(1).share(2), StageShape::new(1)])
            .build()
            .unwrap();
        let (name, huge) = (PipeName::new(), HugePages::No);
        Segment::create(&name, shape, &[], Backing::Anonymous, huge).unwrap()
    }

    /// Runs a program that stops itself, as one is that was stopped on the way, and looks after it.
    /// Returns true if it ended well.
    fn watch_stopped_child(segment: &Segment) -> bool {
        let starter = rustix::thread::gettid().as_raw_nonzero().get();
        let before = children_of(starter);
        thread::scope(|scope| {
            let (done, starting) = bounded::<()>(0);
            let watch = scope.spawn(move || watch(starter, &before, &starting, segment));
            let status = Command::new("sh").args(["-c", "kill -STOP $$"]).status();
            drop(done);
            assert!(!watch.join().unwrap(), "it did not take too long");
            status.unwrap().success()
        })
    }

    #[test]
    fn child_that_is_stopped_at_its_start_is_continued() {
        assert!(watch_stopped_child(&segment()));
    }

    #[test]
    fn child_that_is_stopped_at_its_start_is_killed_if_the_pipe_stops() {
        let segment = segment();
        segment.stop();
        assert!(!watch_stopped_child(&segment));
    }
}
