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

pub(crate) mod codec; // one cursor over bytes, and one over the room for them
mod entry; // what a file tree consists of
mod footers; // chunk, archive and session footer, locator
mod headers; // session and archive header
mod record; // what a medium takes
mod unit; // what the stream consists of

pub use codec::DecodeError;
pub use entry::{
    CatalogueEntry, DIGEST_LEN, ENTRY_HEADER_LEN, EXTENT_HEADER_LEN, End, Entry, EntryBody, Object,
    ObjectKind, State, extent_header,
};
pub use footers::{
    ArchiveEntry, ArchiveFooter, BlockEntry, ChunkEntry, ChunkFooter, Locator, SessionFooter,
};
pub use headers::{ArchiveHeader, Content, Framing, SLOT_LEN, SessionHeader, Time};
pub use record::{RECORD_HEADER_LEN, RecordHeader, RecordKind, looks_like_record};
pub use unit::{BlockKind, Cipher, MAX_STORED, UNIT_HEADER_LEN, UnitHeader, UnitKind, padding_of};

/// Version of everything on this page of the format.
pub const VERSION: u8 = 1;
