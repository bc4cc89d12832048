//! The kernel's lock on a medium that is being written, and the writer that holds it.
//!
//! ```text
//!   byte    0 ............. BASE - pid ....... BASE ....... BASE + seconds ......... 2^63
//!                              [======= the writer's lock =======)
//! ```
//!
//! It is an open file description lock: it ends with the last descriptor, so a writer that was
//! killed leaves none, and a process that receives the descriptor shares it. The range carries the
//! holder's process id and the time of locking, because the kernel reports the range of a lock and
//! not its owner. All ranges share the byte at BASE, so they exclude each other.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, flock};

/// The byte that every lock includes: beyond the end of any file.
const BASE: i64 = 1 << 62;

/// Most seconds since 1970 in the range of a lock: the year 6325.
const MOST_SECONDS: i64 = 1 << 37;

/// Name of the file in a directory of volumes on which its writer has the lock.
pub(super) const LOCK_NAME: &str = ".datapipe-lock";

/// The process that has a medium open to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Writer {
    /// Its process id, in its own namespace of processes. `None` if another program has the lock.
    pub process: Option<u32>,
    /// Time at which it opened the medium, in whole seconds.
    pub since: Option<SystemTime>,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "process {process}")?,
            None => f.write_str("another program")?,
        }
        let since = self.since.map(|since| since.duration_since(UNIX_EPOCH));
        match since {
            Some(Ok(since)) => write!(f, ", since {}", utc(since.as_secs())),
            _ => Ok(()),
        }
    }
}

/// Returns the process that writes the medium at `path`, a virtual tape or a directory of volumes;
/// `None` if no process writes it. A medium that is to be replaced counts as written, too.
///
/// # Errors
///
/// Those of opening the tape's file, or the lock file of the directory, to read, except that a
/// missing one has no writer.
///
/// # Examples
///
/// ```
/// use datapipe::media::{VirtualTape, VolumeOptions, find_writer};
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("nightly.tap");
/// let tape = VirtualTape::create(&path, VolumeOptions::default())?;
/// let writer = find_writer(&path)?.expect("it is open to write");
/// assert_eq!(writer.process, Some(std::process::id()));
/// drop(tape);
/// assert_eq!(find_writer(&path)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn find_writer(path: impl AsRef<Path>) -> io::Result<Option<Writer>> {
    let path = path.as_ref();
    let opened = if path.is_dir() {
        super::storage::open_regular(&path.join(LOCK_NAME))
    } else {
        super::storage::open_regular(path)
    };
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => holder(&opened?),
    }
}

/// Locks a file that is open to write. Returns the writer that has it locked already, and `None`
/// if it is locked now.
pub(super) fn lock(file: &File) -> io::Result<Option<Writer>> {
    let range = own_range();
    // The holder may let go between the two calls, and another writer may take its place.
    for _ in 0..100 {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range)) {
            Ok(_) => return Ok(None),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => {}
            Err(nix::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if let Some(writer) = holder(file)? {
            return Ok(Some(writer));
        }
    }
    Ok(Some(Writer {
        process: None,
        since: None,
    }))
}

/// Returns the writer that has a file locked through another open file description.
fn holder(file: &File) -> io::Result<Option<Writer>> {
    let mut range = own_range();
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut range))?;
    if range.l_type == libc::F_UNLCK as i16 {
        return Ok(None);
    }
    let (process, seconds) = (
        BASE.wrapping_sub(range.l_start),
        range.l_len.wrapping_sub(BASE.wrapping_sub(range.l_start)),
    );
    let is_ours =
        (1..=i64::from(u32::MAX)).contains(&process) && (1..=MOST_SECONDS).contains(&seconds);
    Ok(Some(Writer {
        process: match is_ours {
            true => u32::try_from(process).ok(),
            // A lock of another kind, which may have its owner.
            false => u32::try_from(range.l_pid)
                .ok()
                .filter(|process| *process > 0),
        },
        since: is_ours.then(|| UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs())),
    }))
}

/// The range that this process locks at this time.
fn own_range() -> flock {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(1, |now| now.as_secs() as i64);
    let process = i64::from(process::id());
    flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: BASE - process,
        l_len: process + seconds.clamp(1, MOST_SECONDS),
        l_pid: 0,
    }
}

/// Formats a time as a date and a time of day.
fn utc(seconds: u64) -> String {
    // The algorithm of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin
    // in March, so that the leap day is the last one.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let second = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::thread;

    use super::*;

    #[test]
    fn lock_names_its_holder_and_ends_with_its_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tape");
        let first = File::create(&path).unwrap();
        assert_eq!(find_writer(&path).unwrap(), None);
        assert_eq!(lock(&first).unwrap(), None);
        let second = File::options().write(true).open(&path).unwrap();
        let holder = lock(&second).unwrap().unwrap();
        assert_eq!(holder.process, Some(process::id()));
        let since = holder.since.unwrap();
        assert!(since <= SystemTime::now(), "{holder}");
        assert_eq!(find_writer(&path).unwrap(), Some(holder));
        let shared = first.try_clone().unwrap();
        drop(first);
        assert!(
            lock(&second).unwrap().is_some(),
            "another descriptor has it"
        );
        drop(shared);
        // A child that another test starts has copies of all descriptors until it executes its
        // program.
        while lock(&second).unwrap().is_some() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn lock_of_another_program_has_no_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tape");
        let other = File::create(&path).unwrap();
        let all = flock {
            l_start: 0,
            l_len: 0,
            ..own_range()
        };
        fcntl(&other, FcntlArg::F_OFD_SETLK(&all)).unwrap();
        let holder = find_writer(&path).unwrap().unwrap();
        assert_eq!((holder.process, holder.since), (None, None));
        assert_eq!(holder.to_string(), "another program");
    }

    #[test]
    fn times_are_formatted_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (1_795_208_645, "2026-11-20 21:04:05 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
