//! A forged archive footer, which is in clear and proves nothing, hides no blocks.

use datapipe::archive::Sessions;
use datapipe::prelude::*;
use datapipe::testkit::frames;
use datapipe::wire::{UnitHeader, UnitKind};

use crate::data::{key, noise};
use crate::fixture::{
    Run, content, damage_of, encrypted, lost, options, read, restored, salvage, tape, volume,
};

const BLOCK: u32 = 512;

/// Puts a forged footer of an archive that has ended in place of the last locator before the end.
/// A locator costs nothing but itself, so all blocks are there.
fn forged(volume: &[u8]) -> Vec<u8> {
    let mut frames = frames(volume);
    let mut locators = Vec::new();
    let mut blocks = 0;
    for (index, stored) in frames.iter().enumerate() {
        let Some((record, bytes)) = content(stored) else {
            continue;
        };
        let mut from = record.first.map_or(bytes.len(), |first| first as usize);
        while let Some(Ok(unit)) = bytes.get(from..).map(UnitHeader::parse) {
            match unit.kind {
                UnitKind::Block => blocks = unit.number + 1,
                UnitKind::Locator if from + unit.unit_len() <= bytes.len() => {
                    locators.push((index, from, unit, blocks));
                }
                _ => {}
            }
            from += unit.unit_len();
        }
    }
    // The last one comes after the last block.
    let (index, from, locator, blocks) = locators[locators.len() - 2];
    let mut body = [0; 32];
    body[..8].copy_from_slice(&blocks.to_le_bytes());
    body[24..].copy_from_slice(&blocks.to_le_bytes());
    let footer = UnitHeader {
        archive: locator.archive,
        number: blocks,
        position: locator.position,
        session: locator.session,
        stored: 32,
        plain: 32,
        body_crc: crc32fast::hash(&body),
        ..UnitHeader::new(UnitKind::ArchiveFooter)
    };
    let rest = vec![0; locator.unit_len() - footer.unit_len() - 64];
    let filler = UnitHeader {
        position: locator.position + footer.unit_len() as u64,
        stored: rest.len() as u32,
        plain: rest.len() as u32,
        body_crc: crc32fast::hash(&rest),
        ..locator
    };
    let units = [&footer.to_bytes()[..], &body, &filler.to_bytes(), &rest].concat();
    let at = 4 + 64 + from;
    frames[index][at..at + units.len()].copy_from_slice(&units);
    frames.concat()
}

/// A tape with an archive of several chunks, and one with a forged footer among them.
fn tapes(secret: Option<&Secret>, data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let options = encrypted(options("forged", 4096, 4096, BLOCK), secret);
    let good = volume(options, data, BLOCK);
    let bad = forged(&good);
    (good, bad)
}

/// The footer ended the archive that was read.
#[test]
fn forged_footer_hides_no_blocks() {
    let data = noise(60 * BLOCK as usize, 5);
    for secret in [None, Some(key(1))] {
        let (good, bad) = tapes(secret.as_ref(), &data);
        let read_all = |bytes: &[u8]| {
            salvage(
                tape(bytes),
                secret.as_ref(),
                &DamageLog::new(),
                BLOCK,
                Run::Inline,
            )
        };
        assert!(read_all(&good).is_clean());
        let salvaged = read_all(&bad);
        let damage = &salvaged.damage;
        assert_eq!(
            lost(&salvaged.bytes, &data, BLOCK, "forged"),
            0,
            "{damage:#?}"
        );
        assert!(
            salvaged.mentions("is not at the archive's end"),
            "{damage:#?}"
        );
        assert_eq!(damage.len(), 1, "{damage:#?}");
        let error = read(tape(&bad), secret.as_ref(), BLOCK).unwrap_err();
        assert!(error.contains("is not at the archive's end"), "{error}");
    }
}

/// The same of an archive that was chosen from a list, and was read no further than its footer.
#[test]
fn forged_footer_does_not_end_a_listed_archive() {
    let data = noise(60 * BLOCK as usize, 6);
    for secret in [None, Some(key(1))] {
        let (_, bad) = tapes(secret.as_ref(), &data);
        let list = Sessions::read(tape(&bad)).unwrap();
        let listed = list.archives().next().unwrap();
        let reader = ArchiveReader::open_listed(tape(&bad), listed, secret.as_ref()).unwrap();
        let log = DamageLog::new();
        let (bytes, _) = restored(reader.salvage(&log).read());
        let damage = damage_of(&log);
        assert!(bytes == data, "{damage:#?}");
        let is_named = |damage: &String| damage.contains("is not at the archive's end");
        assert!(damage.iter().any(is_named), "{damage:#?}");
    }
}
