//! Writes archives, and reads and salvages them, for all tests of archives.

use datapipe::archive::{Archive, ReadOutcome, Reading};
use datapipe::media::{TapeReader, TapeWriter};
use datapipe::prelude::*;
use datapipe::stage::IntoHead;
use datapipe::testkit::{FaultyStorage, Sink, archive_stages};
use datapipe::wire::{Framing, RecordHeader, RecordKind, VOLUME_RECORD_LEN, looks_like_record};

/// Path of the tapes in a [`FaultyStorage`].
pub(crate) const TAPE: &str = "/t";

pub(crate) const FRAMINGS: [Framing; 3] = [Framing::Header, Framing::Once, Framing::HeaderFooter];

/// Returns the options of an archive of small records, of a stream.
pub(crate) fn options(name: &str, record: usize, chunk: u64, block: u32) -> ArchiveOptions {
    small(ArchiveOptions::stream(name), record, chunk, block)
}

/// Returns the options of an archive of small records, of the kind that `options` has.
pub(crate) fn small(
    options: ArchiveOptions,
    record: usize,
    chunk: u64,
    block: u32,
) -> ArchiveOptions {
    options.record_len(record).chunk_len(chunk).block_len(block)
}

/// Encrypts an archive with `secret`, if there is one.
pub(crate) fn encrypted(options: ArchiveOptions, secret: Option<&Secret>) -> ArchiveOptions {
    match secret {
        Some(secret) => options.encrypt(secret.clone()),
        None => options,
    }
}

/// Creates the tape of a storage.
pub(crate) fn create_tape(storage: &FaultyStorage) -> TapeWriter<FaultyStorage> {
    VirtualTape::create_on(storage.clone(), TAPE, VolumeOptions::default()).unwrap()
}

/// Opens the tape of a storage.
pub(crate) fn open_tape(
    storage: &FaultyStorage,
) -> Result<TapeReader<FaultyStorage>, datapipe::media::MediumError> {
    VirtualTape::open_on(storage.clone(), TAPE, looks_like_record)
}

/// Opens a tape with these bytes.
pub(crate) fn tape(bytes: &[u8]) -> TapeReader<FaultyStorage> {
    let storage = FaultyStorage::new(1);
    storage.set_bytes(TAPE, bytes);
    open_tape(&storage).unwrap()
}

/// Placement of the stages of a pipe.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// All on the calling thread: fast for small archives.
    Inline,
    /// A thread for each instance.
    Threads,
}

impl Run {
    fn place<W>(self, stage: impl Into<Stage<W>>) -> Stage<W> {
        match self {
            Self::Inline => stage.into().inline(),
            Self::Threads => stage.into(),
        }
    }
}

/// Stages of an archive on a new tape, and the storage of the tape.
pub(crate) type Planned<'a> = (FaultyStorage, Option<MiddleStage<'a>>, TailStage<'a>);

/// Plans an archive on a new tape.
pub(crate) fn planned<'a>(options: ArchiveOptions) -> Planned<'a> {
    let storage = FaultyStorage::new(1);
    let (seal, tail) = archive_stages(options.plan().unwrap(), create_tape(&storage));
    (storage, seal, tail)
}

/// Writes an archive of the blocks of `head`, compressed by two instances.
pub(crate) fn write<'a>(
    archive: Archive,
    medium: impl MediumWriter + 'static,
    head: impl IntoHead<'a>,
    block: u32,
) {
    Pipe::builder()
        .buffer_size(block)
        .head(head)
        .stage(zstd(3).instances(2))
        .archive(archive.map_seal(|seal| seal.instances(2)), medium)
        .run()
        .unwrap();
}

/// Returns the bytes of a tape with an archive of `data`, in blocks of `block` bytes, without the
/// volume record.
pub(crate) fn volume(options: ArchiveOptions, data: &[u8], block: u32) -> Vec<u8> {
    let (storage, seal, tail) = planned(options);
    let head = HeadStage::from(StreamHead::new(data)).inline();
    let mut pipe = Pipe::builder()
        .buffer_size(block)
        .head(head)
        .stage(zstd(1).inline());
    if let Some(seal) = seal {
        pipe = pipe.stage(seal.inline());
    }
    pipe.tail(tail.inline()).run().unwrap();
    storage
        .bytes(TAPE)
        .unwrap()
        .split_off(8 + VOLUME_RECORD_LEN)
}

/// Reads an archive with a reader that stops at the first damage.
pub(crate) fn read(
    medium: impl MediumReader + 'static,
    secret: Option<&Secret>,
    block: u32,
) -> Result<(Vec<u8>, ReadOutcome), String> {
    let reader = ArchiveReader::open(medium, secret).map_err(|error| error.to_string())?;
    let (head, sink) = (reader.head(), Sink::default());
    let (report, check) = (head.report(), head.check());
    let mut pipe = Pipe::builder().buffer_size(block).head(head);
    if let Some(open) = reader.open_blocks() {
        pipe = pipe.stage(open.instances(2));
    }
    pipe.stage(check)
        .stage(decompress().instances(2))
        .tail(StreamRestore::new(sink.clone()))
        .run()
        .map_err(|error| error.to_string())?;
    Ok((sink.bytes(), report.snapshot()))
}

/// Result of a salvage.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    pub(crate) bytes: Vec<u8>,
    pub(crate) outcome: ReadOutcome,
    pub(crate) damage: Vec<String>,
    /// The error that ended the salvage, or that prevented it.
    pub(crate) error: Option<String>,
}

impl Salvaged {
    /// True if the archive is complete and the reader found nothing wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.error.is_none() && self.outcome.complete
    }

    /// True if some damage is described with `words`.
    pub(crate) fn mentions(&self, words: &str) -> bool {
        self.damage.iter().any(|damage| damage.contains(words))
    }
}

/// Returns the texts of the damage in a log.
pub(crate) fn damage_of(log: &DamageLog) -> Vec<String> {
    let damage = log.snapshot().entries;
    damage.iter().map(ToString::to_string).collect()
}

/// Returns the data of an archive, or of some of its blocks, and true if it is complete.
pub(crate) fn restored(reading: Reading) -> (Vec<u8>, bool) {
    let sink = Sink::default();
    let tail = StreamRestore::new(sink.clone());
    reading.pipe.tail(tail).run().unwrap();
    (sink.bytes(), reading.report.snapshot().complete)
}

/// Reads an archive with a reader that continues after damage, and records the damage in `log`.
pub(crate) fn salvage(
    medium: impl MediumReader + 'static,
    secret: Option<&Secret>,
    log: &DamageLog,
    block: u32,
    run: Run,
) -> Salvaged {
    let reader = match ArchiveReader::open(medium, secret) {
        Ok(reader) => reader.salvage(log),
        Err(error) => {
            return Salvaged {
                error: Some(error.to_string()),
                ..Salvaged::default()
            };
        }
    };
    let (head, sink) = (reader.head(), Sink::default());
    let (report, check) = (head.report(), head.check());
    let mut pipe = Pipe::builder().buffer_size(block).head(run.place(head));
    if let Some(open) = reader.open_blocks() {
        pipe = pipe.stage(run.place(open));
    }
    let ended = pipe
        .stage(run.place(check))
        .stage(run.place(decompress_salvaging(log)))
        .tail(run.place(StreamRestore::new(sink.clone())))
        .run();
    Salvaged {
        bytes: sink.bytes(),
        outcome: report.snapshot(),
        damage: damage_of(log),
        error: ended.err().map(|error| error.to_string()),
    }
}

/// Returns the number of blocks of `data` that are not in `bytes`. Panics if a block has content
/// that was never archived: a lost block is zeros.
pub(crate) fn lost(bytes: &[u8], data: &[u8], block: u32, context: &str) -> usize {
    assert!(
        bytes.len() <= data.len(),
        "{context}: more was restored than archived"
    );
    let mut got = bytes.to_vec();
    got.resize(data.len(), 0);
    let blocks = got.chunks(block as usize).zip(data.chunks(block as usize));
    let mut lost = 0;
    for (number, (got, sent)) in blocks.enumerate() {
        if got != sent {
            assert!(
                got.iter().all(|&byte| byte == 0),
                "{context}: block {number} has wrong content"
            );
            lost += 1;
        }
    }
    lost
}

/// Returns the header and the content of a data record in its frame.
pub(crate) fn content(frame: &[u8]) -> Option<(RecordHeader, &[u8])> {
    let (header, content) = RecordHeader::parse(frame.get(4..frame.len().checked_sub(4)?)?).ok()?;
    (header.kind == RecordKind::Data).then_some((header, content))
}

/// Returns the stream that the data records of a volume carry.
pub(crate) fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
    frames
        .iter()
        .filter_map(|frame| content(frame))
        .flat_map(|(_, bytes)| bytes.to_vec())
        .collect()
}
