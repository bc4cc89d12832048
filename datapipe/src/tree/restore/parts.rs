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
//! it is named in the report and kept.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir, Stat};
use rustix::io::{Errno, Result};

use super::destination::{Dir, lstat};

/// Beginning of all hidden names.
const PREFIX: &[u8] = b".datapipe-";
/// Number of characters that name a run: 64 random bits.
const RUN_LEN: usize = 16;
const LOCK: &[u8] = b".lock";
const PART: &[u8] = b".part";
/// Limit of the list in a lock file, in bytes.
const MAX_LIST: u64 = 64 << 20;
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
    /// Device and change time of the file when it was made.
    started: Option<(u64, (i64, i64))>,
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
            started: file.as_ref().and_then(|file| {
                let stat = rustix::fs::fstat(file).ok()?;
                Some((stat.st_dev, changed(&stat)))
            }),
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

    /// True if an object was changed after this restore had begun.
    pub(super) fn precedes_change_of(&self, stat: &Stat) -> bool {
        self.started
            .is_some_and(|(device, at)| stat.st_dev == device && changed(stat) > at)
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
    /// Directories that may have parts of it.
    pub(super) directories: Vec<Vec<u8>>,
}

impl OtherRuns {
    /// Looks at the locks in a destination. Returns the restores that were interrupted.
    pub(super) fn find(&mut self, dir: &Dir) -> Vec<DeadRun> {
        let mut found = Vec::new();
        let _ = for_each_name(dir, |name| {
            if let Some(run) = run_of_lock(name) {
                match take_over(dir, run) {
                    Ok(dead) => {
                        self.dead.insert(run);
                        found.push(dead);
                    }
                    Err(_) => drop(self.alive.insert(run)),
                }
            }
        });
        found
    }

    pub(super) fn add_alive(&mut self, lock: &RunLock) {
        self.alive.insert(lock.run);
    }

    /// Removes the parts in a directory that interrupted restores have left. Returns their number,
    /// and the names of parts of unknown restores.
    pub(super) fn clean(&self, dir: &Dir) -> (u64, Vec<Vec<u8>>) {
        let (mut dead, mut unknown) = (Vec::new(), Vec::new());
        let _ = for_each_name(dir, |name| match run_of_part(name) {
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
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(
        dir,
        lock_name(&run),
        flags,
        Mode::empty(),
    )?);
    let stat = rustix::fs::fstat(&file)?;
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || !is_ours {
        return Err(Errno::ACCESS);
    }
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    if !has_name(&file) {
        return Err(Errno::NOENT);
    }
    let mut list = Vec::new();
    let _ = Read::by_ref(&mut file)
        .take(MAX_LIST)
        .read_to_end(&mut list);
    let mut directories: Vec<_> = list.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    directories.sort_unstable();
    directories.dedup();
    let lock = RunLock {
        run,
        dir: Dir::clone(dir),
        file: Some(file),
        started: None,
        listed: 0,
    };
    Ok(DeadRun {
        _lock: lock,
        directories,
    })
}

fn changed(stat: &Stat) -> (i64, i64) {
    (stat.st_ctime, stat.st_ctime_nsec as i64)
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

/// Calls `visit` with each name in a directory.
fn for_each_name(dir: &Dir, mut visit: impl FnMut(&[u8])) -> Result<()> {
    // With an offset of its own, and readable even if the directory was opened with O_PATH.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(dir, ".", flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => visit(entry.file_name().to_bytes()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs;
    use std::sync::Arc;

    use super::super::tail::open_directory;
    use super::*;

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

    #[test]
    fn parts_of_a_dead_run_are_removed_and_those_of_others_kept() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Arc::new(open_directory(temp.path()).unwrap());
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
        let found = runs.find(&dir);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].directories, [&b""[..], b"some/dir"]);
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
