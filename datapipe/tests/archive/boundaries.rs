//! Damage at the boundaries of records on media of several sessions and volumes, near labels and
//! headers above all: each archive loses the blocks that are hit, and at most one more.

use std::fs;
use std::ops::Range;

use datapipe::prelude::*;
use datapipe::testkit::{Random, frames};
use datapipe::wire::{RecordHeader, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::data::{blocks, key, setting};
use crate::hits::Hits;
use crate::medium::open;
use crate::site::{Scale, Site};

const SCALE: Scale = Scale {
    block: 512,
    record: 8192,
    chunk: 15_000,
};

/// A medium, and the places of the blocks of each archive.
struct Media {
    site: Site,
    files: Vec<Vec<u8>>,
    hits: Hits,
}

impl Media {
    fn new(volume_size: Option<u64>, secret: Option<Secret>) -> Self {
        let mut site = Site::of_scale(SCALE, "medium", volume_size, secret);
        for number in 0..3 {
            let session = site.session("boundaries");
            for (index, len) in [18_000, 40_000].into_iter().enumerate() {
                site.write(&session, &format!("{number}.{index}"), len);
            }
            session.finish().unwrap();
        }
        site.check_all();
        let data = site.data.iter().map(|(_, data)| data.clone());
        let files: Vec<_> = site.files().into_iter().map(|(_, bytes)| bytes).collect();
        let parts: Vec<_> = files.iter().map(Vec::as_slice).collect();
        Self {
            hits: Hits::new(SCALE.block, &parts, &site.list(), data),
            site,
            files,
        }
    }

    /// Asserts that a change of `range` of a file costs each archive the blocks in it and at most
    /// one more.
    fn check(&self, what: &str, file: usize, range: &Range<usize>, bad: &[u8]) {
        let path = &self.site.paths()[file];
        fs::write(path, bad).unwrap();
        let (medium, secret) = (|| open(&self.site.path), self.site.secret.as_ref());
        self.hits.check(what, (file, range), medium, secret);
        fs::write(path, &self.files[file]).unwrap();
    }

    /// Damages a file around the boundary at byte `at` of it, in several ways.
    fn damage(&self, file: usize, at: usize) {
        let whole = &self.files[file];
        let len = whole.len();
        let zeros = [
            at / 4096 * 4096..at / 4096 * 4096 + 4096,
            at.saturating_sub(8)..at + 12,
            at..at + 700,
        ];
        for range in zeros {
            let range = range.start..range.end.min(len);
            let mut bad = whole.clone();
            bad[range.clone()].fill(0);
            self.check(&format!("file {file}: zeros {range:?}"), file, &range, &bad);
        }
        for (before, count) in [(10, 30), (60, 500), (2, 4096)] {
            let from = at.saturating_sub(before);
            let range = from..(from + count).min(len);
            let mut bad = whole.clone();
            bad.drain(range.clone());
            let what = format!("file {file}: missing {range:?}");
            self.check(&what, file, &range, &bad);
        }
        for (before, count) in [(0, 37), (5, 700)] {
            let from = at.saturating_sub(before);
            let mut bad = whole.clone();
            bad.splice(from..from, blocks(count, 64, at as u64));
            let what = format!("file {file}: {count} inserted at {from}");
            self.check(&what, file, &(from..from), &bad);
        }
    }
}

/// Starts of the frames of a file, and true for those near a label or the header of an archive.
fn boundaries(bytes: &[u8]) -> Vec<(usize, bool)> {
    let (mut at, mut near, mut found) = (0, 0, Vec::new());
    for frame in frames(bytes) {
        let record = frame.get(4..frame.len() - 4).unwrap_or_default();
        if let Ok((header, content)) = RecordHeader::parse(record) {
            let unit = header.first.and_then(|first| content.get(first as usize..));
            let unit = unit.and_then(|unit| UnitHeader::parse(unit).ok());
            let begins = [UnitKind::SessionHeader, UnitKind::ArchiveHeader];
            let is_near = unit.is_none_or(|unit| begins.contains(&unit.kind));
            near = if is_near { 2 } else { near };
            found.push((at, near > 0));
            near = usize::saturating_sub(near, 1);
        }
        at += frame.len();
    }
    found
}

fn check_boundaries(volume_size: Option<u64>, secret: Option<Secret>) {
    let seed = setting("DATAPIPE_SEED", 20_261_130);
    println!("DATAPIPE_SEED={seed}");
    let (media, mut random) = (Media::new(volume_size, secret), Random::new(seed));
    assert_eq!(media.files.len() > 1, volume_size.is_some());
    let share = setting("DATAPIPE_BOUNDARIES", 1);
    for (file, bytes) in media.files.iter().enumerate() {
        for (at, is_near) in boundaries(bytes) {
            if is_near || random.below(100) < share {
                media.damage(file, at);
            }
        }
    }
}

#[test]
fn damage_at_a_boundary_of_a_tape_costs_the_blocks_that_are_hit() {
    check_boundaries(None, None);
}

#[test]
fn damage_at_a_boundary_of_encrypted_volumes_costs_the_blocks_that_are_hit() {
    check_boundaries(Some(64 << 10), Some(key(7)));
}

/// Offsets of the headers of chunks in a file.
fn chunk_headers(bytes: &[u8]) -> Vec<usize> {
    let is_one = |at: &usize| {
        UnitHeader::parse(&bytes[*at..]).is_ok_and(|unit| unit.kind == UnitKind::ChunkHeader)
    };
    (0..bytes.len()).filter(is_one).collect()
}

#[test]
fn forged_header_of_what_follows_an_archive_does_not_end_it() {
    for secret in [None, Some(key(7))] {
        let media = Media::new(None, secret);
        let places = chunk_headers(&media.files[0]);
        assert!(places.len() > media.hits.data.len());
        for at in places {
            let unit = UnitHeader::parse(&media.files[0][at..]).unwrap();
            let later = UnitHeader {
                archive: unit.archive + 1,
                ..unit
            };
            let end = UnitHeader {
                kind: UnitKind::SessionFooter,
                archive: 0,
                chunk: 0,
                number: 0,
                ..unit
            };
            let begin = UnitHeader {
                kind: UnitKind::ArchiveHeader,
                archive: unit.archive + 1,
                chunk: 0,
                number: 0,
                ..unit
            };
            for forged in [later, end, begin] {
                let mut bad = media.files[0].clone();
                bad[at..at + UNIT_HEADER_LEN].copy_from_slice(&forged.to_bytes());
                let what = format!("forged {:?} at {at}", forged.kind);
                media.check(&what, 0, &(at..at), &bad);
            }
        }
    }
}
