//! Private directories for the temporary files of stages.
//!
//! ```text
//!   TEMPORARY/datapiped-RANDOM/       one for the daemon; locked while the daemon lives
//!                          RANDOM/  one for each stage that has temporary files, its user's own
//! ```
//!
//! A daemon that starts removes the directories of daemons that were killed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datapipe::interrupt::retry;
use datapipe::media::{FileSystem, Storage as _};
use datapipe::stage::ProcessUser;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::retry_on_intr;

use super::removal::remove_tree;

/// Beginning of the names of the daemons' directories.
const PREFIX: &str = "datapiped-";

/// Directory of this daemon, made when a stage needs one, and removed with the last of them.
#[derive(Debug, Default)]
pub(super) struct Temporary(Mutex<std::sync::Weak<DaemonDirectory>>);

#[derive(Debug)]
struct DaemonDirectory {
    path: PathBuf,
    /// Parent of the directory.
    parent: PathBuf,
    /// Holds the lock.
    _lock: File,
}

/// Directory of a stage. Its end removes it, and everything in it.
#[derive(Debug)]
pub(super) struct StageDirectory {
    path: PathBuf,
    _daemon: Arc<DaemonDirectory>,
}

impl Temporary {
    /// Makes a directory in `parent` that only `user` may enter; the daemon's own user if there is
    /// none.
    pub(super) fn make(
        &self,
        parent: &Path,
        user: Option<&ProcessUser>,
    ) -> io::Result<StageDirectory> {
        let mut present = self.0.lock();
        let daemon = match present.upgrade().filter(|daemon| daemon.parent == parent) {
            Some(daemon) => daemon,
            None => {
                let made = Arc::new(DaemonDirectory::make(parent)?);
                *present = Arc::downgrade(&made);
                made
            }
        };
        let path = make_directory(&daemon.path, "", 0o700)?;
        let made = StageDirectory {
            path,
            _daemon: daemon,
        };
        if let Some(user) = user {
            std::os::unix::fs::lchown(&made.path, Some(user.user()), Some(user.group()))?;
        }
        Ok(made)
    }
}

impl StageDirectory {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StageDirectory {
    fn drop(&mut self) {
        // It follows no link. What cannot be removed, the next daemon removes.
        let _ = remove_tree(&self.path);
    }
}

impl DaemonDirectory {
    fn make(parent: &Path) -> io::Result<Self> {
        let parent = fs::canonicalize(parent)?;
        loop {
            // Other users may pass through it to theirs, and not list it.
            let path = make_directory(&parent, PREFIX, 0o711)?;
            let lock = open_directory(&path)?;
            retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))?;
            // A daemon that started at this moment may have taken it for a left one.
            let found = retry(|| fs::symlink_metadata(&path));
            if found.is_ok_and(|found| is_same(&found, &lock)) {
                return Ok(Self {
                    path,
                    parent,
                    _lock: lock,
                });
            }
        }
    }
}

impl Drop for DaemonDirectory {
    fn drop(&mut self) {
        let _ = remove_tree(&self.path);
    }
}

/// Removes the directories in `parent` that daemons of this user have left.
pub(super) fn remove_left(parent: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for name in FileSystem.list(parent).unwrap_or_default() {
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let path = parent.join(name);
        let Ok(directory) = open_directory(&path) else {
            continue;
        };
        let is_own = retry(|| directory.metadata()).is_ok_and(|found| found.uid() == own);
        let lock = FlockOperation::NonBlockingLockExclusive;
        let is_left = || retry_on_intr(|| rustix::fs::flock(&directory, lock));
        if is_own && is_left().is_ok() {
            let _ = remove_tree(&path);
        }
    }
}

fn make_directory(parent: &Path, prefix: &str, mode: u32) -> io::Result<PathBuf> {
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let path = parent.join(format!("{prefix}{:032x}", u128::from_le_bytes(random)));
    retry(|| DirBuilder::new().mode(mode).create(&path))?;
    // The mask of new files may have taken some of the permissions away.
    retry(|| fs::set_permissions(&path, PermissionsExt::from_mode(mode)))?;
    Ok(path)
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn is_same(found: &fs::Metadata, directory: &File) -> bool {
    retry_on_intr(|| rustix::fs::fstat(directory.as_fd()))
        .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> usize {
        fs::read_dir(parent).unwrap().count()
    }

    #[test]
    fn directories_are_private_and_removed_with_their_content() {
        let parent = tempfile::tempdir().unwrap();
        let temporary = Temporary::default();
        let one = temporary.make(parent.path(), None).unwrap();
        let other = temporary.make(parent.path(), None).unwrap();
        assert_eq!(
            (names(parent.path()), one.path() == other.path()),
            (1, false)
        );
        let mode = fs::metadata(one.path()).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700);
        fs::write(one.path().join("file"), "x").unwrap();
        drop(one);
        assert_eq!(names(parent.path()), 1);
        drop(other);
        assert_eq!(names(parent.path()), 0);
    }

    #[test]
    fn directories_of_killed_daemons_are_removed_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let temporary = Temporary::default();
        let live = temporary.make(parent.path(), None).unwrap();
        for other in ["datapiped-left/inner", "else/inner"] {
            fs::create_dir_all(parent.path().join(other)).unwrap();
        }
        fs::write(parent.path().join("datapiped-file"), "").unwrap();
        remove_left(parent.path());
        assert!(live.path().exists() && parent.path().join("else/inner").exists());
        assert!(!parent.path().join("datapiped-left").exists());
        assert!(parent.path().join("datapiped-file").exists());
    }
}
