//! Blocks that a stage makes from one.

use crate::boundary::{Handle, In, Out, call, with_lent};
use crate::failure::Failure;
use crate::status::{DP_ERR_NULL, DP_OK, dp_status};

use super::stage::dp_output;

/// The outputs of one call of `flat_map`. A handle that the function borrows: it is valid until the
/// function returns, on the function's thread, and is never freed.
#[derive(Debug)]
pub struct dp_outputs {
    _private: [u8; 0],
}

/// Begins a block in `flat_map`, and writes its place to `output`: an empty block, with the numbers
/// of the program that the input has. Waits until there is a buffer.
///
/// The function then fills `output->bytes`, sets `output->len`, and calls `dp_outputs_send`. A
/// block that was begun and not sent when the function returns, or when another one is begun, is an
/// error.
///
/// Threads: that of the function. Errors: those of a handle, `DP_ERR_NULL`, `DP_ERR_STRUCT_SIZE`,
/// `DP_ERR_STATE` if a block was begun and not sent, `DP_ERR_STAGE` if the input has had as many as
/// `most_outputs`, or the pipe stops. The function then returns a negative error number.
#[unsafe(no_mangle)]
pub extern "C" fn dp_outputs_begin(
    outputs: Handle<dp_outputs>,
    output: Out<dp_output>,
) -> dp_status {
    call(|| {
        let slot = output.check()?;
        let slot = slot.ok_or_else(|| Failure::new(DP_ERR_NULL, "output is NULL"))?;
        slot.write(&with_lent(outputs.bits(), |outputs| outputs.begin())?);
        Ok(DP_OK)
    })
}

/// Sends the block that was begun last in `flat_map`, with the length and the numbers of the
/// program in `output`.
///
/// Threads: that of the function. Errors: those of a handle, `DP_ERR_NULL`, `DP_ERR_STRUCT_SIZE`,
/// `DP_ERR_STATE` if no block was begun, `DP_ERR_ARGUMENT` for the place of another block, or a
/// length beyond the capacity.
#[unsafe(no_mangle)]
pub extern "C" fn dp_outputs_send(outputs: Handle<dp_outputs>, output: In<dp_output>) -> dp_status {
    call(|| {
        let output = output.read_needed()?;
        with_lent(outputs.bits(), |outputs| outputs.send(&output))?;
        Ok(DP_OK)
    })
}
