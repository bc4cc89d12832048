//! Writing archives.

pub(super) mod options;
mod positions;
mod record_writer;
pub(super) mod tail;

pub use options::{Archive, ArchiveOptions};
pub use tail::ArchiveTail;
