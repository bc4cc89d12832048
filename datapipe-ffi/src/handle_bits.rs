//! The bits of a handle: its kind, its index in the table of its kind, and the generation of that
//! entry.
//!
//! ```text
//!   63    56 55          32 31            0
//!   +-------+--------------+---------------+
//!   | kind  | index        | generation    |
//!   +-------+--------------+---------------+
//! ```
//!
//! A generation counts the handles that an entry has had, from a random number on. A handle that
//! was freed therefore stays invalid, and so does one of another process.

#![allow(
    clippy::disallowed_types,
    reason = "the count of handles is not shared between processes"
)]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::Failure;
use crate::status::{DP_ERR_HANDLE_KIND, DP_ERR_NULL, dp_status};

/// Kind of a handle. 0 is the null handle, and no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum HandleKind {
    /// A cancel token.
    Cancel = 0xC1,
    /// A pipe.
    Pipe = 0xB7,
    /// Outputs that a function borrows.
    Outputs = 0xA5,
    /// A seat in a pipe of another process.
    Attachment = 0x9E,
    /// A buffer of such a pipe.
    Buffer = 0x8D,
}

/// Bits of a handle; 0 for the null handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandleBits(u64);

impl From<u64> for HandleBits {
    fn from(bits: u64) -> Self {
        Self(bits)
    }
}

impl HandleBits {
    /// The handle of an entry. `index` is below 2^24.
    pub(crate) fn new(kind: HandleKind, index: usize, generation: u32) -> Self {
        Self((kind as u64) << 56 | (index as u64 & 0xff_ffff) << 32 | u64::from(generation))
    }

    /// A handle that this process has not had, for an object that is not in a table. It counts up.
    pub(crate) fn unique(kind: HandleKind) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let generation = first_generation().wrapping_add(number as u32);
        Self::new(kind, (number >> 32) as usize, generation)
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    fn is_of(self, kind: HandleKind) -> bool {
        self.0 >> 56 == kind as u64
    }

    /// Checks that this is a handle of a kind, which may be one that was freed. Safe in a signal
    /// handler.
    pub(crate) fn check(self, kind: HandleKind) -> Result<(), dp_status> {
        match (self.is_null(), self.is_of(kind)) {
            (true, _) => Err(DP_ERR_NULL),
            (_, true) => Ok(()),
            (_, false) => Err(DP_ERR_HANDLE_KIND),
        }
    }

    /// Checks as [`check`](Self::check), with a message that names the object: "the pipe".
    pub(crate) fn check_named(self, kind: HandleKind, name: &str) -> Result<(), Failure> {
        self.check(kind).map_err(|status| {
            let text = match status {
                DP_ERR_NULL => format!("the handle of {name} is NULL"),
                _ => format!("the handle of {name} is of another kind"),
            };
            Failure::new(status, text)
        })
    }

    pub(crate) fn index(self) -> usize {
        (self.0 >> 32 & 0xff_ffff) as usize
    }

    pub(crate) fn generation(self) -> u32 {
        self.0 as u32
    }
}

/// First generation of every entry in this process.
pub(crate) fn first_generation() -> u32 {
    static FIRST: OnceLock<u32> = OnceLock::new();
    // The keys of a hasher are random.
    *FIRST.get_or_init(|| RandomState::new().build_hasher().finish() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_handle_are_those_that_it_was_made_from() {
        let bits = HandleBits::new(HandleKind::Cancel, 0xab_cdef, 0x89ab_cdef);
        assert!(bits.is_of(HandleKind::Cancel) && !bits.is_null());
        assert_eq!((bits.index(), bits.generation()), (0xab_cdef, 0x89ab_cdef));
        assert_eq!(HandleBits::from(bits.get()), bits);
        let unique = [(); 2].map(|()| HandleBits::unique(HandleKind::Buffer));
        assert!(unique[0] != unique[1] && unique[1].is_of(HandleKind::Buffer));
        assert_eq!(bits.check(HandleKind::Cancel), Ok(()));
        assert_eq!(bits.check(HandleKind::Pipe), Err(DP_ERR_HANDLE_KIND));
        let null = HandleBits::from(0);
        assert_eq!(null.check(HandleKind::Cancel), Err(DP_ERR_NULL));
    }
}
