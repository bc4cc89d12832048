//! What may be run: a program that nobody but root and the daemon's own user can change, and that
//! is still the one that was checked.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A program that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
    identity: Identity,
}

/// What changes if a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Program {
    /// Checks the program at `path`.
    ///
    /// # Errors
    ///
    /// What is wrong with it: it is not there, not a regular file, not executable, or somebody else
    /// could change it, itself or on the way to it.
    pub fn check(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        if !path.is_absolute() {
            return Err(format!(
                "the program {shown} is not named from the root: begin it with /"
            ));
        }
        let path =
            fs::canonicalize(path).map_err(|error| format!("the program {shown}: {error}"))?;
        let metadata =
            fs::metadata(&path).map_err(|error| format!("the program {shown}: {error}"))?;
        if !metadata.is_file() {
            return Err(format!("the program {shown} is not a regular file"));
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(format!("the program {shown} is not executable"));
        }
        only_ours_to_write(&metadata).map_err(|what| format!("the program {shown} {what}"))?;
        for folder in path.ancestors().skip(1) {
            let shown_folder = folder.display();
            let metadata =
                fs::metadata(folder).map_err(|error| format!("{shown_folder}: {error}"))?;
            only_ours_to_write(&metadata).map_err(|what| {
                format!(
                    "the program {shown} could be replaced: the directory {shown_folder} {what}"
                )
            })?;
        }
        Ok(Self {
            path,
            identity: Identity::of(&metadata),
        })
    }

    /// Where it is, all symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still the one that was checked.
    ///
    /// # Errors
    ///
    /// If it cannot be looked at, or is another one.
    pub fn is_unchanged(&self) -> io::Result<()> {
        let now = Identity::of(&fs::symlink_metadata(&self.path)?);
        if now != self.identity {
            let why = "it has changed since the configuration was checked: have the daemon read that again (SIGHUP)";
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

/// Whether only root and the daemon's own user can write what this belongs to; for a directory,
/// whether only they can replace what is in it, which the sticky bit is enough for.
pub(super) fn only_ours_to_write(metadata: &Metadata) -> Result<(), String> {
    let own = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let mode = metadata.permissions().mode();
    if metadata.uid() != 0 && metadata.uid() != own.0 {
        return Err(format!(
            "belongs to user {}, neither root nor the daemon's own",
            metadata.uid()
        ));
    }
    if metadata.is_dir() && mode & 0o1000 != 0 {
        return Ok(());
    }
    let others = mode & 0o002 != 0;
    let group = mode & 0o020 != 0 && metadata.gid() != 0 && metadata.gid() != own.1;
    match others || group {
        true => Err(format!(
            "can be written by others (mode {:04o})",
            mode & 0o7777
        )),
        false => Ok(()),
    }
}

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
    fn a_program_is_the_one_that_was_checked_or_refused() {
        let (_dir, path) = program();
        let checked = Program::check(&path).unwrap();
        checked.is_unchanged().unwrap();
        fs::write(&path, "#!/bin/sh\nexit 1\n").unwrap();
        assert!(
            checked
                .is_unchanged()
                .unwrap_err()
                .to_string()
                .contains("SIGHUP")
        );
        Program::check(&path).unwrap().is_unchanged().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(checked.is_unchanged().is_err());
    }

    #[test]
    fn a_link_is_followed_once_and_for_all() {
        let (dir, path) = program();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let checked = Program::check(&link).unwrap();
        assert_eq!(checked.path(), path);
        fs::remove_file(&link).unwrap();
        checked.is_unchanged().unwrap();
    }

    #[test]
    fn what_others_could_change_is_refused() {
        let (dir, path) = program();
        let error = |path: &Path| Program::check(path).unwrap_err();
        assert!(error(Path::new("bin/sh")).contains("begin it with /"));
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
