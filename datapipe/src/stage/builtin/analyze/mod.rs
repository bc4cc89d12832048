//! Content analysis: the class of a block's data, from its first bytes and a sample of the rest.
//!
//! ```text
//!   data -> by_signature (first bytes) --> class
//!        -> sample (16 KiB)            --> confirms it, or decides: text, dense, other
//! ```
//!
//! A block may contain many small files, and its first bytes describe only one of them. So a class
//! that stops compression is trusted for a larger block only if the sample agrees. This module does
//! not look into containers.

mod classifier; // the stage
mod classify; // signature and sample combined
mod signatures; // first bytes of formats

pub(crate) use classifier::ANALYZE_MODULE;
pub use classifier::analyze;
pub use classify::classify;
