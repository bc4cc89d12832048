//! Removal of a directory tree that its user may still be changing.
//!
//! ```text
//!   TOP/a/b/c        TOP/1/c  (was b)       TOP/2  (was c)
//!            ->                        ->                   ->  nothing
//! ```
//!
//! The user chooses how deep the tree is, and may have processes in it. So nothing here is
//! recursive: a subdirectory is moved to the top before it is emptied, which takes the same stack,
//! descriptors and length of path for every depth. Each directory first becomes the daemon's own,
//! so that no other user adds to it any more. A user who goes on making directories below can only
//! delay the end, and there is a limit to that.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Dir, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, fchmod, fchown, openat,
    openat2, renameat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};

/// Time after which the rest of a tree is left.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes the directory at `path` and all that is in it. It follows no link.
///
/// # Errors
///
/// The error of the system, or [`io::ErrorKind::TimedOut`] if the tree grows as quickly as it is
/// removed.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = retry_on_intr(|| openat(CWD, parent, flags, Mode::empty()))?;
    let mut removal = Removal {
        top: open_directory(parent.as_fd(), name)?,
        moved: 0,
        until: Instant::now() + PATIENCE,
    };
    removal.run()?;
    Ok(retry_on_intr(|| rustix::fs::rmdir(path))?)
}

struct Removal {
    top: OwnedFd,
    /// Number of directories that were moved to the top.
    moved: u64,
    until: Instant,
}

impl Removal {
    /// Empties the top.
    fn run(&mut self) -> io::Result<()> {
        take_over(&self.top);
        loop {
            let mut is_empty = true;
            for entry in Dir::read_from(&self.top)? {
                let entry = match entry {
                    // A signal has ended the list. The next pass has the rest.
                    Err(Errno::INTR) => {
                        is_empty = false;
                        break;
                    }
                    entry => entry?,
                };
                let name = entry.file_name();
                if !is_itself(name) {
                    is_empty = false;
                    self.remove_from_top(name)?;
                }
            }
            if is_empty {
                return Ok(());
            }
        }
    }

    fn remove_from_top(&mut self, name: &CStr) -> io::Result<()> {
        if remove_file(self.top.as_fd(), name)? {
            return Ok(());
        }
        let directory = open_directory(self.top.as_fd(), name)?;
        take_over(&directory);
        for entry in Dir::read_from(&directory)? {
            if Instant::now() > self.until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let entry = match entry {
                // A signal has ended the list. The directory stays for the next pass.
                Err(Errno::INTR) => break,
                entry => entry?,
            };
            let name = entry.file_name();
            if !is_itself(name) && !remove_file(directory.as_fd(), name)? {
                self.move_to_top(&directory, name)?;
            }
        }
        match retry_on_intr(|| unlinkat(&self.top, name, AtFlags::REMOVEDIR)) {
            // An entry that was made before the directory became the daemon's own, and not listed.
            Ok(()) | Err(Errno::NOTEMPTY) if Instant::now() <= self.until => Ok(()),
            Ok(()) | Err(Errno::NOTEMPTY) => Err(io::ErrorKind::TimedOut.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Moves the directory `name` to the top, under a name that is free there.
    fn move_to_top(&mut self, from: &OwnedFd, name: &CStr) -> io::Result<()> {
        let mut may_enter = false;
        loop {
            self.moved += 1;
            let new = format!("moved-{}", self.moved);
            match renameat(from, name, &self.top, new) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {}
                // The move writes its `..`, which its mode may forbid to a daemon that is not root.
                Err(Errno::ACCESS) if !may_enter => {
                    chmodat(from, name, Mode::RWXU, AtFlags::empty())?;
                    may_enter = true;
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Removes what is not a directory. Returns false for a directory.
fn remove_file(from: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match retry_on_intr(|| unlinkat(from, name, AtFlags::empty())) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes an open directory the daemon's own, with all permissions for it and none for others. A
/// daemon that is not root has no directories of other users.
fn take_over(directory: &OwnedFd) {
    let own = (rustix::process::geteuid(), rustix::process::getegid());
    let _: Result<(), Errno> = fchown(
        directory,
        Some(Uid::from_raw(own.0.as_raw())),
        Some(Gid::from_raw(own.1.as_raw())),
    );
    let _: Result<(), Errno> = fchmod(directory, Mode::RWXU);
}

/// Opens the directory `name` in `at`. Fails if it is the root of another file system: a user can
/// mount one of its own, which would answer the daemon when it likes.
fn open_directory(at: BorrowedFd<'_>, name: impl rustix::path::Arg + Copy) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (mode, inside) = (Mode::empty(), ResolveFlags::NO_XDEV);
    let open = || retry_on_intr(|| openat2(at, name, flags, mode, inside));
    match open() {
        Err(Errno::ACCESS) => {
            retry_on_intr(|| chmodat(at, name, Mode::RWXU, AtFlags::empty()))?;
            Ok(open()?)
        }
        opened => Ok(opened?),
    }
}

fn is_itself(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn tree_of_any_depth_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let (top, outside) = (parent.path().join("top"), parent.path().join("outside"));
        fs::create_dir(&top).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        symlink(&outside, top.join("link")).unwrap();
        fs::create_dir(top.join("moved-1")).unwrap();
        fs::write(top.join("moved-1/file"), "").unwrap();
        fs::write(top.join("moved-2"), "").unwrap();
        let mut at = open_directory(CWD.as_fd(), &*top).unwrap();
        // Far more than descriptors, the longest path, or the stack of a thread allow for.
        for _ in 0..5_000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/", &at, "l").unwrap();
            at = open_directory(at.as_fd(), "d").unwrap();
        }
        drop(at);
        std::thread::Builder::new()
            .stack_size(64 << 10)
            .spawn(move || {
                // A slow machine needs several attempts.
                while let Err(error) = remove_tree(&top) {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
                }
            })
            .unwrap()
            .join()
            .unwrap();
        let left: Vec<_> = fs::read_dir(parent.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"kept");
    }

    /// Needs root, to mount; without it nothing is tested.
    #[test]
    fn file_systems_that_are_mounted_in_a_tree_are_not_entered() {
        let parent = tempfile::tempdir().unwrap();
        let [top, other] = ["top", "other"].map(|name| parent.path().join(name));
        let mounted = [top.join("mounted"), top.join("a/mounted"), top.clone()];
        for directory in mounted.iter().chain([&other]) {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(other.join("file"), "kept").unwrap();
        let run = |program: &str, arguments: &[&Path]| {
            let mut command = std::process::Command::new(program);
            command
                .args(arguments)
                .status()
                .is_ok_and(|status| status.success())
        };
        for place in &mounted {
            fs::create_dir_all(place).unwrap();
            if !run("mount", &[Path::new("--bind"), &other, place]) {
                println!("cannot mount: nothing is tested");
                return;
            }
            let removed = remove_tree(&top);
            assert!(run("umount", &[place]));
            // A mount is neither opened nor moved.
            let errno = Errno::from_io_error(&removed.unwrap_err());
            assert!(
                matches!(errno, Some(Errno::XDEV | Errno::BUSY)),
                "{errno:?}"
            );
            assert_eq!(fs::read(other.join("file")).unwrap(), b"kept");
        }
        remove_tree(&top).unwrap();
    }

    #[test]
    fn directories_without_permissions_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let top = parent.path().join("top");
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        for closed in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(top.join(closed), PermissionsExt::from_mode(0o000)).unwrap();
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }
}
