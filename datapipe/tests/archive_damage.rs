//! Damage: every byte, every length, every record of a small archive. What is hit is found and named, what is not
//! comes back, and nothing wrong is ever given out.

use std::io::Write;
use std::sync::{Arc, Mutex};

use datapipe::archive::{ArchiveOptions, ArchiveReader, ReadOutcome, StreamRestore};
use datapipe::crypto::{Key, Secret};
use datapipe::media::VirtualTape;
use datapipe::prelude::*;
use datapipe::stage::{DamageLog, decompress_salvaging};
use datapipe::testkit::{FaultyStorage, Random};
use datapipe::wire::{Framing, looks_like_record};

const BLOCK: usize = 512;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

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
            bytes.push(if block % 2 == 0 { noise } else { 1 + (block + i / 64) as u8 });
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
    let tape = VirtualTape::create_on(storage.clone(), "/t", false, None).unwrap();
    let head = HeadStage::from(StreamHead::new(data)).inline();
    let mut pipe = Pipe::builder().buffer_size(BLOCK as u32).head(head).stage(Zstd::level(1).inline());
    if let Some(seal) = archive.seal() {
        pipe = pipe.stage(seal.inline());
    }
    pipe.tail(TailStage::from(archive.tail(tape)).inline()).run().unwrap();
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
    let reader = match ArchiveReader::open(tape, secret(encrypted).as_ref()) {
        Ok(reader) => reader,
        Err(error) => return Salvaged { refused: Some(error.to_string()), ..Salvaged::default() },
    };
    let (log, sink) = (DamageLog::new(), Sink::default());
    let reader = reader.salvage(&log);
    let (report, open) = (reader.report(), reader.open_blocks());
    let mut pipe =
        Pipe::builder().buffer_size(BLOCK as u32).head(HeadStage::from(reader.into_head()).inline());
    if let Some(open) = open {
        pipe = pipe.stage(open.inline());
    }
    let tail = TailStage::from(StreamRestore::new(sink.clone())).inline();
    let ended = pipe.stage(decompress_salvaging(&log).inline()).tail(tail).run();
    let refused = ended.err().map(|error| error.to_string());
    let bytes = sink.0.lock().unwrap().clone();
    let damage = log.entries().iter().map(ToString::to_string).collect();
    Salvaged { bytes, outcome: report.outcome(), damage, refused }
}

/// Blocks that did not come back; panics if anything came back that was never archived.
fn lost(salvaged: &Salvaged, data: &[u8], what: &str) -> usize {
    assert!(salvaged.bytes.len() <= data.len(), "{what}: more came out than went in");
    let mut got = salvaged.bytes.clone();
    got.resize(data.len(), 0);
    let blocks = got.chunks(BLOCK).zip(data.chunks(BLOCK));
    let mut lost = 0;
    for (number, (got, sent)) in blocks.enumerate() {
        if got != sent {
            assert!(got.iter().all(|&byte| byte == 0), "{what}: block {number} came back wrong\n{salvaged:#?}");
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
