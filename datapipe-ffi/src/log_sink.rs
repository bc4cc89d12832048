//! The log function of the program.

use std::cell::Cell;
use std::ffi::c_char;

use parking_lot::RwLock;

use crate::boundary::{self, User};
use crate::failure::Failure;
use crate::last_error::line_of;
use crate::status::DP_ERR_REENTRANT;

/// The function that gets messages.
#[derive(Clone, Copy)]
pub(crate) struct LogSink {
    pub(crate) function: unsafe extern "C" fn(User, i32, *const c_char),
    pub(crate) user: User,
    /// Highest level that it gets.
    pub(crate) most: i32,
}

static SINK: RwLock<Option<LogSink>> = RwLock::new(None);

thread_local! {
    /// True while this thread is in the function. Has no destructor.
    static IS_LOGGING: Cell<bool> = const { Cell::new(false) };
}

/// Replaces the function. Returns when the former one does not run any more.
pub(crate) fn set(sink: Option<LogSink>) -> Result<(), Failure> {
    if IS_LOGGING.get() {
        return Err(Failure::new(
            DP_ERR_REENTRANT,
            "a log function cannot replace itself: it would wait for its own end",
        ));
    }
    *SINK.write() = sink;
    Ok(())
}

/// Passes a message on, as one line. Messages of calls that the function itself makes are dropped.
pub(crate) fn log(level: i32, message: &str) {
    if IS_LOGGING.get() {
        return;
    }
    let sink = SINK.read();
    let Some(sink) = sink.as_ref().filter(|sink| level <= sink.most) else {
        return;
    };
    IS_LOGGING.set(true);
    boundary::log(sink.function, sink.user, level, &line_of(message));
    IS_LOGGING.set(false);
}
