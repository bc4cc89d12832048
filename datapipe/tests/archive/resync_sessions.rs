//! Pages of zeros, and bytes that are inserted or missing, on a medium with several sessions: of
//! archives with checkpoints and special headers, and of a copy. Each archive loses the blocks that
//! are hit, and at most one more.

use std::ops::Range;

use datapipe::archive::{Session, SessionOptions, Sessions, Special, StoredArchive};
use datapipe::media::TapeWriter;
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Random};
use datapipe::wire::looks_like_record;

use crate::data::{blocks, setting};
use crate::fixture::{TAPE, create_tape, tape};
use crate::hits::Hits;

const BLOCK: u32 = 512;
const COUNT: usize = 40;

/// A tape with several sessions, and its archives.
struct Tape {
    bytes: Vec<u8>,
    hits: Hits,
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

impl Tape {
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
        let data = data.iter().chain(&data[..1]).cloned();
        Self {
            hits: Hits::new(BLOCK, &[&bytes], &list, data),
            bytes,
        }
    }

    /// Asserts that a change of `range` costs each archive the blocks in it and at most one more.
    fn check(&self, what: &str, range: &Range<usize>, bad: &[u8]) {
        self.hits.check(what, (0, range), || tape(bad), None);
    }
}

#[test]
fn damage_anywhere_on_a_medium_of_sessions_costs_the_blocks_that_are_hit() {
    let seed = setting("DATAPIPE_SEED", 20_261_130);
    println!("DATAPIPE_SEED={seed}");
    let (medium, mut random) = (Tape::new(), Random::new(seed));
    assert!(
        medium
            .hits
            .blocks
            .values()
            .all(|blocks| blocks.len() == COUNT)
    );
    medium.check("no damage", &(0..0), &medium.bytes);
    for round in 0..setting("DATAPIPE_DAMAGES", 40) {
        // Damage to the volume record is another test's.
        let at = 600 + random.below(medium.bytes.len() as u64 - 600) as usize;
        let len = [1, 4, 52, 300, 4096][random.below(5) as usize];
        let range = at..(at + len).min(medium.bytes.len());
        let (mut bad, kind) = (medium.bytes.clone(), round % 3);
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
        medium.check(&what, &hit, &bad);
    }
}
