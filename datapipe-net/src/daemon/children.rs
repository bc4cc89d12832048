//! Children of the daemon that do not end for it, or for which no pipe waits.
//!
//! ```text
//!   process that its user traces    it stops before its end, or ends for the tracer only
//!   CLONE_PARENT in a process       its child is the daemon's, and no pipe knows it
//! ```
//!
//! A process of a module is its user's, who can do both, pipe after pipe. Each such child takes a
//! place in the table of processes, and in the control group of the service, which all users share.
//! So it counts for its user, and the daemon waits for those that it can.
//!
//! A process that is being waited for by its pipe is dead for a moment only. One of a live pipe
//! that is stopped by a tracer counts twice meanwhile.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use datapipe::interrupt::retry;
use datapipe::media::{FileSystem, Storage as _};
use parking_lot::Mutex;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::config::User;
use crate::limits::KEPT_PATIENCE;

/// Dead and traced children, with the time at which each was first seen.
#[derive(Debug, Default)]
pub(super) struct Children(Mutex<HashMap<i32, Instant>>);

impl Children {
    /// Looks for dead and traced children of other users than the daemon's. Waits for those that
    /// have been so for longer than [`KEPT_PATIENCE`], if no pipe has processes of their user:
    /// `has_processes` decides. Returns the number of those of `user` that are left.
    pub(super) fn look(
        &self,
        user: User,
        now: Instant,
        has_processes: impl Fn(User) -> bool,
    ) -> u64 {
        let mut seen = self.0.lock();
        let mut kept = kept_children();
        seen.retain(|id, _| {
            kept.iter()
                .any(|(other, _)| other.as_raw_nonzero().get() == *id)
        });
        kept.retain(|(id, owner)| {
            let first = *seen.entry(id.as_raw_nonzero().get()).or_insert(now);
            let is_left = now.saturating_duration_since(first) >= KEPT_PATIENCE;
            if !is_left || has_processes(*owner) {
                return true;
            }
            // One that is traced does not end for its parent.
            !matches!(waitpid(Some(*id), WaitOptions::NOHANG), Ok(Some(_)))
        });
        kept.iter().filter(|(_, owner)| *owner == user).count() as u64
    }
}

/// Ids and users of the children of this process that are dead, or stopped by a tracer. Those of
/// its own user are left out: a program that has a daemon may have children of its own.
fn kept_children() -> Vec<(Pid, User)> {
    let tasks = Path::new("/proc/self/task");
    let names = FileSystem.list(tasks).unwrap_or_default();
    let lists = names.into_iter().filter_map(|name| {
        let path = tasks.join(name).join("children");
        retry(|| fs::read_to_string(&path)).ok()
    });
    let mut kept = Vec::new();
    for list in lists {
        let ids = list.split_whitespace().filter_map(|id| id.parse().ok());
        kept.extend(ids.filter_map(|id| Some((Pid::from_raw(id)?, user_of_kept(id)?))));
    }
    kept
}

/// Checks that the kernel lists the children of a thread (`CONFIG_PROC_CHILDREN`). Without these
/// lists no child is found.
pub(super) fn check_lists() -> io::Result<()> {
    fs::metadata("/proc/thread-self/children").map(drop)
}

/// User of a process that is dead or stopped by a tracer; `None` if it is neither, or the daemon's
/// own user's.
fn user_of_kept(id: i32) -> Option<User> {
    let status = retry(|| fs::read(format!("/proc/{id}/status"))).ok()?;
    let status = String::from_utf8_lossy(&status);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()
    };
    let user = User(field("Uid:")?.parse().ok()?);
    (matches!(field("State:")?, "Z" | "t") && user != User::own()).then_some(user)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = KEPT_PATIENCE;

    #[test]
    fn dead_children_count_until_they_are_waited_for() {
        if !rustix::process::geteuid().is_root() {
            println!("not root: children of other users are not tested");
            return;
        }
        let (user, other) = (User(4_000_000_041), User(4_000_000_042));
        let child = Command::new("true").uid(user.0).spawn().unwrap();
        let id = child.id();
        drop(child);
        let (children, now) = (Children::default(), Instant::now());
        while user_of_kept(id as i32).is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let none = |_: User| false;
        assert_eq!(children.look(user, now, none), 1);
        assert_eq!(children.look(other, now + LONG / 2, none), 0);
        assert_eq!(children.look(user, now + LONG / 2, none), 1);
        // A pipe with processes of its user may be waiting for it.
        assert_eq!(children.look(user, now + LONG, |owner| owner == user), 1);
        assert_eq!(children.look(user, now + LONG, none), 0);
        assert!(!Path::new("/proc").join(id.to_string()).exists());
        assert!(children.0.lock().len() <= 1);
    }
}
