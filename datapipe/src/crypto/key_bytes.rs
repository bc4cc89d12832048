//! The bytes of a key.

use std::ops::{Deref, DerefMut};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::secret_kind::KEY_LEN;
use super::undumped::Undumped;

/// The bytes of a key. They are on the heap, where moving the key leaves no copy, are left out of
/// core dumps, and are erased when it is dropped.
pub(super) struct KeyBytes(Undumped<Zeroizing<[u8; KEY_LEN]>>);

impl KeyBytes {
    /// Zeros, to be filled in place.
    pub(super) fn zeros() -> Self {
        Self(Undumped::new(Zeroizing::new([0; KEY_LEN])))
    }

    /// A copy that is made from where the bytes are to the heap.
    pub(super) fn copy_of(bytes: &[u8; KEY_LEN]) -> Self {
        let mut copy = Self::zeros();
        copy.copy_from_slice(bytes);
        copy
    }
}

impl Deref for KeyBytes {
    type Target = [u8; KEY_LEN];

    fn deref(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl DerefMut for KeyBytes {
    fn deref_mut(&mut self) -> &mut [u8; KEY_LEN] {
        &mut self.0
    }
}

impl Clone for KeyBytes {
    /// A derived one would leave a copy on the stack.
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl Zeroize for KeyBytes {
    fn zeroize(&mut self) {
        (**self).zeroize();
    }
}

impl ZeroizeOnDrop for KeyBytes {}
