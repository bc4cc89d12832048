//! Golden vectors: archives that were written once and must be readable for ever, archives with one
//! defect each, and the encoding of everything that is stored. A failure means that old archives
//! cannot be read, or that old readers cannot read new ones: then the code is wrong, or the format
//! needs another version.
//!
//! `cargo test -p datapipe-sdk --test vectors -- --ignored` makes missing vectors. It never changes
//! an existing one.

mod bytes; // the encoding of everything that is stored
mod copies; // copies that were made without a key
mod defects; // one defect of a tape at a time
mod edit; // changes to a tape with correct checksums
mod foreign_reader; // archives read by a program written from the specification
mod header_defects; // defects of headers and of what is encrypted
mod make; // archives by recipes
mod origin_defects; // defects of the block with the origin
mod sessions; // media with several archives and sessions

#[path = "../harness/data.rs"]
mod data; // keys and test data
#[path = "../harness/medium.rs"]
mod medium; // tapes and directories on the file system

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use datapipe::archive::ArchiveOptions;
use datapipe::media::{VirtualTape, VolumeOptions};
use datapipe::prelude::*;
use datapipe::wire::{Framing, UnitKind};
use edit::Tape;
use make::{BLOCK, Lock, PLAIN, Packing, Recipe};
use sha2::{Digest, Sha256};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// The good vectors: name of the file without extension, recipe, length of the stream.
const GOOD: &[(&str, Recipe, usize)] = &[
    (
        "stream-header",
        Recipe {
            framing: Framing::Header,
            ..TWO_CHUNKS
        },
        LEN,
    ),
    (
        "stream-once",
        Recipe {
            framing: Framing::Once,
            ..TWO_CHUNKS
        },
        LEN,
    ),
    ("stream-header-footer", PLAIN, LEN),
    (
        "stream-once-ends-with-chunk",
        Recipe {
            framing: Framing::Once,
            chunk: 1,
            ..PLAIN
        },
        3 * BLOCK,
    ),
    (
        "key-file",
        Recipe {
            lock: Lock::KeyFile,
            ..PLAIN
        },
        LEN,
    ),
    (
        "key-file-raw",
        Recipe {
            lock: Lock::KeyFile,
            packing: Packing::Raw,
            ..PLAIN
        },
        LEN,
    ),
    (
        "passphrase",
        Recipe {
            lock: Lock::Passphrase,
            ..PLAIN
        },
        LEN,
    ),
    (
        "recipient",
        Recipe {
            lock: Lock::Recipient,
            ..PLAIN
        },
        LEN,
    ),
    (
        "deflate",
        Recipe {
            packing: Packing::Deflate,
            ..PLAIN
        },
        LEN,
    ),
    (
        "raw",
        Recipe {
            packing: Packing::Raw,
            ..PLAIN
        },
        LEN,
    ),
    ("two-chunks", TWO_CHUNKS, LEN),
    (
        "inspected",
        Recipe {
            inspect: true,
            ..PLAIN
        },
        LEN,
    ),
    (
        "inspected-key-file",
        Recipe {
            inspect: true,
            lock: Lock::KeyFile,
            ..PLAIN
        },
        LEN,
    ),
    (
        "checkpoints",
        Recipe {
            checkpoint: 2 * BLOCK as u64,
            ..PLAIN
        },
        LEN,
    ),
    (
        "checkpoints-key-file-header",
        Recipe {
            checkpoint: 2 * BLOCK as u64,
            lock: Lock::KeyFile,
            framing: Framing::Header,
            ..PLAIN
        },
        LEN,
    ),
    ("empty", PLAIN, 0),
    (
        "empty-once",
        Recipe {
            framing: Framing::Once,
            ..PLAIN
        },
        0,
    ),
    (
        "empty-key-file",
        Recipe {
            lock: Lock::KeyFile,
            ..PLAIN
        },
        0,
    ),
    (
        "volumes",
        Recipe {
            volume: Some(4),
            ..TWO_CHUNKS
        },
        LEN,
    ),
    (
        "volumes-key-file",
        Recipe {
            volume: Some(2),
            lock: Lock::KeyFile,
            ..TWO_CHUNKS
        },
        LEN,
    ),
];
const TWO_CHUNKS: Recipe = Recipe {
    chunk: 2500,
    ..PLAIN
};
const LEN: usize = 8 * BLOCK + 100;

/// Length of the stream of all bad vectors: three blocks and a shorter one.
const BAD_LEN: usize = 3 * BLOCK + 100;

/// Returns the path of a good vector: a tape or a directory.
fn good(name: &str, recipe: &Recipe) -> PathBuf {
    folder().join("good").join(if recipe.volume.is_some() {
        name.to_owned()
    } else {
        format!("{name}.tap")
    })
}

fn bad(name: &str) -> PathBuf {
    folder().join("bad").join(format!("{name}.tap"))
}

#[test]
fn good_vectors_are_read_back() {
    for (name, recipe, len) in GOOD {
        let plain = fs::read(folder().join(format!("good/{name}.plain"))).unwrap();
        assert_eq!(plain.len(), *len, "{name}");
        for salvage in [false, true] {
            let restored = make::read(&good(name, recipe), recipe.lock, salvage);
            // A rejected block is in the log, and the archive is not complete without its data.
            let reports_rejected = restored.report.contains("rejected by inspection");
            assert_eq!(reports_rejected, salvage && recipe.inspect, "{name}");
            assert_eq!(restored.report.is_empty(), !reports_rejected, "{name}");
            let outcome = restored.outcome;
            assert_eq!(outcome.missing, 0, "{name}: {restored:?}");
            assert_eq!(outcome.complete, !recipe.inspect, "{name}: {restored:?}");
            assert!(
                restored.bytes == plain,
                "{name}: {} bytes came back",
                restored.bytes.len()
            );
        }
    }
}

#[test]
fn bad_vectors_are_reported_and_cost_only_their_damage() {
    let plain = fs::read(folder().join("bad/all.plain")).unwrap();
    for defect in defects::all() {
        let (path, name) = (bad(defect.name), defect.name);
        let stopped = make::read(&path, defect.read, false);
        assert!(!stopped.report.is_empty(), "{name}: not noticed");
        assert!(
            plain.starts_with(&stopped.bytes),
            "{name}: wrong data before the error"
        );
        let salvaged = make::read(&path, defect.read, true);
        assert!(
            salvaged.report.contains(defect.says),
            "{name}: {}, and not: {}",
            salvaged.report,
            defect.says
        );
        let panicked = [&stopped.report, &salvaged.report]
            .iter()
            .any(|report| report.contains("panicked"));
        assert!(!panicked, "{name}: {}", salvaged.report);
        assert!(
            salvaged.bytes.len() <= plain.len(),
            "{name}: more came out than went in"
        );
        for (number, (got, sent)) in salvaged
            .bytes
            .chunks(BLOCK)
            .zip(plain.chunks(BLOCK))
            .enumerate()
        {
            let zeros = got.iter().all(|&byte| byte == 0);
            assert!(
                zeros || got == sent,
                "{name}: block {number} is wrong: {}",
                salvaged.report
            );
        }
    }
}

/// A stream may end exactly where a chunk is full, which is closed then. A second mark followed
/// such a chunk, and two marks in a row are the end of a tape. With one footer for all chunks, the
/// footer was missing.
#[test]
fn stream_ending_with_a_chunk_is_closed_once() {
    let folder = tempfile::tempdir().unwrap();
    for (name, framing) in [
        ("1", Framing::Header),
        ("2", Framing::Once),
        ("3", Framing::HeaderFooter),
    ] {
        let path = folder.path().join(name);
        make::write(
            Recipe {
                framing,
                chunk: 1,
                ..PLAIN
            },
            &path,
            &make::material(3 * BLOCK),
        );
        let tape = Tape::parse(&fs::read(&path).unwrap());
        let marks = tape
            .0
            .windows(2)
            .filter(|pair| pair.iter().all(Vec::is_empty))
            .count();
        assert_eq!(
            marks, 1,
            "{framing:?}: two marks in a row are only at the end"
        );
        let footers = tape
            .units()
            .iter()
            .filter(|(header, _)| header.kind == UnitKind::ChunkFooter)
            .count();
        let expected = [Framing::Header, Framing::Once]
            .iter()
            .position(|&one| one == framing)
            .unwrap_or(4);
        assert_eq!(footers, expected, "{framing:?}");
    }
}

/// The key of an archive depended on the session's header, so a copy of the archive in another
/// session could not be opened.
#[test]
fn archive_does_not_depend_on_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let (path, data) = (folder.path().join("tape"), make::material(3 * BLOCK));
    let recipe = Recipe {
        framing: Framing::Header,
        lock: Lock::KeyFile,
        ..PLAIN
    };
    make::write(recipe, &path, &data);
    let mut tape = Tape::parse(&fs::read(&path).unwrap());
    // Another time, and another session before it.
    tape.unit(UnitKind::SessionHeader, 0, |unit| {
        unit[64 + 16] ^= 1;
        unit[64 + 48..64 + 96].fill(7);
    });
    fs::write(&path, tape.to_bytes()).unwrap();
    let restored = make::read(&path, recipe.lock, false);
    assert_eq!(restored.report, "");
    assert!(restored.bytes == data && restored.outcome.complete);
}

/// The locator named the last record of a footer that spans several.
#[test]
fn locator_names_the_first_record_of_a_long_footer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tape");
    let recipe = Recipe {
        framing: Framing::Once,
        ..PLAIN
    };
    make::write(recipe, &path, &make::material(100 * BLOCK));
    let tape = Tape::parse(&fs::read(&path).unwrap());
    let (footer, locator) = (
        tape.frame_of(UnitKind::ChunkFooter),
        tape.frame_of(UnitKind::Locator),
    );
    assert!(locator > footer + 2, "the footer spans several records");
    let (header, at) = *tape
        .units()
        .iter()
        .find(|(header, _)| header.kind == UnitKind::Locator)
        .unwrap();
    let body = &tape.stream()[at + 64..][..header.stored as usize];
    let locator = datapipe::wire::Locator::parse(body).unwrap();
    assert_eq!(locator.chunks[0].footer, Some((1, footer as u64 + 1)));
}

/// The content of such a block would have been restored as if it were only marked, and compressed
/// content would have stayed compressed.
#[test]
fn rejected_block_with_content_is_not_written() {
    struct Careless;
    impl InPlace for Careless {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            let mut info = block.info();
            info.marks |= Marks::REJECTED;
            block.set_info(info);
            Ok(Verdict::Send)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let tape = VirtualTape::create(folder.path().join("tape"), VolumeOptions::default()).unwrap();
    let archive = ArchiveOptions::stream("careless")
        .block_len(BLOCK as u32)
        .plan()
        .unwrap();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(StreamHead::new(&b"data"[..]));
    let error = pipe
        .stage(Stage::in_place("careless", |_| Careless))
        .archive(archive, tape)
        .run();
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("block 1 is rejected, but has content"),
        "{text}"
    );
}

/// A footer on volume 0 was read as "no footer", although the format requires that the other fields
/// are 0 in that case.
#[test]
fn locator_with_a_footer_on_volume_0_is_rejected() {
    let place = datapipe::media::Position::start_of(1);
    let chunk = datapipe::wire::ChunkEntry {
        first: 0,
        blocks: 1,
        place,
        position: 0,
        footer: None,
    };
    let mut body = datapipe::wire::Locator {
        chunks: vec![chunk],
        ..Default::default()
    }
    .to_bytes();
    assert!(datapipe::wire::Locator::parse(&body).is_ok());
    body[64 + 48] = 1;
    let error = datapipe::wire::Locator::parse(&body).unwrap_err();
    assert_eq!(error.to_string(), "locator: a chunk footer on volume 0");
}

/// Returns the hash of every file in the folders, by its relative path.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let (mut found, mut folders) = (
        BTreeMap::new(),
        vec![folder.join("good"), folder.join("bad")],
    );
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let hash = Sha256::digest(fs::read(&path).unwrap());
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.insert(
                    name,
                    hash.iter().map(|byte| format!("{byte:02x}")).collect(),
                );
            }
        }
    }
    found
}

/// Returns the list of hashes, which `sha256sum -c` also reads.
fn listed() -> BTreeMap<String, String> {
    let list = fs::read_to_string(folder().join("sha256")).unwrap_or_default();
    let line = |line: &str| {
        let (hash, name) = line.split_once("  ").unwrap();
        (name.to_owned(), hash.to_owned())
    };
    list.lines().map(line).collect()
}

#[test]
fn vectors_match_their_hashes() {
    let listed = listed();
    assert_eq!(
        files(&folder()),
        listed,
        "vectors are added, and never changed"
    );
    let of_all = GOOD.len() * 2 + defects::all().count() + 1;
    assert!(
        listed.len() >= of_all,
        "{} of {of_all} or more",
        listed.len()
    );
}

#[test]
#[ignore = "makes the vectors that are not there"]
fn make_missing_vectors() {
    let (good_folder, bad_folder) = (folder().join("good"), folder().join("bad"));
    fs::create_dir_all(&good_folder).unwrap();
    fs::create_dir_all(&bad_folder).unwrap();
    for (name, recipe, len) in GOOD {
        let path = good(name, recipe);
        if !path.exists() {
            let mut data = make::material(*len);
            make::write(*recipe, &path, &data);
            if recipe.inspect {
                data[2 * BLOCK..3 * BLOCK].fill(0);
            }
            fs::write(good_folder.join(format!("{name}.plain")), data).unwrap();
        }
    }
    sessions::make_missing(&good_folder);
    copies::make_missing(&good_folder);
    let plain = bad_folder.join("all.plain");
    if !plain.exists() {
        fs::write(&plain, make::material(BAD_LEN)).unwrap();
    }
    let plain = fs::read(plain).unwrap();
    for defect in defects::all().filter(|defect| !bad(defect.name).exists()) {
        let scratch = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = scratch.path().join(name);
            make::write(defect.of, &path, &plain);
            Tape::parse(&fs::read(path).unwrap())
        };
        let (mut tape, other) = (make("one"), make("other"));
        (defect.make)(&mut tape, &other);
        fs::write(bad(defect.name), tape.to_bytes()).unwrap();
    }
    // Listed hashes never change.
    let list = files(&folder())
        .into_iter()
        .chain(listed())
        .collect::<BTreeMap<_, _>>();
    let list = list
        .into_iter()
        .map(|(name, hash)| format!("{hash}  {name}\n"));
    fs::write(folder().join("sha256"), list.collect::<String>()).unwrap();
}
