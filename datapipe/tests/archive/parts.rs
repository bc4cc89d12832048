//! Single blocks, read from the positions that the end of the archive lists, compared with a full
//! read.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use datapipe::archive::{BlockSet, Index, OpenError};
use datapipe::media::MediumError;
use datapipe::prelude::*;
use datapipe::testkit::Random;
use datapipe::wire::{BlockKind, Framing, Locator, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::data::key;
use crate::fixture::{FRAMINGS, encrypted, small};
use crate::medium::{self, create_tape, create_volumes};

const BLOCK: u32 = 4096;
const BLOCKS: u64 = 200;

/// Makes blocks of all lengths, the last of which are a closing catalogue. Block 0 is the origin.
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
        // Only trees have a catalogue. What is in the entries is of no interest here.
        (info.entries, info.sequence) = (true, Some(self.next));
        if self.next >= BLOCKS - 7 {
            info.kind = BlockKind::ClosingCatalogue.code();
        }
        block.set_info(info);
        self.offset += len as u64;
        self.next += 1;
        Ok(Fill::Block)
    }
}

/// The numbers and the data of the blocks that arrived.
#[derive(Clone, Default)]
struct Arrived(Arc<Mutex<Vec<NumberedBlock>>>);

/// A block's number and data.
type NumberedBlock = (u64, Vec<u8>);

impl Tail for Arrived {
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

impl Arrived {
    fn numbers(&self) -> Vec<u64> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|(number, _)| *number)
            .collect()
    }
}

/// Properties of an archive.
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
    for framing in FRAMINGS {
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

impl Recipe {
    fn secret(self) -> Option<Secret> {
        self.encrypted.then(|| key(7))
    }
}

/// Writes an archive to `path`.
fn write(recipe: Recipe, path: &Path) {
    let options = small(
        ArchiveOptions::tree("parts"),
        recipe.record,
        recipe.chunk,
        BLOCK,
    )
    .framing(recipe.framing);
    let archive = encrypted(options, recipe.secret().as_ref()).plan().unwrap();
    let medium: Box<dyn MediumWriter> = if recipe.volumes {
        Box::new(create_volumes(path, Some(100_000), false))
    } else {
        Box::new(create_tape(path))
    };
    let head = Numbered {
        next: 1,
        offset: 0,
        random: Random::new(11),
    };
    crate::fixture::write(archive, medium, head, BLOCK);
}

fn open(recipe: Recipe, path: &Path) -> ArchiveReader<Box<dyn MediumReader>> {
    ArchiveReader::open(medium::open(path), recipe.secret().as_ref()).unwrap()
}

/// Reads the whole archive.
fn everything(reader: &ArchiveReader<Box<dyn MediumReader>>) -> Vec<NumberedBlock> {
    let (reading, all) = (reader.read().instances(2), Arrived::default());
    reading.pipe.tail(all.clone()).run().unwrap();
    assert!(reading.report.snapshot().complete);
    let all = all.0.lock().unwrap().clone();
    assert_eq!(all.len() as u64, BLOCKS - 1);
    all
}

/// Reads some blocks, and returns those that arrived and the number of missing ones.
fn read_blocks(
    reader: &ArchiveReader<Box<dyn MediumReader>>,
    index: &Index,
    blocks: &BlockSet,
) -> (Arrived, u64) {
    let arrived = Arrived::default();
    let reading = reader.read_blocks(index, blocks).unwrap();
    reading.pipe.tail(arrived.clone()).run().unwrap();
    (arrived, reading.report.snapshot().missing)
}

fn random_blocks(random: &mut Random) -> BlockSet {
    let mut blocks = BlockSet::new();
    for _ in 0..=random.below(6) {
        let first = 1 + random.below(BLOCKS - 1);
        blocks.insert(first..=(first + random.below(5)).min(BLOCKS - 1));
    }
    blocks
}

#[test]
fn selected_blocks_match_a_full_read() {
    let mut random = Random::new(5);
    for recipe in recipes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("medium");
        write(recipe, &path);
        let reader = open(recipe, &path);
        let index = reader
            .index()
            .unwrap_or_else(|error| panic!("{recipe:?}: {error}"));
        // The last block has no data, and belongs to the closing run.
        assert_eq!(index.blocks(), BLOCKS + 1);
        assert!(index.catalogue().runs().eq([BLOCKS - 7..=BLOCKS]));
        let all = everything(&reader);
        for _ in 0..20 {
            let blocks = random_blocks(&mut random);
            let (arrived, missing) = read_blocks(&reader, &index, &blocks);
            let wanted: Vec<_> = all
                .iter()
                .filter(|(number, _)| blocks.contains(*number))
                .cloned()
                .collect();
            assert!(
                *arrived.0.lock().unwrap() == wanted,
                "{recipe:?} {blocks:?} {:?}",
                arrived.numbers()
            );
            assert_eq!(missing, 0);
        }
    }
}

/// Bytes at the start of a tape with its label and both headers.
const HEADERS: u64 = 2048;

/// Damage anywhere after the headers: the blocks that arrive are correct, and the log reports the
/// others.
#[test]
fn damage_costs_only_the_blocks_it_hits() {
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
        // On one tape with framing 1 the headers have no copy, without which nothing can be read.
        let start = if recipe.volumes { 0 } else { HEADERS };
        for _ in 0..15 {
            let mut bad = good.clone();
            let at = (start + random.below(bad.len() as u64 - start)) as usize;
            let end = (at + 1 + random.below(6000) as usize).min(bad.len());
            bad[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
            fs::write(&file, &bad).unwrap();
            let (blocks, log) = (random_blocks(&mut random), DamageLog::new());
            let reader = open(recipe, &path).salvage(&log);
            let index = reader
                .index()
                .unwrap_or_else(|_| index_of(recipe, &file, &good, &bad));
            let (arrived, _) = read_blocks(&reader, &index, &blocks);
            let arrived = arrived.0.lock().unwrap();
            assert!(
                arrived
                    .iter()
                    .all(|block| all.contains(block) && blocks.contains(block.0)),
                "{recipe:?}"
            );
            let wanted = all
                .iter()
                .filter(|(number, _)| blocks.contains(*number))
                .count();
            // Special headers at the start concern every block.
            let entries = log.snapshot().entries;
            let concerns_all = entries.iter().any(|it| it.what.contains("special header"));
            assert_eq!(
                log.count() > 0,
                concerns_all || arrived.len() < wanted,
                "{recipe:?} {at}..{end} {:?}",
                log.snapshot().entries
            );
        }
        fs::write(&file, &good).unwrap();
    }
}

/// Returns the index of an archive from its undamaged end.
fn index_of(recipe: Recipe, file: &Path, good: &[u8], bad: &[u8]) -> Index {
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
fn truncated_archive_has_no_index() {
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
    // Zeros after the end are marks, as a crash leaves them.
    fs::write(&path, [&bytes[..], &[0; 4096]].concat()).unwrap();
    open(recipe, &path).index().unwrap();
    fs::write(&path, [&bytes[..], &[0; 1 << 20]].concat()).unwrap();
    let error = open(recipe, &path).index().unwrap_err();
    assert!(
        matches!(error, OpenError::NoIndex(_)),
        "the reader does not search that many marks: {error}"
    );
}

/// Changes bytes at the end of an archive: the index is correct, or there is none.
#[test]
fn damaged_end_gives_a_correct_index_or_none() {
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
    blocks.insert(3..=4);
    blocks.insert(120..=120);
    for at in (good.len() - 3000..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        fs::write(&path, &bad).unwrap();
        let log = DamageLog::new();
        let reader = open(recipe, &path).salvage(&log);
        let index = match reader.index() {
            Ok(index) => index,
            Err(OpenError::Medium(MediumError::Io { .. })) => {
                panic!("the file itself is readable")
            }
            Err(_) => continue,
        };
        let (arrived, _) = read_blocks(&reader, &index, &blocks);
        assert_eq!(
            arrived.numbers(),
            [3, 4, 120],
            "{at}: {:?}",
            log.snapshot().entries
        );
    }
}

/// A caller, or the catalogue of a hostile archive, may name blocks that no archive has.
#[test]
fn block_numbers_beyond_the_archive_are_missing() {
    let mut all = BlockSet::new();
    all.insert(0..=u64::MAX);
    for recipe in recipes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("medium");
        write(recipe, &path);
        let log = DamageLog::new();
        let reader = open(recipe, &path).salvage(&log);
        let index = reader.index().unwrap();
        let (arrived, _) = read_blocks(&reader, &index, &all);
        assert_eq!(
            arrived.numbers().len() as u64,
            BLOCKS - 1,
            "{recipe:?} {:?}",
            log.snapshot().entries
        );
        if recipe.volumes {
            fs::remove_file(path.join("000001.tap")).unwrap();
            let reader = open(recipe, &path).salvage(&log);
            let (_, missing) = read_blocks(&reader, &index, &all);
            assert_eq!(missing, u64::MAX, "{recipe:?}");
        }
    }
}

/// A forged chunk footer may carry the highest block number there is.
#[test]
fn footer_with_max_block_numbers_is_ignored() {
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
    (1..BLOCKS)
        .step_by(3)
        .for_each(|block| blocks.insert(block..=block));
    let reader = open(recipe, &path);
    let index = reader.index().unwrap();
    let (arrived, _) = read_blocks(&reader, &index, &blocks);
    assert!(arrived.numbers().into_iter().eq((1..BLOCKS).step_by(3)));
}

/// A locator that points every chunk to the second one must not make the reader read everything
/// once for each chunk.
#[test]
fn wrong_locator_position_is_abandoned_at_the_first_mismatch() {
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
    let at = (0..bytes.len() - UNIT_HEADER_LEN)
        .rfind(is_locator)
        .unwrap();
    let header = UnitHeader::parse(&bytes[at..]).unwrap();
    let body = &mut bytes[at + UNIT_HEADER_LEN..][..header.stored as usize];
    let mut locator = Locator::parse(body).unwrap();
    let (place, position) = (locator.chunks[1].place, locator.chunks[1].position);
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
        .for_each(|chunk| blocks.insert(chunk.first..=chunk.first));
    assert!(locator.chunks.len() > 20);
    let log = DamageLog::new();
    let reader = open(recipe, &path).salvage(&log);
    let index = reader.index().unwrap();
    let (arrived, missing) = read_blocks(&reader, &index, &blocks);
    // A record holds a chunk: the first block of the third chunk is the first one after the record
    // at that position.
    assert_eq!(
        arrived.numbers(),
        [locator.chunks[1].first, locator.chunks[2].first],
        "the others are not at that position"
    );
    assert_eq!(
        missing,
        locator.chunks.len() as u64 - 2,
        "{:?}",
        log.snapshot().entries
    );
}
