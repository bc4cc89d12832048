//! Hidden names of objects that are not complete, and the removal of those that an interrupted
//! restore has left.
//!
//! ```text
//!   DEST/.datapipe-RUN.lock         locked while the restore RUN lives; has the directories, each
//!                                   followed by a zero byte, in which it may have parts
//!   DEST/dir/.datapipe-RUN-N.part   a part: an object that does not have its name yet
//! ```
//!
//! The kernel releases the lock with its holder, so a lock that can be taken proves that its
//! restore has ended. A part whose lock is not found may belong to a restore to another directory:
//! it is named in the report and kept, and so is one whose lock belongs to another user.
//!
//! A lock can come from an archive, or from another program. So it is opened only if it is a
//! regular file of this user, its list leads to nothing outside of the destination and is limited,
//! and only names of parts of its own run are removed.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, StatxFlags, statx};
use rustix::io::{Errno, Result, retry_on_intr};

use super::destination::{Dir, lstat};
use crate::interrupt::for_each_name;
use crate::limits::MAX_PATH;
use crate::tree::own_resources::is_shortage;
use crate::wire::check_path;

/// Beginning of all hidden names.
const PREFIX: &[u8] = b".datapipe-";
/// Number of characters that name a run: 64 random bits.
const RUN_LEN: usize = 16;
const LOCK: &[u8] = b".lock";
const PART: &[u8] = b".part";
/// Limit of the list in a lock file, in bytes.
const MAX_LIST: u64 = 64 << 20;
/// Limit of the directories in the list of a dead run that are looked at.
const MAX_DIRECTORIES: usize = 1 << 18;
/// Number of names that are tried.
const MAX_TRIES: u32 = 100;

/// Name of a run in the names of its files.
pub(super) type Run = [u8; RUN_LEN];

/// The lock of this restore. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct RunLock {
    run: Run,
    dir: Dir,
    /// `None` if the destination takes no lock. Then a later restore removes nothing that this one
    /// leaves.
    file: Option<File>,
    /// Time and file system of the making of the file.
    made: Option<Making>,
    listed: u64,
}

impl RunLock {
    /// Makes and locks a file in the directory.
    pub(super) fn create(dir: &Dir) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let lock = |run, file: Option<File>| Self {
            run,
            dir: Dir::clone(dir),
            made: file
                .as_ref()
                .and_then(|file| Making::of(file, b"", AtFlags::EMPTY_PATH)),
            file,
            listed: 0,
        };
        for _ in 0..MAX_TRIES {
            let run = random_run()?;
            let name = lock_name(&run);
            let file = match rustix::fs::openat(dir, &name, flags, mode) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST | Errno::INTR) => continue,
                Err(_) => return Ok(lock(run, None)),
            };
            // Another restore may have taken the lock before us, because it found it free.
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if has_name(&file) => return Ok(lock(run, Some(file))),
                Ok(()) | Err(Errno::AGAIN) => {}
                Err(_) => {
                    let _ = rustix::fs::unlinkat(dir, &name, AtFlags::empty());
                    return Ok(lock(run, None));
                }
            }
        }
        Err(Errno::EXIST)
    }

    /// True if an object was made after this restore had begun. `has_lost_name`: this restore has
    /// replaced another name of it, which was a change of the object.
    pub(super) fn precedes(&self, dir: &Dir, name: &[u8], has_lost_name: bool) -> bool {
        let object = Making::of(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        object.is_some_and(|object| self.precedes_making(&object, has_lost_name))
    }

    fn precedes_making(&self, object: &Making, has_lost_name: bool) -> bool {
        let is_known = object.is_birth || !has_lost_name;
        (self.made.as_ref())
            .is_some_and(|lock| is_known && lock.device == object.device && lock.at <= object.at)
    }

    /// Name of a part.
    pub(super) fn part_name(&self, number: u64) -> Vec<u8> {
        let mut name = [PREFIX, &self.run].concat();
        name.extend_from_slice(format!("-{number}.part").as_bytes());
        name
    }

    /// Adds a directory to those that may have parts.
    pub(super) fn list(&mut self, path: &[u8]) {
        let record = [path, b"\0"].concat();
        if let Some(file) = &self.file
            && self.listed + record.len() as u64 <= MAX_LIST
            && file.write_all_at(&record, self.listed).is_ok()
        {
            self.listed += record.len() as u64;
        }
    }

    /// Length of the list of directories, in bytes.
    pub(super) fn listed(&self) -> u64 {
        self.listed
    }

    /// Empties the list: no directory has parts.
    pub(super) fn clear_list(&mut self) {
        if let Some(file) = &self.file
            && file.set_len(0).is_ok()
        {
            self.listed = 0;
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = rustix::fs::unlinkat(&self.dir, lock_name(&self.run), AtFlags::empty());
        }
    }
}

/// Runs of other restores to the same destination.
#[derive(Debug, Default)]
pub(super) struct OtherRuns {
    /// Those that have ended without removing their lock.
    dead: HashSet<Run>,
    /// Those that still run, and the one that asks.
    alive: HashSet<Run>,
}

/// A restore that was interrupted. Its lock is held until this is dropped.
#[derive(Debug)]
pub(super) struct DeadRun {
    _lock: RunLock,
    /// Directories below the destination that may have parts of it.
    pub(super) directories: HashSet<Vec<u8>>,
}

impl OtherRuns {
    /// Returns the runs that have a lock in a destination.
    pub(super) fn find(dir: &Dir) -> Result<Vec<Run>> {
        let mut found = Vec::new();
        for_each_name_in(dir, |name| found.extend(run_of_lock(name)))?;
        Ok(found)
    }

    /// Takes over the lock of a run, if that was interrupted. A run whose lock this user does not
    /// own stays unknown.
    pub(super) fn take_over(&mut self, dir: &Dir, run: Run) -> Result<Option<DeadRun>> {
        match take_over(dir, run) {
            Ok(dead) => {
                self.dead.insert(run);
                Ok(Some(dead))
            }
            Err(Errno::AGAIN) => {
                self.alive.insert(run);
                Ok(None)
            }
            Err(error) if is_shortage(error) => Err(error),
            Err(_) => Ok(None),
        }
    }

    pub(super) fn add_alive(&mut self, lock: &RunLock) {
        self.alive.insert(lock.run);
    }

    /// Removes the parts in a directory that interrupted restores have left. Returns their number,
    /// and the names of parts of unknown restores.
    pub(super) fn clean(&self, dir: &Dir) -> (u64, Vec<Vec<u8>>) {
        let (mut dead, mut unknown) = (Vec::new(), Vec::new());
        let _ = for_each_name_in(dir, |name| match run_of_part(name) {
            Some(run) if self.dead.contains(&run) => dead.push(name.to_vec()),
            Some(run) if !self.alive.contains(&run) => unknown.push(name.to_vec()),
            _ => {}
        });
        let is_removed = |name: &&Vec<u8>| {
            let is_directory = lstat(dir, name)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
            !is_directory && rustix::fs::unlinkat(dir, name.as_slice(), AtFlags::empty()).is_ok()
        };
        (dead.iter().filter(is_removed).count() as u64, unknown)
    }
}

/// Takes the lock of a restore that has ended.
fn take_over(dir: &Dir, run: Run) -> Result<DeadRun> {
    let name = lock_name(&run);
    // Opening a device can have an effect.
    check_own_file(&lstat(dir, &name)?)?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, &name, flags, Mode::empty())?);
    check_own_file(&rustix::fs::fstat(&file)?)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    if !has_name(&file) {
        return Err(Errno::NOENT);
    }
    let directories = read_list(&file);
    let lock = RunLock {
        run,
        dir: Dir::clone(dir),
        file: Some(file),
        made: None,
        listed: 0,
    };
    Ok(DeadRun {
        _lock: lock,
        directories,
    })
}

fn check_own_file(stat: &Stat) -> Result<()> {
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if is_file && stat.st_uid == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(Errno::ACCESS)
    }
}

/// Reads the list of a dead run up to the first record that no restore writes.
fn read_list(file: &File) -> HashSet<Vec<u8>> {
    let mut list = BufReader::new(file).take(MAX_LIST);
    let mut directories = HashSet::new();
    while directories.len() < MAX_DIRECTORIES {
        let mut record = Vec::new();
        let limit = MAX_PATH as u64 + 1;
        if !matches!(
            list.by_ref().take(limit).read_until(0, &mut record),
            Ok(1..)
        ) || record.pop() != Some(0)
        {
            break;
        }
        if check_path(&record).is_ok() {
            directories.insert(record);
        }
    }
    directories
}

/// File system of an object, and the time at which the object was made. If the file system does not
/// keep that, the time of the last change takes its place, which is also that of a rename.
#[derive(Debug)]
struct Making {
    device: (u32, u32),
    at: (i64, u32),
    /// The time is that of the birth.
    is_birth: bool,
}

impl Making {
    fn of(dir: impl AsFd, name: &[u8], flags: AtFlags) -> Option<Self> {
        let wanted = StatxFlags::CTIME | StatxFlags::BTIME;
        let found = retry_on_intr(|| statx(&dir, name, flags, wanted)).ok()?;
        let is_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let at = match is_birth {
            false => found.stx_ctime,
            true => found.stx_btime,
        };
        Some(Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            at: (at.tv_sec, at.tv_nsec),
            is_birth,
        })
    }
}

fn has_name(file: &File) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0)
}

fn lock_name(run: &Run) -> Vec<u8> {
    [PREFIX, run, LOCK].concat()
}

fn random_run() -> Result<Run> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let text = format!("{:016x}", u64::from_le_bytes(random));
    text.as_bytes().try_into().map_err(|_| Errno::INVAL)
}

/// Run of a lock file, if the name is that of one.
fn run_of_lock(name: &[u8]) -> Option<Run> {
    let (run, rest) = split_run(name)?;
    (rest == LOCK).then_some(run)
}

/// Run of a part, if the name is that of one.
fn run_of_part(name: &[u8]) -> Option<Run> {
    let (run, rest) = split_run(name)?;
    let number = rest.strip_prefix(b"-")?.strip_suffix(PART)?;
    let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    is_number.then_some(run)
}

fn split_run(name: &[u8]) -> Option<(Run, &[u8])> {
    let (run, rest) = name.strip_prefix(PREFIX)?.split_first_chunk()?;
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    run.iter().all(is_hex).then_some((*run, rest))
}

/// Calls `visit` with each name in a directory of the destination.
fn for_each_name_in(dir: &Dir, mut visit: impl FnMut(&[u8])) -> Result<()> {
    // With an offset of its own, and readable even if the directory was opened with O_PATH.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = retry_on_intr(|| rustix::fs::openat(dir, ".", flags, Mode::empty()))?;
    for_each_name(dir, |name| {
        visit(name);
        ControlFlow::<()>::Continue(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use super::super::open_directory::OpenDirectory;
    use super::super::tail::open_directory;
    use super::*;

    fn open(path: &Path) -> Dir {
        let dir = Arc::new(open_directory(path).unwrap());
        Arc::new(OpenDirectory::existing(dir))
    }

    #[test]
    fn names_of_runs_are_recognised_exactly() {
        let run = *b"0123456789abcdef";
        assert_eq!(
            run_of_part(b".datapipe-0123456789abcdef-17.part"),
            Some(run)
        );
        assert_eq!(run_of_lock(b".datapipe-0123456789abcdef.lock"), Some(run));
        for name in [
            &b".datapipe-0123456789abcdef-.part"[..],
            b".datapipe-0123456789abcdeF-1.part",
            b".datapipe-0123456789abcdef-1.part2",
            b".datapipe-0123456789abcde-1.part",
            b".datapipe-",
            b"x.datapipe-0123456789abcdef-1.part",
        ] {
            assert_eq!(run_of_part(name), None);
            assert_eq!(run_of_lock(name), None);
        }
    }

    /// On NFS without birth times, the second name of an old hard link looked as if this restore
    /// had made it, because the first name had been replaced just before.
    #[test]
    fn object_that_has_lost_a_name_is_not_new_because_it_has_changed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path());
        let lock = RunLock::create(&dir).unwrap();
        let made = lock.made.as_ref().unwrap();
        let object = |later: i64, is_birth| Making {
            device: made.device,
            at: (made.at.0 + later, made.at.1),
            is_birth,
        };
        for (object, has_lost_name, is_new) in [
            (object(1, false), false, true),
            (object(1, false), true, false),
            (object(1, true), true, true),
            (object(-1, false), false, false),
            (object(-1, true), true, false),
        ] {
            let found = lock.precedes_making(&object, has_lost_name);
            assert_eq!(found, is_new, "{object:?} {has_lost_name}");
        }
    }

    #[test]
    fn list_of_a_forged_lock_leads_to_nothing_outside() {
        let file = tempfile::tempfile().unwrap();
        let list = [
            &b"a/b"[..],
            b"",
            b"..",
            b"a/../..",
            b"/etc",
            b"a//b",
            b".",
            b"a/b",
            b"c",
        ];
        file.write_all_at(&list.join(&0), 0).unwrap();
        // The last record has no end: it was not written whole.
        assert_eq!(read_list(&file), HashSet::from([b"a/b".to_vec()]));
        let zeros = tempfile::tempfile().unwrap();
        zeros.set_len(2 * MAX_LIST).unwrap();
        assert_eq!(read_list(&zeros), HashSet::new());
    }

    #[test]
    fn lock_that_is_not_a_file_of_this_user_is_not_taken_over() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path());
        let path = |run: &str| temp.path().join(format!(".datapipe-{run}.lock"));
        let (link, fifo) = ("00000000000000aa", "00000000000000ab");
        std::os::unix::fs::symlink("/etc/passwd", path(link)).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path(fifo), FileType::Fifo, mode, 0).unwrap();
        for run in [link, fifo] {
            let mut runs = OtherRuns::default();
            let part = format!(".datapipe-{run}-1.part");
            fs::write(temp.path().join(&part), "").unwrap();
            let run = run.as_bytes().try_into().unwrap();
            assert!(runs.take_over(&dir, run).unwrap().is_none());
            // It is named, and kept.
            let (removed, unknown) = runs.clean(&dir);
            assert_eq!(removed, 0);
            assert!(unknown.contains(&part.into_bytes()));
        }
    }

    #[test]
    fn parts_of_a_dead_run_are_removed_and_those_of_others_kept() {
        let temp = tempfile::tempdir().unwrap();
        let dir = open(temp.path());
        let put = |name: &[u8]| {
            let name = str::from_utf8(name).unwrap().to_owned();
            fs::write(temp.path().join(&name), "").unwrap();
            name
        };
        // It is dead, because its lock is free, although its file is there.
        let mut dead = RunLock::create(&dir).unwrap();
        dead.list(b"some/dir");
        dead.list(b"");
        put(&dead.part_name(1));
        dead.file = None;
        let alive = RunLock::create(&dir).unwrap();
        let kept = put(&alive.part_name(1));
        let unknown = put(b".datapipe-0123456789abcdef-17.part");
        let file = put(b".datapipe-file");
        let mut runs = OtherRuns::default();
        let locks = OtherRuns::find(&dir).unwrap();
        assert_eq!(locks.len(), 2);
        let found: Vec<_> = locks
            .into_iter()
            .filter_map(|run| runs.take_over(&dir, run).unwrap())
            .collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].directories, HashSet::from([b"some/dir".to_vec()]));
        assert_eq!(runs.clean(&dir), (1, vec![unknown.clone().into_bytes()]));
        drop(found);
        let lock = String::from_utf8(lock_name(&alive.run)).unwrap();
        let mut names: Vec<_> = fs::read_dir(temp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut expected = [unknown, file, kept, lock];
        expected.sort();
        assert_eq!(names, expected);
    }
}
