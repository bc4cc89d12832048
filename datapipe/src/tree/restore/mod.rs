//! Puts file trees back: the tail that restores, and the one that only verifies.
//!
//! ```text
//!   blocks -> follow: entries of open objects, digests, gaps -> write: beneath DEST, by descriptor
//!                        |                                         |
//!                        +----------------> report <---------------+
//! ```
//!
//! What is in an archive may have been written by an enemy. It can fill the destination with what
//! it likes, and change nothing else: no path leads out of it, and no symbolic link is followed.

mod arguments; // module names and arguments
mod assembler; // objects from blocks
mod attributes; // owner, mode, extended attributes, times
mod destination; // confined destination
mod link_targets; // first names of hard-linked objects
mod lost_blocks; // objects in lost blocks
mod open_object; // an open object
mod options; // options of a restore
mod parallel; // worker threads
mod report; // outcome
mod scope; // parts of the archive to restore
mod sink; // interface of writer and verifier
mod spill; // spill file
mod tail; // TreeRestore
mod verify; // TreeVerify
mod writer; // files, directories and everything else

pub(super) use arguments::{TREE_RESTORE_MODULE, TREE_VERIFY_MODULE};
pub use options::RestoreOptions;
pub(super) use report::Told as ToldOfRestore;
pub use report::{RestoreProblem, RestoreReport};
pub(super) use scope::Part;
pub use tail::TreeRestore;
pub(super) use tail::directory;
pub use verify::TreeVerify;
