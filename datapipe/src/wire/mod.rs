//! The format: what a stream consists of, and how it is cut into records. `docs/wire-format.md` is
//! the normative page.
//!
//! ```text
//!   record   [header 64][content ............]  [header 64][content ....      what a medium takes
//!   unit               [header 64][body ................]  [header 64][body]  what the stream consists of
//! ```
//!
//! Bytes to values and back. Parsing checks everything that can be checked without context, copies
//! what it keeps, and takes no memory for a length that is not there. Encoding gives a whole unit
//! or nothing: the header, which names the body's length and checksum, is made last.
//!
//! Does not read or write, has no clock, and knows no keys.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

mod catalogue_entry; // where an object is
pub(crate) mod codec; // one cursor over bytes, and one way to write them
mod entry; // entries of a file tree, of all kinds
mod footers; // chunk, archive and session footer, locator
mod headers; // session and archive header
mod object; // an object's metadata and its end
mod object_checks; // checks of paths, targets and modes
mod object_kind; // file, directory, link and the like
mod record; // records, as a medium takes them
mod unit; // units, as the stream consists of them
mod unit_kind; // kinds of units, encryption and blocks
mod version; // the version of records and units

pub use catalogue_entry::CatalogueEntry;
pub use codec::DecodeError;
pub use entry::{ENTRY_HEADER_LEN, EXTENT_HEADER_LEN, Entry, EntryBody, extent_header};
pub use footers::{
    ArchiveEntry, ArchiveFooter, BlockEntry, ChunkEntry, ChunkFooter, Locator, SessionFooter,
};
pub use headers::{ArchiveHeader, Content, Framing, SLOT_LEN, SessionHeader, Time};
pub use object::{DIGEST_LEN, End, Object, State};
pub use object_kind::ObjectKind;
pub use record::{RECORD_HEADER_LEN, RecordHeader, RecordKind, looks_like_record};
pub use unit::{MAX_STORED, UNIT_HEADER_LEN, UnitHeader, padding_of};
pub use unit_kind::{BlockKind, Cipher, UnitKind};
pub use version::VERSION;
