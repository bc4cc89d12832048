//! Archives of a list that are opened or named: how many of them are read in vain.

use std::collections::BTreeMap;

use datapipe::archive::{ListedArchive, OpenError, Session, SessionOptions, Sessions};
use datapipe::archive::{SharedKey, StoredArchive};
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, frames};
use datapipe::wire::{UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::data::key;
use crate::fixture::{TAPE, create_tape, stream, tape};
use crate::lists::{Count, Counting};

const BLOCK: u32 = 512;

/// A session of encrypted archives on a tape, with these keys.
fn written(keys: &[u8]) -> Vec<u8> {
    let storage = FaultyStorage::new(1);
    let session = Session::new(create_tape(&storage), SessionOptions::new("s")).unwrap();
    let mut shared = BTreeMap::<u8, SharedKey>::new();
    for (id, number) in keys.iter().zip(1..) {
        let options = ArchiveOptions::stream(format!("archive {number}")).block_len(BLOCK);
        let options = match shared.get(id) {
            Some(key) => options.share_key(key.clone()),
            None => options.encrypt(key(*id)),
        };
        let archive = options.plan().unwrap();
        shared.extend(archive.shared_key().map(|key| (*id, key)));
        let pipe = Pipe::builder().buffer_size(BLOCK);
        let pipe = pipe.head(StreamHead::new(&b"data"[..]));
        pipe.archive_in(archive, &session).run().unwrap();
    }
    session.finish().unwrap();
    storage.bytes(TAPE).unwrap()
}

/// Damages the bodies of units.
fn damaged(bytes: &[u8], is_hit: impl Fn(&UnitHeader) -> bool) -> Vec<u8> {
    let (stream, mut bad) = (stream(&frames(bytes)), bytes.to_vec());
    let (mut at, mut from, mut count) = (0, 0, 0);
    while at < stream.len() {
        let header = UnitHeader::parse(&stream[at..]).unwrap();
        let unit = &stream[at..at + UNIT_HEADER_LEN + header.stored as usize];
        if is_hit(&header) {
            let mut found = bytes[from..].windows(unit.len());
            let place = found.position(|window| window == unit);
            from += place.expect("the unit is in one record");
            bad[from + unit.len() - 1] ^= 1;
            count += 1;
        }
        at += header.unit_len();
    }
    assert!(count > 0);
    bad
}

fn name_of(archive: &ListedArchive) -> Option<String> {
    archive.name().map(str::to_owned)
}

#[test]
fn names_that_one_key_has_opened_stay_when_another_is_tried() {
    let bytes = written(&[1, 2, 1]);
    let names = |sessions: &Sessions| sessions.archives().map(name_of).collect::<Vec<_>>();
    let name = |number: u32| Some(format!("archive {number}"));
    let sessions = Sessions::read(tape(&bytes)).unwrap();
    let sessions = sessions.with_names(tape(&bytes), &key(1)).unwrap();
    assert_eq!(names(&sessions), [name(1), None, name(3)]);
    let sessions = sessions.with_names(tape(&bytes), &key(2)).unwrap();
    assert_eq!(names(&sessions), [name(1), name(2), name(3)]);
    let sessions = sessions.with_names(tape(&bytes), &key(3)).unwrap();
    assert_eq!(names(&sessions), [name(1), name(2), name(3)]);
}

/// Each of them may cost a reading of 128 MiB.
#[test]
fn archives_without_a_block_0_that_are_read_for_their_names_are_eight_at_most() {
    let good = written(&[7; 10]);
    for lost in [7, 8] {
        let bytes = damaged(&good, |unit| {
            let is_hit = (2..2 + lost).contains(&unit.archive);
            is_hit && unit.kind == UnitKind::Block && unit.number == 0
        });
        let sessions = Sessions::read(tape(&bytes)).unwrap();
        let sessions = sessions.with_names(tape(&bytes), &key(7)).unwrap();
        let names: Vec<_> = sessions.archives().map(name_of).collect();
        assert_eq!(names[0].is_some(), lost < 8, "{lost} lost");
        let named = names.iter().flatten().count();
        assert_eq!(named, if lost < 8 { 3 } else { 1 }, "{lost} lost");
    }
}

#[test]
fn archives_without_blocks_that_are_read_to_open_the_last_one_are_eight_at_most() {
    let good = written(&[7; 10]);
    for lost in [7, 8] {
        let first_lost = 11 - lost;
        let bytes = damaged(&good, |unit| {
            unit.archive >= first_lost && unit.kind == UnitKind::Block
        });
        let sessions = Sessions::read(tape(&bytes)).unwrap();
        let opened = ArchiveReader::open_last(tape(&bytes), sessions.archives(), Some(&key(7)));
        match opened {
            Ok(reader) => {
                let last = format!("archive {}", first_lost - 1);
                let name = reader.origin().map(|origin| origin.name.clone());
                assert_eq!((name, lost), (Some(last), 7));
            }
            Err(OpenError::NoArchive(_)) => assert_eq!(lost, 8),
            Err(error) => panic!("{lost} lost: {error}"),
        }
    }
}

/// The header of each is looked for in all records from the start of the session.
#[test]
fn archives_without_a_header_that_are_read_to_open_the_last_one_are_eight_at_most() {
    let bytes = damaged(&written(&[7; 40]), |unit| {
        let headers = [
            UnitKind::ArchiveHeader,
            UnitKind::ChunkFooter,
            UnitKind::Locator,
        ];
        headers.contains(&unit.kind)
    });
    let sessions = Sessions::read(tape(&bytes)).unwrap();
    assert!(sessions.archives().all(|archive| archive.id().is_none()));
    for has_key in [false, true] {
        let count = Count::default();
        let medium = Counting(tape(&bytes), count.clone());
        let error = match has_key {
            true => ArchiveReader::open_last(medium, sessions.archives(), Some(&key(7))).err(),
            false => StoredArchive::open_last(medium, sessions.archives()).err(),
        };
        assert!(matches!(error, Some(OpenError::NoArchive(_))), "{error:?}");
        let (read, len) = (count.bytes(), bytes.len() as u64);
        assert!(
            read > len && read <= 9 * len,
            "{read} of {len} bytes, with a key: {has_key}"
        );
    }
}
