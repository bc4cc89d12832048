//! Archives made by recipes: a recipe means the same bytes in every test.

use std::path::Path;

use datapipe::archive::ReadOutcome;
use datapipe::crypto::{Argon2Cost, Identity};
use datapipe::prelude::*;
use datapipe::testkit::Sink;
use datapipe::wire::Framing;

use crate::data;
use crate::medium::{OwnMedium, create_tape, create_volumes, open};

/// Length of a block in bytes.
pub(crate) const BLOCK: usize = 512;
/// Passphrase of archives that have one.
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

/// Protection of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    None,
    /// A key of 32 bytes 07.
    KeyFile,
    Passphrase,
    /// The recipient of an identity of 32 bytes 0b.
    Recipient,
}

/// The identity that opens archives for the recipient.
pub(crate) fn identity() -> Identity {
    Identity::from_bytes([0x0b; 32])
}

/// Compression of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Raw,
    Zstd,
    Deflate,
}

/// Properties of an archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) framing: Framing,
    pub(crate) lock: Lock,
    pub(crate) packing: Packing,
    /// Length of a chunk in bytes.
    pub(crate) chunk: u64,
    /// Records of a volume in a directory, its label included; `None`: one tape.
    pub(crate) volume: Option<u64>,
    /// True if inspection marks block 1 and rejects block 2.
    pub(crate) inspect: bool,
    /// Bytes of data after which the head makes a checkpoint; 0: never.
    pub(crate) checkpoint: u64,
}

/// One chunk on one tape, with zstd.
pub(crate) const PLAIN: Recipe = Recipe {
    framing: Framing::HeaderFooter,
    lock: Lock::None,
    packing: Packing::Zstd,
    chunk: 1 << 20,
    volume: None,
    inspect: false,
    checkpoint: 0,
};

/// Returns the secret that opens archives of this lock.
pub(crate) fn secret(lock: Lock) -> Option<Secret> {
    match lock {
        Lock::None => None,
        Lock::KeyFile => Some(data::key(7)),
        Lock::Passphrase => Some(Secret::Passphrase(
            Passphrase::from_bytes(PASSPHRASE).unwrap(),
        )),
        Lock::Recipient => Some(Secret::Identity(identity())),
    }
}

/// Returns `len` bytes in blocks that differ from each other. Golden vectors are made of them: the
/// same length must always give the same bytes.
pub(crate) fn material(len: usize) -> Vec<u8> {
    data::blocks(len, BLOCK, len as u64)
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

/// Writes an archive of `data` to a new tape, or a new directory, at `path`.
pub(crate) fn write(recipe: Recipe, path: &Path, data: &[u8]) {
    if recipe.volume.is_none() {
        return write_to(recipe, create_tape(path), data);
    }
    // Shorter volumes than the library makes.
    let directory = Box::new(create_volumes(path, None, false));
    write_to(recipe, OwnMedium::new(directory, recipe.volume), data);
}

fn write_to(recipe: Recipe, medium: impl MediumWriter + 'static, data: &[u8]) {
    let mut options = ArchiveOptions::stream("vector")
        .program("vectors")
        .label("vector")
        .framing(recipe.framing)
        .record_len(1024)
        .chunk_len(recipe.chunk)
        .block_len(BLOCK as u32);
    if recipe.lock == Lock::Recipient {
        options = options.recipient(identity().recipient());
    } else if let Some(secret) = secret(recipe.lock) {
        options = options.encrypt_at(
            secret,
            Argon2Cost {
                memory_kib: 64,
                passes: 1,
                lanes: 1,
            },
        );
    }
    let head = HeadStage::from(StreamHead::new(data)).checkpoint_every(recipe.checkpoint);
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(head.inline());
    if recipe.inspect {
        pipe =
            pipe.stage(Stage::inspect("inspect", &InspectionLog::new(), |_| Inspector(0)).inline());
    }
    pipe = match recipe.packing {
        Packing::Raw => pipe,
        Packing::Zstd => pipe.stage(zstd(1).inline()),
        Packing::Deflate => pipe.stage(deflate(6).inline()),
    };
    let archive = options.plan().unwrap();
    let archive = archive
        .map_seal(|seal| seal.inline())
        .map_tail(|tail| tail.inline());
    pipe.archive(archive, medium).run().unwrap();
}

/// Result of reading a tape or a directory.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) bytes: Vec<u8>,
    pub(crate) outcome: ReadOutcome,
    /// The damage that the reader recorded and the error that ended it, one on a line.
    pub(crate) report: String,
}

/// Reads the archive at `path`: up to the first damage, or, if `salvage`, all that can be read.
pub(crate) fn read(path: &Path, lock: Lock, salvage: bool) -> Restored {
    let mut reader = match ArchiveReader::open(open(path), secret(lock).as_ref()) {
        Ok(reader) => reader,
        Err(error) => {
            return Restored {
                report: error.to_string(),
                ..Restored::default()
            };
        }
    };
    let (log, sink) = (DamageLog::new(), Sink::default());
    if salvage {
        reader = reader.salvage(&log);
    }
    let (head, opener) = (reader.head(), reader.open_blocks());
    let (progress, check) = (head.report(), head.check());
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(HeadStage::from(head).inline());
    if let Some(opener) = opener {
        pipe = pipe.stage(opener.inline());
    }
    let unpack = if salvage {
        decompress_salvaging(&log)
    } else {
        decompress()
    };
    let ended = pipe
        .stage(check.inline())
        .stage(unpack.inline())
        .tail(TailStage::from(StreamRestore::new(sink.clone())).inline())
        .run();
    let mut report: Vec<String> = log
        .snapshot()
        .entries
        .iter()
        .map(ToString::to_string)
        .collect();
    report.extend(ended.err().map(|error| error.to_string()));
    let bytes = sink.bytes();
    Restored {
        bytes,
        outcome: progress.snapshot(),
        report: report.join("\n"),
    }
}
