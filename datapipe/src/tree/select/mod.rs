//! Choosing from an archived tree: paths, the list of its objects, the search of its catalogue.
//!
//! ```text
//!   catalogue blocks --+--> CatalogueCheck: can they be used, or must the objects be read
//!                      +--> TreeList: a call for each object
//!                      +--> Search --> CatalogueQuery: the blocks of objects below some paths
//!                                          |
//!                                          +--> ArchiveReader, TreeRestore: read, restored
//! ```
//!
//! This module does not read media and does not restore anything. It trusts no position in a
//! catalogue: the reader checks each block that it finds there.

mod catalogue_check; // check of the catalogue before it is used
mod closing_run; // count of a catalogue's closing run
mod cut_tree; // an archive without an end, by its checkpoints
mod list; // objects of an archived tree, for a function
mod object_scan; // objects of an archived tree, one by one
mod paths; // selection of objects by path
mod search; // blocks of the selected objects, from the catalogue

pub use catalogue_check::CatalogueCheck;
pub(super) use closing_run::ClosingRun;
pub use cut_tree::CutTree;
pub use list::TreeList;
pub(super) use object_scan::{ObjectScan, VisitObject};
pub use paths::Selection;
pub(super) use search::{ArchivedOwners, FoundPart};
pub use search::{CatalogueQuery, Search};
