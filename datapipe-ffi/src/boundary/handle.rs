//! Handles as C sees them: pointers to a type without a definition, whose value is not an address.
//!
//! A pointer type for each kind lets a C compiler refuse a handle of another kind. The bits are a
//! kind, an index and a generation, which the library checks: see `handle_bits.rs`.

use std::ptr;

use crate::failure::Failure;
use crate::handle_bits::HandleBits;

use super::argument::{check_alignment, null};

/// A handle of a kind `T`, or null.
#[derive(Debug)]
#[repr(transparent)]
pub struct Handle<T>(*mut T);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> Handle<T> {
    /// The bits of the handle; 0 for null.
    pub(crate) fn bits(self) -> HandleBits {
        HandleBits::from(self.0.addr() as u64)
    }

    /// The handle with these bits.
    pub(crate) fn from_bits(bits: HandleBits) -> Self {
        Self(ptr::without_provenance_mut(bits.get() as usize))
    }
}

/// Pointer to a handle that is written on success.
#[derive(Debug)]
#[repr(transparent)]
pub struct OutHandle<T>(*mut Handle<T>);

impl<T> OutHandle<T> {
    /// Checks the pointer, before the work that makes the handle.
    pub(crate) fn check(&self, what: &str) -> Result<(), Failure> {
        if self.0.is_null() {
            return Err(null(what));
        }
        check_alignment(self.0, what)
    }

    /// Writes the handle. Does nothing for a pointer that [`check`](Self::check) refuses.
    pub(crate) fn write(&self, bits: HandleBits) {
        if self.check("").is_ok() {
            // SAFETY: the pointer is aligned and not null, and the caller promises that it refers
            // to a handle of this kind.
            unsafe { self.0.write(Handle::from_bits(bits)) };
        }
    }
}
