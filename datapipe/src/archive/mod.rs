//! Archives: a stream of blocks becomes units and records on a medium, and comes back.
//!
//! ```text
//!   write   ... > compress > seal > ArchiveTail > medium                    Archive::stages
//!   read    medium > ArchiveHead > ArchiveReader::open_blocks > decompress > StreamRestore
//! ```
//!
//! An [`Archive`] is everything that is decided before the first block: ids, keys, framing. It
//! gives the stages that belong together. An [`ArchiveReader`] has read the headers and unlocked
//! the keys.
//!
//! In processes of their own the stages are what they are in threads: the medium goes with its
//! descriptors, and what becomes of it comes back into the same reports. The archive's key goes
//! with the order of the process, through a socket of the kernel: it is in no argument of a
//! command, in no environment, and in no file.
//!
//! What was written before a crash, a full medium or a cancel is valid up to the last chunk, and
//! says that it is incomplete. Damage costs the blocks that it hits, and no others.
//!
//! `docs/wire-format.md` is the normative page. Does not compress, and does not know files: those
//! are other stages.

mod block_header;
mod continuity;
mod modules;
mod read;
mod report;
mod seal;
mod write;

pub use modules::modules;
pub use read::{ArchiveHead, ArchiveReader, BlockSet, Index, OpenError, Reading, StreamRestore};
pub use report::{ReadOutcome, ReadReport, WriteOutcome, WriteReport};
pub use write::{Archive, ArchiveOptions, ArchiveTail};
