//! Unnamed temporary files: the kernel frees one with its descriptor, however the program ends.
//!
//! ```text
//!   SpillFile   [appended first | appended next | ..]      <- read, read_into at any offset
//! ```

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Append-only temporary file without a name, created when the first byte is written. It takes
/// data that is needed later and exceeds what may be in memory.
#[derive(Debug, Default)]
pub(super) struct SpillFile {
    file: Option<File>,
    len: u64,
}

impl SpillFile {
    /// Returns a file to which nothing can be appended.
    #[cfg(test)]
    pub(super) fn read_only() -> Self {
        Self {
            file: File::open("/dev/null").ok(),
            len: 0,
        }
    }

    /// Number of bytes in the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Appends `bytes`. Returns their offset.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(create()?),
        };
        let at = self.len;
        file.write_all_at(bytes, at)?;
        self.len += bytes.len() as u64;
        Ok(at)
    }

    /// Reads `len` bytes at offset `at`.
    pub(super) fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_into(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` with what the file has at offset `at`.
    pub(super) fn read_into(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
        file.read_exact_at(bytes, at)
    }
}

/// Creates a file for writing and reading in the directory for temporary files.
fn create() -> io::Result<File> {
    create_in(&env::temp_dir()).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("{}: {error}", env::temp_dir().display()),
        )
    })
}

fn create_in(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::io::retry_on_intr(|| rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR)) {
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
    use super::*;

    #[test]
    fn spill_file_returns_what_was_appended() {
        let mut file = SpillFile::default();
        assert!(file.read(0, 1).is_err(), "there is no file yet");
        assert_eq!(file.append(b"first").unwrap(), 0);
        assert_eq!(file.append(b"next").unwrap(), 5);
        assert_eq!(file.len(), 9);
        assert_eq!(file.read(5, 4).unwrap(), b"next");
        let mut back = [0; 3];
        file.read_into(3, &mut back).unwrap();
        assert_eq!(&back, b"stn");
        assert!(file.read(6, 4).is_err(), "past the end");
    }

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
