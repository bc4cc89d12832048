//! Calls of the interface: no panic crosses them, and each failure is kept for the thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::failure::Failure;
use crate::last_error;
use crate::library::prepare;
use crate::status::{DP_ERR_PANIC, dp_status};

/// Runs the work of a function of the interface, and returns its status.
///
/// The work is not used after a panic: a handle that it held is in its table, whose entries stay
/// valid, or was dropped.
pub(crate) fn call(work: impl FnOnce() -> Result<dp_status, Failure>) -> dp_status {
    call_before_fork(|| prepare().and_then(|()| work()))
}

/// As [`call`], for work after which the process may still fork: it starts no thread, and does not
/// prepare the library.
pub(crate) fn call_before_fork(work: impl FnOnce() -> Result<dp_status, Failure>) -> dp_status {
    let caught = catch_unwind(AssertUnwindSafe(work));
    let failure = match caught {
        Ok(Ok(status)) => return status,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let text = text.unwrap_or_else(|| "a panic without a message".to_owned());
            // A payload may panic when it is dropped.
            std::mem::forget(panic);
            Failure::new(
                DP_ERR_PANIC,
                format!("fault of the library, please report it: {text}"),
            )
        }
    };
    let status = failure.status();
    last_error::set(failure);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::DP_OK;

    #[test]
    fn panic_is_an_error_of_its_thread() {
        let status = call(|| panic!("planted"));
        assert_eq!((status, last_error::status()), (DP_ERR_PANIC, DP_ERR_PANIC));
        assert_eq!(last_error::len(), 1);
        assert_eq!(call(|| Ok(DP_OK)), DP_OK);
        assert_eq!(
            last_error::status(),
            DP_ERR_PANIC,
            "a success keeps the last error"
        );
    }
}
