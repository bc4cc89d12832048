//! Checkpoints: what the head of an archive records in blocks of their own, for the writer that
//! continues the archive. `docs/wire-format.md`, "Blocks that are not data".
//!
//! ```text
//!   data .. | catalogue | walk, links | links |  mark   data ..     of a tree
//!           the objects that ended    \ one checkpoint, its chunk ends here
//! ```

use super::codec::{Bytes, DecodeError, Put, len_u32};
use super::entry::{APPLICATION, ENTRY_HEADER_LEN, LINKS, STREAM, WALK};
use super::headers::Time;
use super::object::ObjectState;
use super::object_checks::check_path;
use super::piece::{CONTINUES, EntryHeader, GOES_ON, next_piece};
use crate::limits::{MAX_CHECKPOINT_STATE, MAX_PATH, MIN_BUFFER_SIZE};
use crate::words::len_of;

/// Content of a checkpoint: the blocks of kind [`Checkpoint`](super::BlockKind::Checkpoint) that
/// follow each other.
///
/// Exhaustive: these are all of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// Checkpoint of the head of a tree.
    Walk(WalkCheckpoint),
    /// Checkpoint of the head of a stream.
    Stream(StreamCheckpoint),
    /// Bytes of an application that is the head itself, at most
    /// [`MAX_CHECKPOINT_STATE`].
    Application(Vec<u8>),
}

/// Progress of the walk of a tree's head.
///
/// Exhaustive: these are all fields of version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalkCheckpoint {
    /// Number of the last object that has begun before the checkpoint; 0: none has.
    pub objects: u64,
    /// Number of the first block of the checkpoint before this one.
    pub previous: Option<u64>,
    /// Number of the first block of the piece of the catalogue before this checkpoint.
    pub catalogue: Option<u64>,
    /// Digest of the sources and of what is left out of them.
    pub sources: [u8; 32],
    /// The file that has begun and not ended.
    pub open: Option<OpenFile>,
    /// Path of the last object that has begun; empty: none has.
    pub path: Vec<u8>,
    /// Files with further names that have begun since the checkpoint before.
    pub links: Vec<LinkedFile>,
}

/// A file that is read to a part when a checkpoint is made.
///
/// Exhaustive: these are all fields of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its number as an object.
    pub object: u64,
    /// Block of its first entry, and the offset of that in the block's data.
    pub first: (u64, u32),
    /// Its state so far.
    pub state: ObjectState,
    /// Offset in the file of the next byte to be read.
    pub at: u64,
    /// Chain of the digests of the cells that end at or before `at`.
    pub cells: [u8; 32],
    /// Device and inode.
    pub id: (u64, u64),
    /// Size, time of modification, and time of the inode's last change when it was opened.
    pub size: u64,
    /// See [`size`](Self::size).
    pub modified: Time,
    /// See [`size`](Self::size).
    pub changed: Time,
}

/// A file with further names.
///
/// Exhaustive: these are all fields of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkedFile {
    /// Device and inode.
    pub id: (u64, u64),
    /// Number of the object.
    pub object: u64,
    /// Hash of the properties that tell it from another file with the same inode.
    pub stamp: u64,
}

/// Progress of the head of a stream.
///
/// Exhaustive: these are all fields of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCheckpoint {
    /// Offset in the stream of the next byte to be read.
    pub offset: u64,
    /// Chain of the digests of the cells that end at or before `offset`.
    pub cells: [u8; 32],
    /// BLAKE3 of the bytes of the cell that has begun; zeros if none has.
    pub begun: [u8; 32],
}

/// A number that is absent.
const NONE: u64 = u64::MAX;
/// Bytes of a walk's entry before the path, and of a link.
const WALK_LEN: usize = 176;
const LINK_LEN: usize = 32;

impl Checkpoint {
    /// The data of its blocks, which have room for `capacity` bytes each, at least
    /// [`MIN_BUFFER_SIZE`].
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if a reader would refuse it.
    pub fn to_blocks(&self, capacity: usize) -> Result<Vec<Vec<u8>>, DecodeError> {
        let capacity = capacity.max(usize::try_from(MIN_BUFFER_SIZE).unwrap_or(usize::MAX));
        let mut blocks = vec![Vec::new()];
        match self {
            Self::Walk(walk) => {
                put(&mut blocks, capacity, WALK, &walk.to_body()?);
                let room = capacity.saturating_sub(ENTRY_HEADER_LEN);
                let per_entry = room.checked_div(LINK_LEN).unwrap_or(1).max(1);
                for links in walk.links.chunks(per_entry) {
                    let words = links.iter().flat_map(|link| {
                        let (device, inode) = link.id;
                        [device, inode, link.object, link.stamp]
                    });
                    let body: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
                    put(&mut blocks, capacity, LINKS, &body);
                }
            }
            Self::Stream(stream) => put(&mut blocks, capacity, STREAM, &stream.to_body()),
            Self::Application(state) => {
                check_state(state.len())?;
                put(&mut blocks, capacity, APPLICATION, state);
            }
        }
        Ok(blocks)
    }

    /// Parses the data of the blocks of a checkpoint.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if they are not one checkpoint as a version 1 writer makes it. Entries of
    /// kinds from 128 on are passed over.
    pub fn parse<'a>(blocks: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, DecodeError> {
        let mut found: Option<Self> = None;
        for (kind, body) in whole_entries(blocks)? {
            let bytes = Bytes::new("checkpoint", &body);
            found = Some(match (kind, found) {
                (WALK, None) => Self::Walk(WalkCheckpoint::parse(bytes)?),
                (STREAM, None) => Self::Stream(StreamCheckpoint::parse(bytes)?),
                (APPLICATION, None) => {
                    check_state(body.len())?;
                    Self::Application(body)
                }
                (LINKS, Some(Self::Walk(mut walk))) => {
                    parse_links(bytes, &mut walk.links)?;
                    Self::Walk(walk)
                }
                _ => return Err(bytes.error(format!("an entry of kind {kind} is out of place"))),
            });
        }
        found.ok_or_else(|| DecodeError::new("checkpoint", "no entry says what it is of"))
    }
}

impl WalkCheckpoint {
    fn to_body(&self) -> Result<Vec<u8>, DecodeError> {
        check_last(self.objects, &self.path)?;
        let mut body = Vec::new();
        body.put_u64(self.objects);
        body.put_u64(self.previous.unwrap_or(NONE));
        body.put_u64(self.catalogue.unwrap_or(NONE));
        body.put(&self.sources);
        match &self.open {
            Some(open) => open.put(&mut body),
            None => body.put(&[0; WALK_LEN - 64]),
        }
        body.put_u32(len_u32(self.path.len()));
        body.put_u32(0); // lanes
        body.put(&self.path);
        Ok(body)
    }

    fn parse(mut bytes: Bytes<'_>) -> Result<Self, DecodeError> {
        let (objects, previous) = (bytes.u64()?, bytes.u64()?);
        let (catalogue, sources) = (bytes.u64()?, bytes.array()?);
        let open = OpenFile::parse(bytes.part(WALK_LEN - 64)?)?;
        let len = usize::try_from(bytes.u32()?).unwrap_or(usize::MAX);
        let lanes = bytes.u32()?;
        if lanes != 0 {
            return Err(bytes.error(format!("{lanes} lanes, which this version does not have")));
        }
        let path = bytes.take(len)?.to_vec();
        check_last(objects, &path)?;
        if open.is_some_and(|open| open.object != objects) {
            return Err(bytes.error(format!("a file is open that is not object {objects}")));
        }
        bytes.end()?;
        Ok(Self {
            objects,
            previous: Some(previous).filter(|&number| number != NONE),
            catalogue: Some(catalogue).filter(|&number| number != NONE),
            sources,
            open,
            path,
            links: Vec::new(),
        })
    }
}

impl OpenFile {
    fn put(&self, body: &mut Vec<u8>) {
        let ((block, entry), (device, inode)) = (self.first, self.id);
        body.put_u64s(&[self.object, block]);
        body.put_u32(entry);
        body.put_u8(self.state.code());
        body.put(&[0; 3]);
        body.put_u64(self.at);
        body.put(&self.cells);
        body.put_u64s(&[device, inode, self.size]);
        body.put_i64(self.modified.seconds);
        body.put_i64(self.changed.seconds);
        body.put_u32(self.modified.nanoseconds);
        body.put_u32(self.changed.nanoseconds);
    }

    /// Parses the fields of an open file, which are zeros if there is none.
    fn parse(mut bytes: Bytes<'_>) -> Result<Option<Self>, DecodeError> {
        let object = bytes.u64()?;
        if object == 0 {
            let left = bytes.rest().len();
            bytes.zeros(left)?;
            return Ok(None);
        }
        let first = (bytes.u64()?, bytes.u32()?);
        let code = bytes.u8()?;
        let state = ObjectState::parse(&bytes, code)?;
        bytes.zeros(3)?;
        let (at, cells) = (bytes.u64()?, bytes.array()?);
        let [device, inode, size] = bytes.u64s()?;
        let (modified, changed) = (bytes.i64()?, bytes.i64()?);
        let time = |seconds, nanoseconds| {
            if nanoseconds >= 1_000_000_000 {
                let why = format!("{nanoseconds} nanoseconds, 1000000000 or more");
                return Err(DecodeError::new("checkpoint", why));
            }
            Ok(Time {
                seconds,
                nanoseconds,
            })
        };
        Ok(Some(Self {
            object,
            first,
            state,
            at,
            cells,
            id: (device, inode),
            size,
            modified: time(modified, bytes.u32()?)?,
            changed: time(changed, bytes.u32()?)?,
        }))
    }
}

impl StreamCheckpoint {
    fn to_body(self) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u64(self.offset);
        body.put(&self.cells);
        body.put(&self.begun);
        body
    }

    fn parse(mut bytes: Bytes<'_>) -> Result<Self, DecodeError> {
        let (offset, cells, begun) = (bytes.u64()?, bytes.array()?, bytes.array()?);
        bytes.end()?;
        Ok(Self {
            offset,
            cells,
            begun,
        })
    }
}

fn parse_links(mut bytes: Bytes<'_>, links: &mut Vec<LinkedFile>) -> Result<(), DecodeError> {
    while !bytes.rest().is_empty() {
        let [device, inode, object, stamp] = bytes.u64s()?;
        if object == 0 {
            return Err(bytes.error("a file with further names that has number 0"));
        }
        links.push(LinkedFile {
            id: (device, inode),
            object,
            stamp,
        });
    }
    Ok(())
}

/// Checks that there is a path if, and only if, there is an object.
fn check_last(objects: u64, path: &[u8]) -> Result<(), DecodeError> {
    match (objects, path) {
        (0, []) => Ok(()),
        (0, _) => Err(DecodeError::new("checkpoint", "a path without an object")),
        (_, path) => check_path(path),
    }
}

fn check_state(len: usize) -> Result<(), DecodeError> {
    if len <= MAX_CHECKPOINT_STATE {
        return Ok(());
    }
    let (len, limit) = (len_of(len, "byte"), MAX_CHECKPOINT_STATE);
    let why = format!("{len} of an application, but at most {limit} are allowed");
    Err(DecodeError::new("checkpoint", why))
}

/// Appends an entry of object 0 to the last block, or to a new one if it does not fit. One that is
/// longer than a block is divided.
fn put(blocks: &mut Vec<Vec<u8>>, capacity: usize, kind: u8, body: &[u8]) {
    let header = EntryHeader {
        kind,
        flags: 0,
        len: body.len(),
        object: 0,
    };
    let entry = [&header.to_bytes(), body].concat();
    let mut last = blocks.pop().unwrap_or_default();
    if !last.is_empty() && last.len().saturating_add(entry.len()) > capacity {
        blocks.push(std::mem::take(&mut last));
    }
    if entry.len() <= capacity {
        last.extend_from_slice(&entry);
        blocks.push(last);
        return;
    }
    let mut written = 0_usize;
    while let Some((header, part)) = next_piece(&entry, written, capacity) {
        written = written.saturating_add(part.len());
        blocks.push([&header, entry.get(part).unwrap_or_default()].concat());
    }
}

/// Returns kind and body of each entry, put together from its pieces. Those of later versions are
/// left out.
fn whole_entries<'a>(
    blocks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<(u8, Vec<u8>)>, DecodeError> {
    let (mut entries, mut begun) = (Vec::new(), None::<(u8, Vec<u8>)>);
    for block in blocks {
        let mut bytes = Bytes::new("checkpoint", block);
        let mut is_first = true;
        while is_first || !bytes.rest().is_empty() {
            let header = EntryHeader::parse(&mut bytes)?;
            let body = bytes.take(header.len)?;
            let goes_on = header.flags & GOES_ON != 0;
            let continues = header.flags & CONTINUES != 0;
            let is_placed = match &begun {
                Some((kind, _)) => is_first && continues && *kind == header.kind,
                None => !continues,
            };
            is_first = false;
            if header.kind >= 128 && begun.is_none() {
                continue;
            }
            let is_last = bytes.rest().is_empty();
            let is_divisible = matches!(header.kind, WALK | APPLICATION);
            if header.object != 0 || !is_placed || goes_on && !(is_last && is_divisible) {
                let what = format!("an entry of kind {} is out of place", header.kind);
                return Err(bytes.error(what));
            }
            let (kind, mut whole) = begun.take().unwrap_or((header.kind, Vec::new()));
            whole.extend_from_slice(body);
            if whole.len() > max_body(kind) && (goes_on || continues) {
                return Err(bytes.error(format!("an entry of kind {kind} is too long")));
            }
            match goes_on {
                true => begun = Some((kind, whole)),
                false => entries.push((kind, whole)),
            }
        }
    }
    match begun {
        None => Ok(entries),
        Some(_) => Err(DecodeError::new(
            "checkpoint",
            "the rest of an entry is missing",
        )),
    }
}

/// Most bytes that the body of an entry in pieces can have.
fn max_body(kind: u8) -> usize {
    match kind {
        WALK => WALK_LEN + MAX_PATH,
        APPLICATION => MAX_CHECKPOINT_STATE,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test may panic"
    )]
    use super::*;

    fn slices(blocks: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
        blocks.iter().map(Vec::as_slice)
    }

    fn open() -> OpenFile {
        let time = |seconds, nanoseconds| Time {
            seconds,
            nanoseconds,
        };
        OpenFile {
            object: 9,
            first: (4, 5),
            state: ObjectState::Changed,
            at: 600_000,
            cells: [7; 32],
            id: (1, 2),
            size: 700_000,
            modified: time(-1, 999_999_999),
            changed: time(3, 4),
        }
    }

    fn walk(path: usize, links: u64) -> WalkCheckpoint {
        let link = |object| LinkedFile {
            id: (1, object),
            object: object + 1,
            stamp: object * 3,
        };
        WalkCheckpoint {
            objects: 9,
            previous: Some(7),
            catalogue: None,
            sources: [3; 32],
            open: Some(open()),
            path: vec![b'p'; path],
            links: (0..links).map(link).collect(),
        }
    }

    fn all() -> Vec<Checkpoint> {
        vec![
            Checkpoint::Walk(WalkCheckpoint::default()),
            Checkpoint::Walk(walk(1, 0)),
            Checkpoint::Walk(walk(4000, 100)),
            Checkpoint::Stream(StreamCheckpoint {
                offset: 300_000,
                cells: [1; 32],
                begun: [2; 32],
            }),
            Checkpoint::Application(Vec::new()),
            Checkpoint::Application(vec![5; MAX_CHECKPOINT_STATE]),
        ]
    }

    #[test]
    fn checkpoint_survives_encoding_in_blocks_of_any_size() {
        for checkpoint in all() {
            for capacity in [512, 600, 4096, 1 << 20] {
                let blocks = checkpoint.to_blocks(capacity).unwrap();
                assert!(blocks.iter().all(|block| block.len() <= capacity));
                assert_eq!(Checkpoint::parse(slices(&blocks)).unwrap(), checkpoint);
            }
        }
        let long = Checkpoint::Application(vec![0; MAX_CHECKPOINT_STATE + 1]);
        let error = long.to_blocks(8192).unwrap_err().to_string();
        assert!(error.contains("at most 4096"), "{error}");
    }

    #[test]
    fn checkpoint_without_a_part_is_refused() {
        for checkpoint in all() {
            let blocks = checkpoint.to_blocks(512).unwrap();
            for lost in 0..blocks.len() {
                let mut left = blocks.clone();
                left.remove(lost);
                // Without a block of links there are fewer of them, and without a piece between
                // others an application's bytes are fewer: the numbers of the blocks show it.
                let parsed = Checkpoint::parse(slices(&left));
                let is_between = 0 < lost && lost + 1 < blocks.len();
                let may_be_shorter = match blocks[lost][0] {
                    LINKS => true,
                    APPLICATION => is_between,
                    _ => false,
                };
                assert_eq!(parsed.is_ok(), may_be_shorter, "{lost}");
            }
            let block = &blocks[blocks.len() - 1];
            for len in 0..block.len() {
                let mut left = blocks[..blocks.len() - 1].to_vec();
                left.push(block[..len].to_vec());
                assert!(Checkpoint::parse(slices(&left)).is_err(), "{len}");
            }
        }
    }

    #[test]
    fn checkpoint_with_contradictions_is_refused() {
        let good = Checkpoint::Walk(walk(3, 2)).to_blocks(4096).unwrap();
        let good = &good[0];
        assert!(Checkpoint::parse([&good[..]]).is_ok());
        // Kind, flags, object, open file, its state, nanoseconds, lanes, path.
        let body = ENTRY_HEADER_LEN;
        for (at, value) in [
            (0, 34),
            (1, 1),
            (1, 2),
            (8, 1),
            (body + 56, 8),
            (body + 76, 3),
            (body + 77, 1),
            (body + 163, 0xff),
            (body + 172, 1),
            (body + WALK_LEN, 0),
            (body + WALK_LEN, b'/'),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(Checkpoint::parse([&bad[..]]).is_err(), "{at}");
        }
        assert!(Checkpoint::parse([&good[..], &good[..]]).is_err());
        assert!(Checkpoint::parse([]).is_err());
    }

    /// Later versions may say more beside what this one knows, by entries that are passed over.
    #[test]
    fn entries_of_later_versions_are_passed_over_wherever_they_are_and_others_refused() {
        let entry = |kind: u8| {
            let mut entry = vec![kind, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            entry.extend([1, 2, 3, 4]);
            entry
        };
        assert!(Checkpoint::parse([&entry(200)[..]]).is_err());
        for checkpoint in all() {
            let blocks = checkpoint.to_blocks(8192).unwrap();
            let Some((first, rest)) = blocks.split_first() else {
                panic!("a checkpoint has a block");
            };
            for (kind, is_known) in [(128, true), (255, true), (37, false), (127, false)] {
                let before = [&entry(kind)[..], first].concat();
                let after = [&first[..], &entry(kind)].concat();
                for with in [before, after] {
                    let parts = std::iter::once(&with[..]).chain(slices(rest));
                    let parsed = Checkpoint::parse(parts);
                    match is_known {
                        true => assert_eq!(parsed.unwrap(), checkpoint),
                        false => assert!(parsed.is_err(), "{kind}"),
                    }
                }
            }
        }
    }
}
