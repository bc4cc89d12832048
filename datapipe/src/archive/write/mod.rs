//! Writing archives: blocks become units, units records, and records go onto volumes.
//!
//! ```text
//!   ArchiveOptions --plan--> Archive --PipeBuilder::archive--> squeeze, seal, ArchiveTail
//!                                                                            |
//!                       MediumWriter <-- RecordWriter <-- UnitWriter <-------+
//! ```
//!
//! This module does not compress, and does not encrypt blocks: stages before the tail do.

mod content; // stream or tree: a block must be of the archive's content
mod copy; // the options of a copy, and the numbers of its blocks
mod options; // the options of an archive, and the plan made from them
mod pipe; // the stages of an archive in a pipe
mod plan_error; // reasons why an archive cannot be planned
mod positions; // positions of blocks and chunks, for the footers
mod record_writer; // records and labels of volumes
mod session; // sessions of several archives
mod session_writer; // header, archives and footer of a session
mod squeeze; // the stage that closes the gaps of dropped blocks
mod tail; // the tail of a pipe that writes an archive
mod unit_writer; // units, cut into records

pub(super) use content::check_tree_number;
pub use copy::CopyOptions;
pub use options::{Archive, ArchiveOptions};
#[cfg(any(test, feature = "testkit"))]
pub(crate) use pipe::separate_stages;
pub use plan_error::PlanError;
pub use session::{Session, SessionOptions};
pub(super) use tail::ArchiveTail;
