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
//!
//! An entry that is longer than a block comes in pieces. Those of the blocks before are kept here,
//! for each kind of block, until the last has come: that one becomes the whole entry. A piece whose
//! others do not come is an entry of its own, [`EntryBody::Piece`](super::EntryBody::Piece).

use std::fmt;
use std::mem;
use std::ops::Range;

use super::codec::{Bytes, DecodeError};
use super::entry::{ENTRY_HEADER_LEN, EXTENT, EXTENT_HEADER_LEN, Entry, OBJECT, parse_extent};
use super::piece::{CONTINUES, EntryHeader, GOES_ON, check_place, max_body};
use super::relative::NumbersBefore;
use super::unit_kind::BlockKind;
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
    /// Numbers of the entries so far, to which those of the next are relative.
    before: NumbersBefore,
    /// For data, catalogue and closing catalogue, the entry that goes on in the next block.
    begun: [Option<BegunEntry>; 3],
    /// Start of the first entry, if that began in an earlier block.
    joined: Option<EntryStart>,
    /// Start of an object entry of which a piece is missing, until a caller has taken it.
    cut_start: Option<EntryStart>,
    /// Number of the block after the last one.
    next: u64,
    /// Number of the block that was loaded last, and its kind.
    number: u64,
    kind: u8,
    /// Result of [`take_cut`](Self::take_cut) for it.
    cut_here: Option<EntryStart>,
    /// Defect after its last entry.
    defect: Option<EntryDefect>,
}

/// Position of an entry: the number of its block, and its offset there.
pub(crate) type EntryStart = (u64, usize);

/// An entry of which not all pieces have come.
#[derive(Debug)]
struct BegunEntry {
    start: EntryStart,
    header: EntryHeader,
    body: Vec<u8>,
}

/// Result of taking a piece of an entry.
enum TakenPiece {
    /// It is not where a piece can be, or does not continue the one before: its others are missing.
    Misplaced,
    GoesOn,
    /// The last one: the whole entry.
    Last(BegunEntry),
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
}

/// Reason for which an entry's length is unknown or wrong.
#[derive(Clone, Copy, Debug)]
enum EntryDefect {
    /// The block ends within the entry's header or body: so many bytes are missing.
    Short(usize),
    /// A reserved field is not zero.
    Reserved,
    /// The pieces of an entry of this kind are longer than such an entry can be.
    TooLong(u8),
}

/// One entry of a block.
#[derive(Clone, Debug)]
pub(crate) struct FetchedEntry<'a> {
    pub(crate) entry: Entry<'a>,
    /// The private copy of the entry; of an extent, only its header.
    pub(crate) bytes: &'a [u8],
    /// Block and offset at which the entry begins. One that came in pieces began in another block.
    pub(crate) start: EntryStart,
}

/// An entry that is damaged, or of which the length is.
#[derive(Clone, Debug)]
pub(crate) struct DamagedEntry {
    /// Offset of the entry in the block.
    pub(crate) offset: usize,
    /// Block and offset at which the entry begins.
    pub(crate) start: EntryStart,
    pub(crate) error: DecodeError,
}

impl EntryCopy {
    /// Copies the entries of a block with this number and kind, up to the first whose length is
    /// unknown or too large.
    pub(crate) fn fetch<'a>(
        &'a mut self,
        block: SharedBytes<'a>,
        number: u64,
        kind: u8,
    ) -> BlockEntries<'a> {
        self.load(block, number, kind);
        self.of(block)
    }

    /// Copies the entries of a block as [`fetch`](Self::fetch) does, and leaves it to
    /// [`of`](Self::of) to return them.
    pub(crate) fn load(&mut self, block: SharedBytes<'_>, number: u64, kind: u8) {
        self.pass(number);
        self.len = 0;
        self.bytes.truncate(KEPT);
        self.bytes.shrink_to(KEPT);
        self.spans.clear();
        self.spans.shrink_to(KEPT_SPANS);
        self.joined = None;
        self.before = NumbersBefore::default();
        let (mut at, mut defect) = (0, None);
        self.leave_incomplete(block, kind);
        while at < block.len() && defect.is_none() {
            match self.fetch_one(block, number, kind, at) {
                Ok(len) => at = at.saturating_add(len),
                Err(found) => defect = Some(found),
            }
        }
        if defect.is_some() {
            self.cut_begun(kind); // what goes on fills its block
        }
        if kind == BlockKind::ClosingCatalogue.code() {
            self.cut_begun(BlockKind::Data.code()); // no data follow
        }
        (self.number, self.kind, self.defect) = (number, kind, defect);
        self.cut_here = self.cut_start.take();
    }

    /// Entries of the block that was loaded last, which is `block`.
    pub(crate) fn of<'a>(&'a self, block: SharedBytes<'a>) -> BlockEntries<'a> {
        BlockEntries { block, copy: self }
    }

    /// Moves what goes on in the next block to `next`, which then takes that block: the entries of
    /// both are used at the same time.
    pub(crate) fn continue_in(&mut self, next: &mut Self) {
        next.begun = mem::take(&mut self.begun);
        next.cut_start = self.cut_start.take();
        next.next = self.next;
    }

    /// Takes note of a block that is not fetched. A block that has no content is not passed: the
    /// next number then shows that it is missing.
    pub(crate) fn pass(&mut self, number: u64) {
        if number != self.next {
            self.cut_begun(BlockKind::Data.code());
            self.begun = Default::default();
        }
        self.next = number.saturating_add(1);
    }

    /// Returns the start of an object entry of which a piece is missing, if one was found since the
    /// last [`fetch`](Self::fetch), or the last piece that came goes on: no more blocks come. None
    /// of the object is known but the place, which the catalogue has, too.
    pub(crate) fn take_cut(&mut self) -> Option<EntryStart> {
        self.cut_begun(BlockKind::Data.code());
        self.cut_start.take()
    }

    /// Gives up what came of the entry that goes on.
    fn cut_begun(&mut self, kind: u8) {
        let Some(begun) = self.begun_in(kind).and_then(Option::take) else {
            return;
        };
        if begun.header.kind == OBJECT && kind == BlockKind::Data.code() {
            self.cut_start = Some(begun.start);
        }
    }

    /// Makes an entry of what came of a long entry, if this block does not continue it.
    fn leave_incomplete(&mut self, block: SharedBytes<'_>, kind: u8) {
        let Some(begun) = self.begun_in(kind).and_then(|begun| begun.as_ref()) else {
            return;
        };
        let mut header = [0; ENTRY_HEADER_LEN];
        let is_there = block.copy_to(0, &mut header).is_some();
        let next = EntryHeader::parse(&mut Bytes::new("entry", &header));
        if is_there && next.is_ok_and(|next| begun.is_continued_by(&next)) {
            return;
        }
        let piece = EntryHeader {
            flags: GOES_ON,
            len: 0,
            ..begun.header
        };
        let start = begun.start;
        self.joined = Some(start);
        self.cut_begun(kind);
        self.push(0, 0, &[&piece.to_bytes()]);
    }

    fn begun_in(&mut self, kind: u8) -> Option<&mut Option<BegunEntry>> {
        self.begun.get_mut(usize::from(kind))
    }

    /// Adds an entry, which has `len` bytes at `offset` of the block, with the copy of its bytes.
    fn push(&mut self, offset: usize, len: usize, parts: &[&[u8]]) {
        let copy = self.len;
        for part in parts {
            self.room(self.len, part.len()).copy_from_slice(part);
            self.len = self.len.saturating_add(part.len());
        }
        self.spans.push(EntrySpan { offset, copy, len });
    }

    /// Copies the entry at `offset`, and returns its length.
    fn fetch_one(
        &mut self,
        block: SharedBytes<'_>,
        number: u64,
        kind: u8,
        offset: usize,
    ) -> Result<usize, EntryDefect> {
        let left = block.len().saturating_sub(offset);
        let copy = self.len;
        let to = self.room(copy, ENTRY_HEADER_LEN);
        if block.copy_to(offset, to).is_none() {
            return Err(EntryDefect::Short(ENTRY_HEADER_LEN.saturating_sub(left)));
        }
        let header =
            EntryHeader::parse(&mut Bytes::new("entry", to)).map_err(|_| EntryDefect::Reserved)?;
        let len = ENTRY_HEADER_LEN.saturating_add(header.len);
        if len > left {
            return Err(EntryDefect::Short(len.saturating_sub(left)));
        }
        if header.is_piece() {
            match self.take_piece(block, (number, offset), kind, header)? {
                TakenPiece::Misplaced => {}
                TakenPiece::GoesOn => return Ok(len),
                TakenPiece::Last(whole) => {
                    let (header, body) = (whole.header.to_bytes(), whole.body);
                    self.joined = Some(whole.start);
                    self.push(offset, len, &[&header, &body]);
                    return Ok(len);
                }
            }
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
        let entry = self.bytes.get_mut(copy..self.len).unwrap_or_default();
        self.before.make_absolute(entry);
        self.spans.push(EntrySpan { offset, copy, len });
        Ok(len)
    }

    /// Adds a piece to those that came before.
    fn take_piece(
        &mut self,
        block: SharedBytes<'_>,
        at: EntryStart,
        kind: u8,
        header: EntryHeader,
    ) -> Result<TakenPiece, EntryDefect> {
        let (_, offset) = at;
        let from = offset.saturating_add(ENTRY_HEADER_LEN);
        let goes_on = header.flags & GOES_ON != 0;
        let is_last_of_block = from.saturating_add(header.len) == block.len();
        let Some(begun) = self.begun_in(kind) else {
            return Ok(TakenPiece::Misplaced);
        };
        let before = begun.take();
        let mut entry = match before {
            Some(before) if offset == 0 && before.is_continued_by(&header) => before,
            _ if header.flags & CONTINUES != 0 => return Ok(TakenPiece::Misplaced),
            _ => BegunEntry {
                start: at,
                header: EntryHeader { flags: 0, ..header },
                body: Vec::new(),
            },
        };
        if goes_on && !is_last_of_block {
            return Ok(TakenPiece::Misplaced);
        }
        let len = entry.body.len();
        let whole = len.saturating_add(header.len);
        if whole > max_body(header.kind) {
            *begun = Some(entry);
            return Err(EntryDefect::TooLong(header.kind));
        }
        entry.body.resize(whole, 0);
        let _ = block.copy_to(from, entry.body.get_mut(len..).unwrap_or_default());
        entry.header.len = whole;
        if !goes_on {
            return Ok(TakenPiece::Last(entry));
        }
        if let Some(begun) = self.begun_in(kind) {
            *begun = Some(entry);
        }
        Ok(TakenPiece::GoesOn)
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

impl BegunEntry {
    /// True if a piece with this header is the next one of the entry.
    fn is_continued_by(&self, next: &EntryHeader) -> bool {
        next.is_piece()
            && next.flags & CONTINUES != 0
            && (next.kind, next.object) == (self.header.kind, self.header.object)
    }
}

impl<'a> BlockEntries<'a> {
    /// Returns entry `index`, or the damage that was found instead; `None` after the last.
    pub(crate) fn get(&self, index: usize) -> Option<Result<FetchedEntry<'a>, DamagedEntry>> {
        let spans = &self.copy.spans;
        let Some(span) = spans.get(index) else {
            let is_defect = index == spans.len();
            return self.copy.defect.filter(|_| is_defect).map(|defect| {
                let offset = spans.last().map_or(0, |last| last.end());
                let error = DecodeError::new("entry", defect.to_string());
                Err(DamagedEntry {
                    offset,
                    start: (self.copy.number, offset),
                    error,
                })
            });
        };
        let EntrySpan { offset, copy, len } = *span;
        let end = spans
            .get(index.saturating_add(1))
            .map_or(self.copy.len, |next| next.copy);
        let bytes = self.copy.bytes.get(copy..end).unwrap_or_default();
        let data = offset.saturating_add(EXTENT_HEADER_LEN.min(len))..span.end();
        let data = self.block.content(data);
        let kind = bytes.first().copied().unwrap_or_default();
        let entry = check_place(kind, self.copy.kind).and_then(|()| match data {
            Some(data) if kind == EXTENT && len >= EXTENT_HEADER_LEN => parse_extent(bytes, data),
            _ => Entry::parse(bytes).map(|(entry, _)| entry),
        });
        let joined = self.copy.joined.filter(|_| index == 0);
        let start = joined.unwrap_or((self.copy.number, offset));
        Some(match entry {
            Ok(entry) => Ok(FetchedEntry {
                entry,
                bytes,
                start,
            }),
            Err(error) => Err(DamagedEntry {
                offset,
                start,
                error,
            }),
        })
    }

    /// Start of an object entry of which a piece is missing, found before or in this block.
    pub(crate) fn cut(&self) -> Option<EntryStart> {
        self.copy.cut_here
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

impl fmt::Display for EntryDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(by) => write!(f, "ends {} too early", len_of(*by, "byte")),
            Self::Reserved => f.write_str("a reserved field is not zero"),
            Self::TooLong(kind) => write!(
                f,
                "an entry of kind {kind} in pieces of more than {} together",
                len_of(max_body(*kind), "byte")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test may panic"
    )]
    use super::*;
    use crate::wire::piece::refuse_kind;
    use crate::wire::{
        EntryBody, ObjectEnd, ObjectKind, ObjectMeta, ObjectState, Time, next_piece,
    };

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
            let fetched = copy.fetch(SharedBytes::from(bytes), 0, 0);
            let (expected, error) = parsed(bytes);
            let is_piece = |entry: &Entry<'_>| matches!(entry.body, EntryBody::Piece(_));
            if expected.iter().any(is_piece) {
                return; // a changed byte made it one: it waits for the next block
            }
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
    /// An entry of each kind that may be longer than a block, and one that fits.
    fn long_entries() -> Vec<Vec<u8>> {
        let path = [b'p'; 3000];
        let object = ObjectMeta {
            kind: ObjectKind::Symlink,
            mode: 0,
            uid: 1,
            gid: 2,
            modified: Time::default(),
            size: 0,
            device: (0, 0),
            link: 0,
            linked: false,
            path: &path,
            target: &[b't'; 2000],
        };
        let end = ObjectEnd {
            state: ObjectState::Whole,
            size: 0,
            digest: None,
        };
        let bodies = [
            EntryBody::Object(object),
            EntryBody::Attribute(b"user.a", &[7; 1700]),
            EntryBody::Attribute(b"user.b", b"short"),
            EntryBody::End(end),
        ];
        let encoded = bodies.map(|body| {
            let mut bytes = Vec::new();
            Entry { object: 9, body }.append_to(&mut bytes).unwrap();
            bytes
        });
        encoded.to_vec()
    }

    /// Puts entries into blocks of `capacity` bytes, as a head does.
    fn blocks(entries: &[Vec<u8>], capacity: usize) -> Vec<Vec<u8>> {
        let mut blocks = vec![Vec::new()];
        for entry in entries {
            let len = blocks.last().unwrap().len();
            if len > 0 && len + entry.len() > capacity {
                blocks.push(Vec::new());
            }
            if entry.len() <= capacity {
                blocks.last_mut().unwrap().extend(entry);
                continue;
            }
            let mut written = 0;
            while let Some((header, body)) = next_piece(entry, written, capacity) {
                if !blocks.last().unwrap().is_empty() {
                    blocks.push(Vec::new());
                }
                written += body.len();
                let block = blocks.last_mut().unwrap();
                block.extend(header);
                block.extend(&entry[body]);
            }
        }
        blocks
    }

    /// Returns the bytes of the entries in these blocks, and where each begins; of a piece without
    /// its others, only its kind.
    fn fetched<'a>(blocks: impl Iterator<Item = (u64, &'a Vec<u8>)>) -> Vec<(EntryStart, Vec<u8>)> {
        let (mut copy, mut all) = (EntryCopy::default(), Vec::new());
        for (number, block) in blocks {
            let entries = copy.fetch(SharedBytes::from(&block[..]), number, 0);
            for entry in entries.iter().map(Result::unwrap) {
                all.push(match entry.entry.body {
                    EntryBody::Piece(piece) => ((0, 0), vec![piece.kind]),
                    _ => (entry.start, entry.bytes.to_vec()),
                });
            }
        }
        all
    }

    #[test]
    fn entries_in_pieces_come_whole_unless_one_is_missing() {
        let entries = long_entries();
        for capacity in [512, 600, 1000, 4096, 8192] {
            let blocks = blocks(&entries, capacity);
            assert!(blocks.iter().all(|block| block.len() <= capacity));
            let all = fetched((0..).zip(&blocks));
            let bytes: Vec<_> = all.iter().map(|(_, bytes)| bytes.clone()).collect();
            assert_eq!(bytes, entries, "{capacity}");
            assert_eq!(all[0].0, (0, 0));
            // Without one block, no entry comes that has other bytes.
            for lost in 0..blocks.len() {
                let left = (0..)
                    .zip(&blocks)
                    .filter(|(number, _)| *number != lost as u64);
                for (_, bytes) in fetched(left) {
                    assert!(entries.contains(&bytes) || bytes.len() == 1);
                }
            }
        }
    }

    #[test]
    fn piece_without_its_others_is_named() {
        let blocks = blocks(&long_entries(), 1000);
        let is_piece = |(_, bytes): &(EntryStart, Vec<u8>)| *bytes == [1];
        // The next block does not continue the entry, or continues none.
        let other = &blocks[blocks.len() - 1];
        let begun = fetched([(0, &blocks[0]), (1, other)].into_iter());
        assert!(begun.iter().any(is_piece));
        assert!(fetched([(0, &blocks[1])].into_iter()).iter().any(is_piece));
        // Blocks of another kind between them change nothing.
        let mut copy = EntryCopy::default();
        for (number, block) in blocks.iter().enumerate() {
            let number = number as u64 * 2;
            let entries = copy.fetch(SharedBytes::from(&block[..]), number, 0);
            let is_piece =
                |entry: FetchedEntry<'_>| matches!(entry.entry.body, EntryBody::Piece(_));
            assert!(!entries.iter().map(Result::unwrap).any(is_piece));
            copy.pass(number + 1);
        }
    }

    #[test]
    fn endless_pieces_and_wrong_kinds_are_refused() {
        let piece = |kind, continues, body: &[u8]| {
            let mut bytes = vec![kind, GOES_ON | if continues { CONTINUES } else { 0 }, 0, 0];
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend([9, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend(body);
            bytes
        };
        let mut copy = EntryCopy::default();
        let mut refused = None;
        for number in 0..100 {
            let block = piece(2, number > 0, &[0; 50_000]);
            let entries = copy.fetch(SharedBytes::from(&block[..]), number, 0);
            if let Some(Err(damaged)) = entries.get(0) {
                refused.get_or_insert_with(|| (number, damaged.error.to_string()));
            }
            let kept = copy.begun.iter().flatten().map(|begun| begun.body.len());
            assert!(kept.sum::<usize>() < 100_000);
        }
        let (number, why) = refused.unwrap();
        assert_eq!(number, 1);
        assert!(why.contains("kind 2 in pieces of more than"), "{why}");
        for kind in [3, 5, 6, 9, 17] {
            let block = piece(kind, false, &[0; 24]);
            let entries = copy.fetch(SharedBytes::from(&block[..]), 0, 0);
            assert!(entries.get(0).unwrap().is_err(), "{kind}");
        }
        // Each kind of block has some kinds of entries, and those of later versions.
        for (block, kinds) in [(0, &[1, 2, 3, 4, 7, 8][..]), (1, &[16]), (2, &[8, 16, 17])] {
            for kind in (0..=255).filter(|kind| *kind < 128 && !kinds.contains(kind)) {
                check_place(kind, block)
                    .and_then(|()| Err::<(), _>(refuse_kind(kind)))
                    .unwrap_err();
            }
            for kind in kinds.iter().chain(&[128, 255]) {
                check_place(*kind, block).unwrap();
            }
        }
    }
}
