//! Locators of an archive without an end: damaged ones, and forged ones.

use datapipe::archive::OpenError;
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, frames};
use datapipe::wire::{Locator, RECORD_HEADER_LEN, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::data::blocks;
use crate::fixture::{TAPE, content, create_tape, tape};

const BLOCK: u32 = 512;

/// A tape with an archive of many chunks, each of which ends with a checkpoint, in records of this
/// length.
fn written(record: usize) -> Vec<u8> {
    let (storage, data) = (FaultyStorage::new(1), blocks(60_000, BLOCK as usize, 1));
    let options = ArchiveOptions::stream("s").block_len(BLOCK);
    let archive = options.record_len(record).chunk_len(9000).plan().unwrap();
    let head = HeadStage::from(StreamHead::new(&data[..])).checkpoint_every(4000);
    let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    pipe.archive(archive, create_tape(&storage)).run().unwrap();
    storage.bytes(TAPE).unwrap()
}

/// Offsets of the locators' headers on a tape, and those at which the last of their records end.
fn locators(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut left, mut found) = (0, 0, Vec::new());
    for frame in frames(bytes) {
        if let Some((header, content)) = content(&frame) {
            let unit = UnitHeader::parse(content)
                .ok()
                .filter(|_| header.first == Some(0));
            if let Some(unit) = unit.filter(|unit| unit.kind == UnitKind::Locator) {
                found.push((at + 4 + RECORD_HEADER_LEN, 0));
                left = unit.unit_len();
            }
            if left > 0 {
                left = left.saturating_sub(content.len());
                found.last_mut().unwrap().1 = at + frame.len();
            }
        }
        at += frame.len();
    }
    found
}

/// The archive on a tape that ends with half a record.
fn torn(bytes: &[u8], len: usize) -> ArchiveReader<impl MediumReader + use<>> {
    ArchiveReader::open(tape(&bytes[..len + 20]), None).unwrap()
}

/// Reading back passes no damage, so the records before half a record are read forwards.
#[test]
fn locator_that_is_damaged_hides_no_earlier_one() {
    for record in [8192, 1024] {
        let good = written(record);
        let mut found = locators(&good);
        // The last chunk ends without a checkpoint.
        found.pop();
        assert!(found.len() > 4);
        for lost in 1..4 {
            let at = found.len() - 1 - lost;
            let wanted = torn(&good, found[at].1).cut_index().unwrap().checkpoint();
            let (mut bad, end) = (good.clone(), found[found.len() - 1].1);
            for (start, _) in &found[at + 1..] {
                bad[start + UNIT_HEADER_LEN + 60] ^= 1;
            }
            let index = torn(&bad, end).cut_index();
            let index = index.unwrap_or_else(|error| panic!("{lost} of {record}: {error}"));
            assert_eq!(index.checkpoint(), wanted, "{lost} in records of {record}");
            let last = torn(&good, end).cut_index().unwrap().checkpoint();
            assert!(last > wanted);
        }
    }
}

/// The number of the last block of its chunk was more than a number can be.
#[test]
fn forged_locator_of_the_last_numbers_has_no_checkpoint() {
    let good = written(8192);
    let (start, end) = locators(&good)[2];
    for (blocks, checkpoint) in [(10, u64::MAX - 3), (6, u64::MAX - 2), (5, u64::MAX - 4)] {
        let mut bytes = good.clone();
        let header = UnitHeader::parse(&bytes[start..]).unwrap();
        let body = &bytes[start + UNIT_HEADER_LEN..][..header.stored as usize];
        let mut locator = Locator::parse(body).unwrap();
        let chunk = locator.chunks.last_mut().unwrap();
        (chunk.first, chunk.blocks) = (u64::MAX - 5, blocks);
        (locator.blocks, locator.checkpoint) = (u64::MAX, Some(checkpoint));
        let body = locator.to_bytes();
        assert_eq!(body.len(), header.stored as usize);
        let header = UnitHeader {
            body_crc: crc32fast::hash(&body),
            ..header
        };
        let unit = [&header.to_bytes()[..], &body].concat();
        bytes[start..start + unit.len()].copy_from_slice(&unit);
        let reader = torn(&bytes, end);
        let index = reader.cut_index().unwrap();
        assert_eq!(index.checkpoint(), checkpoint);
        let found = reader.checkpoint_at(&index, checkpoint);
        assert!(matches!(found, Err(OpenError::NoIndex(_))), "{found:?}");
    }
}
