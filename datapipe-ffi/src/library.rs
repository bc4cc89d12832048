//! Preparation of the library at its first call: the fork handler and the panic hook.

use std::panic;
use std::sync::OnceLock;

use crate::boundary::{is_forked, watch_forks};
use crate::failure::Failure;
use crate::log_sink;
use crate::status::{DP_ERR_FORKED, DP_ERR_SYSTEM, DP_LOG_ERROR};

/// Prepares the library, once. Refuses a call in a process that was forked after that.
pub(crate) fn prepare() -> Result<(), Failure> {
    static PREPARED: OnceLock<Result<(), i32>> = OnceLock::new();
    if is_forked() {
        return Err(Failure::new(
            DP_ERR_FORKED,
            "this process was forked from one that used the library, whose threads it does not \
             have: call exec, or fork before the first call",
        ));
    }
    let prepared = PREPARED.get_or_init(|| {
        watch_forks()?;
        // A library does not write to the standard error of its program.
        panic::set_hook(Box::new(|info| {
            log_sink::log(DP_LOG_ERROR, &format!("fault of the library: {info}"));
        }));
        Ok(())
    });
    prepared.map_err(|error| {
        let text = "the system has no memory for the handler of forks";
        Failure::new(DP_ERR_SYSTEM, text).with_errno(error)
    })
}
