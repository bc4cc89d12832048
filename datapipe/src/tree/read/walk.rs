//! The walk: a directory, then what is in it. Given away in batches, in this order.
//!
//! ```text
//!   frames   data      data/a      data/a/b    ...    top: its names are being given
//!            open      closed      closed             open, as those below it
//! ```
//!
//! Only so many directories are kept open. One that was closed is opened again from below, by `..`,
//! if that is still the same directory, and otherwise from the source.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::vec;

use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::limits::{MAX_BATCH_DESCRIPTORS, MAX_OPEN_DIRECTORIES, MAX_PATH};
use crate::wire::{Entry, EntryBody, ObjectKind};

use super::batch::{Batch, Descriptor, Dir, Found, Lead};
use super::directory::{Names, Room};
use super::open::{self, Meta, Opened};
use super::options::{Excluded, Source, TreeError, TreeOptions};
use super::report::{ProblemKind, TreeReport};

/// The walk through all sources.
#[derive(Debug)]
pub(super) struct Walk {
    sources: vec::IntoIter<Source>,
    rules: Arc<Rules>,
    /// The directories that we are in. The first is open, those below `closed` are not, all others
    /// are.
    frames: Vec<Frame>,
    closed: usize,
    /// Of the object that was given last.
    path: Vec<u8>,
    /// The file system of the source.
    file_system: u64,
    room: Room,
    entry: Vec<u8>,
    /// Objects and batches that were given.
    objects: u64,
    batches: u64,
    /// The end was said.
    ended: bool,
    /// Descriptors that a batch may keep open.
    batch_descriptors: usize,
}

/// What belongs to an archive.
#[derive(Debug)]
pub(super) struct Rules {
    excluded: Excluded,
    skip: HashSet<(u64, u64)>,
    one_file_system: bool,
    pub(super) report: TreeReport,
}

/// What an instance that asks for objects gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextBatch {
    /// The next batch.
    Batch,
    /// Nothing, for there is no more; and, in the place of the last batch, what stands behind all
    /// objects.
    End,
    /// Nothing: another has the end.
    Nothing,
    /// Nothing: what follows on what it has was given to another.
    NotNext,
}

#[derive(Debug)]
struct Frame {
    dir: Option<Arc<Dir>>,
    id: (u64, u64),
    names: Names,
    /// Length of the directory's path.
    path_len: usize,
}

impl Walk {
    pub(super) fn new(
        sources: Vec<Source>,
        options: &TreeOptions,
        report: TreeReport,
    ) -> Result<Self, TreeError> {
        let rules = Rules {
            excluded: Excluded::new(&options.exclude)?,
            skip: options.skip.iter().copied().collect(),
            one_file_system: options.one_file_system,
            report,
        };
        Ok(Self {
            sources: sources.into_iter(),
            rules: Arc::new(rules),
            frames: Vec::new(),
            closed: 1,
            path: Vec::new(),
            file_system: 0,
            room: Room::default(),
            entry: Vec::new(),
            objects: 0,
            batches: 0,
            ended: false,
            batch_descriptors: MAX_OPEN_DIRECTORIES,
        })
    }

    /// Divides the descriptors of batches among `n` instances.
    pub(super) fn divide(&mut self, n: u32) {
        self.batch_descriptors =
            (MAX_BATCH_DESCRIPTORS / n.max(1) as usize).clamp(1, MAX_OPEN_DIRECTORIES);
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules)
    }

    /// Gives the next objects, about `wanted` of them: only if the batch is number `next`, if one
    /// is said. A directory whose entry is longer than `capacity` is given, and nothing of what is
    /// in it.
    pub(super) fn give(
        &mut self,
        batch: &mut Batch,
        next: Option<u64>,
        wanted: usize,
        capacity: usize,
    ) -> NextBatch {
        if next.is_some_and(|next| next != self.batches) {
            return NextBatch::NotNext;
        }
        if self.ended {
            return NextBatch::Nothing;
        }
        batch.begin(self.batches, wanted, self.batch_descriptors);
        while !batch.is_full() && self.step(batch, capacity) {}
        self.batches += 1;
        self.ended = batch.is_empty();
        if self.ended {
            NextBatch::End
        } else {
            NextBatch::Batch
        }
    }

    /// Goes on to the next name; false if there is none.
    fn step(&mut self, batch: &mut Batch, capacity: usize) -> bool {
        let Some(frame) = self.frames.last_mut() else {
            return self.enter_source(batch, capacity);
        };
        self.path.truncate(frame.path_len);
        if let (Some(dir), Some((name, kind))) = (&frame.dir, frame.names.next()) {
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            if self.rules.refuses(&self.path, name.to_bytes()) {
                return true;
            }
            if matches!(kind, FileType::Directory | FileType::Unknown) {
                let opened = open::open(dir.fd.as_fd(), name, kind);
                self.look(opened, batch, capacity);
            } else {
                let (lead, name_len) = (Lead::Name(Arc::clone(dir), kind), name.to_bytes().len());
                self.push(batch, name_len, lead);
            }
        } else if !self.read_more() {
            self.leave();
        }
        true
    }

    /// Begins with the next source; false if there is none.
    fn enter_source(&mut self, batch: &mut Batch, capacity: usize) -> bool {
        let Some(source) = self.sources.next() else {
            return false;
        };
        self.path.clear();
        self.path.extend_from_slice(source.name.as_bytes());
        if self.rules.refuses(&self.path, source.name.as_bytes()) {
            return true;
        }
        let path = CString::new(source.path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL);
        let opened = path.and_then(|path| open::open(CWD, &path, FileType::Unknown));
        if let Ok(opened) = &opened {
            self.file_system = opened.meta.id.0;
        }
        self.look(opened, batch, capacity);
        true
    }

    /// Gives what was opened because it may be a directory.
    fn look(&mut self, opened: Result<Opened, Errno>, batch: &mut Batch, capacity: usize) {
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return self.rules.report.problem(&self.path, unreadable(error)),
        };
        let lead = if opened.meta.kind != FileType::Directory {
            Lead::Opened(Box::new(opened), self.file_system)
        } else if self
            .rules
            .judge(&self.path, &opened.meta, self.file_system)
            .is_none()
        {
            return;
        } else {
            Lead::Directory(Box::new(self.enter(opened, capacity)))
        };
        let slash = self.path.iter().rposition(|&byte| byte == b'/');
        let name_len = self.path.len() - slash.map_or(0, |slash| slash + 1);
        self.push(batch, name_len, lead);
    }

    fn push(&mut self, batch: &mut Batch, name_len: usize, lead: Lead) {
        self.objects += 1;
        batch.push(self.objects, &self.path, name_len, lead);
    }

    /// Makes a directory the one that names are given of.
    fn enter(&mut self, opened: Opened, capacity: usize) -> Found {
        let Opened {
            fd,
            path_only,
            meta,
            unread,
        } = opened;
        if let Some(error) = unread {
            self.rules.report.problem(&self.path, unreadable(error));
        }
        if unread.is_some()
            || self.rules.is_foreign(&meta, self.file_system)
            || !self.fits(&meta, capacity)
        {
            return Found {
                meta,
                fd: Descriptor::Own(fd),
                path_only,
                unread: unread.is_some(),
            };
        }
        let (names, error) = Names::read(fd.as_fd(), &mut self.room);
        if let Some(error) = error {
            self.rules.report.problem(&self.path, unreadable(error));
        }
        let dir = Arc::new(Dir {
            fd,
            file_system: self.file_system,
        });
        let frame = Frame {
            dir: Some(Arc::clone(&dir)),
            id: meta.id,
            names,
            path_len: self.path.len(),
        };
        self.frames.push(frame);
        if self.frames.len() - self.closed >= MAX_OPEN_DIRECTORIES {
            self.frames[self.closed].dir = None;
            self.closed += 1;
        }
        Found {
            meta,
            fd: Descriptor::Shared(dir),
            path_only,
            unread: error.is_some(),
        }
    }

    /// Whether a block can take the entry of a directory. If not, whoever reads it says so.
    fn fits(&mut self, meta: &Meta, capacity: usize) -> bool {
        self.entry.clear();
        let body = EntryBody::Object(meta.describe(ObjectKind::Directory, &self.path, &[]));
        let put = Entry { object: 0, body }.append_to(&mut self.entry);
        put.is_ok() && self.entry.len() <= capacity
    }

    /// Leaves the directory that was entered last.
    fn leave(&mut self) {
        let Some(left) = self.frames.pop() else {
            return;
        };
        let Some(top) = self.frames.len().checked_sub(1) else {
            return;
        };
        if top == 0 || top >= self.closed {
            return;
        }
        self.closed = top;
        let path_len = self.frames[top].path_len;
        let reopened = self.reopen(left.dir.as_deref());
        let frame = &mut self.frames[top];
        match reopened {
            Some(fd) => {
                frame.dir = Some(Arc::new(Dir {
                    fd,
                    file_system: self.file_system,
                }))
            }
            None => {
                frame.names.abandon();
                self.rules
                    .report
                    .problem(&self.path[..path_len], ProblemKind::Vanished);
            }
        }
    }

    /// Whether the top directory has a further piece.
    fn read_more(&mut self) -> bool {
        let Some(frame) = self.frames.last_mut() else {
            return false;
        };
        let Some(dir) = &frame.dir else { return false };
        frame
            .names
            .read_more(dir.fd.as_fd(), &mut self.room)
            .unwrap_or_else(|error| {
                self.rules.report.problem(&self.path, unreadable(error));
                false
            })
    }

    /// Opens the top directory again, from one that was in it, or else from the source.
    fn reopen(&self, below: Option<&Dir>) -> Option<OwnedFd> {
        let id = self.frames.last()?.id;
        let same = |fd: &OwnedFd| Meta::of(fd.as_fd()).is_ok_and(|meta| meta.id == id);
        let from_below = below
            .and_then(|dir| open_directory(dir.fd.as_fd(), c"..").ok())
            .filter(same);
        from_below.or_else(|| self.open_from_source().filter(same))
    }

    fn open_from_source(&self) -> Option<OwnedFd> {
        let mut current: Option<OwnedFd> = None;
        for pair in self.frames.windows(2) {
            let name = &self.path[pair[0].path_len + 1..pair[1].path_len];
            let dir = match &current {
                Some(fd) => fd.as_fd(),
                None => pair[0].dir.as_ref()?.fd.as_fd(),
            };
            current = Some(open_directory(dir, &CString::new(name).ok()?).ok()?);
        }
        current
    }
}

fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(dir, name, flags, Mode::empty())
}

impl Rules {
    /// What an object is in the archive; `None` if it does not belong there, which is reported. The
    /// source that it is of lies in `file_system`.
    pub(super) fn judge(&self, path: &[u8], meta: &Meta, file_system: u64) -> Option<ObjectKind> {
        if self.skip.contains(&meta.id) {
            self.report.problem(path, ProblemKind::Medium);
            return None;
        }
        let foreign = self.is_foreign(meta, file_system);
        if foreign {
            self.report.problem(path, ProblemKind::MountPoint);
        }
        let kind = meta.object_kind();
        if kind.is_none() {
            self.report.problem(path, ProblemKind::Socket);
        }
        // What is in such a directory is left out, and not the directory.
        kind.filter(|kind| !foreign || *kind == ObjectKind::Directory)
    }

    fn is_foreign(&self, meta: &Meta, file_system: u64) -> bool {
        self.one_file_system && meta.id.0 != file_system
    }

    /// Whether an object is left out because of its name, and not to be looked at.
    fn refuses(&self, path: &[u8], name: &[u8]) -> bool {
        if self.excluded.matches(path, name) {
            self.report.update(|outcome| outcome.excluded += 1);
            return true;
        }
        if path.len() > MAX_PATH {
            self.report.problem(path, ProblemKind::TooLong(path.len()));
            return true;
        }
        false
    }
}

/// What it means that something cannot be opened.
pub(super) fn unreadable(error: Errno) -> ProblemKind {
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
    use crate::tree::read::options::name_sources;

    /// A walk that has come to the lowest of 70 directories, each with a file that comes behind the
    /// next directory.
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
            let (_, lead) = next(&mut walk).unwrap();
            assert!(matches!(lead, Lead::Directory(_)));
        }
        assert_eq!(
            walk.frames
                .iter()
                .filter(|frame| frame.dir.is_some())
                .count(),
            MAX_OPEN_DIRECTORIES
        );
        (dir, walk, report)
    }

    fn next(walk: &mut Walk) -> Option<(String, Lead)> {
        let mut batch = Batch::default();
        if walk.give(&mut batch, None, 1, 1 << 20) == NextBatch::End {
            return None;
        }
        let item = batch.next().unwrap();
        assert!(batch.is_empty());
        Some((batch.path(item.path).escape_ascii().to_string(), item.lead))
    }

    fn rest(mut walk: Walk) -> Vec<String> {
        let mut paths = Vec::new();
        while let Some((path, _)) = next(&mut walk) {
            paths.push(path);
        }
        assert!(walk.frames.is_empty());
        paths
    }

    #[test]
    fn the_way_back_is_found() {
        let (_dir, walk, report) = at_the_bottom();
        let paths = rest(walk);
        assert_eq!(
            (paths.len(), paths.last().unwrap().as_str()),
            (71, "data/z")
        );
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
        fs::rename(
            dir.path().join("data/d0/d1/d2/d3/d4/d5"),
            dir.path().join("moved"),
        )
        .unwrap();
        // Another directory takes the place of one above it.
        fs::rename(
            dir.path().join("data/d0/d1/d2"),
            dir.path().join("moved too"),
        )
        .unwrap();
        fs::create_dir_all(dir.path().join("data/d0/d1/d2/d3/d4")).unwrap();
        let paths = rest(walk);
        assert_eq!(paths.len(), 71 - 3);
        assert_eq!(
            &paths[paths.len() - 3..],
            ["data/d0/d1/z", "data/d0/z", "data/z"]
        );
        let problems: Vec<String> = report.problems().iter().map(ToString::to_string).collect();
        let gone = |path: &str| format!("{path}: vanished before it was read");
        let wanted = [
            gone("data/d0/d1/d2/d3/d4"),
            gone("data/d0/d1/d2/d3"),
            gone("data/d0/d1/d2"),
        ];
        assert_eq!(problems, wanted);
    }
}
