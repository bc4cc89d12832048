//! A valid, encrypted volume with some bytes changed: each restored block is the original one, or
//! zeros, also of a copy that is made without the key.
#![no_main]

use datapipe::archive::{ArchiveHead, ArchiveReader, BlockSet, StoredArchive, StreamRestore};
use datapipe::crypto::{Key, Secret};
use datapipe::media::{MediumReader, VirtualTape};
use datapipe::prelude::*;
use datapipe::testkit::FaultyStorage;
use datapipe::wire::looks_like_record;
use libfuzzer_sys::fuzz_target;

const TAPE: &[u8] = include_bytes!("../../datapipe/tests/vectors/good/key-file-raw.tap");
const PLAIN: &[u8] = include_bytes!("../../datapipe/tests/vectors/good/key-file-raw.plain");
const BLOCK_LEN: usize = 512;

/// Corrects the checksums of all headers and their bodies, so that the target also reaches the code
/// after the checksum tests with wrong headers.
fn correct_checksums(bytes: &mut [u8]) {
    for at in 0..TAPE.len() - 64 {
        let stored = u32::from_le_bytes(bytes[at + 36..at + 40].try_into().unwrap()) as usize;
        if let (b"DPun", Some(body)) = (&TAPE[at..at + 4], bytes[at + 64..].get(..stored)) {
            let crc = crc32fast::hash(body);
            bytes[at + 44..at + 48].copy_from_slice(&crc.to_le_bytes());
        }
        if matches!(&TAPE[at..at + 4], b"DPun" | b"DPrc") {
            let crc = crc32fast::hash(&bytes[at..at + 60]);
            bytes[at + 60..at + 64].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

fuzz_target!(|input: (bool, [u8; 3], Vec<(u16, u8)>)| {
    let (with_checksums, first_blocks, edits) = input;
    let mut bytes = TAPE.to_vec();
    for (at, value) in edits {
        let at = usize::from(at) % bytes.len();
        bytes[at] = value;
    }
    if with_checksums {
        correct_checksums(&mut bytes);
    }
    check_tape(&bytes, &first_blocks);
    if let Some(copy) = copied(&bytes) {
        check_tape(&copy, &first_blocks);
    }
});

/// Copies the archive without its key. Returns nothing if no block of it can be read.
fn copied(bytes: &[u8]) -> Option<Vec<u8>> {
    let (source, copy) = (FaultyStorage::new(1), FaultyStorage::new(1));
    source.set_bytes("/t", bytes);
    let tape = VirtualTape::open_on(source, "/t", looks_like_record).unwrap();
    let stored = StoredArchive::open(tape).ok()?.salvage(&DamageLog::new());
    let plan = stored.copy().record_len(2048).plan().unwrap();
    let (head, plan) = (stored.head(), plan.map_tail(|tail| tail.inline()));
    let check = head.check().inline();
    let medium = VirtualTape::create_on(copy.clone(), "/t", VolumeOptions::default()).unwrap();
    let _ = Pipe::builder()
        .buffer_size(BLOCK_LEN as u32)
        .head(HeadStage::from(head).inline())
        .stage(check)
        .archive(plan, medium)
        .run();
    copy.bytes("/t")
}

/// Restores what a tape has, all of it and some blocks.
fn check_tape(bytes: &[u8], first_blocks: &[u8]) {
    let storage = FaultyStorage::new(1);
    storage.set_bytes("/t", bytes);
    let tape = VirtualTape::open_on(storage, "/t", looks_like_record).unwrap();
    let secret = Secret::Key(Key::from_bytes([7; 32]));
    let Ok(reader) = ArchiveReader::open(tape, Some(&secret)) else {
        return;
    };
    let log = DamageLog::new();
    let reader = reader.salvage(&log);
    check_restored(reader.head(), &reader, &log);
    if let Ok(index) = reader.index() {
        let mut blocks = BlockSet::new();
        first_blocks
            .iter()
            .for_each(|&first| blocks.insert(first.into()..=u64::from(first) + 1));
        if let Ok(head) = reader.head_of(&index, &blocks) {
            check_restored(head, &reader, &log);
        }
    }
}

/// Restores the stream, and checks that each block is the original one, or zeros.
fn check_restored<M: MediumReader + 'static>(
    head: ArchiveHead<M>,
    reader: &ArchiveReader<M>,
    log: &DamageLog,
) {
    let mut out = Vec::new();
    let (open, check) = (reader.open_blocks().unwrap(), head.check());
    let head = HeadStage::from(head);
    let pipe = Pipe::builder()
        .buffer_size(BLOCK_LEN as u32)
        .head(head.inline())
        .stage(open.inline())
        .stage(check.inline());
    let pipe = pipe.stage(decompress_salvaging(log).inline());
    let _ = pipe
        .tail(TailStage::from(StreamRestore::new(&mut out)).inline())
        .run();
    assert!(out.len() <= PLAIN.len());
    for (restored, original) in out.chunks(BLOCK_LEN).zip(PLAIN.chunks(BLOCK_LEN)) {
        assert!(
            restored == original || restored.iter().all(|&byte| byte == 0),
            "wrong data was restored: {:#?}",
            log.snapshot()
        );
    }
}
