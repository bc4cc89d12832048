//! Unnamed temporary files: the kernel frees one with its descriptor, however the program ends.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Creates a file for writing and reading in the directory for temporary files.
pub(super) fn create() -> io::Result<File> {
    create_in(&env::temp_dir()).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{}: {error}", env::temp_dir().display()),
        )
    })
}

fn create_in(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // Not every file system supports `O_TMPFILE`.
        Err(_) => create_and_unlink(dir),
    }
}

fn create_and_unlink(dir: &Path) -> io::Result<File> {
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let path = dir.join(format!(".datapipe-{:032x}", u128::from_le_bytes(random)));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn temporary_files_leave_no_name() {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            create_in(dir.path()).unwrap(),
            create_and_unlink(dir.path()).unwrap(),
        ] {
            file.write_all_at(b"abc", 0).unwrap();
            let mut back = [0; 3];
            file.read_exact_at(&mut back, 0).unwrap();
            assert_eq!(&back, b"abc");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        }
        assert!(create_in(&dir.path().join("missing")).is_err());
    }
}
