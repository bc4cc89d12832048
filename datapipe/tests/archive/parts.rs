//! Blocks that are read alone, from where the end of the archive says that they stand, against a
//! reading of everything.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use datapipe::archive::{BlockSet, OpenError};
use datapipe::media::MediumError;
use datapipe::prelude::*;
use datapipe::testkit::Random;
use datapipe::wire::{
    BlockKind, Framing, Locator, UNIT_HEADER_LEN, UnitHeader, UnitKind, looks_like_record,
};

const BLOCK: u32 = 4096;
const BLOCKS: u64 = 200;

/// Blocks of all lengths, of which the last are a closing catalogue.
struct Numbered {
    next: u64,
    offset: u64,
    random: Random,
}

impl Head for Numbered {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.next == BLOCKS {
            return Ok(Fill::End);
        }
        let len = 8 + self.random.below(u64::from(BLOCK) - 8) as usize;
        let mut bytes = self.next.to_le_bytes().to_vec();
        bytes.resize_with(len, || self.random.below(256) as u8);
        block.put(&bytes)?;
        let mut info = block.info();
        info.offset = self.offset;
        if self.next >= BLOCKS - 7 {
            info.kind = BlockKind::ClosingCatalogue.code();
        }
        block.set_info(info);
        self.offset += len as u64;
        self.next += 1;
        Ok(Fill::Block)
    }
}

/// What came, with its numbers.
#[derive(Clone, Default)]
struct Came(Arc<Mutex<Vec<NumberedBlock>>>);

/// A block's number, and its data.
type NumberedBlock = (u64, Vec<u8>);

impl Tail for Came {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        if !block.info().marks.contains(Marks::DAMAGED) {
            self.0
                .lock()
                .unwrap()
                .push((block.info().sequence.unwrap(), block.bytes().to_vec()));
        }
        Ok(())
    }
}

impl Came {
    fn numbers(&self) -> Vec<u64> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|(number, _)| *number)
            .collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Recipe {
    framing: Framing,
    encrypted: bool,
    volumes: bool,
    chunk: u64,
    record: usize,
}

fn recipes() -> Vec<Recipe> {
    let mut all = Vec::new();
    for framing in [Framing::Header, Framing::Once, Framing::HeaderFooter] {
        for (encrypted, volumes, chunk, record) in [
            (true, false, 40_000, 3000),
            (false, true, 50_000, 16 << 10),
            (true, false, 1 << 30, 1 << 20),
        ] {
            all.push(Recipe {
                framing,
                encrypted,
                volumes,
                chunk,
                record,
            });
        }
    }
    all
}

fn secret() -> Secret {
    Secret::Key(Key::from_bytes([7; 32]))
}

fn write(recipe: Recipe, path: &Path) {
    let mut options = ArchiveOptions::new("parts")
        .framing(recipe.framing)
        .record_len(recipe.record);
    options = options.chunk_len(recipe.chunk).block_len(BLOCK);
    if recipe.encrypted {
        options = options.encrypt(secret());
    }
    let medium: Box<dyn Medium> = if recipe.volumes {
        let options = VolumeOptions {
            volume_size: Some(100_000),
            ..VolumeOptions::default()
        };
        Box::new(VolumeDirectory::create(path, options).unwrap())
    } else {
        Box::new(VirtualTape::create(path, VolumeOptions::default()).unwrap())
    };
    let (seal, tail) = options.plan().unwrap().stages(medium);
    let head = Numbered {
        next: 0,
        offset: 0,
        random: Random::new(11),
    };
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(head)
        .stage(Zstd::level(1).instances(2));
    if let Some(seal) = seal {
        pipe = pipe.stage(seal);
    }
    pipe.tail(tail).run().unwrap();
}

fn open(recipe: Recipe, path: &Path) -> ArchiveReader<Box<dyn Medium>> {
    let medium: Box<dyn Medium> = if recipe.volumes {
        Box::new(VolumeDirectory::open(path, looks_like_record).unwrap())
    } else {
        Box::new(VirtualTape::open(path, looks_like_record).unwrap())
    };
    ArchiveReader::open(medium, recipe.encrypted.then(secret).as_ref()).unwrap()
}

fn everything(reader: &ArchiveReader<Box<dyn Medium>>) -> Vec<NumberedBlock> {
    let (reading, all) = (reader.read(2), Came::default());
    reading.pipe.tail(all.clone()).run().unwrap();
    assert!(reading.report.outcome().complete);
    let all = all.0.lock().unwrap().clone();
    assert_eq!(all.len() as u64, BLOCKS);
    all
}

fn random_blocks(random: &mut Random) -> BlockSet {
    let mut blocks = BlockSet::new();
    for _ in 0..=random.below(6) {
        let first = random.below(BLOCKS);
        blocks.insert(first, (first + random.below(5)).min(BLOCKS - 1));
    }
    blocks
}

#[test]
fn any_blocks_are_those_of_the_whole() {
    let mut random = Random::new(5);
    for recipe in recipes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("medium");
        write(recipe, &path);
        let reader = open(recipe, &path);
        let index = reader
            .index()
            .unwrap_or_else(|error| panic!("{recipe:?}: {error}"));
        assert_eq!(index.blocks(), BLOCKS);
        assert!(index.catalogue().runs().eq([(BLOCKS - 7, BLOCKS - 1)]));
        let all = everything(&reader);
        for _ in 0..20 {
            let (blocks, came) = (random_blocks(&mut random), Came::default());
            let reading = reader.read_blocks(&index, &blocks, 1).unwrap();
            reading.pipe.tail(came.clone()).run().unwrap();
            let wanted: Vec<_> = all
                .iter()
                .filter(|(number, _)| blocks.contains(*number))
                .cloned()
                .collect();
            assert!(
                *came.0.lock().unwrap() == wanted,
                "{recipe:?} {blocks:?} {:?}",
                came.numbers()
            );
            assert_eq!(reading.report.outcome().missing, 0);
        }
    }
}

/// Whatever byte is changed, the blocks that come are right, and those that do not are told of.
#[test]
fn damage_costs_what_it_hits() {
    let mut random = Random::new(6);
    for recipe in recipes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("medium");
        write(recipe, &path);
        let reader = open(recipe, &path);
        let all = everything(&reader);
        let file = if recipe.volumes {
            path.join("000002.tap")
        } else {
            path.clone()
        };
        let good = fs::read(&file).unwrap();
        for _ in 0..15 {
            let mut bad = good.clone();
            let at = random.below(bad.len() as u64) as usize;
            let end = (at + 1 + random.below(6000) as usize).min(bad.len());
            bad[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
            fs::write(&file, &bad).unwrap();
            let (blocks, came, log) = (
                random_blocks(&mut random),
                Came::default(),
                DamageLog::new(),
            );
            let reader = open(recipe, &path).salvage(&log);
            let index = reader
                .index()
                .unwrap_or_else(|_| index_of(recipe, &file, &good, &bad));
            let reading = reader.read_blocks(&index, &blocks, 1).unwrap();
            reading.pipe.tail(came.clone()).run().unwrap();
            let came = came.0.lock().unwrap();
            assert!(
                came.iter()
                    .all(|block| all.contains(block) && blocks.contains(block.0)),
                "{recipe:?}"
            );
            let wanted = all
                .iter()
                .filter(|(number, _)| blocks.contains(*number))
                .count();
            assert_eq!(
                log.count() > 0,
                came.len() < wanted,
                "{recipe:?} {at}..{end} {:?}",
                log.entries()
            );
        }
        fs::write(&file, &good).unwrap();
    }
}

/// The index of an archive whose end is damaged now.
fn index_of(recipe: Recipe, file: &Path, good: &[u8], bad: &[u8]) -> datapipe::archive::Index {
    fs::write(file, good).unwrap();
    let path = if recipe.volumes {
        file.parent().unwrap()
    } else {
        file
    };
    let index = open(recipe, path).index().unwrap();
    fs::write(file, bad).unwrap();
    index
}

#[test]
fn an_archive_without_end_has_no_index() {
    let recipe = recipes()[2];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tape");
    write(recipe, &path);
    let bytes = fs::read(&path).unwrap();
    for len in [
        bytes.len() - 1,
        bytes.len() - 4,
        bytes.len() - 8,
        bytes.len() - 300,
        bytes.len() / 2,
    ] {
        fs::write(&path, &bytes[..len]).unwrap();
        let error = open(recipe, &path).index().unwrap_err();
        assert!(matches!(error, OpenError::NoIndex(_)), "{len}: {error}");
    }
    // Zeros behind it are marks, as after a crash.
    fs::write(&path, [&bytes[..], &[0; 4096]].concat()).unwrap();
    open(recipe, &path).index().unwrap();
    fs::write(&path, [&bytes[..], &[0; 1 << 20]].concat()).unwrap();
    let error = open(recipe, &path).index().unwrap_err();
    assert!(
        matches!(error, OpenError::NoIndex(_)),
        "that many are not looked through: {error}"
    );
}

/// Every byte of the end of an archive, changed: an index that is right, or none.
#[test]
fn a_wrong_index_loses_blocks_and_nothing_else() {
    let recipe = Recipe {
        encrypted: false,
        chunk: 30_000,
        ..recipes()[6]
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tape");
    write(recipe, &path);
    let good = fs::read(&path).unwrap();
    let mut blocks = BlockSet::new();
    blocks.insert(3, 4);
    blocks.insert(120, 120);
    for at in (good.len() - 3000..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        fs::write(&path, &bad).unwrap();
        let log = DamageLog::new();
        let reader = open(recipe, &path).salvage(&log);
        let index = match reader.index() {
            Ok(index) => index,
            Err(OpenError::Medium(MediumError::Io { .. })) => {
                panic!("nothing is wrong with the file")
            }
            Err(_) => continue,
        };
        let came = Came::default();
        reader
            .read_blocks(&index, &blocks, 1)
            .unwrap()
            .pipe
            .tail(came.clone())
            .run()
            .unwrap();
        assert_eq!(came.numbers(), [3, 4, 120], "{at}: {:?}", log.entries());
    }
}

/// Somebody may ask for blocks that no archive has, or the catalogue of an enemy's archive may.
#[test]
fn all_numbers_there_are_can_be_asked_for() {
    let mut all = BlockSet::new();
    all.insert(0, u64::MAX);
    for recipe in recipes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("medium");
        write(recipe, &path);
        let (came, log) = (Came::default(), DamageLog::new());
        let reader = open(recipe, &path).salvage(&log);
        let index = reader.index().unwrap();
        reader
            .read_blocks(&index, &all, 1)
            .unwrap()
            .pipe
            .tail(came.clone())
            .run()
            .unwrap();
        assert_eq!(
            came.numbers().len() as u64,
            BLOCKS,
            "{recipe:?} {:?}",
            log.entries()
        );
        if recipe.volumes {
            fs::remove_file(path.join("000001.tap")).unwrap();
            let reader = open(recipe, &path).salvage(&log);
            let reading = reader.read_blocks(&index, &all, 1).unwrap();
            reading.pipe.tail(Came::default()).run().unwrap();
            assert_eq!(reading.report.outcome().missing, u64::MAX, "{recipe:?}");
        }
    }
}

/// The last block that a chunk's footer can speak of.
#[test]
fn a_footer_of_the_last_numbers_there_are_helps_nobody_and_harms_nobody() {
    let recipe = Recipe {
        encrypted: false,
        ..recipes()[6]
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tape");
    write(recipe, &path);
    let mut bytes = fs::read(&path).unwrap();
    let mut forged = 0;
    for at in 0..bytes.len() - UNIT_HEADER_LEN {
        let header = &mut bytes[at..at + UNIT_HEADER_LEN];
        if let Ok(footer) = UnitHeader::parse(header)
            && footer.kind == UnitKind::ChunkFooter
        {
            header.copy_from_slice(
                &UnitHeader {
                    number: u64::MAX,
                    ..footer
                }
                .to_bytes(),
            );
            forged += 1;
        }
    }
    assert!(forged > 5);
    fs::write(&path, bytes).unwrap();
    let mut blocks = BlockSet::new();
    (0..BLOCKS)
        .step_by(3)
        .for_each(|block| blocks.insert(block, block));
    let (reader, came) = (open(recipe, &path), Came::default());
    let index = reader.index().unwrap();
    reader
        .read_blocks(&index, &blocks, 1)
        .unwrap()
        .pipe
        .tail(came.clone())
        .run()
        .unwrap();
    assert!(came.numbers().into_iter().eq((0..BLOCKS).step_by(3)));
}

/// A locator that leads to the first block again and again does not have everything read again and
/// again.
#[test]
fn a_place_that_is_wrong_is_left_where_that_is_seen() {
    let recipe = Recipe {
        encrypted: false,
        volumes: false,
        chunk: 10_000,
        record: 1 << 20,
        ..recipes()[0]
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tape");
    write(recipe, &path);
    let mut bytes = fs::read(&path).unwrap();
    let is_locator = |at: &usize| {
        UnitHeader::parse(&bytes[*at..]).is_ok_and(|header| header.kind == UnitKind::Locator)
    };
    let at = (0..bytes.len() - UNIT_HEADER_LEN).find(is_locator).unwrap();
    let header = UnitHeader::parse(&bytes[at..]).unwrap();
    let body = &mut bytes[at + UNIT_HEADER_LEN..][..header.stored as usize];
    let mut locator = Locator::parse(body).unwrap();
    let (place, position) = (locator.chunks[0].place, locator.chunks[0].position);
    for chunk in &mut locator.chunks {
        (chunk.place, chunk.position) = (place, position);
    }
    body.copy_from_slice(&locator.to_bytes());
    let header = UnitHeader {
        body_crc: crc32fast::hash(body),
        ..header
    };
    bytes[at..at + UNIT_HEADER_LEN].copy_from_slice(&header.to_bytes());
    fs::write(&path, bytes).unwrap();

    let mut blocks = BlockSet::new();
    locator
        .chunks
        .iter()
        .for_each(|chunk| blocks.insert(chunk.first, chunk.first));
    assert!(locator.chunks.len() > 20);
    let (log, came) = (DamageLog::new(), Came::default());
    let reader = open(recipe, &path).salvage(&log);
    let reading = reader
        .read_blocks(&reader.index().unwrap(), &blocks, 1)
        .unwrap();
    reading.pipe.tail(came.clone()).run().unwrap();
    // One chunk, one record: the second chunk's first block is the first one behind that place's
    // record.
    assert_eq!(
        came.numbers(),
        [0, locator.chunks[1].first],
        "the others are not where that says"
    );
    assert_eq!(
        reading.report.outcome().missing,
        locator.chunks.len() as u64 - 2,
        "{:?}",
        log.entries()
    );
}
