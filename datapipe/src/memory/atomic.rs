//! The atomic words that participants share, and the only file that names where they come from.
//!
//! Three builds, one interface. Release code gets the processor's atomics and nothing else. A unit
//! test gets the same atomics with a hook before every access, so that the step explorer can stop a
//! participant between any two of them. A model-checking build (`--cfg loom`) gets loom's, which
//! explore what a weak memory may do.
//!
//! Does not choose orderings: the algorithm that uses a word says what it needs, and labels both
//! ends of every edge with the same `SYNC(...)` comment.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(all(not(loom), test))]
pub(crate) use processor::set_hook;
#[cfg(not(loom))]
pub(crate) use processor::{AtomicU32, AtomicU64, Ordering, core_word};

/// Orders everything before a read-modify-write of this thread before every load that follows the
/// fence.
///
/// The waker's half of "publish, then look for sleepers". What is published must be published by a
/// read-modify-write, or before it: on x86 a read-modify-write is already a full barrier for all
/// before it, so only the compiler has to be held. Loads in between do no harm; a plain store in
/// between is not ordered, and no participant may wait for what it says.
#[inline(always)]
pub(crate) fn fence_after_rmw() {
    #[cfg(all(not(loom), target_arch = "x86_64"))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(all(not(loom), not(target_arch = "x86_64")))]
    core::sync::atomic::fence(Ordering::SeqCst);
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Tells the processor, or the model checker, that this thread is waiting for another one.
#[inline(always)]
pub(crate) fn spin_loop() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

#[cfg(not(loom))]
mod processor {
    #![allow(
        clippy::disallowed_types,
        reason = "this is the file that the lint sends all others to"
    )]
    pub(crate) use core::sync::atomic::Ordering;

    /// The processor's word in `word`, for the system calls that wait on one.
    #[inline(always)]
    pub(crate) fn core_word(word: &AtomicU32) -> &core::sync::atomic::AtomicU32 {
        &word.0
    }

    #[cfg(test)]
    thread_local! {
        static HOOK: std::cell::Cell<Option<fn()>> = const { std::cell::Cell::new(None) };
    }

    /// Calls `hook` on this thread before each access to an atomic word, until it is replaced.
    #[cfg(test)]
    pub(crate) fn set_hook(hook: Option<fn()>) {
        HOOK.with(|h| h.set(hook));
    }

    #[inline(always)]
    fn step() {
        #[cfg(test)]
        if let Some(hook) = HOOK.with(std::cell::Cell::get) {
            hook();
        }
    }

    macro_rules! atomic {
        ($name:ident, $int:ty) => {
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub(crate) struct $name(core::sync::atomic::$name);

            #[allow(dead_code, reason = "both widths offer the same calls")]
            impl $name {
                pub(crate) const fn new(v: $int) -> Self {
                    Self(core::sync::atomic::$name::new(v))
                }
                #[inline(always)]
                pub(crate) fn load(&self, order: Ordering) -> $int {
                    step();
                    self.0.load(order)
                }
                #[inline(always)]
                pub(crate) fn store(&self, v: $int, order: Ordering) {
                    step();
                    self.0.store(v, order);
                }
                #[inline(always)]
                pub(crate) fn compare_exchange(
                    &self,
                    old: $int,
                    new: $int,
                    ok: Ordering,
                    err: Ordering,
                ) -> Result<$int, $int> {
                    step();
                    self.0.compare_exchange(old, new, ok, err)
                }
                #[inline(always)]
                pub(crate) fn fetch_or(&self, v: $int, order: Ordering) -> $int {
                    step();
                    self.0.fetch_or(v, order)
                }
                #[inline(always)]
                pub(crate) fn fetch_and(&self, v: $int, order: Ordering) -> $int {
                    step();
                    self.0.fetch_and(v, order)
                }
                #[inline(always)]
                pub(crate) fn fetch_add(&self, v: $int, order: Ordering) -> $int {
                    step();
                    self.0.fetch_add(v, order)
                }
                #[inline(always)]
                pub(crate) fn fetch_sub(&self, v: $int, order: Ordering) -> $int {
                    step();
                    self.0.fetch_sub(v, order)
                }
            }
        };
    }
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
}
