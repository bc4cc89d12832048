//! Limit of open files of a program.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the number of files that this program may have open to the most that the system allows
/// it. Processes that it starts inherit the limit. The usual limit is for programs that wait with
/// `select`, which this one does not.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // If it fails, the program reads and restores with fewer threads.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Returns the number of files that this program may have open.
pub(crate) fn limit() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX)
}
