//! The destination, by descriptor: whatever a path says, nothing above the destination and nothing
//! behind a symbolic link is reached.
//!
//! ```text
//!   a/b/c/name   ->   a/b in the cache?  openat2(a/b, "c", BENEATH, NO_SYMLINKS)  ->  descriptor of a/b/c, "name"
//! ```
//!
//! Everything is then done to one name in one open directory.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result};

use super::report::RestoreReport;

/// An open directory.
pub(super) type Dir = Arc<std::os::fd::OwnedFd>;

/// Directories that stay open for the next object.
const CACHED: usize = 16;
/// Longest path that is given to the system at once: less than its limit.
const LONGEST: usize = 4000;
/// Directories that were made on the way and are remembered.
const MOST_MADE: usize = 65_536;
/// Names that are tried before it is said that none is free.
const TRIES: u32 = 100;
/// Longest name that file systems take.
const LONGEST_NAME: usize = 255;

/// What is beneath one directory.
#[derive(Debug)]
pub(super) struct Beneath {
    root: Dir,
    /// The last used stands last.
    cache: Vec<(Box<[u8]>, Dir)>,
    /// Whether the system resolves a path safely in one call.
    resolves: bool,
    shared: Arc<Mutex<Shared>>,
    report: RestoreReport,
}

/// What threads that make files in one destination have in common.
#[derive(Debug, Default)]
struct Shared {
    /// How many temporary names were given.
    temporaries: u64,
    /// Device and inode of directories that were made on the way to something, and have no
    /// attributes yet.
    made: HashSet<(u64, u64)>,
    /// A directory in each file system that was reached, by its device: others may be mounted
    /// beneath the destination.
    file_systems: HashMap<u64, Dir>,
}

impl Beneath {
    pub(super) fn new(root: Dir, report: &RestoreReport) -> Result<Self> {
        if !is_directory(&rustix::fs::fstat(&root)?) {
            return Err(Errno::NOTDIR);
        }
        let shared = Arc::default();
        let beneath = Self {
            root,
            cache: Vec::new(),
            resolves: true,
            shared,
            report: report.clone(),
        };
        beneath.reach(&beneath.root)?;
        Ok(beneath)
    }

    /// Notes which file system a directory is in.
    fn reach(&self, dir: &Dir) -> Result<()> {
        let device = rustix::fs::fstat(dir)?.st_dev;
        let mut shared = self.shared.lock();
        // What may only be searched cannot be synced.
        if !shared.file_systems.contains_key(&device)
            && !rustix::fs::fcntl_getfl(dir)?.contains(OFlags::PATH)
        {
            shared.file_systems.insert(device, Arc::clone(dir));
        }
        Ok(())
    }

    /// Brings everything to stable storage, in all file systems that were reached.
    pub(super) fn sync(&self) -> Result<()> {
        let dirs: Vec<Dir> = self
            .shared
            .lock()
            .file_systems
            .values()
            .map(Arc::clone)
            .collect();
        dirs.iter().try_for_each(rustix::fs::syncfs)
    }

    /// The same destination, for another thread.
    pub(super) fn another(&self) -> Self {
        let (root, shared) = (Arc::clone(&self.root), Arc::clone(&self.shared));
        Self {
            root,
            cache: Vec::new(),
            resolves: self.resolves,
            shared,
            report: self.report.clone(),
        }
    }

    /// The directory that `path` stands in, and its name in it. `make`: directories that are
    /// missing on the way.
    pub(super) fn parent<'a>(&mut self, path: &'a [u8], make: bool) -> Result<(Dir, &'a [u8])> {
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        Ok((self.directory(parent, make)?, name))
    }

    /// The directory at `path`.
    pub(super) fn directory(&mut self, path: &[u8], make: bool) -> Result<Dir> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(at) = self.cache.iter().rposition(|(cached, _)| **cached == *path) {
            self.cache[at..].rotate_left(1);
        } else {
            let dir = Arc::new(self.open_directory(path, make)?);
            self.reach(&dir)?;
            if self.cache.len() >= CACHED {
                self.cache.remove(0);
            }
            self.cache.push((path.into(), dir));
        }
        self.cache
            .last()
            .map(|(_, dir)| Arc::clone(dir))
            .ok_or(Errno::NOENT)
    }

    fn open_directory(&mut self, path: &[u8], make: bool) -> Result<std::os::fd::OwnedFd> {
        let above =
            |cached: &[u8]| path.starts_with(cached) && path.get(cached.len()) == Some(&b'/');
        let nearest = self
            .cache
            .iter()
            .filter(|(cached, _)| above(cached))
            .max_by_key(|(cached, _)| cached.len());
        let (from, rest) = match nearest {
            Some((cached, dir)) => (Arc::clone(dir), &path[cached.len() + 1..]),
            None => (Arc::clone(&self.root), path),
        };
        match self.descend(&from, rest) {
            Err(Errno::NOENT) if make => self.make_way(&from, rest),
            other => other,
        }
    }

    /// Opens `path` below `from`, at least one component at a time.
    fn descend(&mut self, from: &Dir, path: &[u8]) -> Result<std::os::fd::OwnedFd> {
        let (mut dir, mut rest) = (None, path);
        loop {
            let piece = if rest.len() <= LONGEST || !self.resolves {
                rest.len()
            } else {
                LONGEST
            };
            let end = match (self.resolves, piece == rest.len()) {
                (true, true) => piece,
                (true, false) => rest[..piece]
                    .iter()
                    .rposition(|&byte| byte == b'/')
                    .unwrap_or(rest.len()),
                (false, _) => rest
                    .iter()
                    .position(|&byte| byte == b'/')
                    .unwrap_or(rest.len()),
            };
            let at = dir.as_ref().unwrap_or(from);
            let next = match self.step(at, &rest[..end]) {
                // Not in this kernel, or not in this sandbox: from now on one component at a time.
                Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) if self.resolves => {
                    self.resolves = false;
                    continue;
                }
                other => other?,
            };
            match rest.get(end + 1..) {
                Some(left) => (dir, rest) = (Some(Arc::new(next)), left),
                None => return Ok(next),
            }
        }
    }

    fn step(&self, at: &Dir, path: &[u8]) -> Result<std::os::fd::OwnedFd> {
        let open = |kind| {
            let flags = kind | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if self.resolves {
                let how =
                    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                rustix::fs::openat2(at, path, flags, Mode::empty(), how)
            } else {
                rustix::fs::openat(at, path, flags, Mode::empty())
            }
        };
        // A directory that may only be searched is a way all the same.
        open(OFlags::RDONLY).or_else(|error| {
            if error == Errno::ACCESS {
                open(OFlags::PATH)
            } else {
                Err(error)
            }
        })
    }

    /// As [`descend`](Self::descend), and makes what is missing.
    fn make_way(&mut self, from: &Dir, path: &[u8]) -> Result<std::os::fd::OwnedFd> {
        let mut dir = Arc::clone(from);
        let mut parts = path.split(|&byte| byte == b'/').peekable();
        while let Some(part) = parts.next() {
            let made = match rustix::fs::mkdirat(&dir, part, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(error),
            };
            let next = self.descend(&dir, part)?;
            if made {
                self.remember(inode_of(&rustix::fs::fstat(&next)?));
            }
            if parts.peek().is_none() {
                return Ok(next);
            }
            dir = Arc::new(next);
        }
        Err(Errno::NOENT)
    }

    fn remember(&self, made: (u64, u64)) {
        if self.shared.lock().made.len() >= MOST_MADE {
            self.say_made();
        }
        self.shared.lock().made.insert(made);
    }

    /// Whether a directory was made on the way to something. What it is comes now.
    pub(super) fn was_made(&self, stat: &Stat) -> bool {
        self.shared.lock().made.remove(&inode_of(stat))
    }

    /// Says of directories that were made that nobody knows what they are.
    pub(super) fn say_made(&self) {
        if !mem::take(&mut self.shared.lock().made).is_empty() {
            self.report.note(
                "directories that are missing in what was archived or chosen were made, for their owner only",
            );
        }
    }

    /// Makes something under a name that nothing has yet, and says which: a dot, and what nobody
    /// else uses.
    pub(super) fn temporary<T>(&self, make: impl Fn(&[u8]) -> Result<T>) -> Result<(Vec<u8>, T)> {
        for _ in 0..TRIES {
            let number = {
                let mut shared = self.shared.lock();
                shared.temporaries += 1;
                shared.temporaries
            };
            let name = format!(".datapipe-{}-{number}", std::process::id()).into_bytes();
            match make(&name) {
                Ok(made) => return Ok((name, made)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::EXIST)
    }
}

/// What stands under a name, symbolic links not followed.
pub(super) fn look(dir: &Dir, name: &[u8]) -> Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Whether it is a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Device and inode.
pub(super) fn inode_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Gives `from` the first free name of `name.damaged`, `name.damaged.1` and so on, and says which.
pub(super) fn set_aside(dir: &Dir, from: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    for number in 0..TRIES {
        let ending = if number == 0 {
            ".damaged".to_owned()
        } else {
            format!(".damaged.{number}")
        };
        let kept = name.len().min(LONGEST_NAME - ending.len());
        let aside = [&name[..kept], ending.as_bytes()].concat();
        match rename_to_free(dir, from, &aside) {
            Ok(()) => return Ok(aside),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

fn rename_to_free(dir: &Dir, from: &[u8], to: &[u8]) -> Result<()> {
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // Not in this file system: a new name that must be free, and then no more of the old.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rustix::fs::linkat(dir, from, dir, to, AtFlags::empty())?;
            rustix::fs::unlinkat(dir, from, AtFlags::empty())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tail::directory;
    use super::*;

    fn open(root: &Path) -> Beneath {
        Beneath::new(
            Arc::new(directory(root).unwrap()),
            &RestoreReport::default(),
        )
        .unwrap()
    }

    #[test]
    fn file_systems_that_are_mounted_beneath_are_synced_too() {
        let root = Path::new("/");
        let device =
            |path: &Path| std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(path).unwrap());
        let mut beneath = open(root);
        beneath.directory(b"proc", false).unwrap();
        beneath.directory(b"proc/self/fd", false).unwrap_err();
        let wanted = HashSet::from(["/", "/proc"].map(|path| device(Path::new(path))));
        assert_eq!(
            wanted.len(),
            2,
            "no test without another file system at /proc"
        );
        let reached: HashSet<_> = beneath.shared.lock().file_systems.keys().copied().collect();
        assert_eq!(reached, wanted);
    }

    #[test]
    fn both_ways_to_resolve_a_path_refuse_links_and_cross_none() {
        for resolves in [true, false] {
            let temp = tempfile::tempdir().unwrap();
            let (outside, dest) = (temp.path().join("outside"), temp.path().join("dest"));
            std::fs::create_dir_all(outside.join("deeper")).unwrap();
            std::fs::create_dir_all(dest.join("a/b")).unwrap();
            std::os::unix::fs::symlink("../outside", dest.join("link")).unwrap();
            std::os::unix::fs::symlink("b", dest.join("a/short")).unwrap();
            let mut beneath = open(&dest);
            beneath.resolves = resolves;
            for path in [&b"link"[..], b"link/deeper", b"a/short", b"link/new/dir"] {
                let error = beneath.directory(path, true).unwrap_err();
                assert!(
                    matches!(error, Errno::LOOP | Errno::NOTDIR | Errno::EXIST),
                    "{error}"
                );
            }
            assert!(beneath.directory(b"a/b", false).is_ok());
            assert_eq!(
                beneath.directory(b"a/b/c", false).unwrap_err(),
                Errno::NOENT
            );
            let long = vec![&b"a-long-name-of-a-directory"[..]; 400].join(&b'/');
            assert!(beneath.directory(&long, true).is_ok());
            beneath.cache.clear();
            assert!(beneath.directory(&long, false).is_ok());
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
            assert_eq!(beneath.resolves, resolves);
        }
    }
}
