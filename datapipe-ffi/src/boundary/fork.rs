//! Notice of a fork. The child has none of the threads of the library, and its locks may be held
//! for ever; a call there must not wait for them.

use std::sync::atomic::{AtomicU8, Ordering};

/// 1 in a process that has been forked from one that used the library.
static FORKED: AtomicU8 = AtomicU8::new(0);

/// Marks the child of a fork. Runs in the child before `fork` returns there.
extern "C" fn mark_child() {
    FORKED.store(1, Ordering::Relaxed);
}

/// Sets the mark in children that are forked from now on. Returns the system's error number if it
/// has no memory for that.
pub(crate) fn watch_forks() -> Result<(), i32> {
    // SAFETY: `mark_child` is called in the child, stores one word, and stays loaded: the library
    // is linked with `-z nodelete`.
    match unsafe { libc::pthread_atfork(None, None, Some(mark_child)) } {
        0 => Ok(()),
        error => Err(error),
    }
}

/// True in a process that has been forked from one that used the library.
pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed) != 0
}
