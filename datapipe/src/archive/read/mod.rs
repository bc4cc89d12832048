//! Reading archives: records become units, and units the blocks of an archive.
//!
//! ```text
//!   MediumReader -> RecordReader -> UnitReader -> ArchiveHead -> open, order -> StreamRestore
//!     |                             |
//!     +--> BackReader -> Index      +--> ArchiveReader: headers, keys
//! ```
//!
//! Damage costs the blocks that it hits. After damage the reader finds the next intact record and
//! the next intact unit: `docs/wire-format.md`, "Reading, and recovering from damage".
//!
//! This module does not decompress, and does not know file trees.

mod back_reader; // records, backwards from the end of a medium
mod block_set; // numbers of blocks, as runs
#[cfg(feature = "processes")]
mod check_modules; // the check of pipes whose stages are modules
mod cut_index; // positions of the blocks of an archive without an end
mod ending; // units of what follows an archive
mod footer; // the archive footer, checked
mod front; // origin and special headers at the start of an archive
mod head; // the head of a pipe that reads an archive
mod header_facts; // the header of a listed archive, and its name
mod index; // positions of the blocks of an archive
mod listed_header; // archives of a finished session, by its footer
mod numbering; // the number and the position that the next block must have
mod order; // the stage that decides the outcome of a read
mod reader; // headers and keys of an archive
mod record_reader; // the records of a session
mod resync; // records in damaged bytes
mod run_cursor; // the run of blocks that is being read
mod select; // opening an archive of a list
mod session_end; // checks of the end of a finished session
mod session_list; // the sessions and archives of a medium
mod session_scan; // sessions whose footers are missing
mod shared_medium; // a medium that several readers use in turn
mod stored; // an archive as it is stored, read without its key
mod stream_restore; // the tail that writes a stream back
mod unit_event; // results of reading units
mod unit_reader; // the units of a session
mod window; // the part of the stream that is in memory

pub use block_set::BlockSet;
pub use cut_index::CutIndex;
pub use head::ArchiveHead;
pub use index::Index;
pub use reader::{ArchiveReader, Reading};
pub use session_list::{ListedArchive, ListedSession, Sessions};
pub(super) use shared_medium::SharedMedium;
pub use stored::StoredArchive;
pub use stream_restore::StreamRestore;
pub(super) use unit_reader::UnitReader;
