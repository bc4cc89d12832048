//! The C interface of DataPipe: `include/datapipe.h`, `libdatapipe.so` and `libdatapipe.a`.
//!
//! ```text
//!   a program in C
//!      |  datapipe.h
//!   abi/        the functions and structs of the header: arguments to values, results to structs
//!      |                 \
//!   boundary/  pointers,   job/   whole jobs: backup, restore, verify, list, copy
//!   callbacks, handles     pipe/  pipes of the program's own stages
//!                               |
//!                               datapipe
//! ```
//!
//! `docs/c-abi.md` is the contract: who owns what, what each thread may call, how errors are
//! reported, what stays compatible. The header is generated from `abi/` and `status.rs`, and a test
//! compares them. The Rust names of this crate are not an interface: a program in Rust uses the
//! crate `datapipe-sdk`.

#[allow(
    unsafe_code,
    reason = "the functions of the interface have their names in C"
)]
pub mod abi;
#[allow(
    unsafe_code,
    reason = "pointers, callbacks and descriptors of a caller"
)]
pub mod boundary;
mod cancel_slots; // cancel tokens
mod failure; // failures of calls
mod handle_bits; // kinds, indices and generations of handles
mod handle_table; // objects by their handles
mod job; // whole jobs
mod last_error; // the last failure of each thread
mod library; // preparation at the first call
mod log_sink; // the log function of the program
mod pipe; // pipes of the program's own stages
pub mod problem_kind; // numbers of problems with objects
pub mod status; // status codes
