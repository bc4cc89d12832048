//! Memory of a pipe that has ended, as long as a process may still map it.
//!
//! A process that was attached keeps its mapping for as long as it likes. The memory of the buffers
//! was returned to the machine when the pipe ended, but what the process writes takes memory again.
//! So the memory counts for the owner of the pipe until no process has the segment any more, and is
//! returned again and again until then.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datapipe::interrupt::{for_each_name, retry};
use datapipe::media::{FileSystem, Storage as _};
use datapipe::memory::{Process, Segment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::accounts::Charge;
use super::log::Kind;
use super::state::DaemonState;
use crate::config::User;
use crate::limits::{LINGER_INTERVAL, MAX_SEARCHED};

/// Process that was attached to a pipe.
#[derive(Debug)]
pub(super) struct Holder(Process);

/// Memory of a pipe that has ended, which a process still has.
pub(super) struct LingeringMemory {
    segment: Segment,
    holders: Vec<Holder>,
    charge: Charge,
}

impl Holder {
    pub(super) fn new(process: Process) -> Self {
        Self(process)
    }

    fn is_dead(&self) -> bool {
        matches!(self.0.wait(Duration::ZERO), Ok(Some(_)))
    }
}

impl LingeringMemory {
    /// Takes over the memory of a pipe that has ended, and keeps what has to be charged for it.
    /// Returns `None`, and gives the charge back, if no process has the segment.
    pub(super) fn new(segment: Segment, holders: Vec<Holder>, mut charge: Charge) -> Option<Self> {
        charge.keep_memory();
        let mut lingering = Self {
            segment,
            holders,
            charge,
        };
        lingering.is_held().then_some(lingering)
    }

    /// Waits until no process has the segment any more, or the daemon ends its connections.
    pub(super) fn wait(mut self, state: &DaemonState) {
        let mut pause = Duration::from_millis(20);
        while !self.pause(state, pause) {
            // If this fails, the memory is returned with the last mapping.
            let _ = self.segment.discard_buffers();
            let began = Instant::now();
            if !self.is_held() {
                return;
            }
            let searched = began.elapsed();
            // Most processes unmap the segment right after the end.
            if pause < LINGER_INTERVAL && pause * 2 >= LINGER_INTERVAL {
                self.log(state);
            }
            // A search that takes long takes a small part of a processor all the same.
            pause = (pause * 2).min(LINGER_INTERVAL).max(searched * 20);
        }
    }

    fn log(&self, state: &DaemonState) {
        let (name, user) = (self.segment.name(), self.charge.user());
        state.log_limited(Kind::LingeringMemory, user, || {
            format!("{name}: its memory counts on: a process still has it")
        });
    }

    /// Waits for a death of a process, or for `time`. Returns true if the daemon ends.
    fn pause(&self, state: &DaemonState, time: Duration) -> bool {
        let mut polled = vec![PollFd::new(&state.hang_up, PollFlags::IN)];
        let holders = self.holders.iter();
        polled.extend(holders.map(|holder| PollFd::new(&holder.0, PollFlags::IN)));
        let time = Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: time.subsec_nanos().into(),
        };
        if poll(&mut polled, Some(&time)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        polled
            .first()
            .is_some_and(|hang_up| !hang_up.revents().is_empty())
    }

    /// True if a process may have the segment: one that was attached, or one of the same user,
    /// which may have received the descriptor, or taken it from a process of the pipe.
    fn is_held(&mut self) -> bool {
        self.holders.retain(|holder| !holder.is_dead());
        let mut search = Search::new(self.segment.name());
        let own = std::process::id();
        let mut ids = self.holders.iter().map(|holder| holder.0.id());
        if ids.any(|id| id != own && search.finds_in(id).unwrap_or(true)) {
            return true;
        }
        // The holders that live have closed it. Those that died are not known any more, so all
        // processes of the pipe's owner are looked at.
        let user = self.charge.user();
        let mut others = processes_of(user);
        !user.is_privileged() && others.any(|id| id != own && search.finds_in(id).unwrap_or(false))
    }
}

/// Ids of the processes of a user.
fn processes_of(user: User) -> impl Iterator<Item = u32> {
    let names = FileSystem.list(Path::new("/proc")).unwrap_or_default();
    names.into_iter().filter_map(move |name| {
        let id = name.to_str()?.parse().ok()?;
        let found = retry(|| fs::metadata(Path::new("/proc").join(&name)));
        (found.ok()?.uid() == user.0).then_some(id)
    })
}

/// A search for a segment in processes. A user can have any number of mappings and descriptors, and
/// gets no more of the daemon's time than [`MAX_SEARCHED`] of them take.
struct Search {
    /// In the name of the segment's file.
    name: String,
    /// Number of mappings and descriptors that it still looks at.
    left: u32,
}

impl Search {
    fn new(segment: impl std::fmt::Display) -> Self {
        Self {
            name: format!("memfd:datapipe:{segment}"),
            left: MAX_SEARCHED,
        }
    }

    /// True if a process maps the segment or has its descriptor open, or there is too much to look
    /// at. `None` if the process may not be looked at.
    fn finds_in(&mut self, process: u32) -> Option<bool> {
        // The first thread of a process may have ended before the others. Its directory is then
        // empty.
        let all = PathBuf::from(format!("/proc/{process}/task"));
        let tasks = match FileSystem.list(&all) {
            Ok(tasks) => tasks,
            Err(error) => return is_gone(&error).then_some(false),
        };
        let (mut known, mut has_maps) = (true, false);
        for task in tasks {
            let task = all.join(task);
            // All threads have the same mappings; one that has ended has none. They may have
            // different descriptors.
            let before = self.left;
            let mapped = match has_maps {
                true => Some(false),
                false => self.finds_mapping(&task),
            };
            has_maps |= self.left < before;
            let opened = self.finds_descriptor(&task);
            if mapped == Some(true) || opened == Some(true) {
                return Some(true);
            }
            known &= mapped.is_some() && opened.is_some();
        }
        known.then_some(false)
    }

    fn finds_mapping(&mut self, task: &Path) -> Option<bool> {
        let maps = match fs::File::open(task.join("maps")) {
            Ok(maps) => maps,
            Err(error) => return is_gone(&error).then_some(false),
        };
        let mut lines = BufReader::new(maps).split(b'\n').map_while(Result::ok);
        Some(lines.any(|line| self.is_named(&line)))
    }

    fn finds_descriptor(&mut self, task: &Path) -> Option<bool> {
        let all = task.join("fd");
        let directory = match fs::File::open(&all) {
            Ok(directory) => directory,
            Err(error) => return is_gone(&error).then_some(false),
        };
        // Not a list of all names: there may be any number.
        let found = for_each_name(&directory, |name| {
            let link = all.join(OsStr::from_bytes(name));
            let link = retry(|| fs::read_link(&link)).unwrap_or_default();
            match self.is_named(link.as_os_str().as_encoded_bytes()) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match found {
            Ok(found) => Some(found.is_some()),
            Err(error) => is_gone(&error.into()).then_some(false),
        }
    }

    fn is_named(&mut self, bytes: &[u8]) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0 || String::from_utf8_lossy(bytes).contains(&self.name)
    }
}

/// True if the error is that of a process that has ended.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}
