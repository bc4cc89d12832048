//! Damage: every byte, every length, every record of a small archive. What is hit is found and
//! named, what is not comes back, and nothing wrong is ever given out.

use std::ops::Range;

use datapipe::archive::{ArchiveOptions, ArchiveReader, ReadOutcome, StreamRestore};
use datapipe::crypto::{Key, Secret};
use datapipe::media::VirtualTape;
use datapipe::prelude::*;
use datapipe::stage::{DamageLog, decompress, decompress_salvaging};
use datapipe::testkit::{FaultyStorage, Random, Sink, frames};
use datapipe::wire::{Framing, RecordHeader, RecordKind, UnitHeader, UnitKind, looks_like_record};

const BLOCK: usize = 512;

fn secret(encrypted: bool) -> Option<Secret> {
    encrypted.then(|| Secret::Key(Key::from_bytes([9; 32])))
}

/// Blocks that differ from each other, have no zeros, and every second of which can be compressed.
fn material(blocks: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::new();
    for block in 0..blocks {
        for i in 0..BLOCK {
            let noise = 1 + random.below(255) as u8;
            bytes.push(if block % 2 == 0 {
                noise
            } else {
                1 + (block + i / 64) as u8
            });
        }
    }
    bytes
}

/// The bytes of a volume that holds an archive of `data`.
fn volume(data: &[u8], framing: Framing, encrypted: bool) -> Vec<u8> {
    let mut options = ArchiveOptions::new("small")
        .framing(framing)
        .record_len(1024)
        .chunk_len(3000)
        .block_len(BLOCK as u32);
    if let Some(secret) = secret(encrypted) {
        options = options.encrypt(secret);
    }
    let archive = options.plan().unwrap();
    let storage = FaultyStorage::new(1);
    let tape = VirtualTape::create_on(storage.clone(), "/t", Default::default()).unwrap();
    let (seal, tail) = archive.stages(tape);
    let head = HeadStage::from(StreamHead::new(data)).inline();
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(head)
        .stage(Zstd::level(1).inline());
    if let Some(seal) = seal {
        pipe = pipe.stage(seal.inline());
    }
    pipe.tail(TailStage::from(tail).inline()).run().unwrap();
    storage.bytes("/t").unwrap()
}

/// What a reader that goes on behind damage gets out of a volume.
#[derive(Debug, Default)]
struct Salvaged {
    bytes: Vec<u8>,
    outcome: ReadOutcome,
    damage: Vec<String>,
    /// Why nothing could be read.
    refused: Option<String>,
}

impl Salvaged {
    fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.refused.is_none() && self.outcome.complete
    }
}

fn salvage(bytes: &[u8], encrypted: bool) -> Salvaged {
    let storage = FaultyStorage::new(1);
    storage.set_bytes("/t", bytes);
    let tape = VirtualTape::open_on(storage, "/t", looks_like_record).unwrap();
    salvage_from(tape, encrypted)
}

fn salvage_from(tape: VirtualTape<FaultyStorage>, encrypted: bool) -> Salvaged {
    let reader = match ArchiveReader::open(tape, secret(encrypted).as_ref()) {
        Ok(reader) => reader,
        Err(error) => {
            return Salvaged {
                refused: Some(error.to_string()),
                ..Salvaged::default()
            };
        }
    };
    let (log, sink) = (DamageLog::new(), Sink::default());
    let reader = reader.salvage(&log);
    let (head, open) = (reader.head(), reader.open_blocks());
    let report = head.report();
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(HeadStage::from(head).inline());
    if let Some(open) = open {
        pipe = pipe.stage(open.inline());
    }
    let tail = TailStage::from(StreamRestore::new(sink.clone())).inline();
    let ended = pipe
        .stage(decompress_salvaging(&log).inline())
        .tail(tail)
        .run();
    let refused = ended.err().map(|error| error.to_string());
    let bytes = sink.bytes();
    let damage = log.entries().iter().map(ToString::to_string).collect();
    Salvaged {
        bytes,
        outcome: report.outcome(),
        damage,
        refused,
    }
}

/// Blocks that did not come back; panics if anything came back that was never archived.
fn lost(salvaged: &Salvaged, data: &[u8], what: &str) -> usize {
    assert!(
        salvaged.bytes.len() <= data.len(),
        "{what}: more came out than went in"
    );
    let mut got = salvaged.bytes.clone();
    got.resize(data.len(), 0);
    let blocks = got.chunks(BLOCK).zip(data.chunks(BLOCK));
    let mut lost = 0;
    for (number, (got, sent)) in blocks.enumerate() {
        if got != sent {
            assert!(
                got.iter().all(|&byte| byte == 0),
                "{what}: block {number} came back wrong\n{salvaged:#?}"
            );
            lost += 1;
        }
    }
    lost
}

#[test]
fn every_byte_of_an_archive_may_be_damaged() {
    for encrypted in [true, false] {
        let data = material(9, 3);
        let good = volume(&data, Framing::HeaderFooter, encrypted);
        assert!(good.len() <= 16 << 10, "{} bytes", good.len());
        assert!(salvage(&good, encrypted).is_clean());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            let what = format!("byte {at}, encrypted {encrypted}");
            let salvaged = salvage(&bad, encrypted);
            assert!(!salvaged.is_clean(), "{what}: not noticed");
            assert_eq!(salvaged.refused, None, "{what}");
            let lost = lost(&salvaged, &data, &what);
            assert!(lost <= 1, "{what}: {lost} blocks are lost\n{salvaged:#?}");
        }
    }
}

#[test]
fn an_archive_may_end_anywhere() {
    let data = material(9, 4);
    for (framing, encrypted) in [
        (Framing::HeaderFooter, true),
        (Framing::Once, true),
        (Framing::Header, false),
    ] {
        let good = volume(&data, framing, encrypted);
        let mut before = 0;
        for len in 0..good.len() {
            let what = format!(
                "{len} bytes of {}, {framing:?}, encrypted {encrypted}",
                good.len()
            );
            let salvaged = salvage(&good[..len], encrypted);
            assert!(
                !salvaged.is_clean() || len + 8 >= good.len(),
                "{what}: not noticed"
            );
            // What came back before, comes back when more is there.
            let lost = lost(&salvaged, &data, &what);
            assert!(
                9 - lost >= before,
                "{what}: fewer blocks than from less\n{salvaged:#?}"
            );
            before = 9 - lost;
            if salvaged.refused.is_none() && !salvaged.outcome.complete {
                let said = salvaged
                    .damage
                    .iter()
                    .any(|damage| damage.contains("incomplete"));
                assert!(said, "{what}: {:?}", salvaged.damage);
            }
        }
        assert_eq!(before, 9, "all of it comes back in the end");
    }
}

/// The content of a frame with a data record, and where it lies in the stream.
fn content(frame: &[u8]) -> Option<(Range<u64>, &[u8])> {
    let (header, content) = RecordHeader::parse(frame.get(4..frame.len() - 4)?).ok()?;
    let range = header.position..header.position + u64::from(header.length);
    (header.kind == RecordKind::Data).then_some((range, content))
}

/// Where each block lies in the stream.
fn blocks(frames: &[Vec<u8>]) -> Vec<Range<u64>> {
    let stream: Vec<u8> = frames
        .iter()
        .filter_map(|frame| content(frame))
        .flat_map(|(_, bytes)| bytes.to_vec())
        .collect();
    let (mut at, mut blocks) = (0, Vec::new());
    while at < stream.len() {
        let header = UnitHeader::parse(&stream[at..]).unwrap();
        if header.kind == UnitKind::Block {
            blocks.push(at as u64..(at + header.unit_len()) as u64);
        }
        at += header.unit_len();
    }
    blocks
}

#[test]
fn every_record_may_be_dropped_repeated_swapped_or_replaced() {
    let data = material(9, 5);
    let other = material(9, 6);
    for encrypted in [true, false] {
        let good = frames(&volume(&data, Framing::HeaderFooter, encrypted));
        let blocks = blocks(&good);
        let foreign = frames(&volume(&other, Framing::HeaderFooter, encrypted));
        let check = |what: String, frames: Vec<Vec<u8>>| {
            let salvaged = salvage(&frames.concat(), encrypted);
            assert!(!salvaged.is_clean(), "{what}: not noticed");
            assert!(
                salvaged.refused.is_some() || !salvaged.damage.is_empty(),
                "{what}: nothing is said"
            );
            let named = |damage: &String| {
                damage.contains("volume 1")
                    || damage.contains("incomplete")
                    || damage.contains("session's footer")
            };
            assert!(
                salvaged.damage.iter().all(named),
                "{what}: no place\n{salvaged:#?}"
            );
            (lost(&salvaged, &data, &what), salvaged)
        };
        for (i, frame) in good.iter().enumerate() {
            // A mark says nothing that is missed in a file.
            if frame.len() == 4 {
                continue;
            }
            let mut dropped = good.clone();
            dropped.remove(i);
            let (gone, salvaged) = check(format!("record {i} dropped"), dropped);
            // The blocks that it holds a piece of, and no others.
            let lies_in = |block: &&Range<u64>| {
                content(frame)
                    .is_some_and(|(range, _)| block.start < range.end && range.start < block.end)
            };
            let held = blocks.iter().filter(lies_in).count();
            assert_eq!(gone, held, "record {i} dropped: {:#?}", salvaged.damage);

            let mut repeated = good.clone();
            repeated.insert(i, frame.clone());
            let (gone, salvaged) = check(format!("record {i} repeated"), repeated);
            assert_eq!(gone, 0, "record {i} repeated\n{salvaged:#?}");

            if good.get(i + 1).is_some_and(|next| next.len() > 4) {
                let mut swapped = good.clone();
                swapped.swap(i, i + 1);
                check(format!("record {i} swapped"), swapped);
            }
            if foreign.get(i).is_some_and(|other| other.len() > 4) {
                let mut replaced = good.clone();
                replaced[i] = foreign[i].clone();
                let (gone, salvaged) = check(format!("record {i} replaced"), replaced);
                assert_eq!(
                    gone, held,
                    "record {i} replaced: {:#?} {:?}",
                    salvaged.damage, salvaged.refused
                );
            }
        }
    }
}

#[test]
fn a_reader_that_does_not_salvage_stops_at_the_first_damage() {
    let data = material(9, 7);
    let mut bytes = volume(&data, Framing::HeaderFooter, true);
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let storage = FaultyStorage::new(1);
    storage.set_bytes("/t", &bytes);
    let tape = VirtualTape::open_on(storage, "/t", looks_like_record).unwrap();
    let reader = ArchiveReader::open(tape, secret(true).as_ref()).unwrap();
    let (open, sink) = (reader.open_blocks().unwrap(), Sink::default());
    let pipe = Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(reader.head())
        .stage(open);
    let error = pipe
        .stage(decompress())
        .tail(StreamRestore::new(sink.clone()))
        .run();
    let text = error.unwrap_err().to_string();
    assert!(text.contains("volume 1, record"), "{text}");
    let got = sink.bytes();
    assert!(data.starts_with(&got), "what it gave before that is right");
}

#[test]
fn sectors_that_cannot_be_read_cost_the_blocks_in_them() {
    // One of them ended a salvage, and everything behind it was lost.
    let data = material(200, 8);
    let good = volume(&data, Framing::HeaderFooter, true);
    let frames = frames(&good);
    let blocks = blocks(&frames);
    for first in (0..good.len() as u64).step_by(4096) {
        let storage = FaultyStorage::new(1);
        storage.set_bytes("/t", &good);
        storage.set_unreadable("/t", first..first + 4096);
        let tape = VirtualTape::open_on(storage, "/t", looks_like_record).unwrap();
        let salvaged = salvage_from(tape, true);
        let what = format!("bytes {first} to {}", first + 4096);
        assert_eq!(salvaged.refused, None, "{what}");
        assert!(!salvaged.is_clean(), "{what}: not noticed");
        // The blocks with a piece in a record of which a piece is in the sectors.
        let mut at = 0;
        let touched = frames.iter().filter(|frame| {
            let begins = at;
            at += frame.len() as u64;
            begins < first + 4096 && first < at
        });
        let gone: Vec<_> = touched
            .filter_map(|frame| content(frame))
            .map(|(range, _)| range)
            .collect();
        let is_hit = |block: &&Range<u64>| {
            gone.iter()
                .any(|gone| block.start < gone.end && gone.start < block.end)
        };
        let hit = blocks.iter().filter(is_hit).count();
        let lost = lost(&salvaged, &data, &what);
        assert!(
            lost <= hit,
            "{what}: {lost} of {hit} blocks, {:#?}",
            salvaged.damage
        );
    }
}
