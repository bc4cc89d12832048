//! Pages of zeros, and bytes that are inserted or missing, wherever they are on a tape: the reader
//! finds the units after them, and loses only the blocks that are hit.

use std::ops::Range;

use datapipe::prelude::*;
use datapipe::testkit::frames;
use datapipe::wire::{
    Framing, RECORD_HEADER_LEN, RecordHeader, UNIT_HEADER_LEN, UnitHeader, UnitKind,
};

use crate::data::{blocks, key};
use crate::fixture::{FRAMINGS, Run, Salvaged, content, encrypted, lost, options, tape};

const BLOCK: u32 = 512;
const COUNT: usize = 40;

/// A tape with a small archive, and the places of its parts.
struct Site {
    data: Vec<u8>,
    tape: Vec<u8>,
    secret: Option<Secret>,
    /// Start of each unit on the tape.
    units: Vec<usize>,
    /// Bytes on the tape of each block: one range for each record that has a part of it.
    blocks: Vec<Vec<Range<usize>>>,
    /// Bytes of each record that is not a block's: of its header and of its frame.
    frames: Vec<Range<usize>>,
}

impl Site {
    fn new(framing: Framing, record: usize, is_encrypted: bool) -> Self {
        let data = blocks(COUNT * BLOCK as usize, BLOCK as usize, 11);
        let secret = is_encrypted.then(|| key(9));
        let options = options("small", record, 9000, BLOCK).framing(framing);
        let options = encrypted(options, secret.as_ref());
        let tape = crate::fixture::volume(options, &data, BLOCK);
        let frames = frames(&tape);
        // The place on the tape of each byte of the stream.
        let (mut at, mut places, mut stream, mut ranges) = (0, vec![], vec![], vec![]);
        for frame in &frames {
            if let Some((_, bytes)) = content(frame) {
                let first = at + 4 + RECORD_HEADER_LEN;
                places.extend(first..first + bytes.len());
                stream.extend_from_slice(bytes);
            }
            ranges.push(at..at + frame.len());
            at += frame.len();
        }
        let (mut units, mut blocks) = (vec![], vec![]);
        let mut from = 0;
        while from < stream.len() {
            let header = UnitHeader::parse(&stream[from..]).unwrap();
            let end = from + header.unit_len();
            units.push(places[from]);
            if header.kind == UnitKind::Block && header.number > 0 {
                let of_frame = |frame: &Range<usize>| {
                    let in_it = places[from..end].iter().filter(|at| frame.contains(at));
                    let (first, last) = (in_it.clone().min()?, in_it.max()?);
                    Some(*first..*last + 1)
                };
                blocks.push(ranges.iter().filter_map(of_frame).collect());
            }
            from = end;
        }
        // The origin and the last block have no data.
        assert_eq!(blocks.len(), COUNT + 1);
        blocks.truncate(COUNT);
        Self {
            data,
            tape,
            secret,
            units,
            blocks,
            frames: ranges,
        }
    }

    fn salvage(&self, bytes: &[u8]) -> Salvaged {
        crate::fixture::salvage(
            tape(bytes),
            self.secret.as_ref(),
            &DamageLog::new(),
            BLOCK,
            Run::Inline,
        )
    }

    /// Number of blocks with a byte in the range.
    fn hit(&self, range: &Range<usize>) -> usize {
        let is_hit = |parts: &&Vec<Range<usize>>| {
            let overlaps = |part: &Range<usize>| {
                part.start < range.end.max(range.start + 1) && range.start < part.end
            };
            parts.iter().any(overlaps)
        };
        self.blocks.iter().filter(is_hit).count()
    }

    /// Asserts that a change of `range` costs the blocks in it and at most one more.
    fn check(&self, what: &str, range: Range<usize>, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bad = self.tape.clone();
        change(&mut bad);
        let what = format!("{what} at byte {} of {}", range.start, self.tape.len());
        let salvaged = self.salvage(&bad);
        assert_eq!(salvaged.error, None, "{what}");
        let (lost, hit) = (
            lost(&salvaged.bytes, &self.data, BLOCK, &what),
            self.hit(&range),
        );
        assert!(
            lost <= hit + 1,
            "{what}: {lost} blocks are lost, {hit} are hit\n{:#?}",
            salvaged.damage
        );
        assert!(
            lost == 0 || !salvaged.is_clean(),
            "{what}: the loss is not noticed"
        );
    }

    fn check_at(&self, what: &str, at: usize, seed: u64) {
        for page in [512, 4096] {
            let range = at..(at + page).min(self.tape.len());
            self.check(&format!("{what}: {page} zeros"), range.clone(), |bad| {
                bad[range].fill(0);
            });
        }
        for n in [1, 4, 52, 300, 4096] {
            let more = blocks(n, 64, seed);
            self.check(&format!("{what}: {n} bytes inserted"), at..at, |bad| {
                bad.splice(at..at, more);
            });
            let range = at..(at + n).min(self.tape.len());
            self.check(
                &format!("{what}: {n} bytes missing"),
                range.clone(),
                |bad| {
                    bad.drain(range);
                },
            );
        }
    }
}

fn sites() -> impl Iterator<Item = (String, Site)> {
    FRAMINGS.into_iter().flat_map(|framing| {
        [(1024, true), (6000, false)].map(|(record, is_encrypted)| {
            let what = format!("{framing:?}, records of {record}, encrypted {is_encrypted}");
            (what, Site::new(framing, record, is_encrypted))
        })
    })
}

#[test]
fn damage_at_a_unit_costs_the_blocks_that_are_hit() {
    for (what, site) in sites() {
        for (i, at) in site.units.iter().enumerate() {
            site.check_at(&format!("{what}, unit {i}"), *at, i as u64);
        }
    }
}

#[test]
fn damage_at_a_frame_costs_the_blocks_that_are_hit() {
    for (what, site) in sites() {
        for (i, frame) in site.frames.iter().enumerate() {
            site.check_at(&format!("{what}, frame {i}"), frame.start, i as u64);
        }
    }
}

#[test]
fn damage_anywhere_costs_the_blocks_that_are_hit() {
    let seed = 20_261_129;
    println!("seed {seed}");
    let mut state: u64 = seed;
    for (what, site) in sites() {
        for _ in 0..25 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (state >> 33) as usize % site.tape.len();
            site.check_at(&what, at, state);
        }
    }
}

/// Each of these headers is right, and gives its body the largest length that one can have. A
/// reader that checked each body would read 16 MiB for each 64 bytes of the tape.
#[test]
fn medium_of_false_units_is_read_in_linear_time() {
    let site = Site::new(Framing::HeaderFooter, 6000, false);
    let middle = site.frames.len() / 2;
    let (header, bytes) = site.frames[middle..]
        .iter()
        .find_map(|frame| content(&site.tape[frame.clone()]))
        .unwrap();
    let mut unit = UnitHeader::new(UnitKind::Block);
    unit.session = header.session[..4].try_into().unwrap();
    (unit.archive, unit.number) = (1, COUNT as u64);
    let length = 16 << 20;
    (unit.plain, unit.stored) = (length, length);
    let mut record = RecordHeader {
        length: 8,
        ..header
    }
    .to_bytes()
    .to_vec();
    for i in 0..40_000_000 / UNIT_HEADER_LEN as u64 {
        unit.position = header.position + i * (u64::from(length) + UNIT_HEADER_LEN as u64);
        record.extend(unit.to_bytes());
    }
    let at = site.frames[middle].start;
    let mut bad = site.tape.clone();
    bad.splice(at..at, record);
    let salvaged = site.salvage(&bad);
    assert_eq!(salvaged.error, None);
    let lost = lost(&salvaged.bytes, &site.data, BLOCK, "false units");
    let in_record = bytes.len() / BLOCK as usize + 2;
    assert!(
        lost <= in_record,
        "{lost} blocks are lost: {:#?}",
        salvaged.damage
    );
}
