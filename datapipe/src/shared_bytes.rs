//! Bytes that another process may change while they are read.
//!
//! ```text
//!   shared memory   | header | name | header | data .......... |
//!                       |       |       |        \-- content(): in place, any number of times
//!   private memory  | header | name | header |       \-- copy_to(), once: checked, then used
//! ```
//!
//! A process that maps the segment can write to a buffer that it does not hold. A stage with more
//! rights than that process must not check one value and use another: it copies what it checks, and
//! uses only the copy. The compiler may load a plain value twice, so the copies are made by
//! volatile loads, each byte once.
//!
//! This module does not detect that bytes have changed.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

/// Bytes of a buffer in shared memory. They stay mapped, and may change at any time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedBytes<'a> {
    start: *const u8,
    len: usize,
    buffer: PhantomData<&'a [u8]>,
    /// True for bytes that tests may change.
    #[cfg(any(test, feature = "testkit"))]
    is_shared: bool,
}

/// Eight bytes at any address, which one instruction loads where the machine can.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned(u64);

// SAFETY: the bytes are only read, by volatile loads or as a slice, which may be shared.
unsafe impl Send for SharedBytes<'_> {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedBytes<'_> {}

impl<'a> SharedBytes<'a> {
    /// The `len` bytes at `start`.
    ///
    /// # Safety
    ///
    /// They are mapped and initialised for `'a`, and no exclusive reference of this process to any
    /// of them is used before `'a` ends.
    pub(crate) unsafe fn new(start: *const u8, len: usize) -> Self {
        Self {
            start,
            len,
            buffer: PhantomData,
            #[cfg(any(test, feature = "testkit"))]
            is_shared: true,
        }
    }

    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Fills `to` with the bytes from `at` on, each of which is loaded once. Returns `None` if
    /// there are not as many.
    pub(crate) fn copy_to(self, at: usize, to: &mut [u8]) -> Option<()> {
        let end = at.checked_add(to.len())?;
        if end > self.len {
            return None;
        }
        let (words, last) = to.as_chunks_mut::<8>();
        let done = at.saturating_add(words.len().saturating_mul(8));
        for (n, to) in words.iter_mut().enumerate() {
            // SAFETY: `to` has as many bytes as are left from `at` on.
            let from = unsafe { self.start.add(at.wrapping_add(n.wrapping_mul(8))) };
            // SAFETY: the eight bytes are mapped, and every value is valid, at any alignment.
            let word = unsafe { from.cast::<Unaligned>().read_volatile() };
            // The bytes as they are in memory, on any machine.
            *to = { word.0 }.to_le().to_le_bytes();
        }
        for (n, to) in last.iter_mut().enumerate() {
            // SAFETY: as above.
            let from = unsafe { self.start.add(done.wrapping_add(n)) };
            // SAFETY: the byte is mapped, and every value is valid.
            *to = unsafe { from.read_volatile() };
        }
        #[cfg(any(test, feature = "testkit"))]
        if self.is_shared {
            changes::after_copy(self.start.wrapping_add(at).cast_mut(), to);
        }
        Some(())
    }

    /// Returns a copy of the `N` bytes at `at`, or `None` if there are not as many.
    pub(crate) fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        let mut array = [0; N];
        self.copy_to(at, &mut array)?;
        Some(array)
    }

    /// Replaces the content of `to` by a copy of all bytes, and returns it.
    ///
    /// # Errors
    ///
    /// There is no memory for the copy.
    pub(crate) fn copy_into(self, to: &mut Vec<u8>) -> Result<&[u8], NoMemory> {
        reserve(to, self.len.saturating_sub(to.len()))?;
        to.resize(self.len, 0);
        let _ = self.copy_to(0, to);
        Ok(to)
    }

    /// Returns a range in place, for content that is stored or passed on as it is: a length, a name
    /// or a decision must not come from it. `None` if it is not within the bytes.
    pub(crate) fn content(self, range: Range<usize>) -> Option<&'a [u8]> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        // SAFETY: the start is at most the length.
        let start = unsafe { self.start.add(range.start) };
        // SAFETY: the range is mapped and initialised for `'a`, and no other reference of this
        // process writes to it. Another process may: that is outside of what the language defines.
        // Every value of the bytes is valid, and nothing is decided by them.
        Some(unsafe { std::slice::from_raw_parts(start, range.len()) })
    }
}

impl<'a> From<&'a [u8]> for SharedBytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self {
            start: bytes.as_ptr(),
            len: bytes.len(),
            buffer: PhantomData,
            #[cfg(any(test, feature = "testkit"))]
            is_shared: false,
        }
    }
}

/// Makes room for a copy of `more` bytes at the end of `to`.
///
/// # Errors
///
/// There is no memory for it.
pub(crate) fn reserve(to: &mut Vec<u8>, more: usize) -> Result<(), NoMemory> {
    to.try_reserve(more)
        .map_err(|_| NoMemory(to.len().saturating_add(more)))
}

/// There is no memory for a copy of this many bytes.
#[derive(Debug)]
pub(crate) struct NoMemory(usize);

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "there is no memory for a copy of a block of {} bytes; free some, use smaller buffers, \
             or raise the limit of this process (ulimit -v)",
            self.0
        )
    }
}

impl Error for NoMemory {}

/// A participant that changes each byte right after this thread has copied it, for tests.
#[cfg(any(test, feature = "testkit"))]
pub(crate) mod changes {
    use std::cell::Cell;

    thread_local! {
        /// Number of bytes that were changed; `None` if none are to be.
        static CHANGED: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Calls `work` while bytes change, and returns with its result how many did.
    pub(crate) fn run<T>(work: impl FnOnce() -> T) -> (T, u64) {
        CHANGED.set(Some(0));
        let result = work();
        (result, CHANGED.take().unwrap_or_default())
    }

    /// Changes the bytes at `from`, of which `copy` is the copy: all bits of each.
    pub(super) fn after_copy(from: *mut u8, copy: &[u8]) {
        let Some(changed) = CHANGED.get() else { return };
        for (n, byte) in copy.iter().enumerate() {
            // SAFETY: the range that was copied has as many bytes.
            let to = unsafe { from.add(n) };
            // SAFETY: the segment is mapped to be written, and another process may write to it at
            // any time: this does what such a process could do.
            unsafe { to.write_volatile(!*byte) };
        }
        CHANGED.set(Some(changed.saturating_add(copy.len() as u64)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )]
    use super::*;

    #[test]
    fn copies_equal_the_bytes_at_every_alignment_and_length() {
        let all: Vec<u8> = (0..100).collect();
        for start in 0..20 {
            for len in 0..60 {
                let shared = SharedBytes::from(&all[start..]);
                let mut copy = vec![0; len];
                shared.copy_to(7, &mut copy).unwrap();
                assert_eq!(copy, all[start + 7..][..len]);
                assert_eq!(shared.content(7..7 + len).unwrap(), copy);
            }
        }
        assert_eq!(SharedBytes::from(&all[..]).array(98), Some([98, 99]));
    }

    #[test]
    fn ranges_outside_of_the_bytes_are_rejected() {
        let shared = SharedBytes::from(&b"ten bytes!"[..]);
        assert_eq!(shared.array::<4>(7), None);
        assert_eq!(shared.copy_to(usize::MAX, &mut [0; 2]), None);
        for range in [0..11, 11..11, 3..usize::MAX, Range { start: 3, end: 2 }] {
            assert_eq!(shared.content(range), None);
        }
    }
}
