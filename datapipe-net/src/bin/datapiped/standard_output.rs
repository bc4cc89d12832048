//! Standard output that was closed when the program was started (`>&-`).
//!
//! The runtime of Rust opens `/dev/null` in its place before `main`, so that no file of the program
//! gets its number. From then on it cannot be distinguished from a `/dev/null` that the user has
//! chosen. Therefore a function that the loader calls before the runtime begins looks at it.

use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio::stdout;

/// Checks that standard output was open when the program was started.
///
/// # Errors
///
/// Returns an error if it was closed.
pub(crate) fn check_output() -> io::Result<()> {
    // The linker keeps the entry because it is used here.
    black_box(BEFORE_MAIN);
    match OUTPUT_IS_CLOSED.load(Ordering::Relaxed) == 1 {
        true => Err(io::Error::other("it is closed")),
        false => Ok(()),
    }
}

/// 1 if the stream was closed.
static OUTPUT_IS_CLOSED: AtomicU8 = AtomicU8::new(0);

/// Entry in the table of functions that the loader calls before the program.
#[allow(unsafe_code, reason = "the section is an array of such functions")]
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look;

/// Records whether the stream is closed: one system call, and nothing of the standard library.
extern "C" fn look() {
    let is_closed = fcntl_getfd(stdout()) == Err(Errno::BADF);
    OUTPUT_IS_CLOSED.store(is_closed.into(), Ordering::Relaxed);
}
