//! Cancel tokens.

use crate::boundary::{Handle, OutHandle, call};
use crate::cancel_slots::{self, CancelToken};
use crate::failure::Failure;
use crate::status::{DP_OK, dp_status};

/// A cancel token: it stops each job whose hooks have it, from any thread and from a signal
/// handler. A handle, and not an address: a token that was freed is refused.
#[derive(Debug)]
pub struct dp_cancel {
    _private: [u8; 0],
}

/// Makes a cancel token. One token may be used for several jobs, one after the other or at once. A
/// process can have 1024 of them.
///
/// Ownership: free the token with `dp_cancel_free`.
///
/// Threads: any. Errors: `DP_ERR_NULL`, `DP_ERR_LIMIT`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_cancel_new(token: OutHandle<dp_cancel>) -> dp_status {
    call(|| {
        token.check("token")?;
        token.write(cancel_slots::create()?);
        Ok(DP_OK)
    })
}

/// Cancels the jobs that use a token, and those that will: they end with `DP_ERR_CANCELLED` within
/// about 50 ms, or when a system call of theirs returns. A token stays cancelled; more calls change
/// nothing.
///
/// Threads: any, and in a signal handler: the function is async-signal-safe and does not change
/// `errno`. Errors: `DP_ERR_NULL`, `DP_ERR_BAD_HANDLE`, `DP_ERR_HANDLE_KIND`,
/// `DP_ERR_STALE_HANDLE`. The last error of the thread does not change.
#[unsafe(no_mangle)]
pub extern "C" fn dp_cancel_trigger(token: Handle<dp_cancel>) -> dp_status {
    // Not by `call`, which takes locks and memory.
    match cancel_slots::cancel(token.bits()) {
        Ok(()) => DP_OK,
        Err(status) => status,
    }
}

/// Frees a token. A job that uses it goes on, and cannot be cancelled by it any more.
///
/// Threads: any. Errors: `DP_ERR_NULL`, `DP_ERR_BAD_HANDLE`, `DP_ERR_HANDLE_KIND`, and
/// `DP_ERR_STALE_HANDLE` if it was freed before.
#[unsafe(no_mangle)]
pub extern "C" fn dp_cancel_free(token: Handle<dp_cancel>) -> dp_status {
    call(|| {
        cancel_slots::free(token.bits())?;
        Ok(DP_OK)
    })
}

/// The token of a job or a pipe; `None` for a null handle.
pub(super) fn token_of(token: Handle<dp_cancel>) -> Result<Option<CancelToken>, Failure> {
    match token.bits() {
        bits if bits.is_null() => Ok(None),
        bits => cancel_slots::find(bits).map(Some),
    }
}
