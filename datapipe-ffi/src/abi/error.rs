//! The last error of a thread.

use std::ffi::c_char;

use crate::last_error;
use crate::status::{dp_status, name_of};

/// Returns the name of a status, "DP_ERR_KEY_NEEDED", or "unknown status" for a number that this
/// version of the library does not return. The text is never freed.
///
/// Threads: any, also in a signal handler. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dp_status_name(status: dp_status) -> *const c_char {
    name_of(status).as_ptr()
}

/// Returns the status of the last call on this thread that failed; `DP_OK` if none has failed. A
/// call that succeeds does not change the last error.
///
/// Threads: any; each has its own last error. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dp_error_status() -> dp_status {
    last_error::status()
}

/// Returns the error number of the system (`errno`) that caused the last error of this thread; 0 if
/// it had another cause.
///
/// Threads: any; each has its own last error. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dp_error_errno() -> i32 {
    last_error::errno()
}

/// Returns the number of messages of the last error of this thread: 0 if no call has failed, else 1
/// for the whole error and 1 for each of its causes.
///
/// Threads: any; each has its own last error. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dp_error_count() -> usize {
    last_error::len()
}

/// Returns a message of the last error of this thread. Message 0 is complete: what, where, what to
/// do, with the texts of the causes. Messages from 1 on are the causes, outermost first. NULL if
/// there are not as many.
///
/// Ownership: the text belongs to the library, and is valid until the next call on this thread that
/// fails, or the end of the thread. It is one line of UTF-8: control characters
/// in it, of names for example, are escaped as `\n` or `\u{1b}`.
///
/// Threads: any; each has its own last error. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dp_error_message(index: usize) -> *const c_char {
    last_error::text(index)
}
