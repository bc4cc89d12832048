//! Parts that `disk_to_tape`, `tape_to_disk` and `archive_copy` share.
//!
//! ```text
//!   disk_to_tape:  tree-head or stream-head -> analyze -> zstd -> aes-256-gcm
//!                    -> archive-tail -> medium
//!   tape_to_disk:  medium -> archive-head -> aes-256-gcm -> decompress
//!                    -> tree-restore, tree-verify, tree-list or stream-restore
//!   archive_copy:  medium -> archive-head -> order -> archive-tail -> medium
//! ```
//!
//! The medium holds an archive in the format of `docs/wire-format.md`.

/// The programs of the project's README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub mod arguments; // options that both programs have
pub mod console; // messages, signals and exit codes
pub mod descriptors; // limit of open files
pub mod errors_file; // every object that is not whole, in a file
pub mod estimate; // number of bytes to read
pub mod format; // names, modes and times as text
pub mod listing; // a line for each object of an archive
pub mod medium; // location of an archive
pub mod new_file; // a file that gets its name after it is complete
pub mod progress; // the progress line
pub mod read_scope; // the part of an archive that a job reads
pub mod secret; // keys, passphrases, identities and recipients from files
pub mod select; // the selected archive of a medium
pub mod sessions; // sessions and archives of a medium
pub mod signals; // signals, and broken pipes
pub mod stoppable_output; // output to a reader that may never read
pub mod summary; // outcome of a job, for people and for programs
