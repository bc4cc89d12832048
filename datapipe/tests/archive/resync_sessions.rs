//! Pages of zeros, and bytes that are inserted or missing, on a medium with several sessions: of
//! archives with checkpoints and special headers, and of a copy. Each archive loses the blocks that
//! are hit, and at most one more.

use std::collections::BTreeMap;
use std::ops::Range;

use datapipe::archive::{ListedArchive, Session, SessionOptions, Sessions, Special, StoredArchive};
use datapipe::media::TapeWriter;
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Random, Sink, frames};
use datapipe::wire::{BlockKind, RECORD_HEADER_LEN, UnitHeader, UnitKind, looks_like_record};

use crate::data::{blocks, setting};
use crate::fixture::{TAPE, content, create_tape, lost, tape};

const BLOCK: u32 = 512;
const COUNT: usize = 40;

/// A session, and an archive of it by its number.
type Key = ([u8; 16], u32);

/// A tape, and the places of the blocks of data of each archive.
struct Site {
    tape: Vec<u8>,
    data: Vec<(Key, Vec<u8>)>,
    blocks: BTreeMap<Key, Vec<Vec<Range<usize>>>>,
}

fn write_session(storage: &FaultyStorage, first: bool, data: &[Vec<u8>]) {
    let session = match first {
        true => Session::new(create_tape(storage), options()).unwrap(),
        false => Session::new(append(storage), options()).unwrap(),
    };
    for (data, number) in data.iter().zip(1..) {
        let options = ArchiveOptions::stream("s").block_len(BLOCK).chunk_len(9000);
        let special = Special::new(Special::OWN | number, "special").unwrap();
        let archive = options.plan().unwrap().special(special).unwrap();
        let head = HeadStage::from(StreamHead::new(&data[..])).checkpoint_every(4000);
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
        pipe.archive_in(archive, &session).run().unwrap();
    }
    session.finish().unwrap();
}

fn append(storage: &FaultyStorage) -> TapeWriter<FaultyStorage> {
    let options = VolumeOptions::default();
    VirtualTape::append_on(storage.clone(), TAPE, options, looks_like_record).unwrap()
}

fn options() -> SessionOptions {
    SessionOptions::new("resync").record_len(1024)
}

impl Site {
    fn new() -> Self {
        let data: Vec<_> = (0..4)
            .map(|seed| blocks(COUNT * BLOCK as usize, BLOCK as usize, seed))
            .collect();
        let storage = FaultyStorage::new(1);
        write_session(&storage, true, &data[..2]);
        write_session(&storage, false, &data[2..]);
        // A copy of the first archive in a third session.
        let whole = storage.bytes(TAPE).unwrap();
        let list = Sessions::read(tape(&whole)).unwrap();
        let first = list.archives().next().unwrap();
        let source = StoredArchive::open_listed(tape(&whole), first).unwrap();
        let session = Session::new(append(&storage), options()).unwrap();
        let plan = source.copy().chunk_len(9000).plan().unwrap();
        source.read().pipe.archive_in(plan, &session).run().unwrap();
        session.finish().unwrap();

        let bytes = storage.bytes(TAPE).unwrap();
        let list = Sessions::read(tape(&bytes)).unwrap();
        let keys = list.archives().map(key_of);
        let data = keys.zip(data.iter().chain(&data[..1]).cloned()).collect();
        Self {
            blocks: blocks_of(&bytes),
            tape: bytes,
            data,
        }
    }

    /// Number of blocks of an archive with a byte in the range.
    fn hit(&self, key: &Key, range: &Range<usize>) -> usize {
        let overlaps = |part: &Range<usize>| {
            part.start < range.end.max(range.start + 1) && range.start < part.end
        };
        let is_hit = |parts: &&Vec<Range<usize>>| parts.iter().any(overlaps);
        self.blocks[key].iter().filter(is_hit).count()
    }

    /// Asserts that a change of `range` costs each archive the blocks in it and at most one more.
    fn check(&self, what: &str, range: &Range<usize>, bad: &[u8]) {
        let list = Sessions::read(tape(bad)).unwrap();
        let found: BTreeMap<_, _> = list.archives().map(|one| (key_of(one), one)).collect();
        for (key, data) in &self.data {
            let archive = found.get(key).unwrap_or_else(|| panic!("{what}: {list:?}"));
            let (log, sink) = (DamageLog::new(), Sink::default());
            let reader = ArchiveReader::open_listed(tape(bad), archive, None);
            let reader = reader.unwrap_or_else(|error| panic!("{what}: {error}"));
            let (head, open) = (reader.clone().salvage(&log).head(), reader.open_blocks());
            let (check, report) = (head.check(), head.report());
            let pipe = Pipe::builder()
                .buffer_size(BLOCK)
                .head(HeadStage::from(head).inline())
                .stages(open)
                .stage(check.inline())
                .stage(decompress_salvaging(&log).inline());
            pipe.tail(TailStage::from(StreamRestore::new(sink.clone())).inline())
                .run()
                .unwrap();
            let what = format!("{what}, archive {key:?}");
            let (lost, hit) = (
                lost(&sink.bytes(), data, BLOCK, &what),
                self.hit(key, range),
            );
            let damage = log.snapshot().entries;
            assert!(
                lost <= hit + 1,
                "{what}: {lost} lost, {hit} hit: {damage:#?}"
            );
            assert!(lost == 0 || !report.snapshot().complete, "{what}");
        }
    }
}

fn key_of(archive: &ListedArchive) -> Key {
    (*archive.session_id(), archive.number())
}

/// The bytes on the tape of each block of data, by its archive: one range for each record.
fn blocks_of(bytes: &[u8]) -> BTreeMap<Key, Vec<Vec<Range<usize>>>> {
    let (mut at, mut streams) = (0, BTreeMap::<[u8; 16], (Vec<u8>, Vec<usize>)>::new());
    for frame in frames(bytes) {
        if let Some((header, content)) = content(&frame) {
            let (stream, places) = streams.entry(header.session).or_default();
            let first = at + 4 + RECORD_HEADER_LEN;
            places.extend(first..first + content.len());
            stream.extend_from_slice(content);
        }
        at += frame.len();
    }
    let mut blocks = BTreeMap::<Key, Vec<Vec<Range<usize>>>>::new();
    for (session, (stream, places)) in streams {
        let mut from = 0;
        while from < stream.len() {
            let header = UnitHeader::parse(&stream[from..]).unwrap();
            let end = from + header.unit_len();
            let is_data = header.kind == UnitKind::Block && header.block_kind == BlockKind::Data;
            if is_data && header.plain > 0 {
                let mut ranges: Vec<Range<usize>> = Vec::new();
                for &place in &places[from..end] {
                    match ranges.last_mut() {
                        Some(range) if range.end == place => range.end += 1,
                        _ => ranges.push(place..place + 1),
                    }
                }
                blocks
                    .entry((session, header.archive))
                    .or_default()
                    .push(ranges);
            }
            from = end;
        }
    }
    blocks
}

#[test]
fn damage_anywhere_on_a_medium_of_sessions_costs_the_blocks_that_are_hit() {
    let seed = setting("DATAPIPE_SEED", 20_261_130);
    println!("DATAPIPE_SEED={seed}");
    let (site, mut random) = (Site::new(), Random::new(seed));
    assert!(site.blocks.values().all(|blocks| blocks.len() == COUNT));
    site.check("no damage", &(0..0), &site.tape);
    for round in 0..setting("DATAPIPE_DAMAGES", 40) {
        // Damage to the volume record is another test's.
        let at = 600 + random.below(site.tape.len() as u64 - 600) as usize;
        let len = [1, 4, 52, 300, 4096][random.below(5) as usize];
        let range = at..(at + len).min(site.tape.len());
        let (mut bad, kind) = (site.tape.clone(), round % 3);
        let hit = match kind {
            0 => {
                bad[range.clone()].fill(0);
                range
            }
            1 => {
                let more = blocks(len, 64, round);
                bad.splice(at..at, more);
                at..at
            }
            _ => {
                bad.drain(range.clone());
                range
            }
        };
        let what = ["zeros", "inserted", "missing"][kind as usize];
        let what = format!("seed {seed}, round {round}: {len} bytes {what} at {at}");
        site.check(&what, &hit, &bad);
    }
}
