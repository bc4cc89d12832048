//! Parses the blocks of a tree into objects, and checks them against the format.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use datapipe::prelude::*;
use datapipe::stage::IntoHead;
use datapipe::wire::{
    BlockKind, CatalogueEntry, CatalogueStart, Entry, EntryBody, ObjectKind, ObjectState,
    OwnerKind, OwnerName, make_absolute,
};

/// Blocks of a stream: kind, offset and data of each.
pub(crate) type BlockSet = Vec<(u8, u64, Vec<u8>)>;

/// A tail that keeps all blocks, with entries whose numbers are absolute.
#[derive(Clone, Default)]
pub(crate) struct Collect(pub(crate) Arc<Mutex<BlockSet>>);

impl Tail for Collect {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let (info, mut bytes) = (block.info(), block.bytes().to_vec());
        make_absolute(&mut bytes);
        self.0.lock().unwrap().push((info.kind, info.offset, bytes));
        Ok(())
    }
}

/// Returns all blocks of a head, of at most `size` bytes each.
pub(crate) fn blocks_of(head: impl IntoHead<'static>, size: u32) -> BlockSet {
    let collect = Collect::default();
    Pipe::builder()
        .buffer_size(size)
        .head(head)
        .tail(collect.clone())
        .run()
        .unwrap();
    let blocks = std::mem::take(&mut *collect.0.lock().unwrap());
    assert!(
        blocks
            .iter()
            .all(|(_, _, data)| data.len() <= size as usize && !data.is_empty())
    );
    blocks
}

/// An object, assembled from its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) number: u64,
    pub(crate) kind: ObjectKind,
    pub(crate) path: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: (i64, u32),
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) link: u64,
    pub(crate) linked: bool,
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offset and data of each extent.
    pub(crate) extents: Vec<(u64, Vec<u8>)>,
    pub(crate) end: Option<(ObjectState, u64, Option<[u8; 16]>)>,
    /// Block and offset of the object entry, and block of its end.
    pub(crate) place: (u64, u32, u64),
}

impl Seen {
    fn new(number: u64, object: &datapipe::wire::ObjectMeta<'_>, block: u64, offset: u32) -> Self {
        Self {
            number,
            kind: object.kind,
            path: object.path.to_vec(),
            target: object.target.to_vec(),
            mode: object.mode,
            owner: (object.uid, object.gid),
            modified: (object.modified.seconds, object.modified.nanoseconds),
            size: object.size,
            device: object.device,
            link: object.link,
            linked: object.linked,
            attributes: BTreeMap::new(),
            extents: Vec::new(),
            end: None,
            place: (block, offset, 0),
        }
    }

    /// Returns the object without what depends on the ends of blocks.
    fn joined(&self) -> Self {
        let mut extents: Vec<(u64, Vec<u8>)> = Vec::new();
        for (offset, data) in &self.extents {
            match extents.last_mut() {
                Some((start, before)) if *start + before.len() as u64 == *offset => {
                    before.extend(data)
                }
                _ => extents.push((*offset, data.clone())),
            }
        }
        let end = self.end.map(|(state, size, _)| (state, size, None));
        Self {
            extents,
            end,
            place: (0, 0, 0),
            ..self.clone()
        }
    }

    /// Asserts that the extents ascend and have the digest in the end entry.
    fn check_digest(&self) {
        let mut end = 0;
        for (offset, data) in &self.extents {
            assert!(*offset >= end, "extents ascend and do not overlap");
            end = offset + data.len() as u64;
        }
        let (_, size, digest) = self.end.unwrap();
        assert!(size >= end);
        let extents = self.extents.iter();
        let extents: Vec<_> = extents.map(|(at, data)| (*at, &data[..])).collect();
        let wanted = (self.kind == ObjectKind::File).then(|| digest_of_extents(&extents, size));
        assert_eq!(digest, wanted, "{}", self.path.escape_ascii());
    }
}

/// Returns the digest of a file of `size` bytes with these extents, by its definition: over cells
/// of the file, without those of zeros only.
pub(crate) fn digest_of_extents(extents: &[(u64, &[u8])], size: u64) -> [u8; 16] {
    const CELL: u64 = 262_144;
    let end = extents
        .last()
        .map_or(0, |(at, data)| at + data.len() as u64);
    let last = size.max(end);
    let mut cells: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for &(mut at, mut data) in extents {
        while !data.is_empty() {
            let (number, start) = (at / CELL, (at % CELL) as usize);
            let (now, rest) = data.split_at(data.len().min(CELL as usize - start));
            let len = CELL.min(last - number * CELL) as usize;
            let cell = cells.entry(number).or_insert_with(|| vec![0; len]);
            cell[start..][..now.len()].copy_from_slice(now);
            (at, data) = (at + now.len() as u64, rest);
        }
    }
    cells.retain(|_, cell| cell.iter().any(|&byte| byte != 0));
    let mut h = [0; 32];
    for (number, cell) in cells {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&h).update(&number.to_le_bytes());
        h = *hasher
            .update(blake3::hash(&cell).as_bytes())
            .finalize()
            .as_bytes();
    }
    let last = [&h[..], &size.to_le_bytes()].concat();
    blake3::hash(&last).as_bytes()[..16].try_into().unwrap()
}

/// Returns the objects of a stream, by path. Asserts everything that holds for any stream.
pub(crate) fn parse(blocks: &BlockSet) -> BTreeMap<Vec<u8>, Seen> {
    let mut objects = Objects::default();
    let (mut pieces, mut closing, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut start = None;
    let joined = join(blocks);
    for (number, ((kind, offset, data), entries)) in blocks.iter().zip(&joined).enumerate() {
        assert_eq!(*offset, bytes, "offsets count the bytes before");
        bytes += data.len() as u64;
        assert!(
            closing.is_empty() || *kind == BlockKind::ClosingCatalogue.code(),
            "the closing run is the last"
        );
        for ((begin, at), entry) in entries {
            let (entry, rest) = Entry::parse(entry).unwrap();
            assert!(rest.is_empty());
            if let EntryBody::CatalogueStart(found) = entry.body {
                assert!(
                    closing.is_empty() && start.is_none(),
                    "a start is the first"
                );
                assert_eq!(*kind, BlockKind::ClosingCatalogue.code());
                start = Some(found);
                continue;
            }
            if let EntryBody::OwnerName(name) = entry.body {
                objects.name(name, *kind == BlockKind::ClosingCatalogue.code());
                continue;
            }
            if let EntryBody::Catalogue(found) = entry.body {
                assert_ne!(*kind, BlockKind::Data.code());
                assert!(
                    objects.ended(found.path),
                    "a catalogue lists earlier objects"
                );
                let list = if *kind == BlockKind::Catalogue.code() {
                    &mut pieces
                } else {
                    &mut closing
                };
                list.push((entry.object, found));
                continue;
            }
            assert_eq!(*kind, BlockKind::Data.code());
            objects.take(&entry, (*begin, *at), number as u64);
        }
    }
    objects.check_catalogue(&pieces, &closing);
    objects.check_start(start.unwrap_or_default());
    let mut by_path = BTreeMap::new();
    for object in objects.list {
        object.check_digest();
        if let Some(slash) = object.path.iter().rposition(|&byte| byte == b'/') {
            assert!(
                by_path.contains_key(&object.path[..slash]),
                "a directory precedes its entries"
            );
        }
        assert!(
            by_path.insert(object.path.clone(), object).is_none(),
            "each path once"
        );
    }
    by_path
}

/// An entry, and the block and offset at which it begins.
type Placed = ((u64, u32), Vec<u8>);

/// Returns the whole entries that end in each block. Pieces are put together. Asserts that all but
/// the last piece of an entry fill their blocks.
fn join(blocks: &BlockSet) -> Vec<Vec<Placed>> {
    let mut begun: HashMap<u8, Placed> = HashMap::new();
    let mut all = Vec::new();
    for (number, (kind, _, data)) in blocks.iter().enumerate() {
        let (mut entries, mut rest) = (Vec::new(), &data[..]);
        while !rest.is_empty() {
            let at = (data.len() - rest.len()) as u32;
            let (entry, after) = Entry::parse(rest).unwrap();
            let bytes = &rest[..rest.len() - after.len()];
            rest = after;
            let EntryBody::Piece(piece) = entry.body else {
                assert!(
                    !begun.contains_key(kind),
                    "an entry goes on in the next block"
                );
                entries.push(((number as u64, at), bytes.to_vec()));
                continue;
            };
            let start = ((number as u64, at), bytes[..16].to_vec());
            let (start, mut whole) = match begun.remove(kind) {
                Some(before) => before,
                None => start,
            };
            assert_eq!(piece.continues, start != (number as u64, at));
            assert_eq!((whole[0], &whole[8..16]), (bytes[0], &bytes[8..16]));
            assert!(at == 0 && (after.is_empty() || !piece.goes_on));
            whole.extend(piece.body);
            if piece.goes_on {
                begun.insert(*kind, (start, whole));
            } else {
                let len = (whole.len() - 16) as u32;
                whole[1] = 0;
                whole[4..8].copy_from_slice(&len.to_le_bytes());
                entries.push((start, whole));
            }
        }
        all.push(entries);
    }
    assert!(begun.is_empty());
    all
}

/// Objects in the order in which they begin.
#[derive(Default)]
struct Objects {
    list: Vec<Seen>,
    by_number: HashMap<u64, usize>,
    by_path: HashMap<Vec<u8>, usize>,
    /// Names of owners between the objects, and in the closing run.
    names: BTreeMap<(OwnerKind, u32), Vec<u8>>,
    closing_names: BTreeMap<(OwnerKind, u32), Vec<u8>>,
}

impl Objects {
    fn end_of(&self, number: u64) -> Option<(ObjectState, u64, Option<[u8; 16]>)> {
        self.by_number
            .get(&number)
            .and_then(|&at| self.list[at].end)
    }

    /// True if the object of this path has ended.
    fn ended(&self, path: &[u8]) -> bool {
        self.list[self.by_path[path]].end.is_some()
    }

    /// Adds the name of an owner.
    fn name(&mut self, name: OwnerName<'_>, is_closing: bool) {
        let names = match is_closing {
            true => &mut self.closing_names,
            false => &mut self.names,
        };
        let before = names.insert((name.kind, name.id), name.name.to_vec());
        assert!(before.is_none_or(|before| before == name.name));
    }

    /// Adds an entry of a data block, which begins at `start` and ends in block `block`.
    fn take(&mut self, entry: &Entry<'_>, start: (u64, u32), block: u64) {
        let number = entry.object;
        if let EntryBody::Object(object) = &entry.body {
            assert!(
                self.list.last().is_none_or(|last| last.number < number),
                "numbers ascend"
            );
            assert!(
                object.link == 0 || self.end_of(object.link).is_some(),
                "a link follows the end of its object"
            );
            self.by_number.insert(number, self.list.len());
            self.by_path.insert(object.path.to_vec(), self.list.len());
            self.list.push(Seen::new(number, object, start.0, start.1));
            return;
        }
        let object = &mut self.list[self.by_number[&number]];
        assert!(object.end.is_none(), "nothing follows the end of an object");
        match &entry.body {
            EntryBody::Inode(_) => assert!(object.attributes.is_empty()),
            EntryBody::Attribute(name, value) => {
                assert!(object.extents.is_empty());
                assert!(
                    object
                        .attributes
                        .insert(name.to_vec(), value.to_vec())
                        .is_none()
                );
            }
            EntryBody::Extent(offset, data) => object.extents.push((*offset, data.to_vec())),
            EntryBody::End(end) => {
                object.end = Some((end.state, end.size, end.digest));
                object.place.2 = block;
            }
            other => panic!("{other:?}"),
        }
    }

    /// Asserts that the closing run begins with the number of objects and their bytes, and repeats
    /// all names.
    fn check_start(&self, start: CatalogueStart) {
        let data = self.list.iter().flat_map(|object| &object.extents);
        let bytes = data.map(|(_, data)| data.len() as u64).sum();
        let objects = self.list.len() as u64;
        assert_eq!(start, CatalogueStart { objects, bytes });
        assert_eq!(self.names, self.closing_names);
    }

    /// Asserts that the catalogue, and each piece of it, lists exactly the objects.
    fn check_catalogue(
        &self,
        pieces: &[(u64, CatalogueEntry<'_>)],
        closing: &[(u64, CatalogueEntry<'_>)],
    ) {
        assert_eq!(
            closing.len(),
            self.list.len(),
            "all objects are in the closing run"
        );
        assert_eq!(
            pieces,
            &closing[..pieces.len()],
            "the pieces are a beginning of it"
        );
        for (number, entry) in closing {
            let object = &self.list[self.by_path[entry.path]];
            assert_eq!(
                (*number, entry.link),
                (if object.linked { object.number } else { 0 }, object.link)
            );
            assert_eq!((entry.blocks.0, entry.offset, entry.blocks.1), object.place);
            assert_eq!(
                (entry.kind, entry.path, entry.target),
                (object.kind, &object.path[..], &object.target[..])
            );
            let (state, size, _) = object.end.unwrap();
            assert_eq!(
                (entry.state, entry.size, entry.mode),
                (state, size, object.mode)
            );
            assert_eq!(
                (entry.modified.seconds, entry.modified.nanoseconds),
                object.modified
            );
        }
    }
}

/// Asserts that two readings of a tree found the same objects. Their blocks, and so the positions
/// and extents, may differ.
pub(crate) fn assert_same_objects(one: &BTreeMap<Vec<u8>, Seen>, other: &BTreeMap<Vec<u8>, Seen>) {
    assert!(one.keys().eq(other.keys()));
    for (one, other) in one.values().zip(other.values()) {
        assert_eq!(one.joined(), other.joined());
    }
}
