//! Every byte of a small tree archive, in its headers, footers, special headers and catalogue: a
//! change is reported, or the archive is refused, and no other bytes come back.

use std::sync::{Arc, Mutex};

use datapipe::archive::Special;
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Sink, frames};
use datapipe::wire::{Framing, UnitHeader, UnitKind};

use crate::data::key;
use crate::fixture::{TAPE, create_tape, damage_of, encrypted, stream, tape};

const BLOCK: u32 = 512;

/// Result of a reading.
#[derive(Debug, Default)]
struct Outcome {
    /// Bytes of all blocks with data.
    bytes: Vec<u8>,
    specials: Vec<Special>,
    /// Reason for which it cannot be read, or not to its end.
    error: Option<String>,
    damage: Vec<String>,
    complete: bool,
}

/// A tape with a tree of some files, two special headers, and a catalogue.
fn written(secret: Option<&Secret>, framing: Framing) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..2_u8 {
        std::fs::write(dir.path().join(format!("file {n}")), vec![n; 500]).unwrap();
    }
    let options = ArchiveOptions::tree("t").block_len(BLOCK).record_len(1024);
    let options = options.chunk_len(4000).framing(framing);
    let mut archive = encrypted(options, secret).plan().unwrap();
    for id in [Special::OWN | 1, Special::OWN | Special::REQUIRED | 2] {
        archive = archive
            .special(Special::new(id, "a ticket").unwrap())
            .unwrap();
    }
    let storage = FaultyStorage::new(1);
    let head = TreeHead::new(&[dir.path()], TreeOptions::default()).unwrap();
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    pipe.archive(archive, create_tape(&storage)).run().unwrap();
    storage.bytes(TAPE).unwrap()
}

fn read(bytes: &[u8], secret: Option<&Secret>) -> Outcome {
    let (log, sink) = (DamageLog::new(), Sink::default());
    let specials = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&specials);
    let reader = match ArchiveReader::open(tape(bytes), secret) {
        Ok(reader) => reader.salvage(&log),
        Err(error) => {
            return Outcome {
                error: Some(error.to_string()),
                ..Outcome::default()
            };
        }
    };
    let reader = reader.on_special(move |special| {
        kept.lock().unwrap().push(special.clone());
        true
    });
    let head = reader.head();
    let (report, check) = (head.report(), head.check());
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(HeadStage::from(head).inline());
    if let Some(open) = reader.open_blocks() {
        pipe = pipe.stage(open.inline());
    }
    let pipe = pipe
        .stage(check.inline())
        .stage(decompress_salvaging(&log).inline());
    let ended = pipe
        .tail(TailStage::from(StreamTail::new(sink.clone())).inline())
        .run();
    let specials = std::mem::take(&mut *specials.lock().unwrap());
    Outcome {
        bytes: sink.bytes(),
        specials,
        error: ended.err().map(|error| error.to_string()),
        damage: damage_of(&log),
        complete: report.snapshot().complete,
    }
}

/// Asserts that nothing of `found` was never written: bytes may be missing, not changed.
fn assert_no_others(found: &Outcome, good: &Outcome, what: &str) {
    let blocks: Vec<_> = good.bytes.chunks(64).collect();
    let is_known = |bytes: &[u8]| blocks.iter().any(|block| block.starts_with(bytes));
    // Whole blocks are left out, and each has entries of a multiple of 16 bytes at least.
    if found.bytes.len() == good.bytes.len() {
        assert!(found.bytes == good.bytes, "{what}: other bytes");
    } else {
        assert!(found.bytes.len() < good.bytes.len(), "{what}: more bytes");
        let first = &found.bytes[..found.bytes.len().min(16)];
        assert!(
            first.is_empty() || is_known(first) || good.bytes.windows(16).any(|at| at == first)
        );
    }
    let is_given = |special: &Special| good.specials.contains(special);
    assert!(
        found.specials.iter().all(is_given),
        "{what}: {:?}",
        found.specials
    );
}

/// Asserts that a change of the volume is reported, or changes nothing.
fn check(bad: &[u8], secret: Option<&Secret>, good: &Outcome, what: &str) {
    let found = read(bad, secret);
    assert_no_others(&found, good, what);
    let is_named = found.error.is_some() || !found.damage.is_empty();
    let is_same = found.bytes == good.bytes && found.specials == good.specials;
    assert!(is_named || is_same && found.complete, "{what}: {found:?}");
    assert!(is_same || !found.complete, "{what}: {found:?}");
}

#[test]
fn flipped_byte_of_a_tree_archive_is_named() {
    for secret in [None, Some(key(9))] {
        let secret = secret.as_ref();
        let bytes = written(secret, Framing::HeaderFooter);
        let good = read(&bytes, secret);
        assert!(good.complete && good.damage.is_empty(), "{good:?}");
        assert_eq!(good.specials.len(), 2);
        // Each byte in one of the two archives.
        for at in (usize::from(secret.is_some())..bytes.len()).step_by(2) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at / 2 % 8);
            let what = format!(
                "byte {at} of {}, encrypted {}",
                bytes.len(),
                secret.is_some()
            );
            check(&bad, secret, &good, &what);
        }
    }
}

/// The records of each kind of header and footer, which begin records of their own, with those
/// beside them.
#[test]
fn cut_repeated_or_swapped_units_of_a_tree_archive_are_named() {
    for framing in [Framing::Header, Framing::Once, Framing::HeaderFooter] {
        for secret in [None, Some(key(9))] {
            let secret = secret.as_ref();
            let bytes = written(secret, framing);
            let good = read(&bytes, secret);
            let all = frames(&bytes);
            let kinds = kinds_of(&all);
            assert!(kinds.contains(&UnitKind::ArchiveFooter) && kinds.contains(&UnitKind::Locator));
            for (n, frame) in all
                .iter()
                .enumerate()
                .skip(1)
                .filter(|(_, frame)| frame.len() > 4)
            {
                let what = format!("record {n} of {}, {framing:?}", all.len());
                let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>), how: &str| {
                    let mut bad = all.clone();
                    change(&mut bad);
                    check(&bad.concat(), secret, &good, &format!("{what} {how}"));
                };
                changed(&|bad| drop(bad.remove(n)), "dropped");
                changed(&|bad| bad.truncate(n), "and all after it cut");
                changed(&|bad| bad.insert(n, frame.clone()), "repeated");
                for other in n + 1..all.len() {
                    changed(&|bad| bad.swap(n, other), &format!("swapped with {other}"));
                }
            }
        }
    }
}

/// Kinds of the units in the stream.
fn kinds_of(frames: &[Vec<u8>]) -> Vec<UnitKind> {
    let (stream, mut at, mut kinds) = (stream(frames), 0, Vec::new());
    while at < stream.len() {
        let header = UnitHeader::parse(&stream[at..]).unwrap();
        kinds.push(header.kind);
        at += header.unit_len();
    }
    kinds
}
