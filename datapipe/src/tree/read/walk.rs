//! The walk: every directory, then the objects in it, handed out in batches in this order.
//!
//! ```text
//!   frames   data      data/a      data/a/b    ...    top: the walk hands out its names
//!            open      closed      closed             open, as are those beneath it
//! ```
//!
//! The number of open directories is limited. A directory that was closed is opened again from one
//! inside it, by `..`, if that is still the same directory, and otherwise from the source.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::vec;

use parking_lot::Mutex;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::StageError;
use crate::interrupt::retry;
use crate::limits::{MAX_BATCH_DESCRIPTORS, MAX_OPEN_DIRECTORIES, MAX_PATH};
use crate::tree::own_resources::{
    free_descriptors, is_shortage, retry_on_shortage, shortage_error,
};
use crate::tree::temp_file::SpillFile;
use crate::wire::{Entry, EntryBody, ObjectKind};

use super::batch::{Batch, Candidate};
use super::directory::{DirBuffer, DirEntries};
use super::excluded::Excluded;
use super::note::TreeNote;
use super::open::{self, Dir, FileSystem, Meta, OpenObject, openat};
use super::options::{Source, TreeError, TreeOptions};
use super::report::{ProblemKind, TreeReport};

/// The walk through all sources.
#[derive(Debug)]
pub(super) struct Walk {
    sources: vec::IntoIter<Source>,
    rules: Arc<Rules>,
    /// Directories on the path from the source to the current position. The first is open, then
    /// those up to `closed` are not, and all others are.
    frames: Vec<Frame>,
    closed: usize,
    /// Path of the object that was handed out last.
    path: Vec<u8>,
    /// File system of the current source.
    file_system: FileSystem,
    buf: DirBuffer,
    /// Names of the pieces before the current one, of the directories that have several.
    earlier_names: SpillFile,
    entry: Vec<u8>,
    /// Objects and batches handed out.
    objects: u64,
    batches: u64,
    /// [`NextBatch::End`] was returned.
    ended: bool,
    /// Limit of the descriptors that a batch keeps open.
    batch_descriptors: usize,
    /// Limit of the directories that the walk keeps open.
    open_directories: usize,
    /// Number of instances that read; `None` until the first one runs.
    readers: Option<u32>,
    instances: u32,
}

/// Least number of directories that the walk keeps open: the source, the top one, and those on the
/// way to one that is opened again.
const MIN_OPEN_DIRECTORIES: usize = 4;
/// Least number of descriptors for which another instance reads: its file, and two directories.
const READER_DESCRIPTORS: usize = 3;

/// Rules that decide whether an object belongs to the archive.
#[derive(Debug)]
pub(super) struct Rules {
    excluded: Excluded,
    skip: HashSet<(u64, u64)>,
    one_file_system: bool,
    only_straight: bool,
    pub(super) birth_time: bool,
    pub(super) report: TreeReport,
    /// The object at which this process first ran out of a resource, and the error.
    shortage: Mutex<Option<(Vec<u8>, Errno)>>,
}

/// Outcome of asking the walk for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextBatch {
    /// The batch has objects.
    Batch,
    /// The walk is exhausted. The caller has the number after the last batch, and writes what
    /// follows all objects.
    End,
    /// The walk is exhausted, and another instance writes what follows all objects.
    Exhausted,
    /// The batch that was asked for went to another instance.
    OutOfTurn,
}

/// A directory whose names are being handed out.
#[derive(Debug)]
struct Frame {
    /// `None` while the directory is closed.
    dir: Option<Arc<Dir>>,
    meta: Meta,
    names: DirEntries,
    /// Length of the directory's path.
    path_len: usize,
}

impl Walk {
    pub(super) fn new(
        sources: Vec<Source>,
        options: &TreeOptions,
        report: TreeReport,
    ) -> Result<Self, TreeError> {
        let named = sources
            .iter()
            .map(|source| (source.name.clone(), source.path.clone()));
        let rules = Rules {
            excluded: Excluded::new(&options.exclude, named)?,
            skip: options.skip.iter().copied().collect(),
            one_file_system: options.one_file_system,
            only_straight: options.only_straight,
            birth_time: options.birth_time,
            report,
            shortage: Mutex::default(),
        };
        Ok(Self {
            sources: sources.into_iter(),
            rules: Arc::new(rules),
            frames: Vec::new(),
            closed: 1,
            path: Vec::new(),
            file_system: FileSystem::default(),
            buf: DirBuffer::default(),
            earlier_names: SpillFile::default(),
            entry: Vec::new(),
            objects: 0,
            batches: 0,
            ended: false,
            batch_descriptors: MAX_OPEN_DIRECTORIES,
            open_directories: MAX_OPEN_DIRECTORIES,
            readers: None,
            instances: 1,
        })
    }

    /// Sets the number of instances that take batches.
    pub(super) fn set_instances(&mut self, n: u32) {
        self.instances = n.max(1);
    }

    /// Returns the number of instances that may read. The first call, when the pipe runs, divides
    /// the descriptors of this process: a quarter for the walk, the rest for the instances. If each
    /// instance would get too few, fewer of them read.
    pub(super) fn readers(&mut self) -> u32 {
        if let Some(readers) = self.readers {
            return readers;
        }
        let free = free_descriptors();
        self.open_directories = (free / 4).clamp(MIN_OPEN_DIRECTORIES, MAX_OPEN_DIRECTORIES);
        let rest = free.saturating_sub(self.open_directories + MIN_OPEN_DIRECTORIES);
        let most = u32::try_from(rest / READER_DESCRIPTORS).unwrap_or(u32::MAX);
        let readers = self.instances.min(most).max(1);
        // One of each reader's is for the object that it reads.
        let each = rest.min(MAX_BATCH_DESCRIPTORS) / readers as usize;
        self.batch_descriptors = each.saturating_sub(1).clamp(1, MAX_OPEN_DIRECTORIES);
        *self.readers.insert(readers)
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules)
    }

    /// Fills `batch` with the next objects, about `wanted` of them. If `next` is a number, the
    /// batch must have that number.
    ///
    /// A directory whose path is too long for an archive is handed out without the objects in it.
    pub(super) fn next_batch(
        &mut self,
        batch: &mut Batch,
        next: Option<u64>,
        wanted: usize,
    ) -> NextBatch {
        if next.is_some_and(|next| next != self.batches) {
            return NextBatch::OutOfTurn;
        }
        if self.ended {
            return NextBatch::Exhausted;
        }
        batch.begin(self.batches, wanted, self.batch_descriptors);
        while !batch.is_full() && !self.rules.is_short() && self.advance(batch) {}
        self.batches += 1;
        self.ended = batch.is_empty();
        if self.ended {
            for pattern in self.rules.excluded.unused() {
                let note = TreeNote::UnusedPattern(pattern.to_owned());
                self.rules.report.note(note);
            }
            NextBatch::End
        } else {
            NextBatch::Batch
        }
    }

    /// Advances by one name, or leaves a directory. Returns false if the walk is exhausted.
    fn advance(&mut self, batch: &mut Batch) -> bool {
        let Some(frame) = self.frames.last_mut() else {
            return self.enter_source(batch);
        };
        self.path.truncate(frame.path_len);
        if let (Some(dir), Some((name, kind))) = (&frame.dir, frame.names.next()) {
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            if self.rules.is_excluded(&self.path, kind) {
                return true;
            }
            if matches!(kind, FileType::Directory | FileType::Unknown) {
                let opened = open_object(dir.fd.as_fd(), name, kind);
                if self.rules.is_excluded_directory(&self.path, kind, &opened) {
                    return true;
                }
                self.push_opened(opened, batch);
            } else {
                let candidate = Candidate::Name(Arc::clone(dir), kind);
                let name_len = name.to_bytes().len();
                self.push(batch, name_len, candidate);
            }
        } else if !self.read_more() {
            self.leave();
        }
        true
    }

    /// Begins with the next source. Returns false if there is none.
    fn enter_source(&mut self, batch: &mut Batch) -> bool {
        let Some(source) = self.sources.next() else {
            return false;
        };
        self.path.clear();
        self.path.extend_from_slice(source.name.as_bytes());
        if self.rules.is_excluded(&self.path, FileType::Unknown) {
            return true;
        }
        let only_straight = self.rules.only_straight;
        let opened = open_source(&source.path, only_straight);
        if (self.rules).is_excluded_directory(&self.path, FileType::Unknown, &opened) {
            return true;
        }
        if let Ok(opened) = &opened {
            self.file_system = opened.meta.file_system;
            if opened.meta.kind == FileType::Symlink {
                self.rules.report.note(TreeNote::LinkSource {
                    path: self.path.clone(),
                    dangling: !only_straight && retry(|| std::fs::metadata(&source.path)).is_err(),
                });
            }
        }
        self.push_opened(opened, batch);
        true
    }

    /// Hands out an object that was opened because it may be a directory, and enters it if it is
    /// one.
    fn push_opened(&mut self, opened: Result<OpenObject, Errno>, batch: &mut Batch) {
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return self.rules.record_unreadable(&self.path, error),
        };
        let candidate = if opened.meta.kind != FileType::Directory {
            Candidate::Opened(Box::new(opened), self.file_system)
        } else if self
            .rules
            .classify(&self.path, &opened.meta, self.file_system)
            .is_none()
        {
            return;
        } else {
            Candidate::Directory(Box::new(self.enter(opened)))
        };
        let slash = self.path.iter().rposition(|&byte| byte == b'/');
        let name_len = self.path.len() - slash.map_or(0, |slash| slash + 1);
        self.push(batch, name_len, candidate);
    }

    fn push(&mut self, batch: &mut Batch, name_len: usize, candidate: Candidate) {
        self.objects += 1;
        batch.push(self.objects, &self.path, name_len, candidate);
    }

    /// Makes a directory the one whose names are handed out next, and returns it. A directory that
    /// cannot be listed, is on another file system that is left out, or has a path too long
    /// for an archive is returned and not entered.
    fn enter(&mut self, opened: OpenObject) -> OpenObject {
        if let Some(error) = opened.unread {
            self.rules.record_unreadable(&self.path, error);
            return opened;
        }
        if self.rules.is_foreign(&opened.meta, self.file_system) || !self.fits(&opened.meta) {
            return opened;
        }
        let (mut opened, dir) = opened.share(self.file_system);
        let (names, error) = DirEntries::read(dir.fd.as_fd(), &mut self.buf);
        if let Some(error) = error {
            self.rules.record_unreadable(&self.path, error);
        }
        opened.unread = error;
        self.frames.push(Frame {
            dir: Some(dir),
            meta: opened.meta,
            names,
            path_len: self.path.len(),
        });
        if self.frames.len() - self.closed >= self.open_directories {
            self.frames[self.closed].dir = None;
            self.closed += 1;
        }
        opened
    }

    /// Returns true if an archive can have the entry of a directory. If it cannot, the instance
    /// that reads the directory reports it.
    fn fits(&mut self, meta: &Meta) -> bool {
        self.entry.clear();
        let body = EntryBody::Object(meta.to_object(ObjectKind::Directory, &self.path, &[]));
        Entry { object: 0, body }.append_to(&mut self.entry).is_ok()
    }

    /// Leaves the top directory, and opens the one beneath it again if that was closed.
    fn leave(&mut self) {
        let Some(left) = self.frames.pop() else {
            return;
        };
        let is_needed = || self.frames.iter().any(|frame| frame.names.has_earlier());
        if left.names.has_earlier() && !is_needed() {
            self.earlier_names = SpillFile::default();
        }
        let Some(top) = self.frames.len().checked_sub(1) else {
            return;
        };
        // The first frame is always open, and so are those from `closed` on.
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
            // The job fails.
            None if self.rules.is_short() => frame.names.abandon(),
            None => {
                frame.names.abandon();
                self.rules
                    .report
                    .problem(&self.path[..path_len], ProblemKind::Vanished);
            }
        }
    }

    /// Reads the next piece of the top directory. Returns false if there is none.
    fn read_more(&mut self) -> bool {
        let Some(frame) = self.frames.last_mut() else {
            return false;
        };
        let Some(dir) = &frame.dir else { return false };
        frame
            .names
            .read_more(dir.fd.as_fd(), &mut self.buf, &mut self.earlier_names)
            .unwrap_or_else(|error| {
                self.rules.record_unreadable(&self.path, error);
                false
            })
    }

    /// Opens the top directory again: from `below`, a directory that was in it, or else from the
    /// source. Returns `None` if neither leads to the same directory.
    fn reopen(&self, below: Option<&Dir>) -> Option<OwnedFd> {
        let wanted = &self.frames.last()?.meta;
        let same =
            |fd: &OwnedFd| Meta::from_fd(fd.as_fd()).is_ok_and(|meta| meta.is_same_inode(wanted));
        let from_below = below
            .and_then(|dir| self.open_again(dir.fd.as_fd(), c".."))
            .filter(same);
        from_below.or_else(|| self.open_from_source().filter(same))
    }

    /// Opens the directories from the source to the top one, each by its name in the previous one.
    fn open_from_source(&self) -> Option<OwnedFd> {
        let mut current: Option<OwnedFd> = None;
        for pair in self.frames.windows(2) {
            let name = &self.path[pair[0].path_len + 1..pair[1].path_len];
            let dir = match &current {
                Some(fd) => fd.as_fd(),
                None => pair[0].dir.as_ref()?.fd.as_fd(),
            };
            current = Some(self.open_again(dir, &CString::new(name).ok()?)?);
        }
        current
    }

    fn open_again(&self, dir: BorrowedFd<'_>, name: &CStr) -> Option<OwnedFd> {
        retry_on_shortage(|| open_directory(dir, name))
            .inspect_err(|&error| {
                if is_shortage(error) {
                    self.rules.record_unreadable(&self.path, error);
                }
            })
            .ok()
    }
}

/// Opens a source; if `only_straight`, through no symbolic link: another process may have put one
/// into the path since it was resolved and allowed.
fn open_source(path: &Path, only_straight: bool) -> Result<OpenObject, Errno> {
    let text = |path: &OsStr| CString::new(path.as_bytes()).map_err(|_| Errno::INVAL);
    let (Some(folder), Some(name), true) = (path.parent(), path.file_name(), only_straight) else {
        return open_object(CWD, &text(path.as_os_str())?, FileType::Unknown);
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = retry_on_shortage(|| {
        let straight = ResolveFlags::NO_SYMLINKS;
        rustix::io::retry_on_intr(|| {
            rustix::fs::openat2(CWD, folder, flags, Mode::empty(), straight)
        })
    })?;
    open_object(folder.as_fd(), &text(name)?, FileType::Unknown)
}

/// Opens an object as [`open::open`] does, and tries again if this process is short of descriptors.
pub(super) fn open_object(
    dir: BorrowedFd<'_>,
    name: &CStr,
    expected: FileType,
) -> Result<OpenObject, Errno> {
    retry_on_shortage(|| match open::open(dir, name, expected)? {
        OpenObject {
            unread: Some(error),
            ..
        } if is_shortage(error) => Err(error),
        opened => Ok(opened),
    })
}

fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(dir, name, flags, Mode::empty())
}

impl Rules {
    /// Returns the kind of an object in the archive. Returns `None`, and reports the object, if it
    /// does not belong there. `file_system` is that of the object's source.
    pub(super) fn classify(
        &self,
        path: &[u8],
        meta: &Meta,
        file_system: FileSystem,
    ) -> Option<ObjectKind> {
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
        // A mount point is archived, without what is mounted there.
        kind.filter(|kind| !foreign || *kind == ObjectKind::Directory)
    }

    fn is_foreign(&self, meta: &Meta, file_system: FileSystem) -> bool {
        self.one_file_system && meta.is_outside(file_system)
    }

    /// Returns true, and counts the object, if it turned out to be a directory when it was opened
    /// and as one is excluded.
    fn is_excluded_directory(
        &self,
        path: &[u8],
        expected: FileType,
        opened: &Result<OpenObject, Errno>,
    ) -> bool {
        let is_directory = |opened: &OpenObject| opened.meta.kind == FileType::Directory;
        expected == FileType::Unknown
            && opened.as_ref().is_ok_and(is_directory)
            && self.is_excluded(path, FileType::Directory)
    }

    /// Returns true, and counts or reports the object, if its path excludes it from the archive.
    /// `kind` is its type as far as it is known.
    fn is_excluded(&self, path: &[u8], kind: FileType) -> bool {
        if self.excluded.matches(path, kind == FileType::Directory) {
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

impl Rules {
    /// Reports an object that cannot be opened or listed. An error that is not about the object is
    /// kept for [`check_resources`](Self::check_resources).
    pub(super) fn record_unreadable(&self, path: &[u8], error: Errno) {
        if is_shortage(error) {
            let mut shortage = self.shortage.lock();
            shortage.get_or_insert_with(|| (path.to_vec(), error));
        } else {
            self.report.problem(path, unreadable(error));
        }
    }

    fn is_short(&self) -> bool {
        self.shortage.lock().is_some()
    }

    /// Fails if this process has run out of a resource, which must not look like objects that
    /// cannot be read.
    pub(super) fn check_resources(&self) -> Result<(), StageError> {
        match &*self.shortage.lock() {
            Some((path, error)) => Err(shortage_error("read", path, *error)),
            None => Ok(()),
        }
    }
}

/// Returns the problem for an object that cannot be opened.
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
    use crate::tree::read::options::name_sources;

    /// Returns a walk that has reached the lowest of 70 directories. Each of them has a file that
    /// sorts after its subdirectory.
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
            let (_, candidate) = next(&mut walk).unwrap();
            assert!(matches!(candidate, Candidate::Directory(_)));
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

    fn next(walk: &mut Walk) -> Option<(String, Candidate)> {
        let mut batch = Batch::default();
        if walk.next_batch(&mut batch, None, 1) == NextBatch::End {
            return None;
        }
        let item = batch.next().unwrap();
        assert!(batch.is_empty());
        Some((
            batch.path(item.path).escape_ascii().to_string(),
            item.candidate,
        ))
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
    fn closed_directories_are_reopened() {
        let (_dir, walk, report) = at_the_bottom();
        let paths = rest(walk);
        assert_eq!(
            (paths.len(), paths.last().unwrap().as_str()),
            (71, "data/z")
        );
        assert_eq!(report.snapshot().problems, []);
    }

    #[test]
    fn moved_directory_is_left_for_its_original_parent() {
        let (dir, walk, report) = at_the_bottom();
        let d3: PathBuf = dir.path().join("data/d0/d1/d2/d3");
        fs::rename(d3, dir.path().join("moved")).unwrap();
        assert_eq!(rest(walk).len(), 71);
        assert_eq!(report.snapshot().problems, []);
    }

    #[test]
    fn directories_that_cannot_be_reopened_are_reported() {
        let (dir, walk, report) = at_the_bottom();
        fs::rename(
            dir.path().join("data/d0/d1/d2/d3/d4/d5"),
            dir.path().join("moved"),
        )
        .unwrap();
        // Another directory replaces one above it.
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
        let problems: Vec<String> = report
            .snapshot()
            .problems
            .iter()
            .map(ToString::to_string)
            .collect();
        let gone = |path: &str| format!("{path}: vanished before it was read");
        let wanted = [
            gone("data/d0/d1/d2/d3/d4"),
            gone("data/d0/d1/d2/d3"),
            gone("data/d0/d1/d2"),
        ];
        assert_eq!(problems, wanted);
    }
}
