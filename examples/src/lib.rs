//! What `disk_to_tape` and `tape_to_disk` have in common.
//!
//! ```text
//!   disk_to_tape:  tree::pack -> analyze -> zstd -> aes-256-gcm -> archive -> medium
//!   tape_to_disk:  tree::unpack <- decompress <- aes-256-gcm <- archive <- medium
//! ```
//!
//! What travels is a tar stream. What lies on the medium is an archive of that stream: `docs/wire-format.md`.

pub mod console; // arguments, messages, progress, exit codes
pub mod medium; // where an archive lies
pub mod secret; // keys and passphrases from files
pub mod stream; // blocks as the stream that they were, and what is missing
pub mod tree; // a directory as a stream, and back
