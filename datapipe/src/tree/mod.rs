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

mod digest; // digest of a file's extents
mod modules; // factories for stages in other processes
mod read; // reading: from files to entries
mod report_messages; // framing of reports from other processes
mod restore; // restoring: from entries to files
mod select; // selection, listing and search of archived objects
mod temp_file; // unnamed temporary files

pub use modules::modules;
pub use read::{
    Excluded, ProblemKind, TreeError, TreeHead, TreeOptions, TreeOutcome, TreeProblem, TreeReport,
};
pub use restore::{RestoreOptions, RestoreProblem, RestoreReport, TreeRestore, TreeVerify};
pub use select::{CatalogueQuery, Search, Selection, TreeList};

// Paths by which `restore/` imports its neighbours.
use select as selection;
use select as wanted;
use temp_file as scratch;
mod notes {
    pub(super) use super::report_messages::{
        push_message as say, put_bytes, receiver as hearer, take_bytes,
    };
}
