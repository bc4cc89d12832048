//! Words of messages: counts with their nouns, and errors of full storage with what to do.

use std::error;
use std::fmt;
use std::io::{Error, ErrorKind};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Formats a count with its noun: `1 block`, `2 blocks`. The plural of `noun` ends with an s.
pub(crate) fn count_of(count: impl Into<u128>, noun: &str) -> String {
    match count.into() {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// [`count_of`] for a number in memory.
pub(crate) fn len_of(count: usize, noun: &str) -> String {
    count_of(count as u64, noun)
}

/// Gives an error of storage that has no room the text of [`describe_full`], and its kind. Other
/// errors are returned as they are.
pub(crate) fn name_full(error: Error) -> Error {
    match error.kind() {
        kind @ (ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) => {
            let (text, errno) = (describe_full(&error), error.raw_os_error());
            Error::new(kind, FullStorage { text, errno })
        }
        _ => error,
    }
}

/// An error of storage that has no room, in words. An error with another text has no number of its
/// own, so this one keeps that of the system.
#[derive(Debug)]
struct FullStorage {
    text: String,
    errno: Option<i32>,
}

/// Returns the error number of `error`, also after [`name_full`].
pub(crate) fn errno_of(error: &Error) -> Option<i32> {
    let named = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<FullStorage>());
    named.map_or_else(|| error.raw_os_error(), |named| named.errno)
}

impl fmt::Display for FullStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl error::Error for FullStorage {}

/// Describes an error of storage that has no room: its meaning, the name that manuals have it
/// under, and the limit, if a limit of this process is the reason. Other errors are shown as they
/// are.
pub(crate) fn describe_full(error: &Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull => "No space left on device (ENOSPC)".to_owned(),
        ErrorKind::QuotaExceeded => "the disk quota is used up (EDQUOT)".to_owned(),
        ErrorKind::FileTooLarge => match getrlimit(Resource::Fsize).current {
            Some(limit) => format!(
                "File too large (EFBIG): this process may write files of at most {limit} bytes; \
                 raise that limit (ulimit -f)"
            ),
            None => "File too large (EFBIG): the file system takes no larger ones".to_owned(),
        },
        _ => error.to_string(),
    }
}

/// Adds [`limit_advice`] to the text of an error.
pub(crate) fn name_limit(error: Error) -> Error {
    match limit_advice(&error) {
        "" => error,
        advice => Error::new(error.kind(), format!("{error}{advice}")),
    }
}

/// Advice for an error of a resource that is limited for a process or a user, to follow the
/// description of what failed; empty for other errors.
pub(crate) fn limit_advice(error: &Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN) => {
            "; the user may have reached the limit of processes and threads (ulimit -u), which \
             fewer instances do not"
        }
        Some(Errno::NOMEM) => "; the machine, or the control group of this process, has no memory",
        _ => open_files_advice(error),
    }
}

/// The part of [`limit_advice`] that concerns open files.
pub(crate) fn open_files_advice(error: &Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "; raise the limit of open files (ulimit -n), or use fewer instances",
        Some(Errno::NFILE) => {
            "; the machine has no more open files: close some, or raise fs.file-max"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_noun() {
        assert_eq!(count_of(0_u64, "block"), "0 blocks");
        assert_eq!(count_of(1_u32, "block"), "1 block");
        assert_eq!(len_of(2, "block"), "2 blocks");
    }

    #[test]
    fn full_storage_is_named() {
        let describe = |kind: ErrorKind| describe_full(&kind.into());
        assert_eq!(
            describe(ErrorKind::StorageFull),
            "No space left on device (ENOSPC)"
        );
        assert!(describe(ErrorKind::QuotaExceeded).contains("EDQUOT"));
        assert!(describe(ErrorKind::FileTooLarge).contains("EFBIG"));
        let full = name_full(Error::from_raw_os_error(28));
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        assert!(full.to_string().contains("ENOSPC"));
        assert_eq!(errno_of(&full), Some(28));
        let other = Error::from_raw_os_error(5);
        assert_eq!(describe_full(&other), other.to_string());
    }
}
