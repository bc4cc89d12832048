//! Entries that are longer than a block: pieces of them in consecutive blocks, and the rules for
//! the entries of each kind.
//!
//! ```text
//!   block 4   | .. | entry |      block 5   | goes on   |      block 6   | continues | entry | ..
//!                                           fills the block              the first of its block
//! ```

use std::ops::Range;

use super::codec::{Bytes, DecodeError, Put, len_u32};
use super::entry::{
    ATTRIBUTE, CATALOGUE, END, ENTRY_HEADER_LEN, INODE, OBJECT, OWNER_NAME, REFERENCE, SAME, START,
};
use super::object::{DIGEST_LEN, OBJECT_LEN};
use super::relative::{RELATIVE, can_be_relative};
use super::unit_kind::BlockKind;
use crate::limits::{MAX_ATTRIBUTE, MAX_ATTRIBUTE_NAME, MAX_OWNER_NAME, MAX_PATH, MAX_TARGET};

/// A piece of an entry that is longer than a block.
///
/// Exhaustive: a piece has no other fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPiece<'a> {
    /// Kind of the entry.
    pub kind: u8,
    /// True for all pieces but the first.
    pub continues: bool,
    /// True for all pieces but the last: the next piece is the first entry of the next block of the
    /// same [`BlockKind`].
    pub goes_on: bool,
    /// Part of the entry's body.
    pub body: &'a [u8],
}

impl EntryPiece<'_> {
    /// True for the first piece of an object entry.
    pub(crate) fn begins_object(&self) -> bool {
        self.kind == OBJECT && !self.continues
    }
}

/// Bits of an entry header's second byte.
pub(super) const GOES_ON: u8 = 1;
pub(super) const CONTINUES: u8 = 2;

/// Header of an entry, or of a piece of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryHeader {
    pub(super) kind: u8,
    /// [`GOES_ON`] and [`CONTINUES`], or [`RELATIVE`].
    pub(super) flags: u8,
    /// Length of the body in bytes.
    pub(super) len: usize,
    pub(super) object: u64,
}

impl EntryHeader {
    pub(super) fn parse(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        let (kind, flags) = (bytes.u8()?, bytes.u8()?);
        let is_relative = flags == RELATIVE && can_be_relative(kind);
        if flags & !(GOES_ON | CONTINUES) != 0 && !is_relative {
            return Err(bytes.error(format!("unknown flags {flags:02x}")));
        }
        bytes.zeros(2)?;
        let len = usize::try_from(bytes.u32()?).unwrap_or(usize::MAX);
        let object = bytes.u64()?;
        Ok(Self {
            kind,
            flags,
            len,
            object,
        })
    }

    pub(super) fn to_bytes(self) -> [u8; ENTRY_HEADER_LEN] {
        let mut bytes = Vec::with_capacity(ENTRY_HEADER_LEN);
        bytes.put_u8(self.kind);
        bytes.put_u8(self.flags);
        bytes.put_u16(0);
        bytes.put_u32(len_u32(self.len));
        bytes.put_u64(self.object);
        let mut header = [0; ENTRY_HEADER_LEN];
        header.copy_from_slice(&bytes);
        header
    }

    /// True for a piece of an entry that readers put together.
    pub(super) fn is_piece(&self) -> bool {
        self.flags & (GOES_ON | CONTINUES) != 0 && is_divisible(self.kind)
    }
}

/// True for kinds whose entries may be longer than a block. Later kinds are skipped, in pieces or
/// not.
fn is_divisible(kind: u8) -> bool {
    matches!(
        kind,
        OBJECT | ATTRIBUTE | END | INODE | OWNER_NAME | CATALOGUE
    )
}

/// Refuses pieces of entries that a block must have as a whole.
pub(super) fn check_piece(header: &EntryHeader) -> Result<(), DecodeError> {
    match header.is_piece() {
        true => Ok(()),
        false => Err(DecodeError::new(
            "entry",
            format!("an entry of kind {} in pieces", header.kind),
        )),
    }
}

/// Most bytes that the body of an entry can have that was put together from pieces.
pub(super) fn max_body(kind: u8) -> usize {
    const PATHS: usize = MAX_PATH + MAX_TARGET;
    match kind {
        OBJECT => OBJECT_LEN + PATHS,
        ATTRIBUTE => 8 + MAX_ATTRIBUTE_NAME + MAX_ATTRIBUTE,
        END => 16 + DIGEST_LEN,
        INODE => 24,
        OWNER_NAME => 8 + MAX_OWNER_NAME,
        CATALOGUE => 80 + PATHS,
        _ => 0,
    }
}

/// Refuses an entry in a block that does not have entries of its kind. Those of later kinds may be
/// in any block.
pub(super) fn check_place(kind: u8, block: u8) -> Result<(), DecodeError> {
    let is_right = match block {
        _ if kind >= 128 => true,
        _ if block == BlockKind::Data.code() => {
            matches!(kind, OBJECT..=SAME | INODE | OWNER_NAME)
        }
        _ if block == BlockKind::Catalogue.code() => kind == CATALOGUE,
        _ if block == BlockKind::ClosingCatalogue.code() => {
            matches!(kind, CATALOGUE | START | OWNER_NAME)
        }
        _ => false,
    };
    if is_right {
        return Ok(());
    }
    let what = match block {
        0 => "data",
        1 => "the catalogue",
        _ => "the closing catalogue",
    };
    Err(DecodeError::new(
        "entry",
        format!("an entry of kind {kind} in a block of {what}"),
    ))
}

/// Refuses the kinds of this version that this implementation does not read, and unknown ones.
pub(super) fn refuse_kind(kind: u8) -> DecodeError {
    let why = match kind {
        REFERENCE => {
            "a reference to data that another object has (kind 5): this version does not read \
             archives that leave duplicates out"
                .to_owned()
        }
        SAME => "an object whose data another archive has (kind 6): this version does not read \
             incremental archives"
            .to_owned(),
        other => format!("unknown kind {other}"),
    };
    DecodeError::new("entry", why)
}

/// Returns true for the header of a piece that another one follows.
pub(crate) fn goes_on(header: [u8; ENTRY_HEADER_LEN]) -> bool {
    let header = EntryHeader::parse(&mut Bytes::new("entry", &header));
    header.is_ok_and(|header| header.is_piece() && header.flags & GOES_ON != 0)
}

/// Returns the header of the next piece of an encoded entry and the range of its body in the
/// entry, `written` bytes of whose body are in pieces already. Each piece but the last fills a
/// block of `capacity` bytes, which has more than a header's length. `None` after the last.
pub(crate) fn next_piece(
    entry: &[u8],
    written: usize,
    capacity: usize,
) -> Option<([u8; ENTRY_HEADER_LEN], Range<usize>)> {
    let header = EntryHeader::parse(&mut Bytes::new("entry", entry)).ok()?;
    let start = ENTRY_HEADER_LEN.saturating_add(written);
    let left = entry.len().checked_sub(start).filter(|&left| left > 0)?;
    let len = left.min(capacity.saturating_sub(ENTRY_HEADER_LEN)).max(1);
    let continues = if written > 0 { CONTINUES } else { 0 };
    let goes_on = if len < left { GOES_ON } else { 0 };
    let flags = continues | goes_on;
    let piece = EntryHeader {
        flags,
        len,
        ..header
    };
    Some((piece.to_bytes(), start..start.saturating_add(len)))
}
