//! The death of another process, as the operating system sees it.
//!
//! A connection that hangs up is not a death, and nothing in shared memory is evidence: the
//! controller reclaims what a participant held only with a [`Dead`] as proof, and only the
//! kernel's word makes one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that is watched. Its id cannot be taken over by another while this exists.
#[derive(Debug)]
pub struct Process {
    descriptor: OwnedFd,
    id: u32,
}

/// Proof that a process will never touch the segment again.
#[derive(Debug)]
pub struct Dead {
    process: u32,
}

impl Dead {
    /// The process that died.
    pub fn process(&self) -> u32 {
        self.process
    }
}

impl Process {
    /// Starts watching the process with id `id`.
    ///
    /// To be certain that it is the process that was meant, watch a child of one's own before
    /// waiting for it.
    ///
    /// # Errors
    ///
    /// If there is no such process, or the kernel is older than 5.3.
    pub fn watch(id: u32) -> io::Result<Self> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("no process id: {id}"))
        })?;
        Ok(Self {
            descriptor: pidfd_open(pid, PidfdFlags::empty())?,
            id,
        })
    }

    /// Watches the process that a pidfd is about: one that came with a connection (`SO_PEERPIDFD`)
    /// is certain to be the process that was meant.
    ///
    /// # Errors
    ///
    /// If it is not a pidfd, or its process has been waited for, or is of another pid namespace.
    pub fn of_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let info =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd()))?;
        let id = info
            .lines()
            .find_map(|line| line.strip_prefix("Pid:"))
            .map(str::trim);
        let id = id
            .and_then(|id| id.parse::<u32>().ok())
            .filter(|&id| id > 0);
        let none = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is about no process of ours",
            )
        };
        Ok(Self {
            descriptor,
            id: id.ok_or_else(none)?,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Kills the process, stopped or not. It is dead only once [`Process::wait`] says so.
    ///
    /// # Errors
    ///
    /// If it belongs to another user. A process that is dead already is not an error.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.descriptor, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Continues the process if it is stopped. One that has died meanwhile is not an error.
    ///
    /// # Errors
    ///
    /// If it belongs to another user.
    #[cfg(feature = "processes")]
    pub(crate) fn resume(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.descriptor, Signal::CONT) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits up to `timeout` for the death of the process.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn wait(&self, timeout: Duration) -> io::Result<Option<Dead>> {
        let died = Self::wait_any([self], timeout)?;
        Ok(died.then_some(Dead { process: self.id }))
    }

    /// Waits up to `timeout` for the death of any of `processes`. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub(crate) fn wait_any<'p>(
        processes: impl IntoIterator<Item = &'p Self>,
        timeout: Duration,
    ) -> io::Result<bool> {
        let ready = |process: &'p Self| PollFd::new(&process.descriptor, PollFlags::IN);
        let mut polled: Vec<_> = processes.into_iter().map(ready).collect();
        let deadline = Instant::now().checked_add(timeout);
        loop {
            // A deadline that no clock reaches is none.
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let left = left.map(|left| rustix::fs::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            });
            match poll(&mut polled, left.as_ref()) {
                Ok(count) => return Ok(count > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Process {
    /// The descriptor to poll together with others: readable means dead.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_alive_until_it_is_dead() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::watch(child.id()).unwrap();
        assert!(process.wait(Duration::ZERO).unwrap().is_none());
        process.kill().unwrap();
        assert!(
            process.wait(Duration::from_secs(30)).unwrap().is_some(),
            "killed, and noticed"
        );
        child.wait().unwrap();
        process.kill().expect("killing the dead is not an error");
    }

    #[test]
    fn a_pidfd_tells_whose_it_is() {
        let own = rustix::process::getpid();
        let process =
            Process::of_descriptor(pidfd_open(own, PidfdFlags::empty()).unwrap()).unwrap();
        assert_eq!(process.id(), std::process::id());
        assert!(process.wait(Duration::ZERO).unwrap().is_none());
        assert!(Process::of_descriptor(tempfile::tempfile().unwrap().into()).is_err());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pidfd = Process::watch(child.id()).unwrap().descriptor;
        child.wait().unwrap();
        assert!(
            Process::of_descriptor(pidfd).is_err(),
            "the process is gone"
        );
    }

    #[test]
    fn no_process_no_watch() {
        assert!(Process::watch(0).is_err());
        assert!(Process::watch(u32::MAX).is_err());
    }
}
