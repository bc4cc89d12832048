//! Archives written and read through whole pipes.

use std::io::Write;
use std::sync::{Arc, Mutex};

use datapipe::archive::{Archive, ArchiveOptions, ArchiveReader, OpenError, ReadOutcome, StreamRestore};
use datapipe::crypto::{Argon2Cost, Key, Passphrase, Secret};
use datapipe::media::{Directory, Medium, VirtualTape, VolumeOptions};
use datapipe::prelude::*;
use datapipe::stage::{DamageLog, Deflate, decompress, decompress_salvaging};
use datapipe::testkit::Random;
use datapipe::wire::{Framing, looks_like_record};

/// A writer whose bytes can be looked at afterwards.
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

fn key(byte: u8) -> Secret {
    Secret::Key(Key::from_bytes([byte; 32]))
}

/// Half of it can be compressed.
fn material(len: usize) -> Vec<u8> {
    let mut random = Random::new(7);
    let mut bytes = Vec::new();
    while bytes.len() < len {
        if random.below(2) == 0 {
            bytes.extend((0..512).map(|_| random.below(256) as u8));
        } else {
            bytes.extend(b"nothing new under the sun, ".iter().cycle().take(700));
        }
    }
    bytes.truncate(len);
    bytes
}

const BLOCK: u32 = 4096;

fn write(archive: &Archive, medium: impl Medium + 'static, data: &[u8]) {
    let mut pipe =
        Pipe::builder().buffer_size(BLOCK).head(StreamHead::new(data)).stage(Zstd::level(3).instances(2));
    if let Some(seal) = archive.seal() {
        pipe = pipe.stage(seal.instances(2));
    }
    pipe.tail(archive.tail(medium)).run().unwrap();
}

fn read(medium: impl Medium + 'static, secret: Option<&Secret>) -> Result<(Vec<u8>, ReadOutcome), String> {
    let reader = ArchiveReader::open(medium, secret).map_err(|error| error.to_string())?;
    let (report, sink) = (reader.report(), Sink::default());
    let open = reader.open_blocks();
    let mut pipe = Pipe::builder().buffer_size(BLOCK).head(reader.into_head());
    if let Some(open) = open {
        pipe = pipe.stage(open.instances(2));
    }
    pipe = pipe.stage(decompress().instances(2)).tail(StreamRestore::new(sink.clone()));
    pipe.run().map_err(|error| error.to_string())?;
    let bytes = sink.0.lock().unwrap().clone();
    Ok((bytes, report.outcome()))
}

#[test]
fn what_goes_in_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    for (i, framing) in [Framing::Header, Framing::Once, Framing::HeaderFooter].into_iter().enumerate() {
        for encrypted in [false, true] {
            for len in [0, 1, 4096, 300_000] {
                let data = material(len);
                let path = dir.path().join(format!("{i}-{encrypted}-{len}.tap"));
                let mut options = ArchiveOptions::new("test")
                    .framing(framing)
                    .record_len(2048)
                    .chunk_len(50_000)
                    .block_len(BLOCK);
                if encrypted {
                    options = options.encrypt(key(7));
                }
                let archive = options.plan().unwrap();
                write(&archive, VirtualTape::create(&path, Default::default()).unwrap(), &data);
                let secret = encrypted.then(|| key(7));
                let tape = VirtualTape::open(&path, looks_like_record).unwrap();
                let (bytes, outcome) = read(tape, secret.as_ref()).unwrap();
                assert!(bytes == data, "{framing:?} {encrypted} {len}: {} bytes", bytes.len());
                assert!(outcome.complete && outcome.missing == 0);
                assert_eq!(outcome.blocks, len.div_ceil(BLOCK as usize) as u64);
            }
        }
    }
}
