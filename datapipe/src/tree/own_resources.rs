//! Resources of this process and machine that a tree takes: descriptors and memory of the kernel.
//!
//! Running out of them is a failure of the job and says nothing about the object at hand. A head
//! or a tail takes no more descriptors than the limit allows, waits for others to give some back,
//! and then fails.

use std::io;
use std::mem::MaybeUninit;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::{Errno, Result};
use rustix::process::{Resource, getrlimit};

use crate::error::StageError;

/// Descriptors that are left for the other parts of the pipe: media, temporary files, processes.
const RESERVE: usize = 16;
/// Number of descriptors that are assumed to be open if `/proc` is not mounted.
const ASSUMED_OPEN: usize = 32;
/// Pauses after which a call is repeated, in milliseconds: less than a second together, because a
/// pipe that is stopped waits for them.
const PAUSES: [u64; 6] = [1, 10, 40, 100, 200, 400];

/// Returns the number of descriptors that this process may still open for a tree, at least 1.
pub(super) fn free_descriptors() -> usize {
    let Some(limit) = limit() else {
        return usize::MAX;
    };
    let open = count_open().unwrap_or(ASSUMED_OPEN);
    limit.saturating_sub(open + RESERVE).max(1)
}

/// Number of open descriptors of this process. Not with the standard library's directories: these
/// panic if they cannot be closed.
fn count_open() -> Result<usize> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let (mut entries, mut count) = (RawDir::new(directory, &mut buffer), 0);
    while let Some(entry) = entries.next() {
        entry?;
        count += 1;
    }
    Ok(count)
}

/// Largest number of open descriptors of this process; `None` without a limit.
fn limit() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile).current?;
    usize::try_from(limit).ok()
}

/// True if an error says that this process or the machine has none left of a resource.
pub(super) fn is_shortage(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// Calls `call` again while a resource is short, for less than a second.
pub(super) fn retry_on_shortage<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    for pause in PAUSES {
        match call() {
            Err(error) if is_shortage(error) => sleep(Duration::from_millis(pause)),
            other => return other,
        }
    }
    call()
}

/// Makes the error of a job that has run out of a resource at `path`.
pub(super) fn shortage_error(action: &str, path: &[u8], error: Errno) -> StageError {
    let shown = path[..path.len().min(200)].escape_ascii();
    let advice = match error {
        Errno::MFILE => format!(
            "this process may have {} open files: raise the limit (ulimit -n), or use fewer \
             threads",
            limit().map_or_else(|| "no more".to_owned(), |limit| limit.to_string())
        ),
        Errno::NFILE => {
            "the machine has no more open files: close some, or raise fs.file-max".to_owned()
        }
        _ => "the machine, or the control group of this process, has no memory left for it"
            .to_owned(),
    };
    let what = format!("cannot {action} \"{shown}\"; {advice}");
    StageError::with_source(what, io::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_is_repeated_while_a_resource_is_short() {
        let mut left = 3;
        let mut call = || {
            left -= 1;
            if left > 0 { Err(Errno::MFILE) } else { Ok(7) }
        };
        assert_eq!(retry_on_shortage(&mut call), Ok(7));
        let mut calls = 0;
        let other = retry_on_shortage(|| {
            calls += 1;
            Err::<(), _>(Errno::ACCESS)
        });
        assert_eq!((other, calls), (Err(Errno::ACCESS), 1));
    }
}
