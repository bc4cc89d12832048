//! Earlier defects of archives. Each test begins with what went wrong.

use std::sync::{Arc, Mutex};

use datapipe::archive::AfterEnd;
use datapipe::media::{Item, MediumError, Position};
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Sink, frames};
use datapipe::wire::{Framing, Locator, RecordHeader, UnitHeader, UnitKind};

use crate::data::{key, noise};
use crate::fixture::{
    FRAMINGS, Run, Salvaged, TAPE, content, encrypted, lost, planned, read, salvage, stream, tape,
    volume,
};

const BLOCK: u32 = 512;

fn small() -> ArchiveOptions {
    ArchiveOptions::stream("small")
        .record_len(1024)
        .block_len(BLOCK)
}

/// Returns the data of `blocks` blocks.
fn data(blocks: usize) -> Vec<u8> {
    noise(blocks * BLOCK as usize, 3)
}

/// Salvages a volume, and counts the blocks of `data` that are lost.
fn salvage_volume(frames: &[Vec<u8>], secret: Option<&Secret>, data: &[u8]) -> (Salvaged, usize) {
    let medium = tape(&frames.concat());
    let salvaged = salvage(medium, secret, &DamageLog::new(), BLOCK, Run::Inline);
    let lost = lost(&salvaged.bytes, data, BLOCK, "salvage");
    (salvaged, lost)
}

/// Returns a frame around a record.
fn frame(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u32).to_le_bytes();
    [&length[..], record, &length].concat()
}

/// Returns the units of a volume's stream, with their bodies.
fn units(volume: &[u8]) -> Vec<(UnitHeader, Vec<u8>)> {
    let stream = stream(&frames(volume));
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
/// and reported success.
#[test]
fn compressed_or_encrypted_block_is_not_restored() {
    for secret in [None, Some(key(1))] {
        let bytes = volume(encrypted(small(), secret.as_ref()), &[b'a'; 5000], BLOCK);
        let reader = ArchiveReader::open(tape(&bytes), secret.as_ref()).unwrap();
        let sink = Sink::default();
        let pipe = Pipe::builder().buffer_size(BLOCK).head(reader.head());
        let text = pipe
            .tail(StreamRestore::new(sink.clone()))
            .run()
            .unwrap_err()
            .to_string();
        assert!(text.contains("block 1 is still"), "{text}");
        assert!(sink.bytes().is_empty());
    }
}

/// The ninth secret was wrapped, but its slot was not written: its owner could not read the
/// archive.
#[test]
fn ninth_secret_is_rejected() {
    let options = |secrets: u8| (0..secrets).fold(small(), |options, n| options.encrypt(key(n)));
    let bytes = volume(options(8), &noise(1000, 3), BLOCK);
    assert!(read(tape(&bytes), Some(&key(7)), BLOCK).is_ok());
    let text = options(9).plan().unwrap_err().to_string();
    assert!(text.contains("9 secrets") && text.contains("8"), "{text}");
}

/// A tape with the header of a long block, followed by records that do not belong to the block.
struct Hostile {
    records: Vec<Vec<u8>>,
    at: usize,
    left: u64,
    log: DamageLog,
    /// Most damaged records so far that the log did not have yet.
    unreported: Arc<Mutex<u64>>,
}

impl MediumReader for Hostile {
    fn next_volume(&mut self) -> Result<bool, MediumError> {
        Ok(false)
    }
    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let position = Position {
            volume: 1,
            record: self.at as u64,
            byte: 0,
        };
        self.at += 1;
        if let Some(next) = self.records.get(self.at - 1) {
            record.clone_from(next);
            return Ok(Item::Record(position));
        }
        let read = (self.at - self.records.len()) as u64;
        if read > self.left {
            return Ok(Item::End);
        }
        let mut most = self.unreported.lock().unwrap();
        *most = (*most).max(read.saturating_sub(self.log.count()));
        // The label again and again: a record that follows a later one.
        record.clone_from(&self.records[0]);
        Ok(Item::Record(position))
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

/// The damage of the records after such a header was kept in memory until the block was complete:
/// gigabytes, on a tape of tiny records.
#[test]
fn damage_is_reported_while_a_long_block_is_pending() {
    let good = frames(&volume(small(), &data(1), BLOCK));
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
    let (log, unreported) = (DamageLog::new(), Arc::new(Mutex::new(0)));
    let records = [records, vec![long]].concat();
    let medium = Hostile {
        records,
        at: 0,
        left: 10_000,
        log: log.clone(),
        unreported: Arc::clone(&unreported),
    };
    let salvaged = salvage(medium, None, &log, BLOCK, Run::Inline);
    assert_eq!(salvaged.error, None);
    assert!(log.count() >= 10_000);
    let most = *unreported.lock().unwrap();
    assert!(most < 100, "{most} damaged records were kept in memory");
}

/// A record with a damaged header is taken for the one that should be at its position. Where blocks
/// cross from record to record, the reader did that once in a chunk only, and lost the intact
/// blocks of all later ones.
#[test]
fn record_with_a_damaged_header_keeps_its_blocks() {
    let data = data(100);
    let mut frames = frames(&volume(small(), &data, BLOCK));
    for damaged in [9, 10, 13, 20, 40] {
        frames[damaged][4 + 20] ^= 1;
    }
    let (salvaged, lost) = salvage_volume(&frames, None, &data);
    assert_eq!(lost, 0, "{:#?}", salvaged.damage);
    assert_eq!(salvaged.damage.len(), 5, "{:#?}", salvaged.damage);
}

/// A record of noise between two records was taken for the second, which was then one too many: its
/// intact blocks were lost.
#[test]
fn noise_record_does_not_cost_the_following_record() {
    let data = data(60);
    let good = frames(&volume(small().record_len(4096), &data, BLOCK));
    for at in 1..good.len() {
        for len in [4096, 1000, 72] {
            let mut frames = good.clone();
            frames.insert(at, frame(&noise(len, 3)));
            let (
                Salvaged {
                    outcome, damage, ..
                },
                lost,
            ) = salvage_volume(&frames, None, &data);
            let what = format!("{len} bytes before record {at}");
            assert!(lost <= 2, "{what}: {lost} blocks are lost\n{damage:#?}");
            assert!(
                outcome.complete == (lost == 0) && !damage.is_empty(),
                "{what}\n{damage:#?}"
            );
        }
    }
}

/// A salvaging pipe with small buffers once reported every compressed block as damaged, and
/// restored zeros.
#[test]
fn small_buffers_are_an_error_and_not_damage() {
    let bytes = volume(small().block_len(8192), &[b'a'; 50_000], 8192);
    let log = DamageLog::new();
    let salvaged = salvage(tape(&bytes), None, &log, 4096, Run::Inline);
    let text = salvaged.error.clone();
    let text = text.unwrap_or_else(|| panic!("{} bytes: {salvaged:#?}", salvaged.bytes.len()));
    assert!(
        text.contains("8192") && text.contains("use larger ones"),
        "{text}"
    );
    assert!(salvaged.damage.is_empty(), "{:#?}", salvaged.damage);
}

/// If the last block filled its chunk, the single footer of all chunks was not written, and two
/// marks in a row preceded the locator: the sign of the session's end.
#[test]
fn archive_ending_with_a_full_chunk_is_closed_once() {
    for framing in FRAMINGS {
        let bytes = volume(small().framing(framing).chunk_len(0), &data(5), BLOCK);
        let footers = units(&bytes)
            .iter()
            .filter(|(header, _)| header.kind == UnitKind::ChunkFooter)
            .count();
        let wanted = match framing {
            Framing::Header => 0,
            Framing::Once => 1,
            // The last block of the archive has a chunk of its own then.
            Framing::HeaderFooter => 6,
        };
        assert_eq!(footers, wanted, "{framing:?}");
        let marks: Vec<bool> = frames(&bytes)
            .iter()
            .map(|frame| frame.len() == 4)
            .collect();
        let double = marks.windows(2).position(|two| two == [true, true]);
        assert_eq!(double, Some(marks.len() - 2), "{framing:?}: {marks:?}");
        assert_eq!(read(tape(&bytes), None, BLOCK).unwrap().0, data(5));
    }
}

/// A head that does not set the offsets of its blocks.
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

/// Such an archive was written without an error, and could not be restored: all of its blocks began
/// at byte 0.
#[test]
fn blocks_without_offsets_get_them_from_the_tail() {
    let (storage, _, tail) = planned(small());
    let pipe = Pipe::builder().buffer_size(BLOCK).head(NoOffsets(3));
    pipe.tail(tail).run().unwrap();
    let bytes = storage.bytes(TAPE).unwrap();
    assert_eq!(read(tape(&bytes), None, BLOCK).unwrap().0, [7; 1500]);
}

/// Marks the second block of data as damaged, which is block 2 of the archive.
struct Harm;

impl InPlace for Harm {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        if block.number().get() == 1 {
            block.clear();
            info.marks |= Marks::DAMAGED;
        }
        block.set_info(info);
        Ok(Verdict::Send)
    }
}

/// The copy of a damaged archive looked complete: lost blocks of the first were zeros in the
/// second, without a report.
#[test]
fn damaged_block_is_rejected_by_the_tail() {
    let data = data(4);
    let (_, _, tail) = planned(small());
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(&data[..]));
    let error = pipe
        .stage(Stage::in_place("harm", |_| Harm))
        .tail(tail)
        .run();
    let text = error
        .expect_err("a damaged block was archived as if it were intact")
        .to_string();
    assert!(text.contains("block 2 is damaged"), "{text}");
}

/// The locator named the record in which a chunk's footer ends.
#[test]
fn locator_names_the_first_record_of_a_chunk_footer() {
    let bytes = volume(small().chunk_len(40_000), &data(200), BLOCK);
    let frames = frames(&bytes);
    let units = units(&bytes);
    let locator = units
        .iter()
        .rfind(|(header, _)| header.kind == UnitKind::Locator)
        .unwrap();
    let locator = Locator::parse(&locator.1).unwrap();
    let footers: Vec<u64> = units
        .iter()
        .filter(|(header, _)| header.kind == UnitKind::ChunkFooter)
        .map(|(h, _)| h.position)
        .collect();
    assert!(footers.len() > 1 && footers.len() == locator.chunks.len());
    for (chunk, footer) in locator.chunks.iter().zip(footers) {
        // The volume record, which is not among the frames, counts.
        let record = chunk.footer.unwrap().1 - 1;
        let (header, content) = content(&frames[record as usize]).unwrap();
        let range = header.position..header.position + content.len() as u64;
        assert!(
            range.contains(&footer),
            "the footer at {footer} is not in {range:?}"
        );
    }
}

/// A tape may be longer than its last session: the rest of an older session after it was reported
/// as damage. Then a second archive was passed over in silence.
#[test]
fn data_after_the_session_is_mentioned() {
    let data = noise(5000, 3);
    let (new, old) = (
        volume(small(), &data, BLOCK),
        volume(small(), &noise(9000, 3), BLOCK),
    );
    let cases: [(&[u8], AfterEnd); 6] = [
        (&[], AfterEnd::Nothing),
        (&[0; 5000], AfterEnd::Nothing),
        (&[7; 5000], AfterEnd::Bytes),
        (&old, AfterEnd::Archive),
        (
            &[&[0; 400][..], &[7; 5000], &old[9..]].concat(),
            AfterEnd::Archive,
        ),
        (&new, AfterEnd::Archive),
    ];
    for (after, expected) in cases {
        let (bytes, outcome) = read(tape(&[&new, after].concat()), None, BLOCK).unwrap();
        assert!(
            bytes == data && outcome.after_end == expected,
            "{outcome:?}"
        );
        assert_eq!(outcome.complete, expected != AfterEnd::Archive);
    }
}

/// Marks the first two blocks, and rejects all later ones.
struct RejectLater;

impl Inspect for RejectLater {
    fn inspect(&mut self, _: &[u8], info: &BlockInfo) -> Result<Finding, StageError> {
        Ok(if info.offset >= 1024 {
            Finding::Reject
        } else {
            Finding::Mark
        })
    }
}

/// Blocks that inspection had rejected came back as zeros, or not at all, without a report.
#[test]
fn rejected_blocks_are_counted_by_the_reader() {
    for secret in [None, Some(key(1))] {
        let data = data(5);
        let (storage, seal, tail) = planned(encrypted(small(), secret.as_ref()));
        let pipe = Pipe::builder()
            .buffer_size(BLOCK)
            .head(StreamHead::new(&data[..]));
        let log = InspectionLog::new();
        let mut pipe = pipe.stage(Stage::inspect("inspect", &log, |_| RejectLater));
        if let Some(seal) = seal {
            pipe = pipe.stage(seal);
        }
        pipe.tail(tail).run().unwrap();
        let medium = tape(&storage.bytes(TAPE).unwrap());
        let (bytes, outcome) = read(medium, secret.as_ref(), BLOCK).unwrap();
        assert!(bytes[..1024] == data[..1024] && bytes[1024..].iter().all(|&byte| byte == 0));
        assert!(
            !outcome.complete && outcome.blocks == 5 && outcome.rejected == 3,
            "{outcome:?}"
        );
    }
}

/// A full disk was reported as a volume that is too small.
#[test]
fn full_disk_is_reported_as_full() {
    for capacity in (20_000..22_500).step_by(99) {
        let storage = FaultyStorage::new(1);
        storage.set_capacity(capacity);
        let medium = VolumeDirectory::create_on(storage, "/d", VolumeOptions::default()).unwrap();
        let archive = small().record_len(2048).plan().unwrap();
        let archive = archive.map_tail(|tail| tail.inline());
        let head = HeadStage::from(StreamHead::new(&[7; 40_000][..])).inline();
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
        let text = pipe.archive(archive, medium).run().unwrap_err().to_string();
        assert!(text.contains("full"), "{capacity}: {text}");
    }
}

/// The number in a block's header is proven only when the block is decrypted. A forged number, as
/// high as its author liked, made the reader take all later blocks for repeated ones.
#[test]
fn forged_block_number_costs_one_block() {
    let data = data(20);
    for secret in [None, Some(key(1))] {
        let options = encrypted(small(), secret.as_ref());
        let good = frames(&volume(options.record_len(4096), &data, BLOCK));
        for number in [6, 1000, 1 << 50, u64::MAX] {
            let mut frames = good.clone();
            let stored = &mut frames[3];
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
            let (
                Salvaged {
                    outcome, damage, ..
                },
                lost,
            ) = salvage_volume(&frames, secret.as_ref(), &data);
            assert_eq!(lost, 1, "{number}: {damage:#?}");
            assert!(
                !outcome.complete && outcome.missing == 1,
                "{number}: {outcome:?}"
            );
        }
    }
}

/// A block after the archive's footer, which has the number of blocks, was returned as one of them.
#[test]
fn block_after_the_archive_footer_is_rejected() {
    let data = data(4);
    let mut frames = frames(&volume(small(), &data, BLOCK));
    let at = frames.iter().rposition(|frame| frame.len() > 4).unwrap();
    let (last, _) = content(&frames[at]).unwrap();
    let position = last.position + u64::from(last.length);
    let [a, b, c, d, ..] = last.session;
    let session = [a, b, c, d];
    let block = UnitHeader {
        archive: 1,
        number: 5,
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
    let text = read(tape(&frames.concat()), None, BLOCK).unwrap_err();
    assert!(
        text.contains("block 5") && text.contains("after the archive's footer"),
        "{text}"
    );
    let (
        Salvaged {
            outcome, damage, ..
        },
        lost,
    ) = salvage_volume(&frames, None, &data);
    assert!(
        lost == 0 && outcome.blocks == 4 && damage.len() == 1,
        "{outcome:?} {damage:#?}"
    );
}
