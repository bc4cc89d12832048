//! File trees: what is below some paths becomes entries of an archive, and files again.
//!
//! ```text
//!   walk --batches of names--> instances: open, read --entries--> blocks, in turn
//!                                                 \--> catalogue: blocks between them, and all of it at the end
//! ```
//!
//! [`TreeHead`] walks by descriptors and never by long paths, so a tree can be deeper than the
//! longest path that the kernel takes, and what is moved or exchanged while it is read leads
//! nowhere else. What cannot be read is reported and costs no more than itself: [`TreeReport`].
//! Memory does not grow with the number of files.
//!
//! `docs/wire-format.md`, "What is in an archive", is the normative page. Does not compress and
//! does not write media.

mod batch; // objects of the walk, for one instance
mod catalogue; // where each object is
mod digest; // of a file's extents
mod extents; // data of files
mod head; // instances that fill blocks
mod links; // which files have been seen under another name
mod list; // what is in an archive
mod modules; // what another process makes heads and tails from
mod names; // names of a directory
mod notes; // what reports say across processes
mod object; // opens what a name stands for
mod options; // what is read, and what is left out
mod order; // whose turn it is, and what is done in turn
mod pending; // objects whose blocks have no number yet
mod reader; // objects of a batch into a block
mod report; // what was read, and what was not
mod restore; // from entries to files
mod scratch; // files without a name
mod selection; // which objects are wanted
mod walk; // names of the tree, in batches
mod wanted; // which blocks have what is wanted

pub use head::TreeHead;
pub use list::TreeList;
pub use modules::modules;
pub use options::{Excluded, TreeError, TreeOptions};
pub use report::{ProblemKind, TreeOutcome, TreeProblem, TreeReport};
pub use restore::{RestoreOptions, RestoreProblem, RestoreReport, TreeRestore, TreeVerify};
pub use selection::Selection;
pub use wanted::{CatalogueQuery, Search};
