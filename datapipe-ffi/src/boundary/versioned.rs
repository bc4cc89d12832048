//! Structs that begin with their size, so that they can grow.
//!
//! A caller that was compiled with an earlier header has a smaller struct: what it lacks is zero,
//! and is not written. One that was compiled with a later header has a larger struct: what this
//! library does not know must be zero, and is set to zero.

use std::mem::MaybeUninit;
use std::ptr;

use crate::failure::Failure;
use crate::status::{DP_ERR_STRUCT_SIZE, DP_ERR_UNSUPPORTED};

use super::argument::{Bytes, Text, TextList, check_alignment, check_range, null};
use super::callback::User;
use super::handle::Handle;

/// Size beyond which a struct is not believed.
const MAX_SIZE: usize = 1 << 16;

/// A struct whose first field is its size in bytes, of type `usize`.
///
/// # Safety
///
/// The type is `repr(C)`, its first field is a `usize`, and all bytes zero are a valid value. A
/// value with other bytes is valid if a C compiler has made it from the fields of the header.
pub unsafe trait Versioned: Copy {
    /// Its name in the header.
    const NAME: &'static str;
    /// Its size in the first version that had it.
    const FIRST_SIZE: usize;
    /// Its fields with their offsets.
    const FIELDS: &'static [(&'static str, usize)];
}

/// Pointer to a struct that is read, or null.
#[derive(Debug)]
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T> In<T> {
    /// True for a null pointer.
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }
}

impl<T: Versioned> In<T> {
    /// Copies the struct. `None` for a null pointer.
    pub(crate) fn read(self) -> Result<Option<T>, Failure> {
        match self.0.is_null() {
            true => Ok(None),
            false => self.read_needed().map(Some),
        }
    }

    /// Copies a struct that is needed.
    pub(crate) fn read_needed(self) -> Result<T, Failure> {
        let size = size_of_struct::<T>(self.0)?;
        for at in size_of::<T>()..size {
            // SAFETY: the caller promises as many bytes as the struct's size says.
            let byte = unsafe { self.0.cast::<u8>().add(at) };
            // SAFETY: as above.
            if unsafe { byte.read() } != 0 {
                return Err(Failure::new(
                    DP_ERR_UNSUPPORTED,
                    format!(
                        "{} has a value in its byte {at}, which this version of the library does \
                         not know: its struct has {} bytes; set the field to 0, or update the \
                         library",
                        T::NAME,
                        size_of::<T>()
                    ),
                ));
            }
        }
        let mut value = MaybeUninit::<T>::zeroed();
        let len = size.min(size_of::<T>());
        // SAFETY: the caller promises `size` readable bytes, `value` has `size_of::<T>()`, and
        // `len` is not above either.
        unsafe { ptr::copy_nonoverlapping(self.0.cast::<u8>(), value.as_mut_ptr().cast(), len) };
        // SAFETY: a prefix of fields of a C caller, followed by zeros, is valid: `Versioned`.
        Ok(unsafe { value.assume_init() })
    }
}

/// A struct with all fields 0 but its size, for a function of the caller to fill.
pub(crate) fn empty<T: Versioned>() -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the first field of a `Versioned` struct is a `usize`.
    unsafe { value.as_mut_ptr().cast::<usize>().write(size_of::<T>()) };
    // SAFETY: all bytes zero, and any size, are a valid value: `Versioned`.
    unsafe { value.assume_init() }
}

/// Pointer to an array of structs that are read. The size of the first one is that of each.
#[derive(Debug)]
#[repr(transparent)]
pub struct InArray<T>(*const T);

impl<T> Clone for InArray<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for InArray<T> {}

impl<T: Versioned> InArray<T> {
    /// Copies `count` structs. With a count of 0 the pointer is not used.
    pub(crate) fn read(self, count: usize) -> Result<Vec<T>, Failure> {
        check_range(self.0, count, T::NAME)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let stride = stride_of(self.0)?;
        let read = |index: usize| {
            // SAFETY: `index` is below the count, and the caller promises as many structs of this
            // size.
            let at = unsafe { self.0.byte_add(index * stride) };
            match size_of_struct(at)? {
                size if size == stride => In(at).read_needed(),
                size => Err(Failure::new(
                    DP_ERR_STRUCT_SIZE,
                    format!(
                        "{} {index} has the size {size}, but the first one of the array {stride}",
                        T::NAME
                    ),
                )),
            }
        };
        (0..count).map(read).collect()
    }
}

/// Pointer to a struct that is written on success, or null if the caller does not need it.
#[derive(Debug)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

/// A struct to be written that has been checked.
#[derive(Debug)]
pub(crate) struct OutSlot<T> {
    at: *mut T,
    size: usize,
}

impl<T: Versioned> Out<T> {
    /// Checks the struct, before the work that fills it. `None` for a null pointer.
    pub(crate) fn check(self) -> Result<Option<OutSlot<T>>, Failure> {
        if self.0.is_null() {
            return Ok(None);
        }
        let size = size_of_struct::<T>(self.0)?;
        Ok(Some(OutSlot { at: self.0, size }))
    }
}

impl<T: Versioned> OutSlot<T> {
    /// Writes the struct as far as the caller has it. Its size stays as the caller has set it.
    pub(crate) fn write(self, value: &T) {
        let to = self.at.cast::<u8>();
        let from = ptr::from_ref(value).cast::<u8>();
        let len = self.size.min(size_of::<T>()) - size_of::<usize>();
        // SAFETY: the caller promises `size` bytes, and the size was at least that of a `usize`.
        let fields = unsafe { to.add(size_of::<usize>()) };
        // SAFETY: `value` is longer than a `usize`.
        let values = unsafe { from.add(size_of::<usize>()) };
        // SAFETY: `len` is what remains of the shorter one after its first field; the caller's
        // struct is not `value`, which this library has made.
        unsafe { ptr::copy_nonoverlapping(values, fields, len) };
        let rest = self.size.saturating_sub(size_of::<T>());
        if rest > 0 {
            // SAFETY: the caller's struct is longer than `T`.
            let rest_at = unsafe { to.add(size_of::<T>()) };
            // SAFETY: it has `rest` bytes after that.
            unsafe { ptr::write_bytes(rest_at, 0, rest) };
        }
    }
}

/// Pointer to an array of structs that are written on success. The size of the first one is that of
/// each.
#[derive(Debug)]
#[repr(transparent)]
pub struct OutArray<T>(*mut T);

/// An array to be written that has been checked.
#[derive(Debug)]
pub(crate) struct OutArraySlot<T> {
    at: *mut T,
    capacity: usize,
    stride: usize,
}

impl<T: Versioned> OutArray<T> {
    /// Checks an array of `capacity` structs, before the work that fills it. With a capacity of 0
    /// the pointer is not used.
    pub(crate) fn check(self, capacity: usize) -> Result<OutArraySlot<T>, Failure> {
        check_range(self.0, capacity, T::NAME)?;
        let stride = match capacity {
            0 => size_of::<T>(),
            _ => stride_of(self.0)?,
        };
        Ok(OutArraySlot {
            at: self.0,
            capacity,
            stride,
        })
    }
}

impl<T: Versioned> OutArraySlot<T> {
    /// Writes as many structs as there is room for, each with its size.
    pub(crate) fn write(self, values: &[T]) {
        for (index, value) in values.iter().take(self.capacity).enumerate() {
            // SAFETY: `index` is below the capacity, and the caller promises as many structs of
            // this size.
            let at = unsafe { self.at.byte_add(index * self.stride) };
            // SAFETY: as above; the pointer is aligned, because the first one and the size are.
            unsafe { at.cast::<usize>().write(self.stride) };
            let size = self.stride;
            OutSlot { at, size }.write(value);
        }
    }
}

/// Reads the size of each struct of an array from its first one, and checks it.
fn stride_of<T: Versioned>(first: *const T) -> Result<usize, Failure> {
    let stride = size_of_struct(first)?;
    match stride.is_multiple_of(align_of::<T>()) {
        true => Ok(stride),
        false => Err(Failure::new(
            DP_ERR_STRUCT_SIZE,
            format!(
                "{0} has the size {stride}: set .size = sizeof({0}) in the first one of the array",
                T::NAME
            ),
        )),
    }
}

/// Reads the size of a struct, and checks the pointer and the size.
fn size_of_struct<T: Versioned>(pointer: *const T) -> Result<usize, Failure> {
    if pointer.is_null() {
        return Err(null(T::NAME));
    }
    check_alignment(pointer, T::NAME)?;
    // SAFETY: the pointer is aligned and not null, and the caller promises that it refers to a
    // struct that begins with its size.
    let size = unsafe { pointer.cast::<usize>().read() };
    match size {
        _ if size < T::FIRST_SIZE => Err(Failure::new(
            DP_ERR_STRUCT_SIZE,
            format!(
                "{0} has the size {size}, but has had {1} bytes from its first version on: set \
                 .size = sizeof({0})",
                T::NAME,
                T::FIRST_SIZE
            ),
        )),
        _ if size > MAX_SIZE => Err(Failure::new(
            DP_ERR_STRUCT_SIZE,
            format!(
                "{0} has the size {size}, but at most {MAX_SIZE} is taken: set .size = sizeof({0})",
                T::NAME
            ),
        )),
        _ => Ok(size),
    }
}

/// A type of a field of a [`Versioned`] struct: zero is a valid value, and so is each value that a
/// C compiler stores in it.
pub(crate) trait Plain {}

macro_rules! plain {
    ($($integer:ty),*) => { $(impl Plain for $integer {})* };
}

plain!(
    i8, u8, i32, u32, i64, u64, usize, User, Text, TextList, Bytes
);

impl<T> Plain for In<T> {}
impl<T> Plain for InArray<T> {}
impl<T> Plain for Handle<T> {}
impl<T> Plain for *const T {}
impl<T> Plain for *mut T {}
impl<T: Plain, const N: usize> Plain for [T; N] {}
impl<T> Plain for Option<unsafe extern "C" fn(User, *const T) -> i32> {}
impl<T> Plain for Option<unsafe extern "C" fn(User, *mut T) -> i32> {}
impl<T> Plain for Option<unsafe extern "C" fn(User, u32, *mut T) -> i32> {}
impl<T, U> Plain for Option<unsafe extern "C" fn(User, *const T, *mut U) -> i32> {}
impl<T, U> Plain for Option<unsafe extern "C" fn(User, *const T, Handle<U>) -> i32> {}
impl Plain for Option<unsafe extern "C" fn(User) -> i32> {}
impl Plain for Option<unsafe extern "C" fn(User) -> i64> {}
impl Plain for Option<unsafe extern "C" fn(User, *const u8, usize) -> i64> {}
impl Plain for Option<unsafe extern "C" fn(User, *mut u8, usize) -> i64> {}

/// Refuses a value in a field that has to be 0 until a later version uses it.
pub(crate) fn check_reserved(name: &str, value: u32) -> Result<(), Failure> {
    match value {
        0 => Ok(()),
        value => Err(Failure::new(
            DP_ERR_UNSUPPORTED,
            format!("{name}.reserved is {value}, but has to be 0 in this version of the library"),
        )),
    }
}

/// Size of the field that a function returns.
pub(crate) const fn size_of_field<T, F: Plain>(_field: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// Implements [`Versioned`] for a struct with these fields, in their order. It does not compile if
/// a field is missing or is not [`Plain`], if the first one is not a `size: usize`, or if there is
/// padding, which a C compiler leaves uninitialized.
macro_rules! versioned {
    ($struct:ident, first: $first:expr, { $($field:ident),* $(,)? }) => {
        // SAFETY: the assertions below check the type: `repr(C)` by its layout without padding, the
        // first field, and that all bytes zero are valid for each field.
        unsafe impl $crate::boundary::Versioned for $struct {
            const NAME: &'static str = stringify!($struct);
            const FIRST_SIZE: usize = $first;
            const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($struct, $field))),*];
        }

        const _: () = {
            use $crate::boundary::size_of_field;

            let mut at = 0;
            $(
                assert!(std::mem::offset_of!($struct, $field) == at, "a field in its place");
                at += size_of_field(|value: &$struct| &value.$field);
            )*
            assert!(at == size_of::<$struct>(), "padding, or a field that is not listed");
            assert!(size_of::<$struct>() >= $first, "a struct only grows");
            let _: fn(&$struct) -> &usize = |value| &value.size;
            assert!(std::mem::offset_of!($struct, size) == 0, "the size comes first");
        };
    };
}

pub(crate) use versioned;
