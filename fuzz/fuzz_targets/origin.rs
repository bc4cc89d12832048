//! Arbitrary bytes in the origin of an archive that is not encrypted, its block 0: the archive
//! opens, it is listed with the name that it is opened with, and all its data come back. It is
//! complete only if it has an origin.
#![no_main]

use datapipe::archive::{ArchiveReader, Sessions, StreamRestore};
use datapipe::media::{TapeReader, VirtualTape};
use datapipe::prelude::*;
use datapipe::testkit::FaultyStorage;
use datapipe::wire::{UNIT_HEADER_LEN, UnitHeader, UnitKind, looks_like_record};
use libfuzzer_sys::fuzz_target;

const TAPE: &[u8] = include_bytes!("../../datapipe/tests/vectors/good/raw.tap");
const PLAIN: &[u8] = include_bytes!("../../datapipe/tests/vectors/good/raw.plain");
const BLOCK_LEN: usize = 512;
const MAX_TEXT: usize = 255;

fuzz_target!(|edits: Vec<(u16, u8)>| {
    let is_it = |header: UnitHeader| header.kind == UnitKind::Block && header.number == 0;
    let mut starts = TAPE.windows(UNIT_HEADER_LEN);
    let at = starts.position(|bytes| UnitHeader::parse(bytes).is_ok_and(is_it)).unwrap();
    let mut header = UnitHeader::parse(&TAPE[at..]).unwrap();
    let mut tape = TAPE.to_vec();
    let body = &mut tape[at + UNIT_HEADER_LEN..][..header.stored as usize];
    for (at, value) in edits {
        let at = usize::from(at) % body.len();
        body[at] = value;
    }
    header.body_crc = crc32fast::hash(body);
    tape[at..at + UNIT_HEADER_LEN].copy_from_slice(&header.to_bytes());
    check(&tape);
});

fn open(bytes: &[u8]) -> TapeReader<FaultyStorage> {
    let storage = FaultyStorage::new(1);
    storage.set_bytes("/t", bytes);
    VirtualTape::open_on(storage, "/t", looks_like_record).unwrap()
}

fn check(bytes: &[u8]) {
    let log = DamageLog::new();
    let reader = ArchiveReader::open(open(bytes), None).unwrap().salvage(&log);
    let origin = reader.origin();
    if let Some(origin) = origin {
        let texts = [&origin.name, &origin.host, &origin.program];
        assert!(texts.iter().all(|text| text.len() <= MAX_TEXT));
    }
    let sessions = Sessions::read(open(bytes)).unwrap();
    let listed = sessions.archives().next().unwrap().name();
    assert_eq!(listed, origin.map(|origin| &*origin.name));

    let (head, mut out) = (reader.head(), Vec::new());
    let (report, check) = (head.report(), head.check());
    let pipe = Pipe::builder()
        .buffer_size(BLOCK_LEN as u32)
        .head(HeadStage::from(head).inline())
        .stage(check.inline());
    let tail = TailStage::from(StreamRestore::new(&mut out)).inline();
    pipe.tail(tail).run().unwrap();
    assert!(out == PLAIN);
    assert_eq!(report.snapshot().complete, origin.is_some());
    assert_eq!(log.snapshot().entries.is_empty(), origin.is_some());
}
