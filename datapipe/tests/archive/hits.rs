//! Blocks of the archives of a medium that damage hits, and how many of each archive are lost.

use std::collections::BTreeMap;
use std::ops::Range;

use datapipe::archive::{ListedArchive, Sessions};
use datapipe::prelude::*;
use datapipe::testkit::{Sink, frames};
use datapipe::wire::{BlockKind, RECORD_HEADER_LEN, UnitHeader, UnitKind};

use crate::fixture::{content, damage_of, lost};

/// A session, and an archive of it by its number.
pub(crate) type Key = ([u8; 16], u32);

/// A file of the medium by its number, and bytes of it.
pub(crate) type Part = (usize, Range<usize>);

/// The archives of a medium, with their data, and the places of their blocks of data.
pub(crate) struct Hits {
    block: u32,
    pub(crate) data: Vec<(Key, Vec<u8>)>,
    pub(crate) blocks: BTreeMap<Key, Vec<Vec<Part>>>,
}

impl Hits {
    /// Takes the files of a medium, its list, and the data of its archives in the order of the
    /// list, in blocks of this length.
    pub(crate) fn new(
        block: u32,
        files: &[&[u8]],
        list: &Sessions,
        data: impl IntoIterator<Item = Vec<u8>>,
    ) -> Self {
        Self {
            block,
            data: list.archives().map(key_of).zip(data).collect(),
            blocks: blocks_of(files),
        }
    }

    /// Number of blocks of an archive with a byte in the range.
    fn hit(&self, key: &Key, file: usize, range: &Range<usize>) -> usize {
        let overlaps = |(of, part): &Part| {
            *of == file && part.start < range.end.max(range.start + 1) && range.start < part.end
        };
        let is_hit = |parts: &&Vec<Part>| parts.iter().any(overlaps);
        self.blocks[key].iter().filter(is_hit).count()
    }

    /// Asserts that a change of `range` of a file of the medium costs each archive the blocks in it
    /// and at most one more.
    pub(crate) fn check<M: MediumReader + 'static>(
        &self,
        what: &str,
        (file, range): (usize, &Range<usize>),
        medium: impl Fn() -> M,
        secret: Option<&Secret>,
    ) {
        let list = Sessions::read(medium()).unwrap();
        let found: BTreeMap<_, _> = list.archives().map(|one| (key_of(one), one)).collect();
        for (key, data) in &self.data {
            let archive = found.get(key);
            let archive = archive.unwrap_or_else(|| panic!("{what}: no {key:?} in {list:?}"));
            let log = DamageLog::new();
            let reader = ArchiveReader::open_listed(medium(), archive, secret);
            let reader = reader.unwrap_or_else(|error| panic!("{what}: {error}"));
            let (bytes, is_complete) = self.salvaged(reader, &log);
            let what = format!("{what}, archive {key:?}");
            let (lost, hit) = (
                lost(&bytes, data, self.block, &what),
                self.hit(key, file, range),
            );
            let damage = damage_of(&log);
            assert!(
                lost <= hit + 1,
                "{what}: {lost} lost, {hit} hit: {damage:#?}"
            );
            assert!(lost == 0 || !is_complete, "{what}");
        }
    }

    /// Returns the data of an archive, and true if it is complete.
    fn salvaged<M: MediumReader + 'static>(
        &self,
        reader: ArchiveReader<M>,
        log: &DamageLog,
    ) -> (Vec<u8>, bool) {
        let (reader, sink) = (reader.salvage(log), Sink::default());
        let (head, open) = (reader.clone().head(), reader.open_blocks());
        let (report, check) = (head.report(), head.check());
        let mut pipe = Pipe::builder()
            .buffer_size(self.block)
            .head(HeadStage::from(head).inline());
        if let Some(open) = open {
            pipe = pipe.stage(open.inline());
        }
        let tail = TailStage::from(StreamRestore::new(sink.clone())).inline();
        let decompress = decompress_salvaging(log).inline();
        let pipe = pipe.stage(check.inline()).stage(decompress).tail(tail);
        pipe.run().unwrap();
        (sink.bytes(), report.snapshot().complete)
    }
}

fn key_of(archive: &ListedArchive) -> Key {
    (*archive.session_id(), archive.number())
}

/// The bytes in the files of each block of data, by its archive: one range for each record.
fn blocks_of(files: &[&[u8]]) -> BTreeMap<Key, Vec<Vec<Part>>> {
    let mut streams = BTreeMap::<[u8; 16], (Vec<u8>, Vec<(usize, usize)>)>::new();
    for (file, bytes) in files.iter().enumerate() {
        let mut at = 0;
        for frame in frames(bytes) {
            if let Some((header, content)) = content(&frame) {
                let (stream, places) = streams.entry(header.session).or_default();
                let first = at + 4 + RECORD_HEADER_LEN;
                places.extend((first..first + content.len()).map(|at| (file, at)));
                stream.extend_from_slice(content);
            }
            at += frame.len();
        }
    }
    let mut blocks = BTreeMap::<Key, Vec<Vec<Part>>>::new();
    for (session, (stream, places)) in streams {
        let mut from = 0;
        while from < stream.len() {
            let header = UnitHeader::parse(&stream[from..]).unwrap();
            let end = from + header.unit_len();
            let is_data = header.kind == UnitKind::Block && header.block_kind == BlockKind::Data;
            if is_data && header.plain > 0 {
                let archive = blocks.entry((session, header.archive)).or_default();
                archive.push(parts_of(&places[from..end]));
            }
            from = end;
        }
    }
    blocks
}

/// Joins places that follow each other.
fn parts_of(places: &[(usize, usize)]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for &(file, at) in places {
        match parts.last_mut() {
            Some((of, part)) if *of == file && part.end == at => part.end += 1,
            _ => parts.push((file, at..at + 1)),
        }
    }
    parts
}
