//! Restores and verifies archived file trees.
//!
//! ```text
//!   blocks, in order
//!      |
//!      v                    files complete in one block
//!   ObjectAssembler  -----------------------------------> workers: assemblers on other threads
//!      |     objects from entries; digests, gaps              |
//!      |                                                      |
//!      +------------------- Sink: begin, extents, complete <--+
//!                            |                    |
//!        TreeVerify: nothing |                    | TreeRestore: Writer
//!                                                 +- hidden names, through Destination: below one
//!                                                 |     directory
//!                                                 +- attributes: files and others when complete,
//!                                                 |     directories last of all
//!                                                 +- names: links and devices when complete, files
//!                                                       when they are on stable storage
//! ```
//!
//! A hard link finds its target in `LinkTargets`; the descriptions of directories wait in a
//! `RecordStack`. Both go to a temporary file when they become large, so memory is bounded however
//! large the tree is. An object that is damaged is set aside as `NAME.damaged`. Everything that
//! happens is recorded in the [`RestoreReport`].
//!
//! The archive may be the work of an enemy. It can fill the destination with anything it likes,
//! and change nothing else: no path leads out of the destination, and no symbolic link is followed.
//!
//! This module does not read media, decrypt or decompress, does not decide which blocks come (see
//! [`CatalogueQuery`](super::CatalogueQuery)), does not restore access or change times, and does
//! not delete anything that is not in the archive.

mod arguments; // module names, and arguments for another process
mod assembler; // objects from blocks
mod attributes; // owner, mode, extended attributes, times
mod catalogue_comparison; // the catalogue, compared with the objects
mod destination; // paths confined to one directory
mod durability; // reports of failed writes
mod inode_flags; // flags that chattr sets, after everything else
mod link_targets; // first names of hard-linked objects
mod lost_blocks; // objects that began in lost blocks
mod made_objects; // inodes that this restore has made
mod naming; // names for objects that are complete
mod object_in_progress; // an object between its first and last entry
mod open_directory; // properties of an open directory
mod options; // options of a restore
mod owners; // users and groups of this machine, by their names
mod parallel; // worker threads
mod parts; // hidden names, and those that an interrupted restore left
mod record_stack; // stack of records in bounded memory
mod report; // counts, problems and notes
mod scope; // selected paths, blocks and renames
mod set_properties; // properties that a file system has not kept
mod sink; // interface to the writer and the verifier
mod tail; // the tail that restores
mod verify; // the tail that verifies
mod writer; // creation of objects

pub(super) use arguments::{TREE_RESTORE_MODULE, TREE_VERIFY_MODULE};
pub use options::RestoreOptions;
pub use report::{RestoreOutcome, RestoreProblem, RestoreReport};
pub(super) use scope::RestoreScope;
pub use tail::TreeRestore;
pub(super) use tail::open_directory;
pub use verify::TreeVerify;
