//! A directory in memory that leaves nothing behind, nor does whatever stands beside it with a name
//! that begins as its own and goes on with a dash: that is what other people's shared memory is
//! called here.
//!
//! ```text
//!   this process -- pipe --> a shell that waits for the pipe's end, and then removes the directory
//! ```
//!
//! The pipe ends when its value is dropped, and when this process ends, of whatever. The shell is
//! in a process group of its own, so that what interrupts this process from a terminal does not
//! reach it.

use std::error::Error;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};

use super::material::{DIRECTORY, check_room};

/// When this process has been killed, what it started may still write for a while.
const REMOVE: &str =
    r#"cat; for n in 1 2 3 4 5; do rm -rf -- "$1" "$1"-*; test -e "$1" || break; sleep 1; done"#;

/// A directory that only this user can enter.
pub(super) struct Scratch {
    path: PathBuf,
    remover: Child,
}

impl Scratch {
    /// An empty directory in which so many `bytes` and `files` have room.
    pub(super) fn new(bytes: u64, files: u64) -> Result<Self, Box<dyn Error>> {
        check_room(bytes, files)?;
        let path = make()?;
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
                Err(format!("sh cannot be run: {error}").into())
            }
        }
    }

    /// Something in it.
    pub(super) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        // Its memory is needed for what comes next.
        let _ = self.remover.wait();
    }
}

fn make() -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let path =
            Path::new(DIRECTORY).join(format!("datapipe-benches-{}-{number}", process::id()));
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
    fn nothing_is_left() {
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
