//! What `disk_to_tape` and `tape_to_disk` have in common.
//!
//! ```text
//!   disk_to_tape:  tree-head or stream-head -> analyze -> zstd -> aes-256-gcm -> archive-tail -> medium
//!   tape_to_disk:  medium -> archive-head -> aes-256-gcm -> decompress -> tree-restore, tree-verify, tree-list
//!                                                                          or stream-restore
//! ```
//!
//! What lies on the medium is an archive: `docs/wire-format.md`.

pub mod arguments; // what both programs can be given
pub mod console; // messages, signals, how a program ends
pub mod estimate; // how much there is to be read
pub mod listing; // objects of an archive, a line each
pub mod medium; // where an archive lies
pub mod names; // names, modes and times for people
pub mod newfile; // a file that gets its name when it is whole
pub mod part; // what of an archive has to be read
pub mod progress; // the line that is redrawn
pub mod secret; // keys and passphrases from files
pub mod summary; // what became of a job, for people and for programs
