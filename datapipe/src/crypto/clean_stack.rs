//! Work with keys that leaves none on the stack, and none in vector registers.
//!
//! A key that is moved is copied, and ciphers and hashes of other crates build their state in local
//! variables. What they leave stays in frames that are not used any more, until other calls
//! overwrite them: a dump of the process would have it. So would the registers of a thread that
//! waits: those of a cipher that has round keys in them are not used by what follows.

use std::hint::black_box;

use super::vector_registers::clear_vector_registers;

/// Bytes of the stack that are overwritten: more than the work with a key takes. How much that is
/// depends on what the compiler inlines.
const DEPTH: usize = 64 << 10;
/// As [`DEPTH`], for the cipher at work, which runs for each block: 8 KiB were not enough.
const CIPHER_DEPTH: usize = 32 << 10;

/// Runs `work`, which returns no key by value, and then overwrites the part of the stack and the
/// vector registers that it used.
pub(super) fn on_clean_stack<T>(work: impl FnOnce() -> T) -> T {
    let result = run(work);
    overwrite::<DEPTH>();
    clear_vector_registers();
    result
}

/// As [`on_clean_stack`], for work of the cipher on one block.
pub(super) fn on_clean_cipher_stack<T>(work: impl FnOnce() -> T) -> T {
    let result = run(work);
    overwrite::<CIPHER_DEPTH>();
    clear_vector_registers();
    result
}

/// A call of its own, so that the frames of `work` are below this caller's.
#[inline(never)]
fn run<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[inline(never)]
fn overwrite<const DEPTH: usize>() {
    // One `memset`, and not a loop of volatile stores, because this runs once for each block.
    let mut frames = [0u8; DEPTH];
    black_box(&mut frames);
}
