//! File descriptors that a caller passes by their number.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Returns a duplicate of a descriptor. The caller keeps its own.
pub(crate) fn duplicate(descriptor: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call has no pointers; the system refuses a number that is not a descriptor.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made the descriptor, and nothing else has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
