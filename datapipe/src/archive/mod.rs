//! Archives: a stream of blocks becomes units and records on a medium, and is read back.
//!
//! ```text
//!   write   ... > compress > squeeze > seal > tail > medium                 PipeBuilder::archive
//!   read    medium > ArchiveHead > open > ArchiveHead::check > decompress > StreamRestore
//!   copy    medium > ArchiveHead > ArchiveHead::check > tail > medium       StoredArchive
//! ```
//!
//! An [`Archive`] has everything that is decided before the first block: ids, keys, framing.
//! [`PipeBuilder::archive`](crate::PipeBuilder::archive) adds its stages, which belong together. An
//! [`ArchiveReader`] has read the headers and unlocked the keys.
//!
//! All stages can run in processes of their own. A medium is passed by its descriptors, and reports
//! are updated as if the stage ran on a thread. The key of an archive is sent with the launch
//! request of the process, through a kernel socket: it is not in a command line, an environment, or
//! a file.
//!
//! After a crash, a full medium or a cancel, everything up to the last chunk is valid, and a reader
//! reports that the archive is incomplete. Damage costs the blocks that it hits, and no others.
//!
//! `docs/wire-format.md` is normative. This module does not compress, and does not know files:
//! other stages do.

mod arguments; // arguments of the modules of these stages
mod block_header; // the unit header of a block
mod continuity; // offsets of blocks in the plain stream
mod key; // the key of an archive's blocks
#[cfg(feature = "processes")]
mod media_modules; // media of the host's own, as modules
#[cfg(feature = "processes")]
mod modules; // stages made from a module's arguments
mod open_error; // reasons why an archive cannot be opened
mod origin; // names of an archive, and of its writer
mod place; // the place of an archive on a medium that may have others
mod plan_data; // the plan that the stages of an archive share
mod read; // media to blocks
mod report; // reports and damage
mod run; // runs of blocks to be read
mod seal; // encryption and decryption of blocks
mod shared_key; // a data key that several archives have
mod special; // special headers
mod write; // blocks to media

#[cfg(feature = "processes")]
pub use media_modules::MediumArgs;
#[cfg(feature = "processes")]
pub use modules::modules;
pub use open_error::OpenError;
pub use origin::ArchiveOrigin;
pub use read::{
    ArchiveHead, ArchiveReader, BlockSet, CutIndex, Index, ListedArchive, ListedSession, Reading,
    Sessions, StoredArchive, StreamRestore,
};
pub use report::{
    AfterEnd, ArchiveReport, ReadOutcome, ReadReport, RejectedBlock, WriteOutcome, WriteReport,
};
pub use shared_key::SharedKey;
pub use special::Special;
#[cfg(any(test, feature = "testkit"))]
pub(crate) use write::separate_stages;
pub use write::{Archive, ArchiveOptions, CopyOptions, PlanError, Session, SessionOptions};
