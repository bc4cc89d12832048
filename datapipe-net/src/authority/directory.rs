//! Directories of an authority: those that exist, which are locked while a command changes them,
//! and new ones, which get their name when they are whole.
//!
//! A new directory is prepared beside its place, as `.NAME.new`. The lock belongs to the directory
//! itself, so a command that finds one with that name and can lock it has found what an interrupted
//! command has left, and uses it anew. A file is replaced by way of `.NAME.new`, too.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use datapipe::interrupt::{for_each_name, retry};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use super::error::AuthorityError;
use crate::config::check_directories;
use crate::limits::AUTHORITY_PATIENCE;

/// Mode of a directory.
const DIRECTORY_MODE: u32 = 0o700;
/// Time between two attempts to lock a directory.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Number of times that a directory may be replaced while it is opened.
const MAX_ROUNDS: u32 = 100;
/// Names of all files that commands make. What an interrupted one has left is among them.
pub(super) const FILES: [&str; 8] = [
    AUTHORITY_KEY,
    AUTHORITIES,
    REVOKED,
    REGISTER,
    "server.pem",
    "server.key",
    "client.pem",
    "client.key",
];
/// The authority's key.
pub(super) const AUTHORITY_KEY: &str = "ca.key";
/// Certificates of authorities.
pub(super) const AUTHORITIES: &str = "ca.pem";
/// Lists of revoked certificates.
pub(super) const REVOKED: &str = "crl.pem";
/// The register.
pub(super) const REGISTER: &str = "issued.json";

/// Mode of a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum FileMode {
    /// For the owner only: keys.
    Private,
    /// For all who can reach it.
    Public,
}

/// Directory that exists, locked.
#[derive(Debug)]
pub(super) struct LockedDirectory {
    path: PathBuf,
    directory: File,
}

/// Directory that is being made. It is removed if it is dropped before it has its name.
#[derive(Debug)]
pub(super) struct NewDirectory {
    path: PathBuf,
    parent: File,
    /// Name until it is whole.
    draft: OsString,
    directory: File,
    is_published: bool,
}

impl FileMode {
    fn bits(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }
}

impl LockedDirectory {
    /// Opens and locks a directory. Waits for other commands, [`AUTHORITY_PATIENCE`] at most.
    pub(super) fn open(path: &Path) -> Result<Self, AuthorityError> {
        for _ in 0..MAX_ROUNDS {
            let directory = open_directory(rustix::fs::CWD, path.as_os_str(), OFlags::empty())
                .map_err(|source| match source.kind() {
                    io::ErrorKind::NotFound => AuthorityError::NotAnAuthority {
                        path: path.to_owned(),
                    },
                    _ => file_error(path.to_owned(), source),
                })?;
            lock(&directory, path)?;
            if is_at(
                &directory,
                rustix::fs::CWD,
                path.as_os_str(),
                AtFlags::empty(),
            ) {
                let path = path.to_owned();
                return Ok(Self { path, directory });
            }
        }
        let path = path.to_owned();
        Err(AuthorityError::Moved { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces a file at once, and returns when it is on stable storage: a reader, also one after
    /// a crash, finds the old text or the new one.
    pub(super) fn replace(
        &self,
        name: &str,
        text: &[u8],
        mode: FileMode,
    ) -> Result<(), AuthorityError> {
        let draft = draft_name(OsStr::new(name));
        let written = (|| {
            // What an interrupted command has left: this one has the lock.
            remove_if_there(&self.directory, &draft)?;
            create(&self.directory, &draft, text, mode)?;
            retry_on_intr(|| {
                rustix::fs::renameat(&self.directory, &*draft, &self.directory, name)
            })?;
            retry(|| self.directory.sync_all())
        })();
        written.map_err(|source| {
            // The file that was to be replaced is as it was, so only the draft is left.
            let _ = remove_if_there(&self.directory, &draft);
            file_error(self.path.join(name), source)
        })
    }
}

impl NewDirectory {
    /// Prepares a directory that is to get the name `path`, where nothing or an empty directory
    /// may be. Only root and the own user can change the directories above.
    pub(super) fn prepare(path: &Path) -> Result<Self, AuthorityError> {
        let absolute =
            std::path::absolute(path).map_err(|source| file_error(path.to_owned(), source))?;
        let (Some(parent_path), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            let path = path.to_owned();
            return Err(AuthorityError::Unnamed { path });
        };
        let parent_error = |source| file_error(parent_path.to_owned(), source);
        let resolved = retry(|| fs::canonicalize(parent_path)).map_err(|source| {
            let path = parent_path.to_owned();
            match source.kind() {
                io::ErrorKind::NotFound => AuthorityError::NoParent { path },
                _ => AuthorityError::File { path, source },
            }
        })?;
        check_directories(&resolved.join(name))
            .map_err(|reason| AuthorityError::replaceable(path.to_owned(), &reason))?;
        let parent = open_directory(rustix::fs::CWD, resolved.as_os_str(), OFlags::empty())
            .map_err(parent_error)?;
        let draft = draft_name(name);
        let draft_path = resolved.join(&draft);
        for _ in 0..MAX_ROUNDS {
            let Some(directory) = open_draft(&parent, &draft, &draft_path)? else {
                continue;
            };
            let new = Self {
                path: resolved.join(name),
                parent,
                draft,
                directory,
                is_published: false,
            };
            return new.empty();
        }
        let path = draft_path;
        Err(AuthorityError::Moved { path })
    }

    /// Removes what an interrupted command has left, and checks that the place is free.
    fn empty(self) -> Result<Self, AuthorityError> {
        let draft = self.draft_path();
        let failed = |source| file_error(draft.clone(), source);
        self.remove_files().map_err(failed)?;
        if !is_empty(&self.directory).map_err(failed)? {
            return Err(AuthorityError::Leftover { path: draft });
        }
        let is_free = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(source) => return Err(file_error(self.path.clone(), source)),
            Ok(metadata) if metadata.is_dir() => {
                let failed = |source| file_error(self.path.clone(), source);
                let there = open_directory(rustix::fs::CWD, self.path.as_os_str(), OFlags::empty());
                is_empty(&there.map_err(failed)?).map_err(failed)?
            }
            Ok(_) => false,
        };
        match is_free {
            true => Ok(self),
            false => Err(AuthorityError::Exists {
                path: self.path.clone(),
            }),
        }
    }

    /// Path of the directory until it has its name.
    pub(super) fn draft_path(&self) -> PathBuf {
        self.path.with_file_name(&self.draft)
    }

    /// Adds a file, and returns when it is on stable storage.
    pub(super) fn add(
        &self,
        name: &str,
        text: &[u8],
        mode: FileMode,
    ) -> Result<(), AuthorityError> {
        debug_assert!(FILES.contains(&name), "what is left of it can be removed");
        create(&self.directory, OsStr::new(name), text, mode)
            .map_err(|source| file_error(self.draft_path().join(name), source))
    }

    /// Gives the directory its name, and returns the path when that is on stable storage.
    pub(super) fn publish(mut self) -> Result<PathBuf, AuthorityError> {
        let failed = |source| file_error(self.path.clone(), source);
        retry(|| self.directory.sync_all()).map_err(failed)?;
        let name = self.path.file_name().unwrap_or_default();
        // A directory replaces nothing but an empty directory.
        match retry_on_intr(|| rustix::fs::renameat(&self.parent, &*self.draft, &self.parent, name))
        {
            Ok(()) => self.is_published = true,
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {
                let path = self.path.clone();
                return Err(AuthorityError::Exists { path });
            }
            Err(error) => return Err(failed(error.into())),
        }
        retry(|| self.parent.sync_all()).map_err(|source| file_error(self.path.clone(), source))?;
        Ok(self.path.clone())
    }

    fn remove_files(&self) -> io::Result<()> {
        for name in FILES {
            remove_if_there(&self.directory, OsStr::new(name))?;
        }
        Ok(())
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.is_published {
            // What cannot be removed now, the next command removes or names.
            let _ = self.remove_files();
            let _ = rustix::fs::unlinkat(&self.parent, &*self.draft, AtFlags::REMOVEDIR);
        }
    }
}

/// Makes, opens and locks the directory in which new files are prepared. `None` if another command
/// has given it its name meanwhile.
fn open_draft(parent: &File, draft: &OsStr, path: &Path) -> Result<Option<File>, AuthorityError> {
    let mode = Mode::from_raw_mode(DIRECTORY_MODE);
    let is_made = match retry_on_intr(|| rustix::fs::mkdirat(parent, draft, mode)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(file_error(path.to_owned(), error.into())),
    };
    let opened = lock_draft(parent, draft, path);
    match opened {
        // Another command has it.
        Ok(_) | Err(AuthorityError::Busy { .. }) => {}
        Err(_) if is_made => {
            let _ = rustix::fs::unlinkat(parent, draft, AtFlags::REMOVEDIR);
        }
        Err(_) => {}
    }
    opened
}

fn lock_draft(parent: &File, draft: &OsStr, path: &Path) -> Result<Option<File>, AuthorityError> {
    let failed = |source| file_error(path.to_owned(), source);
    let leftover = || AuthorityError::Leftover {
        path: path.to_owned(),
    };
    let directory = match open_directory(parent, draft, OFlags::NOFOLLOW) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOTDIR | Errno::LOOP) => return Err(leftover()),
            _ => return Err(failed(error)),
        },
    };
    let status = rustix::fs::fstat(&directory).map_err(|error| failed(error.into()))?;
    if status.st_uid != geteuid().as_raw() || status.st_mode & 0o077 != 0 {
        return Err(leftover());
    }
    lock(&directory, path)?;
    if !is_at(&directory, parent, draft, AtFlags::SYMLINK_NOFOLLOW) {
        return Ok(None);
    }
    // The umask may have taken rights from the owner.
    let permissions = Permissions::from_mode(DIRECTORY_MODE);
    retry(|| directory.set_permissions(permissions.clone())).map_err(failed)?;
    Ok(Some(directory))
}

/// Locks a directory for this process. The lock ends with the file, or the process.
fn lock(directory: &File, path: &Path) -> Result<(), AuthorityError> {
    let begin = Instant::now();
    loop {
        match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if begin.elapsed() < AUTHORITY_PATIENCE => {
                thread::sleep(LOCK_PAUSE);
            }
            Err(Errno::WOULDBLOCK) => {
                let path = path.to_owned();
                return Err(AuthorityError::Busy { path });
            }
            Err(error) => return Err(file_error(path.to_owned(), error.into())),
        }
    }
}

fn open_directory(parent: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = retry_on_intr(|| rustix::fs::openat(&parent, name, flags, Mode::empty()))?;
    Ok(File::from(opened))
}

/// True if the directory still has this name.
fn is_at(directory: &File, parent: impl AsFd, name: &OsStr, flags: AtFlags) -> bool {
    let own = rustix::fs::fstat(directory);
    let there = rustix::fs::statat(parent, name, flags);
    matches!((own, there), (Ok(own), Ok(there))
        if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino))
}

fn is_empty(directory: &File) -> io::Result<bool> {
    let found = for_each_name(directory, |_| std::ops::ControlFlow::Break(()))?;
    Ok(found.is_none())
}

fn create(directory: &File, name: &OsStr, text: &[u8], mode: FileMode) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let private = Mode::from_raw_mode(FileMode::Private.bits());
    let file = retry_on_intr(|| rustix::fs::openat(directory, name, flags, private))?;
    let mut file = File::from(file);
    // Before it has content, and regardless of the umask.
    let permissions = Permissions::from_mode(mode.bits());
    retry(|| file.set_permissions(permissions.clone()))?;
    file.write_all(text)?;
    retry(|| file.sync_all())
}

fn remove_if_there(directory: &File, name: &OsStr) -> io::Result<()> {
    match retry_on_intr(|| rustix::fs::unlinkat(directory, name, AtFlags::empty())) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn draft_name(name: &OsStr) -> OsString {
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(".new");
    draft
}

fn file_error(path: PathBuf, source: io::Error) -> AuthorityError {
    AuthorityError::File { path, source }
}
