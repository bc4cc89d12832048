//! Texts and bytes that a caller lends for the time of a call. They are copied at once.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::status::{DP_ERR_ARGUMENT, DP_ERR_NULL};

/// Most bytes of a text or of bytes, and most texts of a list. A length that is not initialized is
/// rarely smaller.
const MAX_LEN: usize = 1 << 24;

/// Text that ends with a zero byte, or null.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// Copies the bytes without the zero byte. `None` for a null pointer.
    pub(crate) fn bytes(self) -> Option<Vec<u8>> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the caller of the interface promises that a text is null or ends with a zero
        // byte, and that it does not change during the call.
        let text = unsafe { CStr::from_ptr(self.0) };
        Some(text.to_bytes().to_vec())
    }

    /// Copies a path. `None` for a null pointer.
    pub(crate) fn path(self) -> Option<PathBuf> {
        Some(OsStr::from_bytes(&self.bytes()?).into())
    }

    /// Copies a path that is needed.
    pub(crate) fn needed_path(self, what: &str) -> Result<PathBuf, Failure> {
        let path = self.path().ok_or_else(|| null(what))?;
        match path.as_os_str().is_empty() {
            true => Err(Failure::new(
                DP_ERR_ARGUMENT,
                format!("{what} is empty: name a path"),
            )),
            false => Ok(path),
        }
    }

    /// Copies a text in UTF-8. `None` for a null pointer.
    pub(crate) fn utf8(self, what: &str) -> Result<Option<String>, Failure> {
        let Some(bytes) = self.bytes() else {
            return Ok(None);
        };
        String::from_utf8(bytes).map(Some).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Failure::new(
                DP_ERR_ARGUMENT,
                format!("{what} is not UTF-8: its byte {at} is invalid"),
            )
        })
    }
}

/// Texts that each end with a zero byte.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct TextList(*const Text);

impl TextList {
    /// Copies `count` texts.
    pub(crate) fn read(self, count: usize, what: &str) -> Result<Vec<Vec<u8>>, Failure> {
        check_range(self.0, count, what)?;
        let mut texts = Vec::with_capacity(count);
        for index in 0..count {
            // SAFETY: `index` is below the count, and the caller promises as many pointers.
            let at = unsafe { self.0.add(index) };
            // SAFETY: as above, and the pointer is aligned, as `check_range` has found.
            let text = unsafe { at.read() };
            texts.push(
                text.bytes()
                    .ok_or_else(|| null(&format!("{what}[{index}]")))?,
            );
        }
        Ok(texts)
    }
}

/// Bytes with a length.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Bytes(*const u8);

impl Bytes {
    /// Copies `len` bytes.
    pub(crate) fn read(self, len: usize, what: &str) -> Result<Vec<u8>, Failure> {
        check_range(self.0, len, what)?;
        let mut bytes = vec![0; len];
        // SAFETY: the caller promises `len` readable bytes, and `bytes` is a new allocation of as
        // many. With a length of 0 the pointers are not used.
        unsafe { std::ptr::copy_nonoverlapping(self.0, bytes.as_mut_ptr(), len) };
        Ok(bytes)
    }

    /// Copies an array. `None` for a null pointer.
    pub(crate) fn array<const N: usize>(self) -> Option<[u8; N]> {
        if self.0.is_null() {
            return None;
        }
        let mut bytes = [0; N];
        // SAFETY: the caller promises that a pointer to an array is null or refers to all of it.
        unsafe { std::ptr::copy_nonoverlapping(self.0, bytes.as_mut_ptr(), N) };
        Some(bytes)
    }
}

/// Pointer to a count that is written on success.
#[derive(Debug)]
#[repr(transparent)]
pub struct OutCount(*mut usize);

impl OutCount {
    /// Checks the pointer, before the work that counts.
    pub(crate) fn check(&self, what: &str) -> Result<(), Failure> {
        if self.0.is_null() {
            return Err(null(what));
        }
        check_alignment(self.0, what)
    }

    /// Writes the count. Does nothing for a pointer that [`check`](Self::check) refuses.
    pub(crate) fn write(&self, count: usize) {
        if self.check("").is_ok() {
            // SAFETY: the pointer is aligned and not null, and the caller promises that it refers
            // to a count.
            unsafe { self.0.write(count) };
        }
    }
}

/// Checks a pointer to `count` items.
pub(super) fn check_range<T>(pointer: *const T, count: usize, what: &str) -> Result<(), Failure> {
    if count > MAX_LEN {
        let text = format!("{what} has the length {count}, but at most {MAX_LEN} is taken");
        return Err(Failure::new(DP_ERR_ARGUMENT, text));
    }
    if count > 0 && pointer.is_null() {
        return Err(null(what));
    }
    check_alignment(pointer, what)
}

/// Failure because of a null pointer.
pub(super) fn null(what: &str) -> Failure {
    Failure::new(DP_ERR_NULL, format!("{what} is NULL, but is needed"))
}

/// Checks the alignment of a pointer.
pub(super) fn check_alignment<T>(pointer: *const T, what: &str) -> Result<(), Failure> {
    match pointer.is_aligned() {
        true => Ok(()),
        false => Err(Failure::new(
            DP_ERR_ARGUMENT,
            format!(
                "{what} is at {pointer:p}, which is not a multiple of {}",
                align_of::<T>()
            ),
        )),
    }
}
