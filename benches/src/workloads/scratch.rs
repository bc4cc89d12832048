//! A directory, in memory or on a disk, that is removed in any case, together with all files beside
//! it whose names consist of the directory's name, a dash and more: peers name their shared memory
//! like this here.
//!
//! ```text
//!   this process -- pipe --> shell: waits for the end of the pipe, then removes the directory
//! ```
//!
//! The pipe ends when the [`Scratch`] is dropped, and when this process ends for any reason. The
//! shell has its own process group, so that an interrupt from the terminal does not reach it.

use std::env;
use std::error::Error;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};

use super::space::{DIRECTORY, check_disk, check_space};

/// Script of the shell. It tries several times, because the children of a killed process may still
/// write for a while.
const REMOVE: &str =
    r#"cat; for n in 1 2 3 4 5; do rm -rf -- "$1" "$1"-*; test -e "$1" || break; sleep 1; done"#;

/// A directory that only this user can enter.
pub(super) struct Scratch {
    path: PathBuf,
    remover: Child,
}

impl Scratch {
    /// Makes an empty directory in memory, after checking that `files` files with `bytes` bytes
    /// fit.
    pub(super) fn new(bytes: u64, files: u64) -> Result<Self, Box<dyn Error>> {
        check_space(bytes, files)?;
        Self::below(Path::new(DIRECTORY))
    }

    /// Makes an empty directory below the one for temporary files, which must be on a disk, after
    /// checking that `files` files with `bytes` bytes fit.
    pub(super) fn on_disk(bytes: u64, files: u64) -> Result<Self, Box<dyn Error>> {
        let parent = env::temp_dir();
        check_disk(&parent, bytes, files)?;
        Self::below(&parent)
    }

    fn below(parent: &Path) -> Result<Self, Box<dyn Error>> {
        let path = make_directory(parent)?;
        let spawned = Command::new("sh")
            .args(["-c", REMOVE, "sh"])
            .arg(&path)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match spawned {
            Ok(remover) => Ok(Self { path, remover }),
            Err(error) => {
                fs::remove_dir(&path)?;
                Err(format!("cannot run sh: {error}").into())
            }
        }
    }

    /// Returns the path of `name` in the directory.
    pub(super) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        // The next workload needs the memory.
        let _ = self.remover.wait();
    }
}

/// Makes a directory with an unused name.
fn make_directory(parent: &Path) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let path = parent.join(format!("datapipe-benches-{}-{number}", process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|()| path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_directory_is_removed_with_its_dashed_siblings() {
        let scratch = Scratch::new(0, 2).unwrap();
        let (path, beside) = (
            scratch.path.clone(),
            scratch.path.with_added_extension("other"),
        );
        let memory = PathBuf::from(format!("{}-memory", path.display()));
        fs::create_dir(scratch.join("a")).unwrap();
        fs::write(scratch.join("a/b"), "c").unwrap();
        fs::write(&memory, "d").unwrap();
        fs::write(&beside, "e").unwrap();
        assert!(path.join("a/b").exists());
        drop(scratch);
        assert!(!path.exists() && !memory.exists());
        fs::remove_file(beside).unwrap();
    }
}
