//! Archives written and read by whole pipes, and what a writer that failed leaves.

use std::path::Path;

use datapipe::archive::WriteOutcome;
use datapipe::crypto::Argon2Cost;
use datapipe::limits::MIN_VOLUME_SIZE;
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, StorageCall};

use crate::data::{blocks, key};
use crate::fixture::{
    FRAMINGS, Run, Salvaged, create_tape, encrypted, lost, open_tape, options, read, salvage, write,
};
use crate::medium::{create_tape as create_file, create_volumes, open};

const BLOCK: u32 = 4096;

/// Returns data of which every second block can be compressed.
fn data(len: usize) -> Vec<u8> {
    blocks(len, BLOCK as usize, 7)
}

fn small(name: &str) -> ArchiveOptions {
    options(name, 2048, 40_000, BLOCK)
}

fn salvaged(medium: impl MediumReader + 'static, secret: &Secret) -> Salvaged {
    let salvaged = salvage(medium, Some(secret), &DamageLog::new(), BLOCK, Run::Threads);
    assert_eq!(salvaged.error, None);
    salvaged
}

/// Asserts that at least `part` of the blocks came back, and that the others are zeros.
fn assert_salvaged(salvaged: &Salvaged, data: &[u8], part: f64) {
    let blocks = data.len().div_ceil(BLOCK as usize);
    let lost = lost(&salvaged.bytes, data, BLOCK, "salvage");
    let right = blocks - lost;
    assert!(
        right as f64 >= part * blocks as f64,
        "{right} of {blocks} blocks came back"
    );
}

#[test]
fn stream_of_any_length_and_framing_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    for framing in FRAMINGS {
        for secret in [None, Some(key(7))] {
            for len in [0, 1, 4096, 300_000] {
                let what = format!("{framing:?} {} {len}", secret.is_some());
                let (data, path) = (data(len), dir.path().join(&what));
                let options = options("test", 2048, 50_000, BLOCK).framing(framing);
                let archive = encrypted(options, secret.as_ref()).plan().unwrap();
                write(
                    archive,
                    create_file(&path),
                    StreamHead::new(&data[..]),
                    BLOCK,
                );
                let (bytes, outcome) = read(open(&path), secret.as_ref(), BLOCK).unwrap();
                assert!(bytes == data, "{what}: {} bytes", bytes.len());
                assert!(outcome.complete && outcome.missing == 0);
                assert_eq!(outcome.blocks, len.div_ceil(BLOCK as usize) as u64);
            }
        }
    }
}

#[test]
fn archive_opens_only_with_the_right_secret() {
    let dir = tempfile::tempdir().unwrap();
    let cost = Argon2Cost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };
    let phrase = |text: &str| Secret::Passphrase(Passphrase::from_bytes(text).unwrap());
    let both = small("both")
        .encrypt(key(1))
        .encrypt_at(phrase("correct horse"), cost);
    let data = data(50_000);
    let path = |name: &str| dir.path().join(name);
    for (name, options) in [("both", both), ("none", small("none"))] {
        let archive = options.plan().unwrap();
        let head = StreamHead::new(&data[..]);
        write(archive, create_file(&path(name)), head, BLOCK);
    }
    let read = |name: &str, secret: Option<&Secret>| read(open(&path(name)), secret, BLOCK);
    for right in [key(1), phrase("correct horse")] {
        assert!(read("both", Some(&right)).unwrap().0 == data);
    }
    let cases = [
        ("both", Some(key(2)), "key file"),
        ("both", Some(phrase("battery staple")), "passphrase"),
        ("both", None, "is encrypted: give its key, its passphrase"),
        (
            "none",
            Some(key(1)),
            "is not encrypted, although a key was given",
        ),
    ];
    for (name, secret, expected) in cases {
        let error = read(name, secret.as_ref()).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

/// Writes an encrypted archive of `data` to a directory of small volumes.
fn write_volumes(path: &Path, name: &str, data: &[u8]) {
    let archive = options(name, 8192, 40_000, BLOCK)
        .encrypt(key(3))
        .plan()
        .unwrap();
    let medium = create_volumes(path, Some(MIN_VOLUME_SIZE), false);
    write(archive, medium, StreamHead::new(data), BLOCK);
}

#[test]
fn archive_spans_volumes() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (dir.path().join("ours"), dir.path().join("others"));
    let data = data(900_000);
    write_volumes(&ours, "long", &data);
    let volume = |n: u32| ours.join(format!("{n:06}.tap"));
    assert!(volume(8).exists(), "it spans volumes");
    let (bytes, outcome) = read(open(&ours), Some(&key(3)), BLOCK).unwrap();
    assert!(bytes == data && outcome.complete);

    let check = |words: &str, part: f64| {
        let salvaged = salvaged(open(&ours), &key(3));
        assert!(salvaged.mentions(words), "{:#?}", salvaged.damage);
        assert_salvaged(&salvaged, &data, part);
    };
    // Two volumes in each other's place: read by their labels.
    let keep = std::fs::read(volume(3)).unwrap();
    std::fs::copy(volume(4), volume(3)).unwrap();
    std::fs::write(volume(4), &keep).unwrap();
    let (bytes, outcome) = read(open(&ours), Some(&key(3)), BLOCK).unwrap();
    assert!(bytes == data && outcome.complete);
    // A volume in the place of another one that is not there: named, and only that one is lost.
    std::fs::copy(volume(4), volume(3)).unwrap();
    check("of the session follows a later one", 0.7);
    // A volume of another session.
    write_volumes(&others, "other", &data);
    std::fs::copy(others.join("000004.tap"), volume(4)).unwrap();
    check("the wrong volume", 0.7);
    // A missing volume.
    std::fs::remove_file(volume(4)).unwrap();
    check("volume 4", 0.7);
    // The first one missing, too: its headers are found on the others.
    std::fs::remove_file(volume(1)).unwrap();
    check("records of the session are missing", 0.6);
}

/// Checks the medium of a writer that failed: it has everything up to the last checkpoint, nothing
/// wrong, and nothing that looks complete.
fn check_cut(storage: &FaultyStorage, written: WriteOutcome, data: &[u8], context: &str) {
    assert!(!written.complete, "{context}");
    let open = || open_tape(storage);
    let headers = open().map_err(|error| error.to_string()).and_then(|tape| {
        ArchiveReader::open(tape, Some(&key(5)))
            .map(drop)
            .map_err(|error| error.to_string())
    });
    if let Err(error) = headers {
        assert_eq!(written.safe_blocks, 0, "{context}: {error}");
        return;
    }
    let salvaged = salvaged(open().unwrap(), &key(5));
    assert!(!salvaged.outcome.complete, "{context}");
    assert!(
        salvaged.mentions("incomplete"),
        "{context}: {:?}",
        salvaged.damage
    );
    assert!(
        salvaged.bytes.len() as u64 >= written.safe_plain,
        "{context}: {} of {written:?}",
        salvaged.bytes.len()
    );
    assert!(
        data.starts_with(&salvaged.bytes[..written.safe_plain as usize]),
        "{context}"
    );
    assert_salvaged(&salvaged, data, 0.0);
}

#[test]
fn failed_write_leaves_a_valid_archive_up_to_its_last_checkpoint() {
    let data = data(400_000);
    let mut safe = 0;
    for seed in 0..80 {
        let storage = FaultyStorage::new(seed);
        let archive = small("cut")
            .framing(FRAMINGS[(seed / 4 % 3) as usize])
            .encrypt(key(5))
            .plan()
            .unwrap();
        let tape = create_tape(&storage);
        let mut end = data.len();
        match seed % 4 {
            0 => storage.set_capacity(60_000 + 1000 * seed),
            1 => storage.fail(StorageCall::Write, 5 + seed),
            2 => storage.fail(StorageCall::Sync, 1 + seed / 20),
            _ => end = 4000 * seed as usize,
        }
        let report = archive.report();
        let source = StreamHead::new(std::io::Read::chain(&data[..end], Broken));
        let pipe = Pipe::builder()
            .buffer_size(BLOCK)
            .head(source)
            .stage(zstd(1));
        let error = pipe.archive(archive, tape).run().unwrap_err().to_string();
        assert!(
            error.contains("/t") || error.contains("source is broken"),
            "seed {seed}: {error}"
        );
        if seed % 8 < 4 {
            storage.crash();
        }
        safe += report.snapshot().safe_blocks;
        check_cut(
            &storage,
            report.snapshot(),
            &data,
            &format!("seed {seed}: {error}"),
        );
    }
    assert!(safe > 1000, "{safe} blocks were safe");
}

/// A source that fails at once.
struct Broken;

impl std::io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the source is broken"))
    }
}

#[test]
fn completed_archive_survives_a_crash() {
    let data = data(100_000);
    for seed in 0..10 {
        let storage = FaultyStorage::new(seed);
        let archive = small("whole")
            .framing(FRAMINGS[(seed % 3) as usize])
            .encrypt(key(5))
            .plan()
            .unwrap();
        let tape = create_tape(&storage);
        storage.set_short(seed % 2 == 0);
        let report = archive.report();
        let pipe = Pipe::builder()
            .buffer_size(BLOCK)
            .head(StreamHead::new(&data[..]));
        pipe.archive(archive, tape).run().unwrap();
        assert!(report.snapshot().complete && report.snapshot().safe_plain == 100_000);
        storage.crash();
        let tape = open_tape(&storage).unwrap();
        let (bytes, outcome) = read(tape, Some(&key(5)), BLOCK).unwrap();
        assert!(bytes == data && outcome.complete, "seed {seed}");
    }
}

#[test]
fn cancelled_archive_is_marked_incomplete() {
    let storage = FaultyStorage::new(1);
    let archive = small("cancelled").encrypt(key(5)).plan().unwrap();
    let report = archive.report();
    let builder = Pipe::builder().buffer_size(BLOCK);
    let canceller = builder.canceller();
    let data = data(4_000_000);
    let source = StreamHead::new(std::io::Cursor::new(data.clone()));
    let pipe = builder
        .head(source)
        .archive(archive, create_tape(&storage))
        .start()
        .unwrap();
    while report.snapshot().safe_blocks == 0 {
        std::thread::yield_now();
    }
    canceller.cancel();
    if pipe.wait().is_err() {
        check_cut(&storage, report.snapshot(), &data, "cancelled");
    }
}

/// Volumes that are smaller than the planned records: the first record failed, with the advice to
/// write shorter ones.
#[test]
fn records_are_as_short_as_the_volumes_demand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volumes");
    let data = blocks(300_000, 4096, 3);
    let archive = ArchiveOptions::stream("small volumes").block_len(4096);
    Pipe::builder()
        .buffer_size(4096)
        .head(StreamHead::new(&data[..]))
        .archive(
            archive.plan().unwrap(),
            create_volumes(&path, Some(MIN_VOLUME_SIZE), false),
        )
        .run()
        .unwrap();
    let (restored, outcome) = read(open(&path), None, 4096).unwrap();
    assert!(restored == data && outcome.complete, "{outcome:?}");
    assert!(outcome.volumes > 4, "{outcome:?}");
}
