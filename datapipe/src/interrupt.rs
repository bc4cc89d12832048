//! Calls of the standard library that it does not repeat when a signal interrupts them.
//!
//! It repeats those that read, write or open. The others are rarely interrupted: on network file
//! systems, and on those that a program serves. Its list of a directory ends with the first error,
//! and panics if closing the directory fails.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

/// Bytes of a directory that are read with one call to the kernel.
const LIST_LEN: usize = 32 << 10;

/// Calls `call` until no signal interrupts it.
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Calls `visit` with each name in a directory but `.` and `..`, from its present offset on, until
/// `visit` breaks. Returns what it broke with.
pub fn for_each_name<B>(
    directory: impl AsFd,
    mut visit: impl FnMut(&[u8]) -> ControlFlow<B>,
) -> rustix::io::Result<Option<B>> {
    let mut buffer = Vec::with_capacity(LIST_LEN);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            entry => entry?,
        };
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..")
            && let ControlFlow::Break(value) = visit(name)
        {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
