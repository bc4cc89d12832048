//! Helpers that the tests of whole pipes share.

use datapipe::prelude::*;

/// Returns the numbers of the first `n` blocks.
pub(crate) fn all(n: u64) -> Vec<u64> {
    (0..n).collect()
}

/// Returns the builder of a pipe with small buffers.
pub(crate) fn small<'a>() -> PipeBuilder<'a> {
    Pipe::builder().label("test").buffer_size(4096)
}
