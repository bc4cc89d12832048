//! Programs that the daemon may run: only root and the daemon's own user can change them, and they
//! are still the files that were checked.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use datapipe::interrupt::retry;
use datapipe::stage::ProgramFile;

use super::acl::check_acl;

/// Symbolic links that are followed one after the other, as the kernel does.
pub(crate) const MAX_LINKS: u32 = 40;

/// Program that was checked.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file that was checked, held open.
    file: ProgramFile,
    identity: Identity,
}

/// Facts about a file of which at least one changes when the file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Reason for which the daemon does not run a program.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgramError {
    /// The path is relative.
    Relative {
        /// Path of the program.
        path: PathBuf,
    },
    /// The file, or a directory above it, cannot be inspected.
    Unreadable {
        /// Path of the program.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file is not a regular file.
    NotAFile {
        /// Path of the program.
        path: PathBuf,
    },
    /// The file has no permission to execute.
    NotExecutable {
        /// Path of the program.
        path: PathBuf,
    },
    /// Another user could change the file.
    Writable {
        /// Path of the program.
        path: PathBuf,
        /// Right of that user.
        source: OwnershipError,
    },
    /// Another user could replace the file or a directory above it.
    Replaceable {
        /// Path of the program.
        path: PathBuf,
        /// Directory in which that user could do it.
        directory: PathBuf,
        /// Right of that user.
        source: OwnershipError,
    },
}

/// Right of users other than root and the daemon's own to change a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnershipError {
    /// Another user owns the file.
    Owner {
        /// Id of that user.
        user: u32,
    },
    /// The mode lets a group or all users write the file.
    Mode {
        /// Permission bits of the file.
        mode: u32,
    },
    /// Its access control list lets another user or group write the file.
    List {
        /// Id of the user or group.
        id: u32,
        /// True if it is a group.
        is_group: bool,
    },
}

impl Program {
    /// Checks the program at `path`.
    ///
    /// # Errors
    ///
    /// If the program does not exist, is not an executable regular file, or another user could
    /// change it or replace it in one of the directories above it.
    pub fn check(path: &Path) -> Result<Self, ProgramError> {
        let named = || path.to_owned();
        if !path.is_absolute() {
            return Err(ProgramError::Relative { path: named() });
        }
        let unreadable = |source| ProgramError::Unreadable {
            path: named(),
            source,
        };
        let in_directory = |error| match error {
            DirectoryError::Unreadable { directory, source } => {
                let what = format!("{}: {source}", directory.display());
                unreadable(io::Error::new(source.kind(), what))
            }
            DirectoryError::Writable { directory, source } => ProgramError::Replaceable {
                path: named(),
                directory,
                source,
            },
        };
        let resolved = fs::canonicalize(path).map_err(unreadable)?;
        let file = ProgramFile::open(resolved).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(ProgramError::NotAFile { path: named() });
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(ProgramError::NotExecutable { path: named() });
        }
        check_ownership(&metadata).map_err(|source| ProgramError::Writable {
            path: named(),
            source,
        })?;
        check_acl(file.path())
            .map_err(unreadable)?
            .map_err(|source| ProgramError::Writable {
                path: named(),
                source,
            })?;
        check_directories(file.path()).map_err(in_directory)?;
        check_links(path, MAX_LINKS).map_err(in_directory)?;
        Ok(Self {
            file,
            identity: Identity::of(&metadata),
        })
    }

    /// Path of the program, all symbolic links resolved.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file that was checked. Processes are started from it, also if another is at its
    /// path by then.
    pub fn file(&self) -> &ProgramFile {
        &self.file
    }

    /// Verifies that the file at the path is still the one that was checked.
    ///
    /// # Errors
    ///
    /// If the file cannot be inspected, or has changed.
    pub fn verify_unchanged(&self) -> io::Result<()> {
        let now = Identity::of(&retry(|| fs::symlink_metadata(self.path()))?);
        if now != self.identity {
            let why = "it has changed since the configuration was checked: send SIGHUP to the \
                       daemon to check it again";
            return Err(io::Error::other(why));
        }
        Ok(())
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reason for which a file could be replaced.
#[derive(Debug)]
pub(crate) enum DirectoryError {
    Unreadable {
        directory: PathBuf,
        source: io::Error,
    },
    /// Another user can replace what is in the directory.
    Writable {
        directory: PathBuf,
        source: OwnershipError,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { directory, source } => {
                write!(f, "the directory {}: {source}", directory.display())
            }
            Self::Writable { directory, source } => {
                write!(f, "the directory {} {source}", directory.display())
            }
        }
    }
}

/// Checks that only root and the daemon's own user can replace a file, or a directory above it.
/// `resolved` has no symbolic links.
pub(crate) fn check_directories(resolved: &Path) -> Result<(), DirectoryError> {
    for directory in resolved.ancestors().skip(1) {
        let named = || directory.to_owned();
        let unreadable = |source| DirectoryError::Unreadable {
            directory: named(),
            source,
        };
        let metadata = retry(|| fs::metadata(directory)).map_err(unreadable)?;
        let is_sticky = metadata.permissions().mode() & 0o1000 != 0;
        let by_list = match is_sticky {
            true => Ok(()),
            false => check_acl(directory).map_err(unreadable)?,
        };
        let writable = |source| DirectoryError::Writable {
            directory: named(),
            source,
        };
        check_ownership(&metadata).and(by_list).map_err(writable)?;
    }
    Ok(())
}

/// Returns the program and the directories above it that members of a group can write: root's, or
/// the daemon's own. `resolved` has no symbolic links.
pub(super) fn written_by_groups(resolved: &Path) -> Vec<(&Path, u32)> {
    let parts = resolved.ancestors().filter_map(|part| {
        let metadata = retry(|| fs::metadata(part)).ok()?;
        let mode = metadata.permissions().mode();
        let is_sticky = metadata.is_dir() && mode & 0o1000 != 0;
        (mode & 0o020 != 0 && !is_sticky).then(|| (part, metadata.gid()))
    });
    parts.collect()
}

/// Checks that only root and the daemon's own user can let a path lead elsewhere: the links in it,
/// and those in their targets, `left` of them one after the other at most.
pub(crate) fn check_links(path: &Path, left: u32) -> Result<(), DirectoryError> {
    for part in path.ancestors() {
        let unreadable = |source| DirectoryError::Unreadable {
            directory: part.to_owned(),
            source,
        };
        let metadata = retry(|| fs::symlink_metadata(part)).map_err(unreadable)?;
        let Some(parent) = part.parent().filter(|_| metadata.is_symlink()) else {
            continue;
        };
        if left == 0 {
            return Err(unreadable(io::Error::other("too many symbolic links")));
        }
        let parent = retry(|| fs::canonicalize(parent)).map_err(unreadable)?;
        check_directories(&parent.join("link"))?;
        // In a directory with the sticky bit the owner can replace it.
        check_owner(&metadata).map_err(|source| DirectoryError::Writable {
            directory: part.to_owned(),
            source,
        })?;
        let target = retry(|| fs::read_link(part)).map_err(unreadable)?;
        check_links(&parent.join(target), left.saturating_sub(1))?;
    }
    Ok(())
}

/// Checks that a file belongs to root or to the daemon's own user.
fn check_owner(metadata: &Metadata) -> Result<(), OwnershipError> {
    let user = metadata.uid();
    match user == 0 || user == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(OwnershipError::Owner { user }),
    }
}

/// Checks that only root and the daemon's own user can write a file.
///
/// For a directory it checks that only they can replace its entries; the sticky bit suffices for
/// that, because it reserves the entries to their owners.
pub(crate) fn check_ownership(metadata: &Metadata) -> Result<(), OwnershipError> {
    check_owner(metadata)?;
    let own_group = rustix::process::getegid().as_raw();
    let mode = metadata.permissions().mode();
    if metadata.is_dir() && mode & 0o1000 != 0 {
        return Ok(());
    }
    let others = mode & 0o002 != 0;
    let group = mode & 0o020 != 0 && metadata.gid() != 0 && metadata.gid() != own_group;
    if others || group {
        return Err(OwnershipError::Mode {
            mode: mode & 0o7777,
        });
    }
    Ok(())
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Relative { path }
        | Self::Unreadable { path, .. }
        | Self::NotAFile { path }
        | Self::NotExecutable { path }
        | Self::Writable { path, .. }
        | Self::Replaceable { path, .. }) = self;
        write!(f, "the program {}", path.display())?;
        match self {
            Self::Relative { .. } => {
                f.write_str(" has a relative path: use one that begins with /")
            }
            Self::Unreadable { source, .. } => write!(f, ": {source}"),
            Self::NotAFile { .. } => f.write_str(" is not a regular file"),
            Self::NotExecutable { .. } => f.write_str(" is not executable"),
            Self::Writable { source, .. } => write!(f, " {source}"),
            Self::Replaceable {
                directory, source, ..
            } => {
                let directory = directory.display();
                write!(f, " could be replaced: the directory {directory} {source}")
            }
        }
    }
}

impl std::error::Error for ProgramError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Writable { source, .. } | Self::Replaceable { source, .. } => Some(source),
            Self::Relative { .. } | Self::NotAFile { .. } | Self::NotExecutable { .. } => None,
        }
    }
}

/// The text follows the name of a file or directory.
impl fmt::Display for OwnershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { user } => {
                write!(
                    f,
                    "belongs to user {user}, neither root nor the daemon's own"
                )
            }
            Self::Mode { mode } => write!(f, "can be written by others (mode {mode:04o})"),
            Self::List { id, is_group } => {
                let kind = if *is_group { "group" } else { "user" };
                write!(
                    f,
                    "can be written by {kind} {id} because of its access control list (getfacl)"
                )
            }
        }
    }
}

impl std::error::Error for OwnershipError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap().join("program");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        (dir, path)
    }

    #[test]
    fn program_that_has_changed_is_refused() {
        let (_dir, path) = program();
        let checked = Program::check(&path).unwrap();
        checked.verify_unchanged().unwrap();
        fs::write(&path, "#!/bin/sh\nexit 1\n").unwrap();
        assert!(
            checked
                .verify_unchanged()
                .unwrap_err()
                .to_string()
                .contains("SIGHUP")
        );
        Program::check(&path).unwrap().verify_unchanged().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(checked.verify_unchanged().is_err());
    }

    #[test]
    fn link_to_a_program_is_followed_when_it_is_checked() {
        let (dir, path) = program();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let checked = Program::check(&link).unwrap();
        assert_eq!(checked.path(), path);
        fs::remove_file(&link).unwrap();
        checked.verify_unchanged().unwrap();
    }

    /// The user who may change a link chooses which of root's programs the daemon runs.
    #[test]
    fn links_that_others_could_change_are_refused() {
        let (dir, path) = program();
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        let link = |name: &str, to: &Path| {
            let link = dir.path().join(name);
            std::os::unix::fs::symlink(to, &link).unwrap();
            link
        };
        let file = link("other/file", &path);
        let chain = link("chain", Path::new("other/file"));
        let above = link("above", &other);
        let paths = [&file, &chain, &above.join("file")];
        for path in paths {
            Program::check(path).unwrap();
        }
        let error = |path: &Path| Program::check(path).unwrap_err().to_string();
        fs::set_permissions(&other, PermissionsExt::from_mode(0o777)).unwrap();
        for path in paths {
            let error = error(path);
            assert!(
                error.contains("could be replaced: the directory"),
                "{error}"
            );
            assert!(error.contains("other can be written by others"), "{error}");
        }
        // The sticky bit reserves a link to its owner.
        fs::set_permissions(&other, PermissionsExt::from_mode(0o1777)).unwrap();
        Program::check(&chain).unwrap();
        if !rustix::process::geteuid().is_root() {
            println!("not root: a link of another user is not tested");
            return;
        }
        std::os::unix::fs::lchown(&file, Some(4_000_000_001), None).unwrap();
        for path in paths {
            assert!(error(path).contains("belongs to user 4000000001"));
        }
        Program::check(&path).unwrap();
    }

    #[test]
    fn program_that_others_could_change_is_refused() {
        let (dir, path) = program();
        let error = |path: &Path| Program::check(path).unwrap_err().to_string();
        assert!(error(Path::new("bin/sh")).contains("begins with /"));
        assert!(error(dir.path()).contains("not a regular file"));
        assert!(error(&dir.path().join("none")).contains("No such file"));
        let mode =
            |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        mode(&path, 0o644);
        assert!(error(&path).contains("not executable"));
        mode(&path, 0o757);
        assert!(error(&path).contains("can be written by others (mode 0757)"));
        mode(&path, 0o755);
        mode(dir.path(), 0o777);
        assert!(error(&path).contains("could be replaced"));
        mode(dir.path(), 0o1777);
        Program::check(&path).unwrap();
    }
}
