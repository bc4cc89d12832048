//! Archives of trees made by hand: blocks of entries, with any defect that a test needs.

use std::collections::BTreeMap;
use std::path::Path;

use datapipe::prelude::*;
use datapipe::stage::IntoTail;
use datapipe::tree::{RestoreOptions, RestoreOutcome, TreeRestore, TreeVerify};
use datapipe::wire::{
    BlockKind, CatalogueEntry, CatalogueStart, ENTRY_HEADER_LEN, Entry, EntryBody, ObjectEnd,
    ObjectKind, ObjectMeta, ObjectState, Time,
};

use crate::entries::digest_of_extents;
use crate::placement::Placement;

/// Modification time of most objects.
pub(crate) const WHEN: Time = Time {
    seconds: 1_000_000_000,
    nanoseconds: 123_456_789,
};

/// A block as the tail receives it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) marks: Marks,
    pub(crate) number: u64,
}

/// Entries of an archive, in blocks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pack {
    pub(crate) blocks: Vec<Prepared>,
    current: Vec<u8>,
    next_object: u64,
    next_block: u64,
}

/// Returns an object with default properties, which tests change.
pub(crate) fn object(kind: ObjectKind, path: &str) -> ObjectMeta<'_> {
    ObjectMeta {
        kind,
        mode: 0o640,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        modified: WHEN,
        size: 0,
        device: (0, 0),
        link: 0,
        linked: false,
        path: path.as_bytes(),
        target: if kind == ObjectKind::Symlink {
            b"target"
        } else {
            b""
        },
    }
}

/// Returns a file with default properties.
pub(crate) fn file(path: &str) -> ObjectMeta<'_> {
    object(ObjectKind::File, path)
}

/// Returns the digest that the end entry of a file has that ends with the last of these extents.
pub(crate) fn digest(extents: &[(u64, &[u8])]) -> Option<[u8; 16]> {
    let end = extents
        .last()
        .map_or(0, |(at, data)| at + data.len() as u64);
    Some(digest_of_extents(extents, end))
}

impl Pack {
    /// Appends an entry.
    pub(crate) fn entry(&mut self, object: u64, body: EntryBody<'_>) {
        Entry { object, body }.append_to(&mut self.current).unwrap();
    }

    /// Appends bytes as they are.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.current.extend(bytes);
    }

    /// Passes over a number of an object, which the caller has used.
    pub(crate) fn skip_number(&mut self) {
        self.next_object += 1;
    }

    /// Appends the entry of a new object, and returns its number.
    pub(crate) fn begin(&mut self, object: &ObjectMeta<'_>) -> u64 {
        self.next_object += 1;
        self.entry(self.next_object, EntryBody::Object(*object));
        self.next_object
    }

    pub(crate) fn extent(&mut self, number: u64, offset: u64, data: &[u8]) {
        self.entry(number, EntryBody::Extent(offset, data));
    }

    pub(crate) fn end(&mut self, number: u64, size: u64, digest: Option<[u8; 16]>) {
        self.entry(
            number,
            EntryBody::End(ObjectEnd {
                state: ObjectState::Whole,
                size,
                digest,
            }),
        );
    }

    /// Appends a whole object with attributes and extents, and returns its number.
    pub(crate) fn whole(
        &mut self,
        object: &ObjectMeta<'_>,
        attributes: &[(&str, &[u8])],
        size: u64,
        extents: &[(u64, &[u8])],
    ) -> u64 {
        let number = self.begin(object);
        for (name, value) in attributes {
            self.entry(number, EntryBody::Attribute(name.as_bytes(), value));
        }
        extents
            .iter()
            .for_each(|(offset, data)| self.extent(number, *offset, data));
        self.end(number, size, Some(digest_of_extents(extents, size)));
        number
    }

    /// Appends a whole file with `data`, and returns its number.
    pub(crate) fn file(&mut self, path: &str, data: &[u8]) -> u64 {
        let extents: &[(u64, &[u8])] = if data.is_empty() { &[] } else { &[(0, data)] };
        self.whole(&file(path), &[], data.len() as u64, extents)
    }

    pub(crate) fn directory(&mut self, path: &str) -> u64 {
        self.whole(
            &ObjectMeta {
                mode: 0o755,
                ..object(ObjectKind::Directory, path)
            },
            &[],
            0,
            &[],
        )
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> u64 {
        let target = target.as_bytes();
        self.whole(
            &ObjectMeta {
                target,
                ..object(ObjectKind::Symlink, path)
            },
            &[],
            0,
            &[],
        )
    }

    pub(crate) fn link(&mut self, path: &str, link: u64) -> u64 {
        self.whole(
            &ObjectMeta {
                link,
                ..object(ObjectKind::HardLink, path)
            },
            &[],
            0,
            &[],
        )
    }

    pub(crate) fn catalogue(&mut self, path: &str, blocks: (u64, u64), offset: u32) {
        let (kind, state, path, target) = (
            ObjectKind::File,
            ObjectState::Whole,
            path.as_bytes(),
            &b""[..],
        );
        let (mode, size, modified) = (0o600, 1, WHEN);
        let entry = CatalogueEntry {
            kind,
            state,
            mode,
            size,
            link: 0,
            modified,
            blocks,
            offset,
            changed: modified,
            inode: 0,
            path,
            target,
        };
        self.entry(0, EntryBody::Catalogue(entry));
    }

    /// Removes the blocks of the catalogue, which are the last ones.
    pub(crate) fn forget_lists(&mut self) {
        self.blocks.retain(|block| block.kind == 0);
        self.next_block = self.blocks.len() as u64;
    }

    /// Appends the entries that a writer would make of all objects in the blocks so far, after
    /// `change` has changed them, and ends the block.
    pub(crate) fn list_all(&mut self, kind: u8, change: impl Fn(&mut CatalogueEntry<'_>)) {
        let blocks: Vec<_> = self.blocks.iter().filter(|block| block.kind == 0).collect();
        let (mut begun, mut list, mut objects) = (BTreeMap::new(), Vec::new(), 0);
        for block in blocks {
            let mut rest = &block.bytes[..];
            while let Ok((entry, after)) = Entry::parse(rest) {
                let offset = (block.bytes.len() - rest.len()) as u32;
                match entry.body {
                    EntryBody::Object(object) => {
                        begun.insert(entry.object, (object, block.number, offset));
                    }
                    EntryBody::End(end) => {
                        let (object, first, offset) = begun[&entry.object];
                        let is_file = object.kind == ObjectKind::File;
                        let mut listed = CatalogueEntry {
                            kind: object.kind,
                            state: end.state,
                            mode: object.mode,
                            size: if is_file { end.size } else { 0 },
                            link: object.link,
                            modified: object.modified,
                            blocks: (first, block.number),
                            offset,
                            changed: object.modified,
                            inode: 0,
                            path: object.path,
                            target: object.target,
                        };
                        change(&mut listed);
                        let object = if object.linked { entry.object } else { 0 };
                        let body = EntryBody::Catalogue(listed);
                        Entry { object, body }.append_to(&mut list).unwrap();
                        objects += 1;
                    }
                    _ => {}
                }
                rest = after;
            }
        }
        if kind == BlockKind::ClosingCatalogue.code() {
            let start = CatalogueStart { objects, bytes: 0 };
            self.entry(0, EntryBody::CatalogueStart(start));
        }
        self.current.extend(list);
        self.cut_as(kind);
    }

    /// Ends the block of data, and returns its number.
    pub(crate) fn cut(&mut self) -> u64 {
        self.cut_as(0)
    }

    /// Ends a block of this kind, and returns its number.
    pub(crate) fn cut_as(&mut self, kind: u8) -> u64 {
        let (bytes, number) = (std::mem::take(&mut self.current), self.next_block);
        self.blocks.push(Prepared {
            bytes,
            kind,
            number,
            ..Prepared::default()
        });
        self.next_block += 1;
        number
    }

    /// Length of the block that is not ended yet.
    pub(crate) fn len(&self) -> usize {
        self.current.len()
    }

    /// Removes a block, as if it were lost.
    pub(crate) fn lose(&mut self, number: u64) {
        self.blocks.retain(|block| block.number != number);
    }

    /// Marks a block as damaged, and removes its content.
    pub(crate) fn damage(&mut self, number: u64) {
        let block = self
            .blocks
            .iter_mut()
            .find(|block| block.number == number)
            .unwrap();
        block.marks = Marks::DAMAGED;
        block.bytes.clear();
    }

    /// Replaces bytes of the current block by bytes that no writer would write.
    pub(crate) fn forge(&mut self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let at = self
            .current
            .windows(from.len())
            .position(|part| part == from.as_bytes())
            .unwrap();
        assert!(at >= ENTRY_HEADER_LEN);
        self.current[at..at + to.len()].copy_from_slice(to.as_bytes());
    }

    /// Sends the blocks to `tail`.
    pub(crate) fn run<'a>(mut self, tail: impl IntoTail<'a>) -> Result<Report, Error> {
        if !self.current.is_empty() {
            self.cut();
        }
        let size = self
            .blocks
            .iter()
            .map(|block| block.bytes.len())
            .max()
            .unwrap_or(0)
            .max(4096);
        let head = Blocks(self.blocks.into_iter());
        Pipe::builder()
            .buffer_size(size as u32)
            .head(head)
            .tail(tail)
            .run()
    }

    /// Restores these paths to `dest`, or all of the archive if there are none.
    pub(crate) fn restore_paths(
        self,
        dest: &Path,
        options: RestoreOptions,
        paths: &[Vec<u8>],
        placement: Placement,
    ) -> RestoreOutcome {
        let tail = TreeRestore::paths(dest, options.sync(false), paths).unwrap();
        let report = tail.report();
        self.run(placement.place(tail)).unwrap();
        report.snapshot()
    }

    /// Verifies the archive.
    pub(crate) fn verify(self, placement: Placement) -> RestoreOutcome {
        let tail = TreeVerify::new();
        let report = tail.report();
        self.run(placement.place(tail)).unwrap();
        report.snapshot()
    }
}

/// A head that sends prepared blocks.
pub(crate) struct Blocks(std::vec::IntoIter<Prepared>);

impl Blocks {
    pub(crate) fn new(pack: Pack) -> Self {
        Self(pack.blocks.into_iter())
    }
}

impl Head for Blocks {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let Some(prepared) = self.0.next() else {
            return Ok(Fill::End);
        };
        block.put(&prepared.bytes)?;
        let mut info = block.info();
        (info.kind, info.marks, info.sequence) =
            (prepared.kind, prepared.marks, Some(prepared.number));
        block.set_info(info);
        Ok(Fill::Block)
    }
}
