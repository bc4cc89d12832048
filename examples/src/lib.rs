//! What `disk_to_tape` and `tape_to_disk` have in common.
//!
//! ```text
//!   disk_to_tape:  tree::pack -> analyze -> zstd -> aes-256-gcm -> container::Writer -> medium
//!   tape_to_disk:  tree::unpack <- decompress <- aes-256-gcm <- container::Reader <- medium
//! ```
//!
//! This is the first form of both: a tar stream in a plain container, one archive in one file.

pub mod console; // arguments, messages, progress, exit codes
pub mod container; // the blocks of a pipe in a file
pub mod tree; // a directory as a stream, and back
