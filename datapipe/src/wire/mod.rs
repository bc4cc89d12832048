//! The format: the units of a stream, and the records that it is cut into. `docs/wire-format.md`
//! is the normative page.
//!
//! ```text
//!   record   [header 64][content ............]  [header 64][content ....      on the medium
//!   unit               [header 64][body ................]  [header 64][body]  in the stream
//! ```
//!
//! The module turns bytes into values and back. Parsing checks everything that can be checked
//! without context, copies what it keeps, and takes no memory for a length that exceeds the bytes.
//! Encoding gives a whole unit or nothing: the header, which names the body's length and checksum,
//! is made last.
//!
//! This module does not read or write files, has no clock, and knows no keys.

#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

mod archive_header; // header of an archive
mod block_entries; // entries of a block that another process may change
mod catalogue_entry; // an object's location
mod checkpoint; // progress of a head, for the writer that continues its archive
pub(crate) mod codec; // one cursor over bytes, and one way to write them
mod copy_source; // the source of a copy, and what it had lost
mod entry; // entries of a file tree, of all kinds
mod extension; // fields that later versions add to headers
mod footers; // chunk and archive footer, locator
mod header_checks; // version and checksum of a header
mod headers; // values of session and archive headers
mod inode_facts; // flags and time of birth of an object
mod object; // an object's metadata and its end
mod object_checks; // checks of paths, targets and modes
mod object_kind; // file, directory, link and the like
mod owner_name; // names of users and groups
mod piece; // entries longer than a block; which kinds are where
mod record; // records, as a medium takes them
mod relative; // numbers as differences from the entry before
mod session_footer; // footer of a session, and the list of its volumes
mod session_header; // header of a session
mod unit; // units, as the stream consists of them
mod unit_kind; // kinds of units, encryption and blocks
mod volume_record; // identity of a volume

pub use archive_header::{ArchiveHeader, Base, SLOT_LEN};
#[cfg(feature = "tree")]
pub(crate) use block_entries::{BlockEntries, DamagedEntry, EntryCopy, EntryStart, FetchedEntry};
pub use catalogue_entry::CatalogueEntry;
pub use checkpoint::{Checkpoint, LinkedFile, OpenFile, StreamCheckpoint, WalkCheckpoint};
pub use codec::DecodeError;
pub use copy_source::{CopySource, LostBlocks};
pub use entry::{
    CatalogueStart, ENTRY_HEADER_LEN, EXTENT_HEADER_LEN, Entry, EntryBody, extent_header,
};
pub use extension::Extension;
pub use footers::{ArchiveFooter, BlockEntry, ChunkEntry, ChunkFooter, Locator};
pub use header_checks::VERSION;
pub use headers::{Content, Framing, Time, UnknownFraming};
pub use inode_facts::InodeFacts;
#[cfg(feature = "tree")]
pub(crate) use object::OBJECT_LEN;
pub use object::{DIGEST_LEN, ObjectEnd, ObjectMeta, ObjectState};
pub(crate) use object_checks::check_path;
pub use object_kind::ObjectKind;
#[cfg(feature = "tree")]
pub(crate) use owner_name::check_owner_name;
pub use owner_name::{OwnerKind, OwnerName};
pub use piece::EntryPiece;
#[cfg(feature = "tree")]
pub(crate) use piece::{goes_on, next_piece};
pub use record::{RECORD_HEADER_LEN, RecordHeader, RecordKind, looks_like_record};
pub use relative::{make_absolute, make_relative};
pub use session_footer::{ArchiveEntry, LabelPlace, SessionFooter, VolumeList};
pub use session_header::{SessionHeader, SessionsBefore};
pub use unit::{MAX_STORED, UNIT_HEADER_LEN, UnitHeader, padding_of};
pub use unit_kind::{BlockKind, CipherKind, UnitKind};
pub use volume_record::{VOLUME_RECORD_LEN, VolumeRecord};
