//! Work with keys that leaves none on the stack.
//!
//! A key that is moved is copied, and ciphers and hashes of other crates build their state in local
//! variables. What they leave stays in frames that are not used any more, until other calls
//! overwrite them: a dump of the process would have it.

use std::hint::black_box;

/// Bytes of the stack that are overwritten: more than the work with a key takes.
const DEPTH: usize = 32 << 10;
/// As [`DEPTH`], for the cipher at work, which runs for each block.
const CIPHER_DEPTH: usize = 8 << 10;

/// Runs `work`, which returns no key by value, and then overwrites the part of the stack that it
/// used.
pub(super) fn on_clean_stack<T>(work: impl FnOnce() -> T) -> T {
    let result = run(work);
    overwrite::<DEPTH>();
    result
}

/// As [`on_clean_stack`], for work of the cipher on one block.
pub(super) fn on_clean_cipher_stack<T>(work: impl FnOnce() -> T) -> T {
    let result = run(work);
    overwrite::<CIPHER_DEPTH>();
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
