//! Standard streams that were closed when the program was started (`<&-`, `>&-`, `2>&-`).
//!
//! The runtime of Rust opens `/dev/null` in their place before `main`, so that no file of the
//! program gets one of their numbers. From then on they cannot be distinguished from a `/dev/null`
//! that the user has chosen, and a closed standard input looks like an empty one. Therefore a
//! function that the loader calls before the runtime begins looks at them. A program that does not
//! use this module does not have that function.

use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::OFlags;
use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio::{stderr, stdin, stdout};

/// A standard stream. Its number is the bit in `CLOSED`.
///
/// Exhaustive: a program has these three.
///
/// # Examples
///
/// ```
/// use datapipe::standard_streams::StandardStream;
///
/// // Writes to a closed standard output succeed, and what was written is lost.
/// StandardStream::Output.check_open()?;
/// println!("the list");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum StandardStream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl StandardStream {
    /// Returns true if the stream was closed when the program was started.
    pub fn is_closed(self) -> bool {
        // The linker keeps the entry because it is used here.
        black_box(BEFORE_MAIN);
        CLOSED.load(Ordering::Relaxed) & (1 << self as u8) != 0
    }

    /// Checks that the stream was open when the program was started.
    ///
    /// # Errors
    ///
    /// Returns an error that names the stream if it was closed.
    pub fn check_open(self) -> io::Result<()> {
        let name = match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Error => "error",
        };
        match self.is_closed() {
            true => Err(io::Error::other(format!("standard {name} is closed"))),
            // The standard library takes the failed writes for successful ones.
            false if self == Self::Output && is_read_only() => {
                Err(io::Error::other("standard output is open to be read only"))
            }
            false => Ok(()),
        }
    }
}

/// True if standard output cannot be written.
fn is_read_only() -> bool {
    let flags = rustix::fs::fcntl_getfl(stdout());
    flags.is_ok_and(|flags| flags & OFlags::ACCMODE == OFlags::RDONLY)
}

/// A bit for each stream that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Entry in the table of functions that the loader calls before the program.
#[allow(unsafe_code, reason = "the section is an array of such functions")]
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look;

/// Records which streams are closed: one system call for each, and nothing of the standard library.
extern "C" fn look() {
    let closed = [
        fcntl_getfd(stdin()),
        fcntl_getfd(stdout()),
        fcntl_getfd(stderr()),
    ];
    let bits = closed
        .iter()
        .enumerate()
        .filter(|(_, found)| **found == Err(Errno::BADF))
        .fold(0, |bits, (stream, _)| bits | 1 << stream);
    CLOSED.store(bits, Ordering::Relaxed);
}
