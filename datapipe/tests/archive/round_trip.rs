//! Archives written and read through whole pipes.

use datapipe::archive::{ReadOutcome, WriteOutcome};
use datapipe::crypto::Argon2Cost;
use datapipe::limits::MIN_VOLUME_SIZE;
use datapipe::prelude::*;
use datapipe::testkit::{FaultyStorage, Random, Sink, StorageCall};
use datapipe::wire::{Framing, looks_like_record};

fn key(byte: u8) -> Secret {
    Secret::Key(Key::from_bytes([byte; 32]))
}

/// Half of it can be compressed.
fn material(len: usize) -> Vec<u8> {
    let mut random = Random::new(7);
    let mut bytes = Vec::new();
    while bytes.len() < len {
        if random.below(2) == 0 {
            bytes.extend((0..512).map(|_| random.below(256) as u8));
        } else {
            bytes.extend(b"nothing new under the sun, ".iter().cycle().take(700));
        }
    }
    bytes.truncate(len);
    bytes
}

const BLOCK: u32 = 4096;

fn write(archive: Archive, medium: impl Medium + 'static, data: &[u8]) {
    let (seal, tail) = archive.stages(medium);
    let mut pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(data))
        .stage(Zstd::level(3).instances(2));
    if let Some(seal) = seal {
        pipe = pipe.stage(seal.instances(2));
    }
    pipe.tail(tail).run().unwrap();
}

fn read(
    medium: impl Medium + 'static,
    secret: Option<&Secret>,
) -> Result<(Vec<u8>, ReadOutcome), String> {
    let reader = ArchiveReader::open(medium, secret).map_err(|error| error.to_string())?;
    let (head, sink) = (reader.head(), Sink::default());
    let report = head.report();
    let open = reader.open_blocks();
    let mut pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    if let Some(open) = open {
        pipe = pipe.stage(open.instances(2));
    }
    pipe = pipe
        .stage(decompress().instances(2))
        .tail(StreamRestore::new(sink.clone()));
    pipe.run().map_err(|error| error.to_string())?;
    let bytes = sink.bytes();
    Ok((bytes, report.outcome()))
}

#[test]
fn what_goes_in_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    for (i, framing) in [Framing::Header, Framing::Once, Framing::HeaderFooter]
        .into_iter()
        .enumerate()
    {
        for encrypted in [false, true] {
            for len in [0, 1, 4096, 300_000] {
                let data = material(len);
                let path = dir.path().join(format!("{i}-{encrypted}-{len}.tap"));
                let mut options = ArchiveOptions::new("test")
                    .framing(framing)
                    .record_len(2048)
                    .chunk_len(50_000)
                    .block_len(BLOCK);
                if encrypted {
                    options = options.encrypt(key(7));
                }
                let archive = options.plan().unwrap();
                write(
                    archive,
                    VirtualTape::create(&path, Default::default()).unwrap(),
                    &data,
                );
                let secret = encrypted.then(|| key(7));
                let tape = VirtualTape::open(&path, looks_like_record).unwrap();
                let (bytes, outcome) = read(tape, secret.as_ref()).unwrap();
                assert!(
                    bytes == data,
                    "{framing:?} {encrypted} {len}: {} bytes",
                    bytes.len()
                );
                assert!(outcome.complete && outcome.missing == 0);
                assert_eq!(outcome.blocks, len.div_ceil(BLOCK as usize) as u64);
            }
        }
    }
}

/// What a salvaging reader gets, and what it has to say.
fn salvage(
    medium: impl Medium + 'static,
    secret: Option<&Secret>,
) -> (Vec<u8>, ReadOutcome, Vec<String>) {
    let reader = ArchiveReader::open(medium, secret).unwrap();
    let (log, sink) = (DamageLog::new(), Sink::default());
    let reader = reader.salvage(&log);
    let (head, open) = (reader.head(), reader.open_blocks());
    let report = head.report();
    let mut pipe = Pipe::builder().buffer_size(BLOCK).head(head);
    if let Some(open) = open {
        pipe = pipe.stage(open);
    }
    pipe.stage(decompress_salvaging(&log))
        .tail(StreamRestore::new(sink.clone()))
        .run()
        .unwrap();
    let bytes = sink.bytes();
    (
        bytes,
        report.outcome(),
        log.entries().iter().map(ToString::to_string).collect(),
    )
}

fn small(name: &str) -> ArchiveOptions {
    ArchiveOptions::new(name)
        .record_len(2048)
        .chunk_len(40_000)
        .block_len(BLOCK)
}

#[test]
fn only_the_right_secret_opens_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let cost = Argon2Cost {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };
    let phrase = |text: &str| Secret::Passphrase(Passphrase::from_bytes(text).unwrap());
    let both = small("both")
        .encrypt(key(1))
        .encrypt_at(phrase("correct horse"), cost)
        .plan()
        .unwrap();
    let none = small("none").plan().unwrap();
    let data = material(50_000);
    let path = |name: &str| dir.path().join(name);
    write(
        both,
        VirtualTape::create(path("both"), VolumeOptions::default()).unwrap(),
        &data,
    );
    write(
        none,
        VirtualTape::create(path("none"), VolumeOptions::default()).unwrap(),
        &data,
    );
    let open = |name: &str| VirtualTape::open(path(name), looks_like_record).unwrap();
    for right in [key(1), phrase("correct horse")] {
        assert!(read(open("both"), Some(&right)).unwrap().0 == data);
    }
    let cases = [
        ("both", Some(key(2)), "key file"),
        ("both", Some(phrase("battery staple")), "passphrase"),
        ("both", None, "is encrypted: give its key or its passphrase"),
        (
            "none",
            Some(key(1)),
            "is not encrypted, although a key was given",
        ),
    ];
    for (name, secret, expected) in cases {
        let error = read(open(name), secret.as_ref()).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn an_archive_goes_on_in_the_next_volume() {
    let dir = tempfile::tempdir().unwrap();
    let archive = small("long")
        .record_len(8192)
        .encrypt(key(3))
        .plan()
        .unwrap();
    let data = material(900_000);
    let options = VolumeOptions {
        volume_size: Some(MIN_VOLUME_SIZE),
        overwrite: false,
    };
    write(
        archive,
        VolumeDirectory::create(dir.path().join("d"), options).unwrap(),
        &data,
    );
    let volume = |n: u32| dir.path().join(format!("d/{n:06}.tap"));
    assert!(volume(8).exists(), "it spans volumes");
    let open = || VolumeDirectory::open(dir.path().join("d"), looks_like_record).unwrap();
    let (bytes, outcome) = read(open(), Some(&key(3))).unwrap();
    assert!(bytes == data && outcome.complete);

    // Two volumes in each other's place, and one of another session: named, and what is in them is
    // lost, no more.
    let keep = std::fs::read(volume(3)).unwrap();
    std::fs::copy(volume(4), volume(3)).unwrap();
    std::fs::write(volume(4), &keep).unwrap();
    let (bytes, _, damage) = salvage(open(), Some(&key(3)));
    assert!(
        damage
            .iter()
            .any(|damage| damage.contains("volume 4 of the session, out of order")),
        "{damage:#?}"
    );
    assert_salvaged(&bytes, &data, 0.7);
    let other = small("other")
        .record_len(8192)
        .encrypt(key(3))
        .plan()
        .unwrap();
    write(
        other,
        VolumeDirectory::create(dir.path().join("o"), options).unwrap(),
        &data,
    );
    std::fs::copy(volume(4), volume(3)).unwrap();
    std::fs::copy(dir.path().join("o/000004.tap"), volume(4)).unwrap();
    let (bytes, _, damage) = salvage(open(), Some(&key(3)));
    assert!(
        damage
            .iter()
            .any(|damage| damage.contains("the wrong volume")),
        "{damage:#?}"
    );
    assert_salvaged(&bytes, &data, 0.7);
    // One that is not there at all.
    std::fs::remove_file(volume(4)).unwrap();
    let (bytes, _, damage) = salvage(open(), Some(&key(3)));
    assert!(
        damage.iter().any(|damage| damage.contains("volume 4")),
        "{damage:#?}"
    );
    assert_salvaged(&bytes, &data, 0.7);
    // The first: its headers are found on the others.
    std::fs::remove_file(volume(1)).unwrap();
    let (bytes, _, damage) = salvage(open(), Some(&key(3)));
    assert!(
        damage
            .iter()
            .any(|damage| damage.contains("records of the session are missing")),
        "{damage:#?}"
    );
    assert_salvaged(&bytes, &data, 0.6);
}

/// Each block is what it was, or zeros; at least `part` of them are what they were.
fn assert_salvaged(bytes: &[u8], data: &[u8], part: f64) {
    let mut bytes = bytes.to_vec();
    assert!(bytes.len() <= data.len());
    bytes.resize(data.len(), 0);
    let blocks: Vec<_> = bytes
        .chunks(BLOCK as usize)
        .zip(data.chunks(BLOCK as usize))
        .collect();
    let right = blocks.iter().filter(|(got, sent)| got == sent).count();
    let gone = blocks
        .iter()
        .filter(|(got, _)| got.iter().all(|&byte| byte == 0))
        .count();
    assert_eq!(right + gone, blocks.len(), "nothing wrong comes back");
    assert!(
        right as f64 >= part * blocks.len() as f64,
        "{right} of {} blocks came back",
        blocks.len()
    );
}

/// What a writer that failed has left: all up to its last checkpoint, nothing wrong, and nothing
/// that looks whole.
fn check_cut(storage: &FaultyStorage, written: WriteOutcome, data: &[u8], what: &str) {
    assert!(!written.complete, "{what}");
    let open = || VirtualTape::open_on(storage.clone(), "/t", looks_like_record);
    let headers = open().map_err(|error| error.to_string()).and_then(|tape| {
        ArchiveReader::open(tape, Some(&key(5)))
            .map(drop)
            .map_err(|error| error.to_string())
    });
    if let Err(error) = headers {
        assert_eq!(written.safe_blocks, 0, "{what}: {error}");
        return;
    }
    let (bytes, outcome, damage) = salvage(open().unwrap(), Some(&key(5)));
    assert!(!outcome.complete, "{what}");
    assert!(
        damage.iter().any(|damage| damage.contains("incomplete")),
        "{what}: {damage:?}"
    );
    assert!(
        bytes.len() as u64 >= written.safe_plain,
        "{what}: {} of {written:?}",
        bytes.len()
    );
    assert!(
        data.starts_with(&bytes[..written.safe_plain as usize]),
        "{what}"
    );
    assert_salvaged(&bytes, data, 0.0);
}

fn framing(seed: u64) -> Framing {
    [Framing::Header, Framing::Once, Framing::HeaderFooter][(seed % 3) as usize]
}

#[test]
fn what_was_written_before_a_failure_is_valid_up_to_the_last_chunk() {
    let data = material(400_000);
    let mut safe = 0;
    for seed in 0..80 {
        let storage = FaultyStorage::new(seed);
        let archive = small("cut")
            .framing(framing(seed / 4))
            .encrypt(key(5))
            .plan()
            .unwrap();
        let tape = VirtualTape::create_on(storage.clone(), "/t", VolumeOptions::default()).unwrap();
        let mut end = data.len();
        match seed % 4 {
            0 => storage.set_capacity(60_000 + 1000 * seed),
            1 => storage.fail(StorageCall::Write, 5 + seed),
            2 => storage.fail(StorageCall::Sync, 1 + seed / 20),
            _ => end = 4000 * seed as usize,
        }
        let (seal, tail) = archive.stages(tape);
        let report = tail.report();
        let source = StreamHead::new(std::io::Read::chain(&data[..end], Broken));
        let pipe = Pipe::builder()
            .buffer_size(BLOCK)
            .head(source)
            .stage(Zstd::level(1));
        let error = pipe
            .stage(seal.unwrap())
            .tail(tail)
            .run()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/t") || error.contains("source is broken"),
            "seed {seed}: {error}"
        );
        if seed % 8 < 4 {
            storage.crash();
        }
        safe += report.outcome().safe_blocks;
        check_cut(
            &storage,
            report.outcome(),
            &data,
            &format!("seed {seed}: {error}"),
        );
    }
    assert!(safe > 1000, "{safe} blocks were safe");
}

/// A source that breaks.
struct Broken;

impl std::io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the source is broken"))
    }
}

#[test]
fn a_job_that_ended_well_is_on_stable_storage() {
    let data = material(100_000);
    for seed in 0..10 {
        let storage = FaultyStorage::new(seed);
        let archive = small("whole")
            .framing(framing(seed))
            .encrypt(key(5))
            .plan()
            .unwrap();
        let tape = VirtualTape::create_on(storage.clone(), "/t", VolumeOptions::default()).unwrap();
        storage.set_short(seed % 2 == 0);
        let (seal, tail) = archive.stages(tape);
        let report = tail.report();
        let pipe = Pipe::builder()
            .buffer_size(BLOCK)
            .head(StreamHead::new(&data[..]));
        pipe.stage(seal.unwrap()).tail(tail).run().unwrap();
        assert!(report.outcome().complete && report.outcome().safe_plain == 100_000);
        storage.crash();
        let tape = VirtualTape::open_on(storage, "/t", looks_like_record).unwrap();
        let (bytes, outcome) = read(tape, Some(&key(5))).unwrap();
        assert!(bytes == data && outcome.complete, "seed {seed}");
    }
}

#[test]
fn a_cancelled_archive_says_that_it_is_incomplete() {
    let storage = FaultyStorage::new(1);
    let archive = small("cancelled").encrypt(key(5)).plan().unwrap();
    let tape = VirtualTape::create_on(storage.clone(), "/t", VolumeOptions::default()).unwrap();
    let (seal, tail) = archive.stages(tape);
    let report = tail.report();
    let builder = Pipe::builder().buffer_size(BLOCK);
    let canceller = builder.canceller();
    let data = material(4_000_000);
    let source = StreamHead::new(std::io::Cursor::new(data.clone()));
    let pipe = builder
        .head(source)
        .stage(seal.unwrap())
        .tail(tail)
        .start()
        .unwrap();
    while report.outcome().safe_blocks == 0 {
        std::thread::yield_now();
    }
    canceller.cancel();
    if pipe.wait().is_err() {
        check_cut(&storage, report.outcome(), &data, "cancelled");
    }
}
