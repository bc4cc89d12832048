//! Calls of the standard library that it does not repeat when a signal interrupts them.
//!
//! It repeats those that read, write or open. The others are rarely interrupted: on network file
//! systems, and on those that a program serves.

use std::io;

/// Calls `call` until no signal interrupts it.
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
