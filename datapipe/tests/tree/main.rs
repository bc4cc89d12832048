//! Trees: read into blocks, archived, listed, and restored as a whole, in part, and from damaged or
//! hostile archives.
//!
//! Heads and tails run on threads and in processes of the library's host: the same tests for both
//! (`placement.rs`).

#[macro_use]
mod placement; // threads or processes

mod cut; // archives without an end, listed and restored by their checkpoints
mod fixture; // sources, archives and comparisons
mod forged; // catalogues of hostile archives
mod head; // trees read by one instance, and by three
mod instances; // trees read by several instances
mod measure; // speed, compared with tar
mod parts; // selected paths
mod restore; // trees restored from entries made by hand
mod round_trip; // a tree through an encrypted archive

#[path = "../harness/data.rs"]
mod data; // keys, test data, settings
#[path = "../harness/entries.rs"]
mod entries; // the objects in the blocks of a tree
#[path = "../harness/medium.rs"]
mod medium; // tapes on the file system
