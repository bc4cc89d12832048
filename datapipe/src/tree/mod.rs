//! File trees: from a file system into entries of an archive, and back.
//!
//! Does not know media, ciphers or codecs: what comes in are blocks of whole entries, as [`wire`](crate::wire) has
//! them.

mod restore; // from entries to files

pub use restore::{Problem, RestoreOptions, RestoreReport, TreeRestore, TreeVerify};
