//! Damage: every byte, length, record and sector of a small archive. The reader finds and names
//! what is hit, returns what is not, and never returns wrong data.

use std::ops::Range;

use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Sink, frames};
use datapipe::wire::{Framing, UnitHeader, UnitKind};

use crate::data::{blocks, key};
use crate::fixture::{
    Run, Salvaged, TAPE, content, encrypted, lost, open_tape, options, stream, tape,
};

const BLOCK: u32 = 512;

fn secret(encrypted: bool) -> Option<Secret> {
    encrypted.then(|| key(9))
}

/// Returns the data of `count` blocks.
fn data(count: usize, seed: u64) -> Vec<u8> {
    blocks(count * BLOCK as usize, BLOCK as usize, seed)
}

/// Returns the bytes of a volume with an archive of `data`.
fn volume(data: &[u8], framing: Framing, is_encrypted: bool) -> Vec<u8> {
    let options = options("small", 1024, 3000, BLOCK).framing(framing);
    let options = encrypted(options, secret(is_encrypted).as_ref());
    crate::fixture::volume(options, data, BLOCK)
}

fn salvage(medium: impl MediumReader + 'static, encrypted: bool) -> Salvaged {
    let secret = secret(encrypted);
    crate::fixture::salvage(
        medium,
        secret.as_ref(),
        &DamageLog::new(),
        BLOCK,
        Run::Inline,
    )
}

#[test]
fn flipped_byte_costs_at_most_one_block() {
    for encrypted in [true, false] {
        let data = data(6, 3);
        let good = volume(&data, Framing::HeaderFooter, encrypted);
        assert!(good.len() <= 16 << 10, "{} bytes", good.len());
        assert!(salvage(tape(&good), encrypted).is_clean());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            let what = format!("byte {at}, encrypted {encrypted}");
            let salvaged = salvage(tape(&bad), encrypted);
            assert!(!salvaged.is_clean(), "{what}: not noticed");
            assert_eq!(salvaged.error, None, "{what}");
            let lost = lost(&salvaged.bytes, &data, BLOCK, &what);
            assert!(lost <= 1, "{what}: {lost} blocks are lost\n{salvaged:#?}");
        }
    }
}

#[test]
fn truncated_archive_keeps_every_whole_block() {
    let data = data(6, 4);
    let variants = [
        (Framing::HeaderFooter, true),
        (Framing::Once, true),
        (Framing::Header, false),
    ];
    for (framing, encrypted) in variants {
        let good = volume(&data, framing, encrypted);
        let mut before = 0;
        for len in 0..good.len() {
            let what = format!(
                "{len} bytes of {}, {framing:?}, encrypted {encrypted}",
                good.len()
            );
            let salvaged = salvage(tape(&good[..len]), encrypted);
            assert!(
                !salvaged.is_clean() || len + 8 >= good.len(),
                "{what}: not noticed"
            );
            // A longer prefix never restores fewer blocks.
            let lost = lost(&salvaged.bytes, &data, BLOCK, &what);
            assert!(
                6 - lost >= before,
                "{what}: fewer blocks than from less\n{salvaged:#?}"
            );
            before = 6 - lost;
            if salvaged.error.is_none() && !salvaged.outcome.complete {
                assert!(
                    salvaged.mentions("incomplete"),
                    "{what}: {:?}",
                    salvaged.damage
                );
            }
        }
        assert_eq!(before, 6, "all of it comes back in the end");
    }
}

/// Returns the range of each block in the stream of a volume.
fn ranges_of_blocks(frames: &[Vec<u8>]) -> Vec<Range<u64>> {
    let stream = stream(frames);
    let (mut at, mut blocks) = (0, Vec::new());
    while at < stream.len() {
        let header = UnitHeader::parse(&stream[at..]).unwrap();
        // The origin and the last block have no data.
        if header.kind == UnitKind::Block && header.number > 0 && header.plain > 0 {
            blocks.push(at as u64..(at + header.unit_len()) as u64);
        }
        at += header.unit_len();
    }
    blocks
}

/// Returns the range of a data record's content in the stream.
fn range_of_content(frame: &[u8]) -> Option<Range<u64>> {
    let (header, _) = content(frame)?;
    Some(header.position..header.position + u64::from(header.length))
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Salvages a volume of changed records. Asserts that the reader noticed the change and named the
/// position of all damage. Returns the number of lost blocks.
fn salvage_changed(frames: &[Vec<u8>], encrypted: bool, data: &[u8], what: &str) -> usize {
    let salvaged = salvage(tape(&frames.concat()), encrypted);
    assert!(!salvaged.is_clean(), "{what}: not noticed");
    assert!(
        salvaged.error.is_some() || !salvaged.damage.is_empty(),
        "{what}: not reported"
    );
    let named = |damage: &String| {
        damage.contains("volume 1")
            || damage.contains("incomplete")
            || damage.contains("session's footer")
            || damage.contains("archive's footer")
    };
    assert!(
        salvaged.damage.iter().all(named),
        "{what}: no position\n{salvaged:#?}"
    );
    lost(&salvaged.bytes, data, BLOCK, what)
}

#[test]
fn dropped_repeated_swapped_or_replaced_record_is_reported() {
    let (data, other) = (data(9, 5), data(9, 6));
    for encrypted in [true, false] {
        let good = frames(&volume(&data, Framing::HeaderFooter, encrypted));
        let blocks = ranges_of_blocks(&good);
        let foreign = frames(&volume(&other, Framing::HeaderFooter, encrypted));
        let check = |what: String, change: &dyn Fn(&mut Vec<Vec<u8>>)| {
            let mut frames = good.clone();
            change(&mut frames);
            (salvage_changed(&frames, encrypted, &data, &what), what)
        };
        for (i, frame) in good.iter().enumerate() {
            // A mark carries nothing that a reader of a file misses.
            if frame.len() == 4 {
                continue;
            }
            // The blocks with a piece in the record are lost, and no others.
            let content = range_of_content(frame);
            let is_in = |block: &&Range<u64>| content.as_ref().is_some_and(|at| overlap(block, at));
            let held = blocks.iter().filter(is_in).count();
            let (gone, what) = check(format!("record {i} dropped"), &|frames| {
                frames.remove(i);
            });
            assert_eq!(gone, held, "{what}");
            let (gone, what) = check(format!("record {i} repeated"), &|frames| {
                frames.insert(i, frame.clone());
            });
            assert_eq!(gone, 0, "{what}");
            if good.get(i + 1).is_some_and(|next| next.len() > 4) {
                check(format!("record {i} swapped"), &|frames| {
                    frames.swap(i, i + 1)
                });
            }
            if foreign.get(i).is_some_and(|other| other.len() > 4) {
                let (gone, what) = check(format!("record {i} replaced"), &|frames| {
                    frames[i].clone_from(&foreign[i]);
                });
                assert_eq!(gone, held, "{what}");
            }
        }
    }
}

#[test]
fn strict_reader_stops_at_the_first_damage() {
    let data = data(9, 7);
    let mut bytes = volume(&data, Framing::HeaderFooter, true);
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let reader = ArchiveReader::open(tape(&bytes), secret(true).as_ref()).unwrap();
    let (open, sink) = (reader.open_blocks().unwrap(), Sink::default());
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(reader.head())
        .stage(open);
    let error = pipe
        .stage(decompress())
        .tail(StreamRestore::new(sink.clone()))
        .run();
    let text = error.unwrap_err().to_string();
    assert!(text.contains("volume 1, record"), "{text}");
    let got = sink.bytes();
    assert!(
        data.starts_with(&got),
        "everything before the damage is right"
    );
}

/// One unreadable sector once ended a salvage, and everything after it was lost.
#[test]
fn unreadable_sectors_cost_only_their_blocks() {
    let data = data(200, 8);
    let good = volume(&data, Framing::HeaderFooter, true);
    let frames = frames(&good);
    let blocks = ranges_of_blocks(&frames);
    for first in (0..good.len() as u64).step_by(4096) {
        let storage = FaultyStorage::new(1);
        storage.set_bytes(TAPE, &good);
        storage.set_unreadable(TAPE, first..first + 4096);
        let salvaged = salvage(open_tape(&storage).unwrap(), true);
        let what = format!("bytes {first} to {}", first + 4096);
        assert_eq!(salvaged.error, None, "{what}");
        assert!(!salvaged.is_clean(), "{what}: not noticed");
        // Counts the blocks with a piece in a record that has a piece in the sectors.
        let mut at = 0;
        let touched = frames.iter().filter(|frame| {
            let begins = at;
            at += frame.len() as u64;
            begins < first + 4096 && first < at
        });
        let gone: Vec<_> = touched
            .filter_map(|frame| range_of_content(frame))
            .collect();
        let is_hit = |block: &&Range<u64>| gone.iter().any(|gone| overlap(block, gone));
        let hit = blocks.iter().filter(is_hit).count();
        let lost = lost(&salvaged.bytes, &data, BLOCK, &what);
        assert!(
            lost <= hit,
            "{what}: {lost} of {hit} blocks, {:#?}",
            salvaged.damage
        );
    }
}
