//! File trees: the objects below some paths become entries of an archive, and files again.
//!
//! ```text
//!   read     walk --batches of names--> instances: open, read --entries--> blocks, in turn
//!                     catalogue: a piece of it between the blocks, and all of it at the end
//!   select   catalogue --> list of objects, or the blocks of some of them
//!   single   catalogue, blocks of one file --> its data, to the caller
//!   restore  blocks --entries--> objects --> files, or only a check of their digests
//! ```
//!
//! [`TreeHead`] walks by descriptors and never by long paths. So a tree can be deeper than the
//! longest path that the kernel accepts, and an object that is moved or replaced during the walk
//! cannot lead it elsewhere. An object that cannot be read is reported in the [`TreeReport`], and
//! costs no more than itself. Memory does not grow with the number of files.
//!
//! `docs/wire-format.md`, "Content of an archive", is the normative page. This module does not
//! compress, and does not write media.

#[allow(
    unsafe_code,
    reason = "system calls on O_PATH descriptors, of which no crate has a safe form"
)]
mod inode_calls; // modes and attributes of objects that cannot be opened
mod inode_flags; // flags that chattr sets
#[cfg(feature = "processes")]
mod modules; // factories for stages in other processes
mod own_resources; // descriptors and kernel memory of this process
mod owner_database; // names and numbers of users and groups
mod read; // reading: from files to entries
mod restore; // restoring: from entries to files
mod select; // selection, listing and search of archived objects
mod single; // list and single files, without a destination
mod temp_file; // unnamed temporary files, and the spill file

pub use crate::cells::digest_of;
#[cfg(feature = "processes")]
pub use modules::modules;
pub use read::{
    Excluded, ObjectInspector, ObjectVerdict, ProblemKind, TreeError, TreeHead, TreeNote,
    TreeOptions, TreeOutcome, TreeProblem, TreeReport,
};
pub use restore::{
    RestoreOptions, RestoreOutcome, RestoreProblem, RestoreReport, TreeRestore, TreeVerify,
};
pub use select::{CatalogueCheck, CatalogueQuery, CutTree, Search, Selection, TreeList};
pub use single::{ArchivedFile, TreeReadError, TreeReader};
