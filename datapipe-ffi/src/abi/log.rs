//! The log function.

use std::ffi::c_char;

use crate::boundary::{User, call};
use crate::failure::Failure;
use crate::log_sink::{self, LogSink};
use crate::status::{DP_ERR_ARGUMENT, DP_LOG_ERROR, DP_LOG_INFO, DP_OK, dp_status};

/// Receives a message: its level, `DP_LOG_ERROR` to `DP_LOG_INFO` or a level of a later version,
/// and its text, which is valid until the function returns: one line of UTF-8, in which control
/// characters are escaped.
///
/// Threads: any thread of the library or of the program, several at once. The function must not
/// wait for a job.
pub type dp_log_function =
    Option<unsafe extern "C" fn(user: User, level: i32, message: *const c_char)>;

/// Sets the function that receives messages of the library, or none with NULL. Without a function
/// messages are dropped: the library writes nothing to standard output or standard error.
///
/// `most` is the highest level that is received, `DP_LOG_ERROR` to `DP_LOG_INFO`. `user` is passed
/// to the function. When the call returns, the former function does not run any more, and its user
/// data can be freed.
///
/// Threads: any, but not the log function. Errors: `DP_ERR_ARGUMENT`, `DP_ERR_REENTRANT` in the log
/// function.
#[unsafe(no_mangle)]
pub extern "C" fn dp_log_set(function: dp_log_function, user: User, most: i32) -> dp_status {
    call(|| {
        if !(DP_LOG_ERROR..=DP_LOG_INFO).contains(&most) {
            return Err(Failure::new(
                DP_ERR_ARGUMENT,
                format!("most is {most}, but levels are {DP_LOG_ERROR} to {DP_LOG_INFO}"),
            ));
        }
        log_sink::set(function.map(|function| LogSink {
            function,
            user,
            most,
        }))?;
        Ok(DP_OK)
    })
}
