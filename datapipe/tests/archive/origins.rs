//! The origin of an archive, block 0: no party reads it without the key, and each archive has one,
//! its own.

use std::fs;

use datapipe::archive::{ArchiveOrigin, BlockSet, PlanError, Sessions, Special, StoredArchive};
use datapipe::crypto::{Argon2Cost, Identity};
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Sink, frames};
use datapipe::wire::{BlockKind, Framing, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::data::key;
use crate::fixture::{FRAMINGS, TAPE, create_tape, encrypted, open_tape, options, stream, tape};

const BLOCK: u32 = 4096;
const NAME: &str = "the takeover of the other company";
const PROGRAM: &str = "a program that no other party has";

/// Content of several classes.
fn content() -> Vec<u8> {
    [b"plain text ".repeat(1000), vec![0; 20_000]].concat()
}

/// A tape with an archive, and the archive's origin.
fn written(secret: Option<&Secret>, framing: Framing) -> (Vec<u8>, ArchiveOrigin) {
    let storage = FaultyStorage::new(1);
    let options = options(NAME, 1024, 10_000, BLOCK).framing(framing);
    let archive = encrypted(options.program(PROGRAM), secret).plan().unwrap();
    let special = Special::new(Special::OWN | 1, "a ticket").unwrap();
    let archive = archive.special(special).unwrap();
    let origin = archive.origin().unwrap().clone();
    let data = content();
    let pipe = Pipe::builder().buffer_size(BLOCK);
    let pipe = pipe.head(StreamHead::new(&data[..])).stage(analyze());
    pipe.archive(archive, create_tape(&storage)).run().unwrap();
    (storage.bytes(TAPE).unwrap(), origin)
}

/// A copy that is made without the key, on another tape.
fn copied(bytes: &[u8]) -> Vec<u8> {
    let (storage, source) = (FaultyStorage::new(1), StoredArchive::open(tape(bytes)));
    let source = source.unwrap();
    let plan = source.copy().record_len(2048).plan().unwrap();
    assert_eq!(plan.origin(), None);
    let pipe = source.read().pipe;
    pipe.archive(plan, create_tape(&storage)).run().unwrap();
    storage.bytes(TAPE).unwrap()
}

/// True if the tape has the text anywhere, in clear.
fn has(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// The units of a tape with their bodies.
fn units(bytes: &[u8]) -> Vec<(UnitHeader, Vec<u8>)> {
    let stream = stream(&frames(bytes));
    let (mut at, mut units) = (0, Vec::new());
    while at < stream.len() {
        let header = UnitHeader::parse(&stream[at..]).unwrap();
        let body = &stream[at + UNIT_HEADER_LEN..][..header.stored as usize];
        units.push((header, body.to_vec()));
        at += header.unit_len();
    }
    units
}

fn blocks(bytes: &[u8]) -> Vec<(UnitHeader, Vec<u8>)> {
    let mut units = units(bytes);
    units.retain(|(header, _)| header.kind == UnitKind::Block);
    units
}

/// The header of an encrypted archive had all three, and the session's label was the name.
#[test]
fn names_are_nowhere_in_clear_on_an_encrypted_tape_nor_on_its_copy() {
    for framing in FRAMINGS {
        let (clear, origin) = written(None, framing);
        let (sealed, _) = written(Some(&key(7)), framing);
        assert_eq!((&*origin.name, &*origin.program), (NAME, PROGRAM));
        // The name of a host may be so short that a ciphertext has it by chance.
        let host = [origin.host.as_bytes(), &PROGRAM.as_bytes()[..8]].concat();
        let mut texts = vec![NAME.as_bytes(), PROGRAM.as_bytes(), &host];
        texts.extend(Some(origin.host.as_bytes()).filter(|host| host.len() >= 6));
        for text in texts {
            for tape in [&clear, &copied(&clear)] {
                assert!(has(tape, text), "{framing}: {}", text.escape_ascii());
            }
            for tape in [&sealed, &copied(&sealed)] {
                assert!(!has(tape, text), "{framing}: {}", text.escape_ascii());
            }
        }
    }
}

#[test]
fn content_classes_of_an_encrypted_archive_are_not_stored() {
    let classes = |secret| {
        let blocks = blocks(&written(secret, Framing::default()).0);
        let known = blocks.iter().map(|(header, _)| header.class);
        known
            .filter(|&class| class != ContentClass::default())
            .count()
    };
    assert!(classes(None) > 5);
    assert_eq!(classes(Some(&key(7))), 0);
}

#[test]
fn origin_is_block_0_with_or_without_a_key_and_ends_a_record() {
    for secret in [None, Some(key(7))] {
        for framing in FRAMINGS {
            let (bytes, _) = written(secret.as_ref(), framing);
            let all = blocks(&bytes);
            let what: Vec<_> = all.iter().map(|(header, _)| header.block_kind).collect();
            assert_eq!(
                what[..3],
                [BlockKind::Special, BlockKind::Special, BlockKind::Data]
            );
            let numbers = all.iter().map(|(header, _)| header.number);
            assert!(numbers.eq(0..all.len() as u64), "{framing}");
            let first = &all[0].0;
            let end = first.position + first.unit_len() as u64;
            let records = frames(&bytes).into_iter().filter_map(|frame| {
                let (header, _) = crate::fixture::content(&frame)?;
                Some(header.position)
            });
            assert!(
                records.into_iter().any(|position| position == end),
                "{framing}"
            );
        }
    }
}

#[test]
fn origin_is_read_with_the_key_only() {
    let identity = Identity::from_bytes([3; 32]);
    for secret in [key(7), Secret::Identity(identity.clone())] {
        let storage = FaultyStorage::new(1);
        let options = options(NAME, 1024, 10_000, BLOCK).program(PROGRAM);
        let archive = options.encrypt(key(7)).recipient(identity.recipient());
        let archive = archive.plan().unwrap();
        let origin = archive.origin().unwrap().clone();
        let pipe = Pipe::builder().buffer_size(BLOCK);
        let pipe = pipe.head(StreamHead::new(&b"data"[..]));
        pipe.archive(archive, create_tape(&storage)).run().unwrap();
        for bytes in [
            storage.bytes(TAPE).unwrap(),
            copied(&storage.bytes(TAPE).unwrap()),
        ] {
            let reader = ArchiveReader::open(tape(&bytes), Some(&secret)).unwrap();
            assert_eq!(reader.origin(), Some(&origin));
            assert_eq!(StoredArchive::open(tape(&bytes)).unwrap().origin(), None);
            let name = |sessions: &Sessions| {
                let archive = sessions.archives().next().unwrap();
                assert_eq!(archive.is_encrypted(), Some(true));
                archive.name().map(str::to_owned)
            };
            let listed = Sessions::read(tape(&bytes)).unwrap();
            assert_eq!(name(&listed), None);
            let other = listed.clone().with_names(tape(&bytes), &key(8)).unwrap();
            assert_eq!(name(&other), None);
            let listed = listed.with_names(tape(&bytes), &secret).unwrap();
            assert_eq!(name(&listed).as_deref(), Some(NAME));
            let archive = listed.archives().next().unwrap();
            let opened = ArchiveReader::open_listed(tape(&bytes), archive, Some(&secret));
            assert_eq!(opened.unwrap().origin(), Some(&origin));
            let last = ArchiveReader::open_last(tape(&bytes), listed.archives(), Some(&secret));
            assert_eq!(last.unwrap().origin(), Some(&origin));
        }
    }
}

#[test]
fn names_of_archives_that_are_not_encrypted_are_listed_without_a_key() {
    for framing in FRAMINGS {
        let (bytes, origin) = written(None, framing);
        let name = |bytes: &[u8]| {
            let listed = Sessions::read(tape(bytes)).unwrap();
            let archive = listed.archives().next().unwrap();
            archive.name().map(str::to_owned)
        };
        assert_eq!(name(&bytes).as_deref(), Some(NAME));
        assert_eq!(name(&copied(&bytes)).as_deref(), Some(NAME));
        let stored = StoredArchive::open(tape(&bytes)).unwrap();
        assert_eq!(stored.origin(), Some(&origin));
        // Without the end of the session, the list reads all records.
        let cut = bytes.len() * 3 / 4;
        assert_eq!(name(&bytes[..cut]).as_deref(), Some(NAME));
    }
}

/// A tree's catalogue has the numbers of its blocks, so they must not depend on the encryption.
#[test]
fn archive_that_is_written_anew_has_its_own_origin_and_the_numbers_of_its_source() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..9_u8 {
        fs::write(dir.path().join(format!("file {n}")), vec![n; 3000]).unwrap();
    }
    let head = TreeHead::new(&[dir.path()], TreeOptions::default()).unwrap();
    let mut pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    let mut before = None::<Vec<(u64, BlockKind)>>;
    for (name, secret) in [("first", None), ("second", Some(key(7))), ("third", None)] {
        let storage = FaultyStorage::new(1);
        let options = ArchiveOptions::tree(name).block_len(BLOCK);
        let mut archive = encrypted(options, secret.as_ref()).plan().unwrap();
        if before.is_none() {
            let special = Special::new(Special::OWN | 1, "a ticket").unwrap();
            archive = archive.special(special).unwrap();
        }
        pipe.archive(archive, create_tape(&storage)).run().unwrap();
        let bytes = storage.bytes(TAPE).unwrap();
        let all = blocks(&bytes).into_iter();
        let all = all.map(|(header, _)| (header.number, header.block_kind));
        let all: Vec<_> = all
            .filter(|(_, kind)| *kind != BlockKind::Checkpoint)
            .collect();
        let first = before.get_or_insert_with(|| all.clone());
        assert_eq!(*first, all, "{name}");
        let reader = ArchiveReader::open(open_tape(&storage).unwrap(), secret.as_ref()).unwrap();
        assert_eq!(reader.origin().unwrap().name, name);
        let verify = TreeVerify::new();
        let report = verify.report();
        let reading = reader.read();
        reading.pipe.tail(verify).run().unwrap();
        assert!(
            reading.report.snapshot().complete && report.snapshot().is_whole(),
            "{name}"
        );
        pipe = reader.read().pipe;
    }
}

/// Changes block 0 of an archive, with right checksums.
fn with_origin(bytes: &[u8], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let all = blocks(bytes);
    let (header, body) = &all[0];
    let mut changed = body.clone();
    change(&mut changed);
    assert_eq!(changed.len(), body.len());
    let header_now = UnitHeader {
        body_crc: crc32fast::hash(&changed),
        ..*header
    };
    let old = [&header.to_bytes()[..], body].concat();
    let new = [&header_now.to_bytes()[..], &changed].concat();
    let at = bytes.windows(old.len()).position(|window| window == old);
    let at = at.expect("the block is in one record");
    [&bytes[..at], &new, &bytes[at + new.len()..]].concat()
}

#[test]
fn origin_that_is_damaged_costs_only_itself() {
    for secret in [None, Some(key(7))] {
        let (bytes, _) = written(secret.as_ref(), Framing::HeaderFooter);
        // A name that is longer than the block.
        let bytes = with_origin(&bytes, |body| body[24] ^= 0x80);
        let strict = ArchiveReader::open(tape(&bytes), secret.as_ref()).unwrap();
        assert_eq!(strict.origin(), None);
        let ended = strict.read().pipe.tail(StreamTail::new(std::io::sink()));
        let error = ended.run().unwrap_err().to_string();
        assert!(error.contains("block 0"), "{error}");

        let (log, sink) = (DamageLog::new(), Sink::default());
        let reader = strict.clone().salvage(&log);
        let reading = reader.read();
        let tail = StreamRestore::new(sink.clone());
        reading.pipe.tail(tail).run().unwrap();
        assert!(sink.bytes() == content());
        assert!(!reading.report.snapshot().complete);
        let found = log.snapshot().entries;
        assert!(
            found.iter().all(|entry| entry.block == Some(0)),
            "{found:?}"
        );

        // Some blocks only: it is damage of the archive all the same.
        let (mut some, log) = (BlockSet::new(), DamageLog::new());
        some.insert(3..=4);
        let reader = strict.salvage(&log);
        let index = reader.index().unwrap();
        let reading = reader.read_blocks(&index, &some).unwrap();
        reading
            .pipe
            .tail(StreamTail::new(std::io::sink()))
            .run()
            .unwrap();
        let found = log.snapshot().entries;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].block, Some(0));
    }
}

#[test]
fn names_that_do_not_fit_into_a_block_are_refused() {
    let long = || "n".repeat(255);
    let plan = |len| {
        let options = ArchiveOptions::stream(long()).program(long());
        options.block_len(len).plan()
    };
    assert!(plan(1024).is_ok());
    let error = plan(512).unwrap_err().to_string();
    assert!(
        error.contains("need a block of") && error.contains("but blocks have 512"),
        "{error}"
    );
}

/// A passphrase is stretched only for an archive that can be written.
#[test]
fn texts_that_are_too_long_are_refused_before_a_passphrase_is_stretched() {
    // It is refused when it is used.
    let cost = Argon2Cost {
        memory_kib: u32::MAX,
        ..Argon2Cost::default()
    };
    let passphrase = || Secret::from(Passphrase::from_bytes("what the operators know").unwrap());
    let long = |len| "n".repeat(len);
    let sealed = |options: ArchiveOptions| options.encrypt_at(passphrase(), cost).plan();
    let stream = |name: &str| ArchiveOptions::stream(name);
    assert!(matches!(
        sealed(stream("n")).unwrap_err(),
        PlanError::Key(_)
    ));
    for (what, options) in [
        ("label", stream("n").label(long(256))),
        ("name", stream(&long(256))),
        ("program", stream("n").program(long(256))),
    ] {
        match sealed(options).unwrap_err() {
            PlanError::TextTooLong { what: found, text } => {
                assert_eq!((found, text.len()), (what, 256));
            }
            other => panic!("{what}: {other}"),
        }
    }
    assert!(matches!(
        sealed(stream(&long(255)).block_len(128)).unwrap_err(),
        PlanError::OriginTooLong { block_len: 128, .. }
    ));
}
