//! Archives for tests: made in one place, so that a recipe means the same bytes for all.
#![allow(dead_code, reason = "each test uses its part of it")]

use std::path::Path;

use datapipe::archive::{ArchiveOptions, ArchiveReader, ReadOutcome, StreamRestore};
use datapipe::crypto::{Argon2Cost, Key, Passphrase, Secret};
use datapipe::media::{
    Item, Medium, MediumError, Position, VirtualTape, VolumeDirectory, VolumeOptions,
};
use datapipe::prelude::*;
use datapipe::stage::{DamageLog, Deflate, decompress, decompress_salvaging};
use datapipe::testkit::{Random, Sink};
use datapipe::wire::Framing;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 512;
/// The passphrase of archives that have one.
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    None,
    /// 32 times 07.
    KeyFile,
    Passphrase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Raw,
    Zstd,
    Deflate,
}

/// How an archive is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) framing: Framing,
    pub(crate) lock: Lock,
    pub(crate) packing: Packing,
    /// Bytes of a chunk.
    pub(crate) chunk: u64,
    /// Records of a volume in a directory, its label included; `None`: one tape.
    pub(crate) volume: Option<u64>,
    /// Whether inspection marks block 1 and rejects block 2.
    pub(crate) inspect: bool,
}

/// One chunk on one tape, with zstd.
pub(crate) const PLAIN: Recipe = Recipe {
    framing: Framing::HeaderFooter,
    lock: Lock::None,
    packing: Packing::Zstd,
    chunk: 1 << 20,
    volume: None,
    inspect: false,
};

/// What opens archives of this lock.
pub(crate) fn secret(lock: Lock) -> Option<Secret> {
    match lock {
        Lock::None => None,
        Lock::KeyFile => Some(Secret::Key(Key::from_bytes([7; 32]))),
        Lock::Passphrase => Some(Secret::Passphrase(
            Passphrase::from_bytes(PASSPHRASE).unwrap(),
        )),
    }
}

/// Blocks that differ from each other, have no zeros, and every second of which can be compressed.
pub(crate) fn material(len: usize) -> Vec<u8> {
    let mut random = Random::new(len as u64);
    let noise_or_not = |i: usize| {
        let noise = 1 + random.below(255) as u8;
        if (i / BLOCK).is_multiple_of(2) {
            noise
        } else {
            1 + (i / 64 % 255) as u8
        }
    };
    (0..len).map(noise_or_not).collect()
}

/// Marks block 1 and rejects block 2.
struct Inspector(u64);

impl Inspect for Inspector {
    fn inspect(&mut self, _: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
        self.0 += 1;
        Ok(match self.0 {
            2 => Finding::Mark,
            3 => Finding::Reject,
            _ => Finding::Pass,
        })
    }
}

/// A directory whose volumes end after some records, which is less than the smallest size that one
/// may ask for.
struct Short {
    directory: VolumeDirectory,
    records: u64,
    written: u64,
}

impl Medium for Short {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        if self.written == self.records {
            return Err(MediumError::EndOfVolume { volume: 0 });
        }
        self.written += 1;
        self.directory.write(record)
    }
    fn write_mark(&mut self) -> Result<(), MediumError> {
        self.directory.write_mark()
    }
    fn sync(&mut self) -> Result<(), MediumError> {
        self.directory.sync()
    }
    fn next_volume(&mut self) -> Result<bool, MediumError> {
        self.written = 0;
        self.directory.next_volume()
    }
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.directory.read(record)
    }
    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.directory.read_back(record)
    }
    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        self.directory.seek_end(volume)
    }
    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        self.directory.seek(to)
    }
}

/// Writes an archive of `data` to a tape, or a directory, at `path`, where nothing is.
pub(crate) fn write(recipe: Recipe, path: &Path, data: &[u8]) {
    let Some(records) = recipe.volume else {
        return write_to(
            recipe,
            VirtualTape::create(path, VolumeOptions::default()).unwrap(),
            data,
        );
    };
    let directory = VolumeDirectory::create(path, VolumeOptions::default()).unwrap();
    write_to(
        recipe,
        Short {
            directory,
            records,
            written: 0,
        },
        data,
    );
}

fn write_to(recipe: Recipe, medium: impl Medium + 'static, data: &[u8]) {
    let mut options = ArchiveOptions::stream("vector")
        .program("vectors")
        .framing(recipe.framing)
        .record_len(1024)
        .chunk_len(recipe.chunk)
        .block_len(BLOCK as u32);
    if let Some(secret) = secret(recipe.lock) {
        options = options.encrypt_at(
            secret,
            Argon2Cost {
                memory_kib: 64,
                passes: 1,
                lanes: 1,
            },
        );
    }
    let (seal, tail) = options.plan().unwrap().stages(medium);
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(HeadStage::from(StreamHead::new(data)).inline());
    if recipe.inspect {
        pipe =
            pipe.stage(Stage::inspect("inspect", &InspectionLog::new(), |_| Inspector(0)).inline());
    }
    pipe = match recipe.packing {
        Packing::Raw => pipe,
        Packing::Zstd => pipe.stage(Zstd::level(1).inline()),
        Packing::Deflate => pipe.stage(Deflate::level(6).inline()),
    };
    if let Some(seal) = seal {
        pipe = pipe.stage(seal.inline());
    }
    pipe.tail(TailStage::from(tail).inline()).run().unwrap();
}

/// What comes out of a tape or a directory.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) bytes: Vec<u8>,
    pub(crate) outcome: ReadOutcome,
    /// The error that ended it, or the damage that it went on behind: one a line.
    pub(crate) said: String,
}

/// Reads what is at `path`: to the first damage, or behind all of it.
pub(crate) fn read(path: &Path, lock: Lock, salvage: bool) -> Restored {
    if path.is_dir() {
        read_from(VolumeDirectory::open(path).unwrap(), lock, salvage)
    } else {
        read_from(VirtualTape::open(path).unwrap(), lock, salvage)
    }
}

fn read_from(medium: impl Medium + 'static, lock: Lock, salvage: bool) -> Restored {
    let mut reader = match ArchiveReader::open(medium, secret(lock).as_ref()) {
        Ok(reader) => reader,
        Err(error) => {
            return Restored {
                said: error.to_string(),
                ..Restored::default()
            };
        }
    };
    let (log, sink) = (DamageLog::new(), Sink::default());
    if salvage {
        reader = reader.salvage(&log);
    }
    let (head, open) = (reader.head(), reader.open_blocks());
    let report = head.report();
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(HeadStage::from(head).inline());
    if let Some(open) = open {
        pipe = pipe.stage(open.inline());
    }
    let unpack = if salvage {
        decompress_salvaging(&log)
    } else {
        decompress()
    };
    let ended = pipe
        .stage(unpack.inline())
        .tail(TailStage::from(StreamRestore::new(sink.clone())).inline())
        .run();
    let mut said: Vec<String> = log.entries().iter().map(ToString::to_string).collect();
    said.extend(ended.err().map(|error| error.to_string()));
    let bytes = sink.bytes();
    Restored {
        bytes,
        outcome: report.outcome(),
        said: said.join("\n"),
    }
}
