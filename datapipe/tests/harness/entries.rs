//! Parses the blocks of a tree into objects, and checks them against the format.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use datapipe::prelude::*;
use datapipe::stage::IntoHead;
use datapipe::wire::{BlockKind, CatalogueEntry, Entry, EntryBody, ObjectKind, ObjectState};

/// Blocks of a stream: kind, offset and data of each.
pub(crate) type BlockSet = Vec<(u8, u64, Vec<u8>)>;

/// A tail that keeps all blocks.
#[derive(Clone, Default)]
pub(crate) struct Collect(pub(crate) Arc<Mutex<BlockSet>>);

impl Tail for Collect {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let info = block.info();
        self.0
            .lock()
            .unwrap()
            .push((info.kind, info.offset, block.bytes().to_vec()));
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
        let (mut hasher, mut layout) = (blake3::Hasher::new(), blake3::Hasher::new());
        let mut end = 0;
        for (offset, data) in &self.extents {
            assert!(*offset >= end, "extents ascend and do not overlap");
            end = offset + data.len() as u64;
            layout
                .update(&offset.to_le_bytes())
                .update(&(data.len() as u64).to_le_bytes());
            hasher.update(data);
        }
        hasher.update(layout.finalize().as_bytes());
        let (_, size, digest) = self.end.unwrap();
        assert!(size >= end);
        let wanted = (self.kind == ObjectKind::File)
            .then(|| hasher.finalize().as_bytes()[..16].try_into().unwrap());
        assert_eq!(digest, wanted, "{}", self.path.escape_ascii());
    }
}

/// Returns the objects of a stream, by path. Asserts everything that holds for any stream.
pub(crate) fn parse(blocks: &BlockSet) -> BTreeMap<Vec<u8>, Seen> {
    let mut objects = Objects::default();
    let (mut pieces, mut closing, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (number, (kind, offset, data)) in blocks.iter().enumerate() {
        assert_eq!(*offset, bytes, "offsets count the bytes before");
        bytes += data.len() as u64;
        assert!(
            closing.is_empty() || *kind == BlockKind::ClosingCatalogue.code(),
            "the closing run is the last"
        );
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let at = (data.len() - rest.len()) as u32;
            let (entry, remaining) = Entry::parse(rest).unwrap();
            rest = remaining;
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
            objects.take(&entry, number as u64, at);
        }
    }
    objects.check_catalogue(&pieces, &closing);
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

/// Objects in the order in which they begin.
#[derive(Default)]
struct Objects {
    list: Vec<Seen>,
    by_number: HashMap<u64, usize>,
    by_path: HashMap<Vec<u8>, usize>,
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

    /// Adds an entry of a data block.
    fn take(&mut self, entry: &Entry<'_>, block: u64, at: u32) {
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
            self.list.push(Seen::new(number, object, block, at));
            return;
        }
        let object = &mut self.list[self.by_number[&number]];
        assert!(object.end.is_none(), "nothing follows the end of an object");
        match &entry.body {
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
