//! Forks processes, and waits for their deaths.

#![allow(
    unsafe_code,
    reason = "forks, and sets a timer that the libraries do not know"
)]

use std::fs;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use datapipe::memory::Process;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::Outcome;

/// Runs `body` in a process of its own.
pub(crate) fn fork(body: impl FnOnce() -> Outcome) -> Outcome<Process> {
    let parent = rustix::process::getpid();
    // SAFETY: this process has one thread, so the child finds no lock held and no operation half
    // done by another thread.
    let id = unsafe { libc::fork() };
    if id == 0 {
        let code = in_child(parent, body);
        // SAFETY: leaves at once: values copied from the parent are neither dropped nor flushed a
        // second time.
        unsafe { libc::_exit(code) }
    }
    let id = u32::try_from(id).map_err(|_| io::Error::last_os_error())?;
    // The process still exists: a child stays until its parent waits for it.
    Ok(Process::watch(id)?)
}

/// The clock of the time in which the calling process runs its own instructions, and not the
/// kernel's. Encoded as in the kernel's posix-timers.h, for which libc has no name: process 0, user
/// time.
const USER_TIME: libc::clockid_t = !0 << 3 | 1;

/// Kills this process after it has worked for this time: so it dies at work, between two of its
/// instructions.
pub(crate) fn die_after(life: Duration) -> io::Result<()> {
    // SAFETY: it is plain data, for which zeros are valid.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    let mut timer = ptr::null_mut();
    // SAFETY: both pointers are to variables that live as long as the call.
    let created = unsafe { libc::timer_create(USER_TIME, &raw mut event, &raw mut timer) };
    let never = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let at = libc::timespec {
        tv_sec: 0,
        tv_nsec: life.subsec_nanos().into(),
    };
    let once = libc::itimerspec {
        it_interval: never,
        it_value: at,
    };
    if created != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the timer was just made, and the old setting is not asked for.
    let set = unsafe { libc::timer_settime(timer, 0, &raw const once, ptr::null_mut()) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Returns the labelled points of the hand-over at which a process can be made to die: none in an
/// ordinary build.
pub(crate) fn points() -> Vec<&'static str> {
    #[cfg(feature = "kill-points")]
    return datapipe::memory::points::LABELS
        .iter()
        .copied()
        .filter(|at| !at.starts_with("reclaim."))
        .collect();
    #[cfg(not(feature = "kill-points"))]
    Vec::new()
}

/// Kills this process at its `passes`th pass of a point.
pub(crate) fn die_at(label: &'static str, passes: u64) {
    #[cfg(feature = "kill-points")]
    datapipe::memory::points::die_at(label, passes);
    #[cfg(not(feature = "kill-points"))]
    unreachable!("there is no point {label} to die at pass {passes} of");
}

fn in_child(parent: Pid, body: impl FnOnce() -> Outcome) -> i32 {
    // The processes end with the test, also if it is killed.
    let follows = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if follows.is_err() || rustix::process::getppid() != Some(parent) {
        return 1;
    }
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(story)) => {
            let _ = writeln!(
                io::stderr(),
                "kills: process {}: {story}",
                std::process::id()
            );
            1
        }
        Err(_) => 101,
    }
}

pub(crate) fn pid(process: &Process) -> Pid {
    i32::try_from(process.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("the id of a process")
}

/// Returns the kernel's description of a process in a file of `/proc`.
pub(crate) fn about(process: &Process, file: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/{file}", process.id())).unwrap_or_default();
    text.trim().into()
}

/// Returns the state letter of a process: R runs or could run, S sleeps, T is stopped, Z is dead.
pub(crate) fn state(process: &Process) -> char {
    about(process, "stat")
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next())
        .unwrap_or('?')
}

pub(crate) fn reap(pid: Pid) -> Outcome<WaitStatus> {
    let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::empty())?
        .ok_or("there is no child to wait for")?;
    Ok(status)
}

/// Restricts this process, and all that it forks, to one processor. Returns the processors that
/// were allowed before.
pub(crate) fn one_processor() -> io::Result<CpuSet> {
    let everywhere = sched_getaffinity(None)?;
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here)?;
    Ok(everywhere)
}
