//! Writing archives: blocks become units, units records, and records go onto volumes.
//!
//! ```text
//!   ArchiveOptions --plan--> Archive --stages--> seal, ArchiveTail
//!                                                        |
//!            Medium <-- RecordWriter <-- UnitWriter <----+
//! ```
//!
//! This module does not compress, and does not encrypt blocks: stages before the tail do.

mod options; // the options of an archive, and the plan made from them
mod plan_error; // reasons why an archive cannot be planned
mod positions; // positions of blocks and chunks, for the footers
mod record_writer; // records and labels of volumes
mod tail; // the tail of a pipe that writes an archive
mod unit_writer; // units, cut into records

pub use options::{Archive, ArchiveOptions};
pub use plan_error::PlanError;
pub use tail::ArchiveTail;
