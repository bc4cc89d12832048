//! The functions and structs of the header, in its order.
//!
//! Each function checks its arguments, runs a job, and writes its result. The comments are those of
//! the header; they are written for a programmer in C.
//!
//! This module does not have logic of jobs, which is in `job/`, or unsafe code, which is in
//! `boundary/`.

#![allow(non_camel_case_types, reason = "names of the C interface")]

mod version; // version of the library

mod error; // the last error of a thread
mod log; // the log function

mod cancel; // cancel tokens
mod hooks; // progress and problems of a job
mod secret; // keys and passphrases
mod selection; // one archive of several
mod sessions; // archives of a medium

mod attach; // seats in pipes of other processes
mod event; // events of a pipe
mod json; // JSON of which no member is lost
mod outputs; // blocks that a stage makes from one
mod pipe; // pipes of the program's own stages
mod pipe_json; // pipes from a description in JSON
mod serve; // stages in processes
mod stage; // stages of a pipe
mod stage_spec; // a stage as it is described, and its check
mod stage_status; // state of each stage

mod backup; // trees or a stream to a medium
mod copy; // an archive to another medium
mod list; // entries of an archive
mod medium; // media of the program
mod read_result; // results of jobs that read
mod restore; // an archive to a directory or a stream
mod verify; // check of an archive

pub use attach::*;
pub use backup::*;
pub use cancel::*;
pub use copy::*;
pub use error::*;
pub use event::*;
pub use hooks::*;
pub use list::*;
pub use log::*;
pub use medium::*;
pub use outputs::*;
pub use pipe::*;
pub use pipe_json::*;
pub use read_result::*;
pub use restore::*;
pub use secret::*;
pub use selection::*;
pub use serve::*;
pub use sessions::*;
pub use stage::*;
pub use stage_status::*;
pub use verify::*;
pub use version::*;
