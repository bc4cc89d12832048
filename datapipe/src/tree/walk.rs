//! One object after the other: a directory, then what is in it.
//!
//! ```text
//!   frames   data      data/a      data/a/b    ...    top: its names are being given
//!            open      closed      closed             open, as those below it
//! ```
//!
//! Only so many directories are kept open. One that was closed is opened again from below, by `..`, if that is still
//! the same directory, and otherwise from the source.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::vec;

use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::limits::{MAX_OPEN_DIRECTORIES, MAX_PATH};
use crate::wire::ObjectKind;

use super::listing::{Names, Room};
use super::object::{self, Meta, Opened};
use super::options::{Excluded, Source, TreeError, TreeOptions};
use super::report::{ProblemKind, TreeReport};

/// The walk through all sources.
#[derive(Debug)]
pub(super) struct Walk {
    sources: vec::IntoIter<Source>,
    excluded: Excluded,
    skip: HashSet<(u64, u64)>,
    one_file_system: bool,
    report: TreeReport,
    /// The directories that we are in. The first is open, those below `closed` are not, all others are.
    frames: Vec<Frame>,
    closed: usize,
    /// Of the object that was given last.
    path: Vec<u8>,
    /// The file system of the source.
    file_system: u64,
    room: Room,
}

#[derive(Debug)]
struct Frame {
    fd: Option<OwnedFd>,
    id: (u64, u64),
    names: Names,
    /// Length of the directory's path.
    path_len: usize,
}

/// An object that belongs to the archive.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) kind: ObjectKind,
    pub(super) meta: Meta,
    /// Its descriptor; that of a directory which was entered has the walk.
    pub(super) fd: Option<OwnedFd>,
    /// See [`Opened::path_only`].
    pub(super) path_only: bool,
    /// What a symbolic link says.
    pub(super) target: Vec<u8>,
    /// It is a directory whose names could not all be read.
    pub(super) unread: bool,
}

impl Walk {
    pub(super) fn new(
        sources: Vec<Source>,
        options: &TreeOptions,
        report: TreeReport,
    ) -> Result<Self, TreeError> {
        Ok(Self {
            sources: sources.into_iter(),
            excluded: Excluded::new(&options.exclude)?,
            skip: options.skip.iter().copied().collect(),
            one_file_system: options.one_file_system,
            report,
            frames: Vec::new(),
            closed: 1,
            path: Vec::new(),
            file_system: 0,
            room: Room::default(),
        })
    }

    /// The next object of the archive.
    pub(super) fn next(&mut self) -> Option<Found> {
        loop {
            let Some(frame) = self.frames.last_mut() else {
                if let Some(found) = self.enter_source()? {
                    return Some(found);
                }
                continue;
            };
            self.path.truncate(frame.path_len);
            if let (Some(dir), Some((name, kind))) = (&frame.fd, frame.names.next()) {
                self.path.push(b'/');
                self.path.extend_from_slice(name.to_bytes());
                if refuses(&self.excluded, &self.report, &self.path, name.to_bytes()) {
                    continue;
                }
                let opened = object::open(dir.as_fd(), name, kind);
                if let Some(found) = self.judge(opened) {
                    return Some(found);
                }
            } else if !self.read_more() {
                self.leave();
            }
        }
    }

    /// The path of the object that was given last.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The directory that was given last, if it was entered.
    pub(super) fn directory(&self) -> Option<BorrowedFd<'_>> {
        Some(self.frames.last()?.fd.as_ref()?.as_fd())
    }

    /// Leaves the directory that was entered last. The path stays that of the object that was given last.
    pub(super) fn leave(&mut self) {
        let Some(left) = self.frames.pop() else { return };
        let Some(top) = self.frames.len().checked_sub(1) else { return };
        if top == 0 || top >= self.closed {
            return;
        }
        self.closed = top;
        let path_len = self.frames[top].path_len;
        let reopened = self.reopen(left.fd);
        let frame = &mut self.frames[top];
        match reopened {
            Some(fd) => frame.fd = Some(fd),
            None => {
                frame.names.abandon();
                self.report.problem(&self.path[..path_len], ProblemKind::Vanished);
            }
        }
    }

    /// The next source; `None` if there is no more, `Some(None)` if there is nothing of it to be read.
    #[allow(clippy::option_option, reason = "the outer one is for `?`")]
    fn enter_source(&mut self) -> Option<Option<Found>> {
        let source = self.sources.next()?;
        self.path.clear();
        self.path.extend_from_slice(source.name.as_bytes());
        if refuses(&self.excluded, &self.report, &self.path, source.name.as_bytes()) {
            return Some(None);
        }
        let path = CString::new(source.path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL);
        let opened = path.and_then(|path| object::open(CWD, &path, FileType::Unknown));
        if let Ok(opened) = &opened {
            self.file_system = opened.meta.id.0;
        }
        Some(self.judge(opened))
    }

    /// Whether what was opened belongs to the archive. Enters a directory.
    fn judge(&mut self, opened: Result<Opened, Errno>) -> Option<Found> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.report.problem(&self.path, unreadable(error));
                return None;
            }
        };
        let meta = opened.meta;
        if self.skip.contains(&meta.id) {
            self.report.problem(&self.path, ProblemKind::Medium);
            return None;
        }
        let foreign = self.one_file_system && meta.id.0 != self.file_system;
        if foreign {
            self.report.problem(&self.path, ProblemKind::MountPoint);
        }
        let Some(kind) = meta.object_kind() else {
            self.report.problem(&self.path, ProblemKind::Socket);
            return None;
        };
        if kind == ObjectKind::Directory {
            return Some(self.enter(opened, foreign));
        }
        if foreign {
            return None;
        }
        let target = match kind {
            ObjectKind::Symlink => object::target(opened.fd.as_fd()),
            _ => Ok(Vec::new()),
        };
        match target {
            Ok(target) => Some(Found { target, ..Found::new(kind, opened) }),
            Err(error) => {
                self.report.problem(&self.path, unreadable(error));
                None
            }
        }
    }

    fn enter(&mut self, opened: Opened, foreign: bool) -> Found {
        if let Some(error) = opened.unread {
            self.report.problem(&self.path, unreadable(error));
        }
        if foreign || opened.unread.is_some() {
            return Found::new(ObjectKind::Directory, opened);
        }
        let (names, error) = Names::read(opened.fd.as_fd(), &mut self.room);
        if let Some(error) = error {
            self.report.problem(&self.path, unreadable(error));
        }
        let Found { kind, meta, fd, path_only, target, .. } = Found::new(ObjectKind::Directory, opened);
        self.frames.push(Frame { fd, id: meta.id, names, path_len: self.path.len() });
        if self.frames.len() - self.closed >= MAX_OPEN_DIRECTORIES {
            self.frames[self.closed].fd = None;
            self.closed += 1;
        }
        Found { kind, meta, fd: None, path_only, target, unread: error.is_some() }
    }

    /// Whether the top directory has a further piece.
    fn read_more(&mut self) -> bool {
        let Some(frame) = self.frames.last_mut() else { return false };
        let Some(dir) = &frame.fd else { return false };
        frame.names.read_more(dir.as_fd(), &mut self.room).unwrap_or_else(|error| {
            self.report.problem(&self.path, unreadable(error));
            false
        })
    }

    /// Opens the top directory again, from one that was in it, or else from the source.
    fn reopen(&self, below: Option<OwnedFd>) -> Option<OwnedFd> {
        let id = self.frames.last()?.id;
        let same = |fd: &OwnedFd| Meta::of(fd.as_fd()).is_ok_and(|meta| meta.id == id);
        let from_below = below.and_then(|fd| open_directory(fd.as_fd(), c"..").ok()).filter(same);
        from_below.or_else(|| self.open_from_source().filter(same))
    }

    fn open_from_source(&self) -> Option<OwnedFd> {
        let mut current: Option<OwnedFd> = None;
        for pair in self.frames.windows(2) {
            let name = &self.path[pair[0].path_len + 1..pair[1].path_len];
            let dir = match &current {
                Some(fd) => fd.as_fd(),
                None => pair[0].fd.as_ref()?.as_fd(),
            };
            current = Some(open_directory(dir, &CString::new(name).ok()?).ok()?);
        }
        current
    }
}

impl Found {
    fn new(kind: ObjectKind, opened: Opened) -> Self {
        let Opened { fd, path_only, meta, unread } = opened;
        Self { kind, meta, fd: Some(fd), path_only, target: Vec::new(), unread: unread.is_some() }
    }
}

fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(dir, name, flags, Mode::empty())
}

/// Whether an object is left out because of its name, and not to be looked at.
fn refuses(excluded: &Excluded, report: &TreeReport, path: &[u8], name: &[u8]) -> bool {
    if excluded.matches(path, name) {
        report.update(|outcome| outcome.excluded += 1);
        return true;
    }
    if path.len() > MAX_PATH {
        report.problem(path, ProblemKind::TooLong(path.len()));
        return true;
    }
    false
}

/// What it means that something cannot be opened.
fn unreadable(error: Errno) -> ProblemKind {
    match error {
        Errno::NOENT | Errno::STALE => ProblemKind::Vanished,
        other => ProblemKind::Unreadable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::tree::options::name_sources;

    /// A walk that has come to the lowest of 70 directories, each with a file that comes behind the next directory.
    fn at_the_bottom() -> (tempfile::TempDir, Walk, TreeReport) {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("data");
        let mut path = source.clone();
        for level in 0..70 {
            path.push(format!("d{level}"));
        }
        fs::create_dir_all(&path).unwrap();
        for above in path.ancestors().take(71) {
            fs::write(above.join("z"), b"").unwrap();
        }
        let report = TreeReport::default();
        let sources = name_sources(&[source]).unwrap();
        let mut walk = Walk::new(sources, &TreeOptions::default(), report.clone()).unwrap();
        for _ in 0..71 {
            assert_eq!(walk.next().unwrap().kind, ObjectKind::Directory);
        }
        assert_eq!(walk.frames.iter().filter(|frame| frame.fd.is_some()).count(), MAX_OPEN_DIRECTORIES);
        (dir, walk, report)
    }

    fn rest(mut walk: Walk) -> Vec<String> {
        let mut paths = Vec::new();
        while walk.next().is_some() {
            paths.push(walk.path().escape_ascii().to_string());
        }
        assert!(walk.frames.is_empty());
        paths
    }

    #[test]
    fn the_way_back_is_found() {
        let (_dir, walk, report) = at_the_bottom();
        let paths = rest(walk);
        assert_eq!((paths.len(), paths.last().unwrap().as_str()), (71, "data/z"));
        assert_eq!(report.problems(), []);
    }

    #[test]
    fn a_directory_that_moved_away_is_left_for_its_parent() {
        let (dir, walk, report) = at_the_bottom();
        let d3: PathBuf = dir.path().join("data/d0/d1/d2/d3");
        fs::rename(d3, dir.path().join("moved")).unwrap();
        assert_eq!(rest(walk).len(), 71);
        assert_eq!(report.problems(), []);
    }

    #[test]
    fn what_is_not_found_again_is_reported() {
        let (dir, walk, report) = at_the_bottom();
        fs::rename(dir.path().join("data/d0/d1/d2/d3/d4/d5"), dir.path().join("moved")).unwrap();
        // Another directory takes the place of one above it.
        fs::rename(dir.path().join("data/d0/d1/d2"), dir.path().join("moved too")).unwrap();
        fs::create_dir_all(dir.path().join("data/d0/d1/d2/d3/d4")).unwrap();
        let paths = rest(walk);
        assert_eq!(paths.len(), 71 - 3);
        assert_eq!(&paths[paths.len() - 3..], ["data/d0/d1/z", "data/d0/z", "data/z"]);
        let problems: Vec<String> = report.problems().iter().map(ToString::to_string).collect();
        let gone = |path: &str| format!("{path}: vanished before it was read");
        let wanted = [gone("data/d0/d1/d2/d3/d4"), gone("data/d0/d1/d2/d3"), gone("data/d0/d1/d2")];
        assert_eq!(problems, wanted);
    }
}
