//! Confined destination. No path of an archive reaches anything outside of the destination, or
//! follows a symbolic link.
//!
//! ```text
//!   a/b/c/name  ->  a/b in the cache?
//!                   openat2(a/b, "c", BENEATH | NO_SYMLINKS)  ->  descriptor of a/b/c, "name"
//! ```
//!
//! The writer then does everything to one name in one open directory. This module does not create
//! objects, except for missing parent directories, and keeps count of the hidden names
//! (`parts.rs`).

use std::collections::{HashMap, HashSet};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result, retry_on_intr};

use super::attributes::remove_inherited_lists;
use super::durability::Durability;
use super::made_objects::MadeObjects;
use super::open_directory::OpenDirectory;
use super::parts::{OtherRuns, RunLock};
use super::report::RestoreReport;
use crate::limits::MAX_RESTORE_THREADS;
use crate::tree::own_resources::{free_descriptors, is_shortage, retry_on_shortage};

/// An open directory.
pub(super) type Dir = Arc<OpenDirectory>;

/// Number of directories that stay open for the next object, if the process may open that many.
const MAX_CACHED: usize = 16;
/// Descriptors that a thread needs besides: its file, and directories on the way to it.
const WORKER_DESCRIPTORS: usize = 3;
/// Length of the longest path that is passed to the kernel at once, in bytes: less than its limit.
const MAX_STEP: usize = 4000;
/// Number of created parent directories that are remembered.
const MAX_CREATED: usize = 65_536;
/// Number of names that are tried before the destination gives up.
const MAX_TRIES: u32 = 100;
/// Length of the list of directories with parts at which it is emptied if it may be, in bytes.
const MAX_LISTED: u64 = 1 << 20;
/// Length of the longest name that file systems take, in bytes.
const MAX_NAME: usize = 255;

/// Treatment of parent directories that do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Fail,
}

/// A directory, and everything below it.
#[derive(Debug)]
pub(super) struct Destination {
    root: Dir,
    /// Open directories by path, least recently used first.
    cache: Vec<(Box<[u8]>, Dir)>,
    max_cached: usize,
    /// True while the kernel resolves a path safely in one call, with openat2.
    has_openat2: bool,
    /// The directory that was listed last as one with parts, and the list's number.
    listed: Option<(u64, Box<[u8]>)>,
    shared: Arc<Mutex<SharedDestination>>,
    making: Making,
    report: RestoreReport,
}

/// Held while a directory is made and remembered, and while an existing object is replaced: other
/// threads find both done, or not begun. Taken before the lock of the shared state.
pub(super) type Making = Arc<Mutex<()>>;

/// State that the threads of one restore share.
#[derive(Debug, Default)]
struct SharedDestination {
    /// The lock of this restore, once it has begun.
    lock: Option<RunLock>,
    /// Other restores to the same destination.
    others: OtherRuns,
    /// Number of parts created so far.
    parts: u64,
    /// Number of parts that have neither got their names nor been removed.
    open_parts: u64,
    /// Number of times that the list of directories with parts was emptied.
    list: u64,
    made: MadeObjects,
    /// Old objects of which this restore has replaced a name, and that have others.
    with_lost_name: HashSet<(u64, u64)>,
    /// Way in which the file system of each device reports failed writes.
    durability: HashMap<u64, Durability>,
    /// Device and inode of parent directories that were created although their entries have not
    /// come: they have no attributes yet.
    created: HashSet<(u64, u64)>,
    /// A directory in each file system that was reached, by its device. Others may be mounted below
    /// the destination.
    file_systems: HashMap<u64, Dir>,
}

impl Destination {
    pub(super) fn new(root: Dir, report: &RestoreReport) -> Result<Self> {
        let stat = retry_on_intr(|| rustix::fs::fstat(&root))?;
        if !is_directory(&stat) {
            return Err(Errno::NOTDIR);
        }
        let destination = Self {
            root,
            cache: Vec::new(),
            max_cached: (free_descriptors() / MAX_RESTORE_THREADS)
                .saturating_sub(WORKER_DESCRIPTORS)
                .clamp(2, MAX_CACHED),
            has_openat2: true,
            listed: None,
            shared: Arc::default(),
            making: Arc::default(),
            report: report.clone(),
        };
        destination.remember_file_system(&destination.root, stat.st_dev)?;
        Ok(destination)
    }

    /// Returns the same destination for another thread, with a cache of its own.
    pub(super) fn for_worker(&self) -> Self {
        Self {
            root: Arc::clone(&self.root),
            cache: Vec::new(),
            max_cached: self.max_cached,
            has_openat2: self.has_openat2,
            listed: None,
            shared: Arc::clone(&self.shared),
            making: Arc::clone(&self.making),
            report: self.report.clone(),
        }
    }

    /// Notes whether this restore has made the directory, and remembers its file system.
    fn inspect(&self, dir: OwnedFd) -> Result<Dir> {
        let stat = retry_on_intr(|| rustix::fs::fstat(&dir))?;
        let is_new = self.shared.lock().made.has_added(inode_of(&stat));
        let make = match is_new {
            true => OpenDirectory::new,
            false => OpenDirectory::existing,
        };
        let dir = Arc::new(make(Arc::new(dir)));
        self.remember_file_system(&dir, stat.st_dev)?;
        Ok(dir)
    }

    /// Remembers the file system of a directory, for [`sync`](Self::sync).
    fn remember_file_system(&self, dir: &Dir, device: u64) -> Result<()> {
        let mut shared = self.shared.lock();
        // A directory opened with O_PATH cannot be synced.
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
        dirs.iter()
            .try_for_each(|dir| retry_on_intr(|| rustix::fs::syncfs(dir)))
    }

    /// Returns the directory that contains the object at `path`, and the object's name in it.
    pub(super) fn parent<'a>(
        &mut self,
        path: &'a [u8],
        missing: Missing,
    ) -> Result<(Dir, &'a [u8])> {
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        Ok((self.directory(parent, missing)?, name))
    }

    /// Returns the directory that contains the object at `path`, if it is open.
    pub(super) fn open_parent(&self, path: &[u8]) -> Option<&Dir> {
        let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else {
            return Some(&self.root);
        };
        let is_it = |(cached, _): &&(Box<[u8]>, Dir)| **cached == path[..slash];
        self.cache.iter().rfind(is_it).map(|(_, dir)| dir)
    }

    /// The directory of the restore.
    pub(super) fn root(&self) -> &Dir {
        &self.root
    }

    /// Returns the directory at `path`, from the cache or opened.
    pub(super) fn directory(&mut self, path: &[u8], missing: Missing) -> Result<Dir> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(at) = self.cache.iter().rposition(|(cached, _)| **cached == *path) {
            self.cache[at..].rotate_left(1);
        } else {
            let dir = match self.open_directory(path, missing) {
                // Other threads give descriptors back when they have created their files.
                Err(error) if is_shortage(error) => {
                    self.cache.clear();
                    retry_on_shortage(|| self.open_directory(path, missing))?
                }
                other => other?,
            };
            let dir = self.inspect(dir)?;
            if self.cache.len() >= self.max_cached {
                self.cache.remove(0);
            }
            self.cache.push((path.into(), dir));
        }
        self.cache
            .last()
            .map(|(_, dir)| Arc::clone(dir))
            .ok_or(Errno::NOENT)
    }

    /// Opens the directory at `path`, beginning at its nearest ancestor in the cache.
    fn open_directory(&mut self, path: &[u8], missing: Missing) -> Result<OwnedFd> {
        let is_above =
            |cached: &[u8]| path.starts_with(cached) && path.get(cached.len()) == Some(&b'/');
        let nearest = self
            .cache
            .iter()
            .filter(|(cached, _)| is_above(cached))
            .max_by_key(|(cached, _)| cached.len());
        let (from, rest) = match nearest {
            Some((cached, dir)) => (Arc::clone(dir.fd()), &path[cached.len() + 1..]),
            None => (Arc::clone(self.root.fd()), path),
        };
        match self.descend(&from, rest) {
            Err(Errno::NOENT) if missing == Missing::Create => self.create_path(&from, rest),
            other => other,
        }
    }

    /// Opens the directory at `path` below `from`, in as few steps as the kernel allows.
    fn descend(&mut self, from: &Arc<OwnedFd>, path: &[u8]) -> Result<OwnedFd> {
        let (mut dir, mut rest) = (None, path);
        loop {
            let end = self.step_len(rest);
            let at = dir.as_ref().unwrap_or(from);
            let next = match self.step(at, &rest[..end]) {
                // Not in this kernel, or not in this sandbox: from now on one component at a time.
                Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) if self.has_openat2 => {
                    self.has_openat2 = false;
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

    /// Length of the beginning of `path` that one step opens. With openat2 as many whole components
    /// as fit into [`MAX_STEP`], at least one; without it one, because openat would follow a
    /// symbolic link in the middle of a path.
    fn step_len(&self, path: &[u8]) -> usize {
        let is_slash = |&byte: &u8| byte == b'/';
        let end = if !self.has_openat2 {
            path.iter().position(is_slash)
        } else if path.len() > MAX_STEP {
            path[..MAX_STEP].iter().rposition(is_slash)
        } else {
            None
        };
        end.unwrap_or(path.len())
    }

    /// Opens the directory at `path` below `at`.
    fn step(&self, at: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
        let open = |access| {
            let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if self.has_openat2 {
                let how =
                    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                retry_on_intr(|| rustix::fs::openat2(at, path, flags, Mode::empty(), how))
            } else {
                retry_on_intr(|| rustix::fs::openat(at, path, flags, Mode::empty()))
            }
        };
        // A directory that we may search but not read leads to its contents all the same.
        open(OFlags::RDONLY).or_else(|error| {
            if error == Errno::ACCESS {
                open(OFlags::PATH)
            } else {
                Err(error)
            }
        })
    }

    /// Opens the directory at `path` below `from`, and creates what is missing of it, for its owner
    /// only.
    fn create_path(&mut self, from: &Arc<OwnedFd>, path: &[u8]) -> Result<OwnedFd> {
        let making = self.making();
        let _made = making.lock();
        let mut dir = Arc::clone(from);
        let mut components = path.split(|&byte| byte == b'/').peekable();
        while let Some(component) = components.next() {
            let is_new = match retry_on_intr(|| rustix::fs::mkdirat(&dir, component, Mode::RWXU)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(error),
            };
            let next = self.descend(&dir, component)?;
            if is_new {
                remove_inherited_lists(&next);
                let inode = inode_of(&rustix::fs::fstat(&next)?);
                self.remember_created(inode);
                self.remember_made(inode);
            }
            if components.peek().is_none() {
                return Ok(next);
            }
            dir = Arc::new(next);
        }
        Err(Errno::NOENT)
    }

    /// The lock of what is made in several steps.
    pub(super) fn making(&self) -> Making {
        Arc::clone(&self.making)
    }

    fn remember_created(&self, inode: (u64, u64)) {
        if self.shared.lock().created.len() >= MAX_CREATED {
            self.forget_created();
        }
        self.shared.lock().created.insert(inode);
    }

    /// True if a directory was created as the parent of something, and its own entry comes only
    /// now. It is then forgotten.
    pub(super) fn take_created(&self, stat: &Stat) -> bool {
        self.shared.lock().created.remove(&inode_of(stat))
    }

    /// Forgets the created parent directories, and notes it if there are any: their entries have
    /// not come, so they keep the mode with which they were created.
    pub(super) fn forget_created(&self) {
        if !mem::take(&mut self.shared.lock().created).is_empty() {
            self.report.record_note(
                "parent directories that are not in the archive or were not selected were created \
                 with mode 0700",
            );
        }
    }

    /// Prepares the destination for the first object: removes what interrupted restores have left,
    /// and makes the lock of this one. Does nothing after the first call.
    pub(super) fn prepare(&mut self) -> Result<()> {
        if self.shared.lock().lock.is_some() {
            return Ok(());
        }
        let root = Arc::clone(&self.root);
        let runs = match OtherRuns::find(&root) {
            Err(error) if is_shortage(error) => return Err(error),
            // A directory that cannot be listed can be restored to.
            found => found.unwrap_or_default(),
        };
        let lock = RunLock::create(&root)?;
        self.shared.lock().others.add_alive(&lock);
        for run in runs {
            let Some(dead) = self.shared.lock().others.take_over(&root, run)? else {
                continue;
            };
            for path in &dead.directories {
                if let Ok(dir) = self.directory(path, Missing::Fail) {
                    self.clean_up(&dir, path);
                }
            }
            // The last one, so that the lock stays until all its parts have gone.
            self.clean_up(&root, b"");
        }
        self.clean_up(&root, b"");
        self.shared.lock().lock = Some(lock);
        Ok(())
    }

    /// Removes from an existing directory what interrupted restores have left, and notes it.
    pub(super) fn clean_up(&self, dir: &Dir, path: &[u8]) {
        let (removed, unknown) = self.shared.lock().others.clean(dir);
        let path = path.escape_ascii();
        if removed > 0 {
            self.report.record_note(&format!(
                "removed from \"{path}\" what an interrupted restore had left: parts with hidden \
                 names, {removed} in number"
            ));
        }
        for name in unknown {
            self.report.record_note(&format!(
                "\"{path}\" has a part that another restore is writing or has left: \"{}\"; remove \
                 it if no restore is running",
                name.escape_ascii()
            ));
        }
    }

    /// Ends the use of hidden names: no part is left.
    pub(super) fn remove_lock(&self) {
        self.shared.lock().lock = None;
    }

    /// Empties the list of directories with parts if it is long and no part is left.
    pub(super) fn trim_list(&self) {
        let mut shared = self.shared.lock();
        if shared.open_parts == 0
            && let Some(lock) = &mut shared.lock
            && lock.listed() > MAX_LISTED
        {
            lock.clear_list();
            shared.list += 1;
        }
    }

    /// True if the list of directories with parts is long.
    pub(super) fn has_long_list(&self) -> bool {
        let shared = self.shared.lock();
        (shared.lock.as_ref()).is_some_and(|lock| lock.listed() > MAX_LISTED)
    }

    /// Creates something under a hidden name in the directory of `path`. Returns the name.
    pub(super) fn create_part<T>(
        &mut self,
        path: &[u8],
        create: impl Fn(&[u8]) -> Result<T>,
    ) -> Result<(Vec<u8>, T)> {
        self.prepare()?;
        let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        for _ in 0..MAX_TRIES {
            let name = self.next_part_name(&path[..end])?;
            match retry_on_shortage(|| retry_on_intr(|| create(&name))) {
                Ok(created) => return Ok((name, created)),
                Err(error) => {
                    self.forget_part();
                    if error != Errno::EXIST {
                        return Err(error);
                    }
                }
            }
        }
        Err(Errno::EXIST)
    }

    /// Returns a hidden name, and lists its directory as one that has parts.
    fn next_part_name(&mut self, parent: &[u8]) -> Result<Vec<u8>> {
        let mut shared = self.shared.lock();
        let shared = &mut *shared;
        let lock = shared.lock.as_mut().ok_or(Errno::NOENT)?;
        let is_listed = |(list, path): &(u64, Box<[u8]>)| *list == shared.list && **path == *parent;
        if !self.listed.as_ref().is_some_and(is_listed) {
            lock.list(parent);
            self.listed = Some((shared.list, parent.into()));
        }
        shared.parts += 1;
        shared.open_parts += 1;
        Ok(lock.part_name(shared.parts))
    }

    /// Notes that a part has got its name or was removed.
    pub(super) fn forget_part(&self) {
        let mut shared = self.shared.lock();
        shared.open_parts = shared.open_parts.saturating_sub(1);
    }

    /// Removes a part that will not get its name.
    pub(super) fn remove_part(&self, dir: &Dir, part: &[u8]) {
        self.forget_part();
        let _ = rustix::fs::unlinkat(dir, part, AtFlags::empty());
    }

    /// Remembers an object that this restore has made.
    pub(super) fn remember_made(&self, inode: (u64, u64)) {
        self.shared.lock().made.add(inode);
    }

    /// True if this restore has made the object of the name, whose status is `stat`. In file
    /// systems that may number a file anew, so is each that was made since the restore began; but
    /// where only the last change is known, a directory also changes when something is created in
    /// it.
    pub(super) fn has_made(&self, dir: &Dir, name: &[u8], stat: &Stat) -> bool {
        let shared = self.shared.lock();
        let is_renumbered = !is_directory(stat)
            && shared.durability.get(&stat.st_dev) == Some(&Durability::EachFile);
        let lock = shared.lock.as_ref().filter(|_| is_renumbered);
        let inode = inode_of(stat);
        let has_lost_name = shared.with_lost_name.contains(&inode);
        shared.made.contains(inode)
            || lock.is_some_and(|lock| lock.precedes(dir, name, has_lost_name))
    }

    /// Remembers that a name of an old object was replaced, `stat` being its status before. Its
    /// time of the last change is now that of this restore.
    pub(super) fn remember_lost_name(&self, stat: &Stat) {
        let mut shared = self.shared.lock();
        if is_directory(stat) || stat.st_nlink <= 1 {
            // Its number may now be that of a new object.
            shared.with_lost_name.remove(&inode_of(stat));
        } else if shared.with_lost_name.len() < MAX_CREATED {
            shared.with_lost_name.insert(inode_of(stat));
        }
    }

    /// Way in which the file system of an open object reports failed writes.
    pub(super) fn durability(&self, fd: impl AsFd, device: u64) -> Durability {
        let mut shared = self.shared.lock();
        *shared
            .durability
            .entry(device)
            .or_insert_with(|| Durability::of(fd))
    }
}

/// Returns the status of the object under a name. A symbolic link is not followed.
pub(super) fn lstat(dir: &Dir, name: &[u8]) -> Result<Stat> {
    retry_on_intr(|| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))
}

/// True if the status is that of a directory.
pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Device and inode.
pub(super) fn inode_of(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Renames `from` to the first of `name.damaged`, `name.damaged.1` and so on that is free. Returns
/// the new name, in which a long `name` is cut.
pub(super) fn rename_aside(
    dir: &Dir,
    from: &[u8],
    name: &[u8],
    making: &Making,
) -> Result<Vec<u8>> {
    for number in 0..MAX_TRIES {
        let ending = if number == 0 {
            ".damaged".to_owned()
        } else {
            format!(".damaged.{number}")
        };
        let kept = name.len().min(MAX_NAME - ending.len());
        let aside = [&name[..kept], ending.as_bytes()].concat();
        match rename_no_replace(dir, from, &aside, making) {
            Ok(()) => return Ok(aside),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

/// Renames an object, but not to a name that exists.
pub(super) fn rename_no_replace(dir: &Dir, from: &[u8], to: &[u8], making: &Making) -> Result<()> {
    let rename = |flags| retry_on_intr(|| rustix::fs::renameat_with(dir, from, dir, to, flags));
    match rename(RenameFlags::NOREPLACE) {
        // Not in this file system: link, which fails if the new name exists, then unlink the old.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        other => return other,
    }
    match retry_on_intr(|| rustix::fs::linkat(dir, from, dir, to, AtFlags::empty())) {
        Ok(()) => rustix::fs::unlinkat(dir, from, AtFlags::empty()),
        Err(Errno::EXIST) => Err(Errno::EXIST),
        // No links either: look first. Only another program could take the name meanwhile.
        Err(_) => {
            let _made = making.lock();
            match lstat(dir, to) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rename(RenameFlags::empty()),
                Err(error) => Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tail::open_directory;
    use super::*;

    fn open(root: &Path) -> Destination {
        Destination::new(
            Arc::new(OpenDirectory::existing(Arc::new(
                open_directory(root).unwrap(),
            ))),
            &RestoreReport::default(),
        )
        .unwrap()
    }

    #[test]
    fn mounted_file_systems_are_synced_too() {
        let root = Path::new("/");
        let device =
            |path: &Path| std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(path).unwrap());
        let mut destination = open(root);
        destination.directory(b"proc", Missing::Fail).unwrap();
        destination
            .directory(b"proc/self/fd", Missing::Fail)
            .unwrap_err();
        let wanted = HashSet::from(["/", "/proc"].map(|path| device(Path::new(path))));
        assert_eq!(
            wanted.len(),
            2,
            "the test needs another file system at /proc"
        );
        let reached: HashSet<_> = destination
            .shared
            .lock()
            .file_systems
            .keys()
            .copied()
            .collect();
        assert_eq!(reached, wanted);
    }

    #[test]
    fn symbolic_links_are_refused_with_and_without_openat2() {
        for has_openat2 in [true, false] {
            let temp = tempfile::tempdir().unwrap();
            let (outside, dest) = (temp.path().join("outside"), temp.path().join("dest"));
            std::fs::create_dir_all(outside.join("deeper")).unwrap();
            std::fs::create_dir_all(dest.join("a/b")).unwrap();
            std::os::unix::fs::symlink("../outside", dest.join("link")).unwrap();
            std::os::unix::fs::symlink("b", dest.join("a/short")).unwrap();
            let mut destination = open(&dest);
            destination.has_openat2 = has_openat2;
            for path in [&b"link"[..], b"link/deeper", b"a/short", b"link/new/dir"] {
                let error = destination.directory(path, Missing::Create).unwrap_err();
                assert!(
                    matches!(error, Errno::LOOP | Errno::NOTDIR | Errno::EXIST),
                    "{error}"
                );
            }
            assert!(destination.directory(b"a/b", Missing::Fail).is_ok());
            assert_eq!(
                destination.directory(b"a/b/c", Missing::Fail).unwrap_err(),
                Errno::NOENT
            );
            let long = vec![&b"a-long-name-of-a-directory"[..]; 400].join(&b'/');
            assert!(destination.directory(&long, Missing::Create).is_ok());
            destination.cache.clear();
            assert!(destination.directory(&long, Missing::Fail).is_ok());
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
            assert_eq!(destination.has_openat2, has_openat2);
        }
    }
}
