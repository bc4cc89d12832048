//! Calls of functions that a caller has passed.
//!
//! The function pointers come from the arguments of a C caller, who promises (`docs/c-abi.md`,
//! Callbacks) that each may be called with its user data on the threads that the header names, does
//! not keep the pointers that it gets, and returns: no exception, no `longjmp`.

use std::ffi::{CStr, c_char, c_void};

use super::handle::Handle;

/// Pointer of the caller that each of its functions gets back.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct User(*mut c_void);

impl User {
    /// The null pointer.
    pub(crate) const NULL: Self = Self(std::ptr::null_mut());

    /// The address, to compare it.
    pub(crate) fn address(self) -> usize {
        self.0.addr()
    }
}

impl Default for User {
    fn default() -> Self {
        Self::NULL
    }
}

// SAFETY: the library does not use the pointer, it passes it on. The caller promises that its
// functions may be called with it on the threads that the header names.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

/// Shows a value to the caller's function, and returns the function's answer.
pub(crate) fn show<T>(
    function: unsafe extern "C" fn(User, *const T) -> i32,
    user: User,
    value: &T,
) -> i32 {
    // SAFETY: the caller's promise about its functions; `value` lives for the call.
    unsafe { function(user, value) }
}

/// Lets the caller's function fill `bytes`, and returns the function's answer.
pub(crate) fn fill(
    function: unsafe extern "C" fn(User, *mut u8, usize) -> i64,
    user: User,
    bytes: &mut [u8],
) -> i64 {
    // SAFETY: the caller's promise about its functions; `bytes` has the length that is passed, and
    // lives for the call.
    unsafe { function(user, bytes.as_mut_ptr(), bytes.len()) }
}

/// Lets the caller's function take `bytes`, and returns the function's answer.
pub(crate) fn take(
    function: unsafe extern "C" fn(User, *const u8, usize) -> i64,
    user: User,
    bytes: &[u8],
) -> i64 {
    // SAFETY: as for `fill`.
    unsafe { function(user, bytes.as_ptr(), bytes.len()) }
}

/// Passes a message to the caller's log function.
pub(crate) fn log(
    function: unsafe extern "C" fn(User, i32, *const c_char),
    user: User,
    level: i32,
    message: &CStr,
) {
    // SAFETY: the caller's promise about its functions; `message` lives for the call.
    unsafe { function(user, level, message.as_ptr()) }
}

/// Lets the caller's function make a value, and returns the function's answer.
pub(crate) fn make<T>(
    function: unsafe extern "C" fn(User, u32, *mut T) -> i32,
    user: User,
    number: u32,
    value: &mut T,
) -> i32 {
    // SAFETY: the caller's promise about its functions; `value` lives for the call, and is valid
    // before it.
    unsafe { function(user, number, value) }
}

/// Lets the caller's function change a value, and returns the function's answer.
pub(crate) fn change<T>(
    function: unsafe extern "C" fn(User, *mut T) -> i32,
    user: User,
    value: &mut T,
) -> i32 {
    // SAFETY: as for `make`.
    unsafe { function(user, value) }
}

/// Lets the caller's function make a value from another one, and returns the function's answer.
pub(crate) fn convert<T, U>(
    function: unsafe extern "C" fn(User, *const T, *mut U) -> i32,
    user: User,
    from: &T,
    to: &mut U,
) -> i32 {
    // SAFETY: as for `make`.
    unsafe { function(user, from, to) }
}

/// Lets the caller's function make several values from one, through a handle that it borrows, and
/// returns the function's answer.
pub(crate) fn divide<T, U>(
    function: unsafe extern "C" fn(User, *const T, Handle<U>) -> i32,
    user: User,
    from: &T,
    to: Handle<U>,
) -> i32 {
    // SAFETY: the caller's promise about its functions; `from` lives for the call, and a handle
    // refers to nothing.
    unsafe { function(user, from, to) }
}

/// Calls the caller's function that measures something, and returns the function's answer.
pub(crate) fn measure(function: unsafe extern "C" fn(User) -> i64, user: User) -> i64 {
    // SAFETY: the caller's promise about its functions.
    unsafe { function(user) }
}

/// Calls the caller's function with its user data only, and returns the function's answer.
pub(crate) fn notify(function: unsafe extern "C" fn(User) -> i32, user: User) -> i32 {
    // SAFETY: the caller's promise about its functions.
    unsafe { function(user) }
}
