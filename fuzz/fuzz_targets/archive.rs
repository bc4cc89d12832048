//! A good volume, encrypted, with some bytes changed: each block that comes out is the right one,
//! or zeros.
#![no_main]

use datapipe::archive::{ArchiveHead, ArchiveReader, BlockSet, StreamRestore};
use datapipe::crypto::{Key, Secret};
use datapipe::media::{Medium, VirtualTape};
use datapipe::prelude::*;
use datapipe::testkit::FaultyStorage;
use datapipe::wire::looks_like_record;
use libfuzzer_sys::fuzz_target;

const TAPE: &[u8] = include_bytes!("../../datapipe/tests/vectors/good/key-file-raw.tap");
const PLAIN: &[u8] = include_bytes!("../../datapipe/tests/vectors/good/key-file-raw.plain");
const BLOCK: usize = 512;

/// Makes the checksums right of what begins where a header stood, so that lies of headers are
/// reached.
fn make_right(bytes: &mut [u8]) {
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
    let (right, wanted, edits) = input;
    let mut bytes = TAPE.to_vec();
    for (at, value) in edits {
        let at = usize::from(at) % bytes.len();
        bytes[at] = value;
    }
    if right {
        make_right(&mut bytes);
    }
    let storage = FaultyStorage::new(1);
    storage.set_bytes("/t", &bytes);
    let tape = VirtualTape::open_on(storage, "/t", looks_like_record).unwrap();
    let secret = Secret::Key(Key::from_bytes([7; 32]));
    let Ok(reader) = ArchiveReader::open(tape, Some(&secret)) else {
        return;
    };
    let log = DamageLog::new();
    let reader = reader.salvage(&log);
    check(reader.head(), &reader, &log);
    if let Ok(index) = reader.index() {
        let mut blocks = BlockSet::new();
        wanted
            .iter()
            .for_each(|&first| blocks.insert(first.into()..=u64::from(first) + 1));
        if let Ok(head) = reader.head_of(&index, &blocks) {
            check(head, &reader, &log);
        }
    }
});

/// Whatever comes is what was written, or zeros.
fn check<M: Medium + 'static>(head: ArchiveHead<M>, reader: &ArchiveReader<M>, log: &DamageLog) {
    let mut out = Vec::new();
    let (open, head) = (reader.open_blocks().unwrap(), HeadStage::from(head));
    let pipe = Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(head.inline())
        .stage(open.inline());
    let pipe = pipe.stage(decompress_salvaging(log).inline());
    let _ = pipe
        .tail(TailStage::from(StreamRestore::new(&mut out)).inline())
        .run();
    assert!(out.len() <= PLAIN.len());
    for (got, sent) in out.chunks(BLOCK).zip(PLAIN.chunks(BLOCK)) {
        assert!(
            got == sent || got.iter().all(|&byte| byte == 0),
            "wrong data came out: {:#?}",
            log.snapshot().entries
        );
    }
}
