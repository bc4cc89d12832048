//! What once went wrong with archives, each told by its test.

use std::sync::{Arc, Mutex};

use datapipe::archive::{ArchiveTail, ReadOutcome};
use datapipe::media::{Item, MediumError, Position};
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Random, Sink, frames};
use datapipe::wire::{Framing, RecordHeader, RecordKind, UnitHeader, UnitKind, looks_like_record};

fn key(byte: u8) -> Secret {
    Secret::Key(Key::from_bytes([byte; 32]))
}

fn small() -> ArchiveOptions {
    ArchiveOptions::new("small").record_len(1024).block_len(512)
}

/// Noise without zeros, so that a block of zeros is one that is lost.
fn noise(len: usize) -> Vec<u8> {
    let mut random = Random::new(3);
    (0..len).map(|_| 1 + random.below(255) as u8).collect()
}

/// The stages of an archive on a new tape, and the storage that it lies on.
type Planned<'a> = (
    FaultyStorage,
    Option<MiddleStage<'a>>,
    ArchiveTail<VirtualTape<FaultyStorage>>,
);

fn planned<'a>(options: ArchiveOptions) -> Planned<'a> {
    let storage = FaultyStorage::new(1);
    let tape = VirtualTape::create_on(storage.clone(), "/t", VolumeOptions::default()).unwrap();
    let (seal, tail) = options.plan().unwrap().stages(tape);
    (storage, seal, tail)
}

/// The volume that `data` makes, in blocks of so many bytes.
fn volume(options: ArchiveOptions, data: &[u8], block: u32) -> Vec<u8> {
    let (storage, seal, tail) = planned(options);
    let head = HeadStage::from(StreamHead::new(data)).inline();
    let mut pipe = Pipe::builder()
        .buffer_size(block)
        .head(head)
        .stage(Zstd::level(1).inline());
    if let Some(seal) = seal {
        pipe = pipe.stage(seal.inline());
    }
    pipe.tail(TailStage::from(tail).inline()).run().unwrap();
    storage.bytes("/t").unwrap()
}

fn tape(bytes: &[u8]) -> VirtualTape<FaultyStorage> {
    let storage = FaultyStorage::new(1);
    storage.set_bytes("/t", bytes);
    VirtualTape::open_on(storage, "/t", looks_like_record).unwrap()
}

type Read = (Vec<u8>, ReadOutcome, Vec<String>, Result<(), String>);

/// What a salvaging reader gets, and what it has to say.
fn salvage(
    medium: impl Medium + 'static,
    secret: Option<&Secret>,
    log: &DamageLog,
    block: u32,
) -> Read {
    let reader = ArchiveReader::open(medium, secret).unwrap().salvage(log);
    let (sink, head, open) = (Sink::default(), reader.head(), reader.open_blocks());
    let report = head.report();
    let head = HeadStage::from(head).inline();
    let mut pipe = Pipe::builder().buffer_size(block).head(head);
    if let Some(open) = open {
        pipe = pipe.stage(open.inline());
    }
    let tail = TailStage::from(StreamRestore::new(sink.clone())).inline();
    let ended = pipe
        .stage(decompress_salvaging(log).inline())
        .tail(tail)
        .run();
    let bytes = sink.bytes();
    let damage = log.entries().iter().map(ToString::to_string).collect();
    (
        bytes,
        report.outcome(),
        damage,
        ended.map(drop).map_err(|error| error.to_string()),
    )
}

/// What a reader that stops at damage gets.
fn read(
    bytes: &[u8],
    secret: Option<&Secret>,
    block: u32,
) -> Result<(Vec<u8>, ReadOutcome), String> {
    let reader = ArchiveReader::open(tape(bytes), secret).map_err(|error| error.to_string())?;
    let (sink, head, open) = (Sink::default(), reader.head(), reader.open_blocks());
    let report = head.report();
    let mut pipe = Pipe::builder().buffer_size(block).head(head);
    if let Some(open) = open {
        pipe = pipe.stage(open);
    }
    let ended = pipe
        .stage(decompress())
        .tail(StreamRestore::new(sink.clone()))
        .run();
    ended.map_err(|error| error.to_string())?;
    let bytes = sink.bytes();
    Ok((bytes, report.outcome()))
}

/// Blocks of 512 bytes that did not come back.
fn lost(got: &[u8], data: &[u8]) -> usize {
    let mut got = got.to_vec();
    got.resize(data.len(), 0);
    got.chunks(512)
        .zip(data.chunks(512))
        .filter(|(got, sent)| got != sent)
        .count()
}

/// A frame around a record.
fn frame(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u32).to_le_bytes();
    [&length[..], record, &length].concat()
}

/// The content of a frame with a data record, and its header.
fn content(frame: &[u8]) -> Option<(RecordHeader, &[u8])> {
    let (header, content) = RecordHeader::parse(frame.get(4..frame.len().checked_sub(4)?)?).ok()?;
    (header.kind == RecordKind::Data).then_some((header, content))
}

/// The units of a volume's stream, with their bodies.
fn units(volume: &[u8]) -> Vec<(UnitHeader, Vec<u8>)> {
    let frames = frames(volume);
    let stream: Vec<u8> = frames
        .iter()
        .filter_map(|f| content(f))
        .flat_map(|(_, b)| b.to_vec())
        .collect();
    let (mut at, mut units) = (0, Vec::new());
    while at < stream.len() {
        let header = UnitHeader::parse(&stream[at..]).unwrap();
        units.push((
            header,
            stream[at + 64..at + 64 + header.stored as usize].to_vec(),
        ));
        at += header.unit_len();
    }
    units
}

/// A pipe without the stage that decompresses once wrote the compressed bytes to the destination,
/// and ended well.
#[test]
fn blocks_that_are_still_compressed_or_encrypted_are_not_restored() {
    for secret in [None, Some(key(1))] {
        let mut options = small();
        if let Some(secret) = &secret {
            options = options.encrypt(secret.clone());
        }
        let reader =
            ArchiveReader::open(tape(&volume(options, &[b'a'; 5000], 512)), secret.as_ref())
                .unwrap();
        let sink = Sink::default();
        let pipe = Pipe::builder().buffer_size(512).head(reader.head());
        let text = pipe
            .tail(StreamRestore::new(sink.clone()))
            .run()
            .unwrap_err()
            .to_string();
        assert!(text.contains("block 0 is still"), "{text}");
        assert!(sink.bytes().is_empty());
    }
}

/// The ninth secret was wrapped, and its slot then left out: whoever had it could not read the
/// archive.
#[test]
fn a_secret_that_has_no_slot_is_refused() {
    let options = |secrets: u8| (0..secrets).fold(small(), |options, n| options.encrypt(key(n)));
    let bytes = volume(options(8), &noise(1000), 512);
    assert!(read(&bytes, Some(&key(7)), 512).is_ok());
    let text = options(9).plan().unwrap_err().to_string();
    assert!(text.contains("9 secrets") && text.contains("8"), "{text}");
}

/// A header that claims a long block, and then a tape full of records that are none of it.
struct Hostile {
    records: Vec<Vec<u8>>,
    at: usize,
    left: u64,
    log: DamageLog,
    told: Arc<Mutex<u64>>,
}

impl Medium for Hostile {
    fn write(&mut self, _: &[u8]) -> Result<Position, MediumError> {
        unreachable!()
    }
    fn write_mark(&mut self) -> Result<(), MediumError> {
        unreachable!()
    }
    fn sync(&mut self) -> Result<(), MediumError> {
        unreachable!()
    }
    fn next_volume(&mut self) -> Result<bool, MediumError> {
        Ok(false)
    }
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let place = Position {
            volume: 1,
            record: self.at as u64,
            byte: 0,
        };
        self.at += 1;
        if let Some(next) = self.records.get(self.at - 1) {
            record.clone_from(next);
            return Ok(Item::Record(place));
        }
        let read = (self.at - self.records.len()) as u64;
        if read > self.left {
            return Ok(Item::End);
        }
        let mut told = self.told.lock().unwrap();
        *told = (*told).max(read.saturating_sub(self.log.count()));
        // The label again and again: a record that stands behind a later one.
        record.clone_from(&self.records[0]);
        Ok(Item::Record(place))
    }
    fn read_back(&mut self, _: &mut Vec<u8>) -> Result<Item, MediumError> {
        unreachable!()
    }
    fn seek_end(&mut self, _: Option<u32>) -> Result<(), MediumError> {
        unreachable!()
    }
    fn seek(&mut self, _: Position) -> Result<(), MediumError> {
        self.at = 0;
        Ok(())
    }
}

/// What was wrong with the records behind such a header was kept until the block was whole:
/// gigabytes, on a tape of tiny records.
#[test]
fn damage_is_told_while_a_long_block_is_waited_for() {
    let good = frames(&volume(small(), &noise(512), 512));
    let records: Vec<Vec<u8>> = good[..2]
        .iter()
        .map(|f| f[4..f.len() - 4].to_vec())
        .collect();
    let (last, _) = content(&good[1]).unwrap();
    let position = last.position + u64::from(last.length);
    let [a, b, c, d, ..] = last.session;
    let claims = UnitHeader {
        archive: 1,
        plain: 64 << 20,
        stored: 64 << 20,
        position,
        session: [a, b, c, d],
        ..UnitHeader::new(UnitKind::Block)
    };
    let header = RecordHeader {
        sequence: 2,
        length: 64,
        position,
        first: Some(0),
        ..last
    };
    let long = [&header.to_bytes()[..], &claims.to_bytes()].concat();
    let (log, told) = (DamageLog::new(), Arc::new(Mutex::new(0)));
    let records = [records, vec![long]].concat();
    let medium = Hostile {
        records,
        at: 0,
        left: 10_000,
        log: log.clone(),
        told: Arc::clone(&told),
    };
    let (.., ended) = salvage(medium, None, &log, 512);
    assert_eq!(ended, Ok(()));
    assert!(log.count() >= 10_000);
    let most = *told.lock().unwrap();
    assert!(most < 100, "{most} findings were kept in memory");
}

/// A record whose header is damaged is taken for the one that should stand there. Where blocks
/// cross from record to record, that was done once in a chunk, and the intact blocks of all later
/// ones were lost.
#[test]
fn every_record_with_a_damaged_header_gives_its_blocks() {
    let data = noise(100 * 512);
    let mut frames = frames(&volume(small(), &data, 512));
    for damaged in [9, 10, 13, 20, 40] {
        frames[damaged][4 + 20] ^= 1;
    }
    let (bytes, _, damage, _) = salvage(tape(&frames.concat()), None, &DamageLog::new(), 512);
    assert_eq!(lost(&bytes, &data), 0, "{damage:#?}");
    assert_eq!(damage.len(), 5, "{damage:#?}");
}

/// A record of noise between two records was taken for the second, which was then one too many: its
/// intact blocks were lost.
#[test]
fn a_record_of_noise_does_not_cost_the_record_behind_it() {
    let data = noise(60 * 512);
    let good = frames(&volume(small().record_len(4096), &data, 512));
    for at in 1..good.len() {
        for len in [4096, 1000, 72] {
            let mut frames = good.clone();
            frames.insert(at, frame(&noise(len)));
            let (bytes, outcome, damage, _) =
                salvage(tape(&frames.concat()), None, &DamageLog::new(), 512);
            let lost = lost(&bytes, &data);
            assert!(
                lost <= 2,
                "{len} bytes before record {at}: {lost} blocks are lost\n{damage:#?}"
            );
            assert!(
                outcome.complete && !damage.is_empty(),
                "{len} bytes before record {at}\n{damage:#?}"
            );
        }
    }
}

/// A salvaging pipe with small buffers once reported every compressed block as damaged, and
/// restored zeros.
#[test]
fn small_buffers_are_no_damage() {
    let bytes = volume(small().block_len(8192), &[b'a'; 50_000], 8192);
    let (got, _, damage, ended) = salvage(tape(&bytes), None, &DamageLog::new(), 4096);
    let text = ended.expect_err(&format!("{} bytes, {damage:#?}", got.len()));
    assert!(
        text.contains("8192") && text.contains("use larger ones"),
        "{text}"
    );
    assert!(damage.is_empty(), "{damage:#?}");
}

/// If the last block filled its chunk, the one footer of all chunks was not written, and two marks
/// in a row stood before the locator: the sign of the session's end.
#[test]
fn an_archive_may_end_with_a_full_chunk() {
    for framing in [Framing::Header, Framing::Once, Framing::HeaderFooter] {
        let bytes = volume(small().framing(framing).chunk_len(0), &noise(5 * 512), 512);
        let footers = units(&bytes)
            .iter()
            .filter(|(header, _)| header.kind == UnitKind::ChunkFooter)
            .count();
        let wanted = match framing {
            Framing::Header => 0,
            Framing::Once => 1,
            Framing::HeaderFooter => 5,
        };
        assert_eq!(footers, wanted, "{framing:?}");
        let marks: Vec<bool> = frames(&bytes)
            .iter()
            .map(|frame| frame.len() == 4)
            .collect();
        let double = marks.windows(2).position(|two| two == [true, true]);
        assert_eq!(double, Some(marks.len() - 2), "{framing:?}: {marks:?}");
        assert_eq!(read(&bytes, None, 512).unwrap().0, noise(5 * 512));
    }
}

/// A head that does not say where its blocks lie.
struct NoOffsets(u32);

impl Head for NoOffsets {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.0 == 0 {
            return Ok(Fill::End);
        }
        self.0 -= 1;
        block.put(&[7; 500])?;
        Ok(Fill::Block)
    }
}

/// Such an archive was written without a word, and could not be restored: all of its blocks began
/// at byte 0.
#[test]
fn blocks_that_could_not_be_restored_are_not_written() {
    let (_, _, tail) = planned(small());
    let error = Pipe::builder()
        .buffer_size(512)
        .head(NoOffsets(3))
        .tail(tail)
        .run()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("block 1") && error.contains("BlockInfo::offset"),
        "{error}"
    );
}

struct Harm;

impl InPlace for Harm {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        if block.number() == 1 {
            block.clear();
            info.marks = info.marks.with(Marks::DAMAGED);
        }
        block.set_info(info);
        Ok(Verdict::Send)
    }
}

/// The copy of a damaged archive looked whole: what was lost in the first were zeros in the second,
/// and nobody said so.
#[test]
fn damaged_blocks_do_not_become_whole_in_a_copy() {
    let (_, _, tail) = planned(small());
    let data = noise(4 * 512);
    let pipe = Pipe::builder()
        .buffer_size(512)
        .head(StreamHead::new(&data[..]));
    let error = pipe
        .stage(Stage::in_place("harm", |_| Harm))
        .tail(tail)
        .run();
    let text = error
        .expect_err("a damaged block was archived as if it were whole")
        .to_string();
    assert!(text.contains("block 1 is damaged"), "{text}");
}

/// The locator named the record in which a chunk's footer ends.
#[test]
fn the_locator_names_the_record_in_which_a_footer_begins() {
    let bytes = volume(small().chunk_len(40_000), &noise(200 * 512), 512);
    let frames = frames(&bytes);
    let units = units(&bytes);
    let locator = units
        .iter()
        .find(|(header, _)| header.kind == UnitKind::Locator)
        .unwrap();
    let locator = datapipe::wire::Locator::parse(&locator.1).unwrap();
    let footers: Vec<u64> = units
        .iter()
        .filter(|(header, _)| header.kind == UnitKind::ChunkFooter)
        .map(|(h, _)| h.position)
        .collect();
    assert!(footers.len() > 1 && footers.len() == locator.chunks.len());
    for (chunk, footer) in locator.chunks.iter().zip(footers) {
        let (_, record) = chunk.footer.unwrap();
        let (header, content) = content(&frames[record as usize]).unwrap();
        let range = header.position..header.position + content.len() as u64;
        assert!(
            range.contains(&footer),
            "the footer at {footer} is said to stand in {range:?}"
        );
    }
}

/// A tape is longer than what was written to it last: what an older session left there was taken
/// for damage.
#[test]
fn what_follows_a_session_belongs_to_nobody() {
    let data = noise(5000);
    let (new, old) = (
        volume(small(), &data, 512),
        volume(small(), &noise(9000), 512),
    );
    let (bytes, outcome) = read(&[new, old].concat(), None, 512).unwrap();
    assert!(bytes == data && outcome.complete);
}

struct Nothing;

impl Inspect for Nothing {
    fn inspect(&mut self, _: &[u8], info: &BlockInfo) -> Result<Finding, StageError> {
        Ok(if info.offset >= 1024 {
            Finding::Reject
        } else {
            Finding::Mark
        })
    }
}

/// Blocks that inspection had rejected came back as zeros, or not at all, and nothing said so.
#[test]
fn a_reader_says_how_many_blocks_were_rejected() {
    for secret in [None, Some(key(1))] {
        let mut options = small();
        if let Some(secret) = &secret {
            options = options.encrypt(secret.clone());
        }
        let data = noise(5 * 512);
        let (storage, seal, tail) = planned(options);
        let pipe = Pipe::builder()
            .buffer_size(512)
            .head(StreamHead::new(&data[..]));
        let mut pipe = pipe.stage(Stage::inspect("nothing", &InspectionLog::new(), |_| {
            Nothing
        }));
        if let Some(seal) = seal {
            pipe = pipe.stage(seal);
        }
        pipe.tail(tail).run().unwrap();
        let (bytes, outcome) = read(&storage.bytes("/t").unwrap(), secret.as_ref(), 512).unwrap();
        assert!(bytes[..1024] == data[..1024] && bytes[1024..].iter().all(|&byte| byte == 0));
        assert!(
            outcome.complete && outcome.blocks == 5 && outcome.rejected == 3,
            "{outcome:?}"
        );
    }
}

/// A full disk was called a volume that is too small.
#[test]
fn a_disk_that_is_full_is_called_full() {
    for capacity in (20_000..22_500).step_by(99) {
        let storage = FaultyStorage::new(1);
        storage.set_capacity(capacity);
        let medium = VolumeDirectory::create_on(storage, "/d", VolumeOptions::default()).unwrap();
        let (_, tail) = small().record_len(2048).plan().unwrap().stages(medium);
        let head = HeadStage::from(StreamHead::new(&[7; 40_000][..])).inline();
        let pipe = Pipe::builder().buffer_size(512).head(head);
        let text = pipe
            .tail(TailStage::from(tail).inline())
            .run()
            .unwrap_err()
            .to_string();
        assert!(text.contains("full"), "{capacity}: {text}");
    }
}

/// The number in a block's header is proven only when the block is decrypted. One that was forged,
/// and as high as one liked, made a reader take all later blocks for repeated ones.
#[test]
fn a_number_that_cannot_be_costs_one_block() {
    let data = noise(20 * 512);
    for secret in [None, Some(key(1))] {
        let mut options = small();
        if let Some(secret) = &secret {
            options = options.encrypt(secret.clone());
        }
        let good = frames(&volume(options.record_len(4096), &data, 512));
        for number in [6, 1000, 1 << 50, u64::MAX] {
            let mut frames = good.clone();
            let stored = &mut frames[2];
            let (record, _) = content(stored).unwrap();
            let at = 4 + 64 + record.first.unwrap() as usize;
            let block = UnitHeader::parse(&stored[at..]).unwrap();
            assert_eq!((block.kind, block.number < 12), (UnitKind::Block, true));
            let number = block.number.max(number);
            let forged = UnitHeader {
                number: number.max(block.number + 1),
                ..block
            };
            stored[at..at + 64].copy_from_slice(&forged.to_bytes());
            let (bytes, outcome, damage, _) = salvage(
                tape(&frames.concat()),
                secret.as_ref(),
                &DamageLog::new(),
                512,
            );
            assert_eq!(lost(&bytes, &data), 1, "{number}: {damage:#?}");
            assert!(
                outcome.complete && outcome.missing == 1,
                "{number}: {outcome:?}"
            );
        }
    }
}

/// A block behind the archive's footer, which says how many there are, was given out as one of
/// them.
#[test]
fn a_block_behind_the_archives_footer_is_none_of_it() {
    let data = noise(4 * 512);
    let mut frames = frames(&volume(small(), &data, 512));
    let at = frames.iter().rposition(|frame| frame.len() > 4).unwrap();
    let (last, _) = content(&frames[at]).unwrap();
    let position = last.position + u64::from(last.length);
    let [a, b, c, d, ..] = last.session;
    let session = [a, b, c, d];
    let block = UnitHeader {
        archive: 1,
        number: 4,
        offset: 2048,
        position,
        session,
        ..UnitHeader::new(UnitKind::Block)
    };
    let header = RecordHeader {
        sequence: last.sequence + 1,
        length: 64,
        position,
        first: Some(0),
        ..last
    };
    frames.insert(
        at + 1,
        frame(&[header.to_bytes(), block.to_bytes()].concat()),
    );
    let text = read(&frames.concat(), None, 512).unwrap_err();
    assert!(
        text.contains("block 4") && text.contains("behind the archive's footer"),
        "{text}"
    );
    let (bytes, outcome, damage, _) = salvage(tape(&frames.concat()), None, &DamageLog::new(), 512);
    assert!(
        bytes == data && outcome.blocks == 4 && damage.len() == 1,
        "{outcome:?} {damage:#?}"
    );
}
