//! Reading a tree: the head, from the names of the walk to blocks of entries.
//!
//! ```text
//!   Walk --Batch--> instance: open, read, digest --> entries --> block --> send, in turn
//!    |                 |                                          |
//!    |                 +--> HardLinks: another name of ..?         +--> Unplaced, Catalogue: which
//!    |                                                                  block has which object
//!    +--> TreeReport: what was excluded or could not be read <-- instances
//! ```
//!
//! Instances open and read at the same time. What depends on the order of the archive (numbers of
//! objects, hard links, the catalogue) is done by one instance after the other, in the order of the
//! walk.
//!
//! This module does not change the tree, does not follow symbolic links, and does not freeze files:
//! one that changes while it is read is reported.

mod batch; // objects of the walk, for one instance
mod catalogue; // position of every object in the archive
mod checkpoints; // checkpoints of a walk
mod directory; // entries of a directory, in sorted pieces
mod excluded; // patterns of names to leave out
mod extents; // data of files
mod hard_links; // files that are in the archive under another name
mod head; // instances that fill blocks
mod inspect; // the application's verdict on each file
mod note; // remarks on a result that may not be expected
mod object_reader; // objects of a batch into a block
mod open; // descriptor and metadata of an object
mod options; // sources, exclusions, errors
mod owners; // names of users and groups
mod put_entry; // entries into blocks, in pieces if need be
mod reader_gate; // number of instances that read at once
mod report; // outcome and problems
mod turn; // commit of batches in the order of the walk
mod unplaced; // finished objects whose blocks have no number yet
mod unsent; // entries that begin a later block
mod walk; // names of the tree, in batches

pub use excluded::Excluded;
pub use head::TreeHead;
pub use inspect::{ObjectInspector, ObjectVerdict};
pub use note::TreeNote;
pub use options::{TreeError, TreeOptions};
pub use report::{ProblemKind, TreeOutcome, TreeProblem, TreeReport};

pub(super) use options::source_name;
