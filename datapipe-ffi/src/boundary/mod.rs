//! The boundary to C: arguments, results and callbacks. All unsafe code of this crate is here.
//!
//! ```text
//!   C --In, Text, Bytes--> copied, checked --> job
//!   C <--Out------------- written on success <-- job
//!   C <--callbacks------- values that live for the call
//! ```
//!
//! The types of arguments have no constructor in Rust: their values come from a C caller, who
//! promises what `docs/c-abi.md` demands of pointers. Each proof below refers to that promise. A
//! null pointer, a wrong alignment and a wrong size are refused; the memory that a pointer refers
//! to cannot be checked.
//!
//! This module does not know what the arguments mean.

mod argument; // pointers that a caller passes
mod callback; // functions that a caller passes
mod descriptor; // descriptors that a caller passes
mod fork; // notice of a fork
mod guard; // calls that return a status, also after a panic
mod handle; // handles as pointers that refer to nothing
mod lent; // outputs that a function borrows
mod versioned; // structs that begin with their size

pub use argument::{Bytes, OutCount, Text, TextList};
pub use callback::User;
pub(crate) use callback::{change, convert, divide, fill, log, make, measure, notify, show, take};
pub(crate) use descriptor::duplicate;
pub(crate) use fork::{is_forked, watch_forks};
pub(crate) use guard::{call, call_before_fork};
pub use handle::{Handle, OutHandle};
pub(crate) use lent::{LentOutputs, lend, with_lent};
pub use versioned::{In, InArray, Out, OutArray, Versioned};
pub(crate) use versioned::{OutSlot, check_reserved, empty, size_of_field, versioned};
