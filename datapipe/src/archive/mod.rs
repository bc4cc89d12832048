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

mod block; // what a block's header says, for those who write, seal and open it
mod blocks; // some blocks of an archive
mod course; // where in the plain stream each block has to begin
mod head; // reads the blocks of an archive
mod index; // where the blocks of an archive stand
mod modules; // these stages in processes of their own
mod places; // where things stand, until a footer lists them
mod plan; // what is decided before the first block
mod reader; // finds the headers and the keys
mod report; // what became of an archive
mod restore; // writes a stream back, gaps and all
mod seal; // encrypts and decrypts blocks
mod shared; // a medium that a reader and its heads use in turn
mod tail; // writes the blocks of an archive
mod units; // records to units, and the way after damage
mod volumes; // records onto volumes

pub use blocks::BlockSet;
pub use head::ArchiveHead;
pub use index::Index;
pub use modules::modules;
pub use plan::{Archive, ArchiveOptions};
pub use reader::{ArchiveReader, OpenError, Reading};
pub use report::{ReadOutcome, ReadReport, WriteOutcome, WriteReport};
pub use restore::StreamRestore;
pub use tail::ArchiveTail;
