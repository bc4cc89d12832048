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
        // SAFETY: `at` is at most the length.
        let from = unsafe { self.start.add(at) };
        let aligned = from.align_offset(align_of::<u64>()).min(to.len());
        let (first, rest) = to.split_at_mut(aligned);
        let (words, last) = rest.as_chunks_mut::<8>();
        for (n, byte) in first.iter_mut().enumerate() {
            // SAFETY: `to` has as many bytes as are left from `at` on.
            let from = unsafe { from.add(n) };
            // SAFETY: the byte is mapped, and every value is valid.
            *byte = unsafe { from.read_volatile() };
        }
        for (n, word) in words.iter_mut().enumerate() {
            // SAFETY: as above.
            let from = unsafe { from.add(aligned + n * 8) };
            // SAFETY: the eight bytes are mapped and aligned, and every value is valid.
            let loaded = unsafe { from.cast::<u64>().read_volatile() };
            // The bytes as they are in memory, on any machine.
            *word = loaded.to_le().to_le_bytes();
        }
        let done = aligned + words.len() * 8;
        for (n, byte) in last.iter_mut().enumerate() {
            // SAFETY: as above.
            let from = unsafe { from.add(done + n) };
            // SAFETY: the byte is mapped, and every value is valid.
            *byte = unsafe { from.read_volatile() };
        }
        #[cfg(any(test, feature = "testkit"))]
        if self.is_shared {
            changes::after_copy(from.cast_mut(), to);
        }
        Some(())
    }

    /// Returns a copy of the `N` bytes at `at`, or `None` if there are not as many.
    pub(crate) fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        let mut array = [0; N];
        self.copy_to(at, &mut array)?;
        Some(array)
    }

    /// Appends a copy of a range. Returns `None`, and appends nothing, if it is not within the
    /// bytes.
    pub(crate) fn append_to(self, range: Range<usize>, to: &mut Vec<u8>) -> Option<()> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        let start = to.len();
        to.resize(start + range.len(), 0);
        self.copy_to(range.start, to.get_mut(start..)?)
    }

    /// Replaces the content of `to` by a copy of all bytes, and returns it.
    pub(crate) fn copy_into(self, to: &mut Vec<u8>) -> &[u8] {
        to.resize(self.len, 0);
        let _ = self.copy_to(0, to);
        to
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
                let mut appended = vec![9];
                shared.append_to(7..7 + len, &mut appended).unwrap();
                assert_eq!(appended[1..], copy);
                assert_eq!(shared.content(7..7 + len).unwrap(), copy);
            }
        }
        assert_eq!(SharedBytes::from(&all[..]).array(98), Some([98, 99]));
    }

    #[test]
    fn ranges_outside_of_the_bytes_are_rejected() {
        let shared = SharedBytes::from(&b"ten bytes!"[..]);
        let mut to = Vec::new();
        assert_eq!(shared.array::<4>(7), None);
        assert_eq!(shared.copy_to(usize::MAX, &mut [0; 2]), None);
        for range in [0..11, 11..11, 3..usize::MAX, Range { start: 3, end: 2 }] {
            assert_eq!(shared.append_to(range.clone(), &mut to), None);
            assert_eq!(shared.content(range), None);
        }
        assert!(to.is_empty());
    }
}
