//! The entries of a block in shared memory, of which everything but the data of extents is copied
//! before it is checked.
//!
//! ```text
//!   shared    | object, path | attribute | extent header | data .... | end |
//!                    |             |              |          |          |
//!   private   | object, path | attribute | extent header |   | end |    |      spans: one each
//!                                                            |
//!                                             Extent(offset, data in place)
//! ```
//!
//! A process that maps the segment can change a block while it is read. Readers of entries
//! therefore do not parse the block: they fetch it here, each byte of a header, name, target,
//! attribute or catalogue entry once, and get entries of the copy. Where the data of an extent
//! begin and end was copied, too; only their content is read in place.

use std::ops::Range;

use super::codec::{Bytes, DecodeError};
use super::entry::{ENTRY_HEADER_LEN, EXTENT, EXTENT_HEADER_LEN, Entry, EntryHeader, parse_extent};
use crate::shared_bytes::SharedBytes;
use crate::words::len_of;

/// Buffers for the copy of one block after the other.
#[derive(Debug, Default)]
pub(crate) struct EntryCopy {
    /// The entries, one after the other, without the data of extents: the first `len` bytes. What
    /// follows is kept, so that no byte is set to zero for each block.
    bytes: Vec<u8>,
    len: usize,
    spans: Vec<EntrySpan>,
}

/// Location of an entry.
#[derive(Clone, Copy, Debug)]
struct EntrySpan {
    /// Offset of its first byte in the block.
    offset: usize,
    /// Offset of its first byte in the copy.
    copy: usize,
    /// Its length in the block.
    len: usize,
}

impl EntrySpan {
    /// Offset in the block of the byte after its last.
    fn end(&self) -> usize {
        self.offset.saturating_add(self.len)
    }
}

/// Bytes of a copy for which the memory is kept from block to block.
const KEPT: usize = 1 << 20;
/// The same for the locations of entries, in their number.
const KEPT_SPANS: usize = 1 << 16;
/// Room for the first copy, in bytes.
const LEAST_ROOM: usize = 16 << 10;

/// The entries of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockEntries<'a> {
    block: SharedBytes<'a>,
    copy: &'a EntryCopy,
    /// Defect after the last entry.
    defect: Option<EntryDefect>,
}

/// Reason for which an entry's length is unknown or wrong.
#[derive(Clone, Copy, Debug)]
enum EntryDefect {
    /// The block ends within the entry's header or body: so many bytes are missing.
    Short(usize),
    /// A reserved field is not zero.
    Reserved,
}

/// One entry of a block.
#[derive(Clone, Debug)]
pub(crate) struct FetchedEntry<'a> {
    pub(crate) entry: Entry<'a>,
    /// The private copy of the entry; of an extent, only its header.
    pub(crate) bytes: &'a [u8],
    /// Offset of the entry in the block.
    pub(crate) offset: usize,
}

/// An entry that is damaged, or of which the length is.
#[derive(Clone, Debug)]
pub(crate) struct DamagedEntry {
    /// Offset of the entry in the block.
    pub(crate) offset: usize,
    pub(crate) error: DecodeError,
}

impl EntryCopy {
    /// Copies a block's entries, up to the first whose length is unknown or too large.
    pub(crate) fn fetch<'a>(&'a mut self, block: SharedBytes<'a>) -> BlockEntries<'a> {
        self.len = 0;
        self.bytes.truncate(KEPT);
        self.bytes.shrink_to(KEPT);
        self.spans.clear();
        self.spans.shrink_to(KEPT_SPANS);
        let (mut at, mut defect) = (0, None);
        while at < block.len() && defect.is_none() {
            match self.fetch_one(block, at) {
                Ok(len) => at = at.saturating_add(len),
                Err(found) => defect = Some(found),
            }
        }
        let copy = self;
        BlockEntries {
            block,
            copy,
            defect,
        }
    }

    /// Copies the entry at `offset`, and returns its length.
    fn fetch_one(&mut self, block: SharedBytes<'_>, offset: usize) -> Result<usize, EntryDefect> {
        let left = block.len().saturating_sub(offset);
        let copy = self.len;
        let header = self.room(copy, ENTRY_HEADER_LEN);
        if block.copy_to(offset, header).is_none() {
            return Err(EntryDefect::Short(ENTRY_HEADER_LEN.saturating_sub(left)));
        }
        let header = EntryHeader::parse(&mut Bytes::new("entry", header))
            .map_err(|_| EntryDefect::Reserved)?;
        let len = ENTRY_HEADER_LEN.saturating_add(header.len);
        if len > left {
            return Err(EntryDefect::Short(len.saturating_sub(left)));
        }
        let copied = match header.kind {
            EXTENT => len.min(EXTENT_HEADER_LEN),
            _ => len,
        };
        let body = copied.saturating_sub(ENTRY_HEADER_LEN);
        let body = self.room(copy.saturating_add(ENTRY_HEADER_LEN), body);
        // It is within the block, as checked above.
        let _ = block.copy_to(offset.saturating_add(ENTRY_HEADER_LEN), body);
        self.len = copy.saturating_add(copied);
        self.spans.push(EntrySpan { offset, copy, len });
        Ok(len)
    }

    /// Returns room for `len` bytes at `at`, which is at most the end of the copy.
    fn room(&mut self, at: usize, len: usize) -> &mut [u8] {
        let end = at.saturating_add(len);
        if end > self.bytes.len() {
            let doubled = self.bytes.len().saturating_mul(2);
            self.bytes.resize(end.max(doubled).max(LEAST_ROOM), 0);
        }
        self.bytes.get_mut(at..end).unwrap_or_default()
    }
}

impl<'a> BlockEntries<'a> {
    /// Returns entry `index`, or the damage that was found instead; `None` after the last.
    pub(crate) fn get(&self, index: usize) -> Option<Result<FetchedEntry<'a>, DamagedEntry>> {
        let spans = &self.copy.spans;
        let Some(span) = spans.get(index) else {
            let is_defect = index == spans.len();
            return self.defect.filter(|_| is_defect).map(|defect| {
                let offset = spans.last().map_or(0, |last| last.end());
                let error = DecodeError::new(
                    "entry",
                    match defect {
                        EntryDefect::Short(by) => format!("ends {} too early", len_of(by, "byte")),
                        EntryDefect::Reserved => "a reserved field is not zero".to_owned(),
                    },
                );
                Err(DamagedEntry { offset, error })
            });
        };
        let EntrySpan { offset, copy, len } = *span;
        let end = spans
            .get(index.saturating_add(1))
            .map_or(self.copy.len, |next| next.copy);
        let bytes = self.copy.bytes.get(copy..end).unwrap_or_default();
        let data = offset.saturating_add(EXTENT_HEADER_LEN.min(len))..span.end();
        let data = self.block.content(data);
        let entry = match (bytes.first(), data) {
            (Some(&EXTENT), Some(data)) if len >= EXTENT_HEADER_LEN => parse_extent(bytes, data),
            _ => Entry::parse(bytes).map(|(entry, _)| entry),
        };
        Some(match entry {
            Ok(entry) => Ok(FetchedEntry {
                entry,
                bytes,
                offset,
            }),
            Err(error) => Err(DamagedEntry { offset, error }),
        })
    }

    /// Returns all entries, and after them the damage, if there is any.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<FetchedEntry<'a>, DamagedEntry>> {
        let entries = *self;
        (0..).map_while(move |index| entries.get(index))
    }

    /// Number of bytes that these entries have in the block.
    pub(crate) fn len_of(&self, entries: Range<usize>) -> usize {
        let spans = self.copy.spans.get(entries).unwrap_or_default();
        spans.iter().map(|span| span.len).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )]
    use super::*;
    use crate::wire::{EntryBody, ObjectEnd, ObjectState};

    fn entries() -> Vec<u8> {
        let end = ObjectEnd {
            state: ObjectState::Whole,
            size: 4,
            digest: None,
        };
        let bodies = [
            EntryBody::Attribute(b"user.name", b"value"),
            EntryBody::Extent(8, b"data"),
            EntryBody::End(end),
        ];
        let mut bytes = Vec::new();
        for body in bodies {
            Entry { object: 7, body }.append_to(&mut bytes).unwrap();
        }
        bytes
    }

    /// Parses bytes where they are, the slow twin.
    fn parsed(mut bytes: &[u8]) -> (Vec<Entry<'_>>, Option<String>) {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            match Entry::parse(bytes) {
                Ok((entry, rest)) => {
                    all.push(entry);
                    bytes = rest;
                }
                Err(error) => return (all, Some(error.to_string())),
            }
        }
        (all, None)
    }

    #[test]
    fn fetched_entries_equal_parsed_ones_also_in_damaged_blocks() {
        let good = entries();
        let mut copy = EntryCopy::default();
        let mut check = |bytes: &[u8]| {
            let fetched = copy.fetch(SharedBytes::from(bytes));
            let (expected, error) = parsed(bytes);
            for (index, expected) in expected.iter().enumerate() {
                assert_eq!(fetched.get(index).unwrap().unwrap().entry, *expected);
            }
            let after = fetched.get(expected.len()).map(|after| after.unwrap_err());
            // A header that is cut off is read field by field there, and whole here.
            assert_eq!(after.is_some(), error.is_some(), "{error:?}");
        };
        check(&good);
        (0..good.len()).for_each(|len| check(&good[..len]));
        for at in 0..good.len() {
            for value in [0, 1, 3, 7, 128, 255] {
                let mut bad = good.clone();
                bad[at] = value;
                check(&bad);
            }
        }
    }
}
