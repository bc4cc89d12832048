//! Writing archives: blocks become units, units records, and records go onto volumes.
//!
//! ```text
//!   ArchiveOptions --plan--> Archive --PipeBuilder::archive--> offsets, seal, ArchiveTail
//!                                                                            |
//!                       MediumWriter <-- RecordWriter <-- UnitWriter <-------+
//! ```
//!
//! This module does not compress, and does not encrypt blocks: stages before the tail do.

mod content; // stream or tree: a block must be of the archive's content
mod offsets; // the stage that gives each block its offset in the plain stream
mod options; // the options of an archive, and the plan made from them
mod pipe; // the stages of an archive in a pipe
mod plan_error; // reasons why an archive cannot be planned
mod positions; // positions of blocks and chunks, for the footers
mod record_writer; // records and labels of volumes
mod tail; // the tail of a pipe that writes an archive
mod unit_writer; // units, cut into records

pub(super) use offsets::offsets_stage;
pub use options::{Archive, ArchiveOptions};
#[cfg(any(test, feature = "testkit"))]
pub(crate) use pipe::separate_stages;
pub use plan_error::PlanError;
pub(super) use tail::ArchiveTail;
