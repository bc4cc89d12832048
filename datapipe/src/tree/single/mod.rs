//! Reading from an archived tree without a destination: the list of its objects, and single files.
//!
//! ```text
//!   ArchiveReader --tree()--> TreeReader --list--> a call for each object that matches
//!                                 |
//!                                 +--read_file--> Finder: the object's position --+
//!                                     ExtractTail: its extents, its digest <------+
//! ```
//!
//! The catalogue says which blocks are read; the objects in these blocks prove themselves. This
//! module creates no files, and keeps no file in memory.

mod error; // reasons why an object was not read
mod extract; // the tail that passes on the data of one file
mod find; // position of an object
mod tree_reader; // list and single files of an archived tree

pub use error::TreeReadError;
pub use tree_reader::{ArchivedFile, TreeReader};
