#![allow(missing_docs)]
pub mod error;
pub mod limits;
#[allow(unsafe_code, reason = "maps memory that other processes map too")]
pub mod memory;
pub mod pool;
mod queue;
pub use error::*;
