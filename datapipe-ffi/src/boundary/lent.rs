//! Outputs that a function of the program borrows while it runs, by their handle.
//!
//! The handle is one of the thread on which the function runs, and is valid until the function
//! returns. It has a number of its own, so that a handle of an earlier call is refused.

use std::cell::Cell;
use std::mem;
use std::ptr::NonNull;

use crate::abi::dp_output;
use crate::failure::Failure;
use crate::handle_bits::{HandleBits, HandleKind};
use crate::status::DP_ERR_STALE_HANDLE;

/// Blocks that a stage makes from one.
pub(crate) trait LentOutputs {
    /// Begins a block, and returns the place for its data.
    fn begin(&mut self) -> Result<dp_output, Failure>;

    /// Sends the block that was begun last.
    fn send(&mut self, output: &dp_output) -> Result<(), Failure>;
}

/// Outputs that are lent on this thread.
#[derive(Clone, Copy)]
struct Loan {
    handle: u64,
    outputs: Option<NonNull<dyn LentOutputs>>,
}

impl Loan {
    const NONE: Self = Self {
        handle: 0,
        outputs: None,
    };
}

thread_local! {
    /// The innermost loan of this thread. Has no destructor.
    static LOAN: Cell<Loan> = const { Cell::new(Loan::NONE) };
}

/// Restores the loan that was there before, also after a panic.
struct Restore(Loan);

impl Drop for Restore {
    fn drop(&mut self) {
        LOAN.set(self.0);
    }
}

/// Lends outputs to a function, by their handle.
pub(crate) fn lend<R>(outputs: &mut dyn LentOutputs, function: impl FnOnce(HandleBits) -> R) -> R {
    let handle = HandleBits::unique(HandleKind::Outputs);
    let outputs = NonNull::from(outputs);
    // SAFETY: only the lifetime changes. The pointer is used by `with_lent` alone, on this thread,
    // and before `_restore` removes it, which is before the borrow ends.
    let outputs: NonNull<dyn LentOutputs> = unsafe { mem::transmute(outputs) };
    let loan = Loan {
        handle: handle.get(),
        outputs: Some(outputs),
    };
    let _restore = Restore(LOAN.replace(loan));
    function(handle)
}

/// Uses the outputs that the function on this thread has borrowed.
pub(crate) fn with_lent<R>(
    handle: HandleBits,
    work: impl FnOnce(&mut dyn LentOutputs) -> Result<R, Failure>,
) -> Result<R, Failure> {
    handle.check_named(HandleKind::Outputs, "the outputs")?;
    // While the outputs are in use they are not lent, so that they have one user.
    let loan = LOAN.replace(Loan::NONE);
    let _restore = Restore(loan);
    let lent = loan.outputs.filter(|_| loan.handle == handle.get());
    let Some(mut outputs) = lent else {
        return Err(Failure::new(
            DP_ERR_STALE_HANDLE,
            "the outputs are not those of the function that runs on this thread: they are valid \
             until the function returns, and on its thread",
        ));
    };
    // SAFETY: the loan was found on this thread, so `lend` has not returned, and the outputs that
    // it has borrowed exclusively live. Nothing else uses them: the loan was taken above.
    work(unsafe { outputs.as_mut() })
}
