//! Archives read by another program, `reader/read_archive.py`, which was written from
//! `docs/wire-format.md` alone.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use datapipe::prelude::*;
use datapipe::tree::{RestoreOptions, TreeHead, TreeOptions, TreeRestore};
use datapipe::wire::Framing;

use crate::copies;
use crate::make::{self, BLOCK, Lock, PASSPHRASE, PLAIN, Packing, Recipe};

/// Answer of the other program about an archive.
enum Answer {
    /// The stream that it read.
    Stream(Vec<u8>),
    /// Its error text.
    Error(String),
    /// A dependency of the program is not installed here.
    Missing(String),
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader/read_archive.py")
}

fn ask(tape: &Path, lock: Lock, folder: &Path) -> Answer {
    ask_also(tape, lock, folder, &[])
}

/// Asks with these arguments, too.
fn ask_also(tape: &Path, lock: Lock, folder: &Path, arguments: &[&OsStr]) -> Answer {
    let (out, secret) = (folder.join("out"), folder.join("secret"));
    let mut command = Command::new("python3");
    command.arg(script()).arg(tape).arg(&out).args(arguments);
    match lock {
        Lock::None => {}
        Lock::KeyFile => {
            fs::write(&secret, [7; 32]).unwrap();
            command.arg("--key").arg(&secret);
        }
        Lock::Passphrase => {
            fs::write(&secret, format!("{PASSPHRASE}\n")).unwrap();
            command.arg("--passphrase").arg(&secret);
        }
        Lock::Recipient => {
            let mut file = fs::File::create(&secret).unwrap();
            make::identity().write_to(&mut file).unwrap();
            command.arg("--identity").arg(&secret);
        }
    }
    let done = match command.output() {
        Ok(done) => done,
        Err(error) => return Answer::Missing(format!("python3: {error}")),
    };
    let text = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    match done.status.code() {
        Some(0) => Answer::Stream(fs::read(&out).unwrap()),
        Some(3) => Answer::Missing(text),
        _ => Answer::Error(text),
    }
}

fn check(recipe: Recipe, len: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (tape, mut data) = (folder.path().join("archive"), make::material(len));
    make::write(recipe, &tape, &data);
    if recipe.inspect {
        data[2 * BLOCK..3 * BLOCK].fill(0);
    }
    match ask(&tape, recipe.lock, folder.path()) {
        Answer::Stream(stream) => assert!(
            stream == data,
            "{recipe:?}, {len}: {} bytes came out",
            stream.len()
        ),
        Answer::Error(why) => panic!("{recipe:?}, {len}: {why}"),
        Answer::Missing(what) => println!("skipped {recipe:?}: {what}"),
    }
}

const FRAMINGS: [Framing; 3] = [Framing::Header, Framing::Once, Framing::HeaderFooter];

#[test]
fn foreign_reader_reads_copies() {
    for framing in FRAMINGS {
        for lock in [Lock::None, Lock::KeyFile] {
            let folder = tempfile::tempdir().unwrap();
            let (tape, data) = (folder.path().join("archive"), make::material(9 * BLOCK));
            let recipe = Recipe {
                framing,
                lock,
                ..PLAIN
            };
            make::write(recipe, &tape, &data);
            let copy = folder.path().join("copy");
            copies::copy(&tape, &copy);
            match ask(&copy, lock, folder.path()) {
                Answer::Stream(stream) => assert!(stream == data, "{recipe:?}"),
                Answer::Error(why) => panic!("{recipe:?}: {why}"),
                Answer::Missing(what) => println!("skipped {recipe:?}: {what}"),
            }
        }
    }
}

#[test]
fn foreign_reader_reads_every_framing_lock_and_packing() {
    for framing in FRAMINGS {
        for lock in [Lock::None, Lock::KeyFile] {
            for packing in [Packing::Raw, Packing::Zstd, Packing::Deflate] {
                let recipe = Recipe {
                    framing,
                    lock,
                    packing,
                    chunk: 3000,
                    ..PLAIN
                };
                check(recipe, 11 * BLOCK + 100);
                check(
                    Recipe {
                        inspect: true,
                        ..recipe
                    },
                    9 * BLOCK,
                );
            }
        }
        for lock in [Lock::Passphrase, Lock::Recipient] {
            check(
                Recipe {
                    framing,
                    lock,
                    ..PLAIN
                },
                2 * BLOCK,
            );
        }
    }
}

#[test]
fn foreign_reader_reads_every_length() {
    for framing in FRAMINGS {
        for lock in [Lock::None, Lock::KeyFile] {
            for len in [0, 1, BLOCK, 6 * BLOCK] {
                // Chunks of 1 byte: as many chunks as blocks, so that the stream ends with a chunk.
                for chunk in [1 << 20, 3000, 1] {
                    check(
                        Recipe {
                            framing,
                            lock,
                            chunk,
                            packing: Packing::Raw,
                            ..PLAIN
                        },
                        len,
                    );
                }
            }
        }
    }
}

#[test]
fn foreign_reader_reads_several_volumes() {
    for framing in FRAMINGS {
        for (lock, records) in [(Lock::None, 2), (Lock::None, 5), (Lock::KeyFile, 7)] {
            let recipe = Recipe {
                framing,
                lock,
                chunk: 4000,
                volume: Some(records),
                ..PLAIN
            };
            check(
                Recipe {
                    packing: Packing::Raw,
                    ..recipe
                },
                40 * BLOCK,
            );
        }
    }
}

#[test]
fn foreign_reader_reads_the_golden_vectors() {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/good");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(good).unwrap() {
        let plain = entry.unwrap().path();
        if plain
            .extension()
            .is_none_or(|extension| extension != "plain")
        {
            continue;
        }
        let (tape, directory) = (plain.with_extension("tap"), plain.with_extension(""));
        let tape = if directory.is_dir() { directory } else { tape };
        let name = tape.file_name().unwrap().to_str().unwrap().to_owned();
        let lock = match &name {
            name if name.contains("key-file") => Lock::KeyFile,
            name if name.contains("passphrase") => Lock::Passphrase,
            name if name.contains("recipient") => Lock::Recipient,
            _ => Lock::None,
        };
        let selection: &[&OsStr] = match name.contains("unfinished") {
            true => &["--session".as_ref(), "2".as_ref()],
            false => &[],
        };
        match ask_also(&tape, lock, folder.path(), selection) {
            Answer::Stream(stream) => assert!(stream == fs::read(plain).unwrap(), "{name}"),
            Answer::Error(why) => panic!("{name}: {why}"),
            Answer::Missing(what) => println!("skipped {name}: {what}"),
        }
    }
}

/// The other program puts entries together, checks them and the catalogue, and computes the digests
/// of the archive's files, and those of the files that were restored.
#[test]
fn foreign_reader_reads_a_tree_and_the_restored_files() {
    let folder = tempfile::tempdir().unwrap();
    let (source, dest) = (folder.path().join("data"), folder.path().join("dest"));
    let deep = source
        .join("d".repeat(250))
        .join("e".repeat(250))
        .join("f".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(&dest).unwrap();
    fs::write(deep.join("small"), "content").unwrap();
    fs::write(source.join("empty"), "").unwrap();
    fs::write(source.join("large"), make::material(300_000)).unwrap();
    fs::hard_link(source.join("large"), source.join("second")).unwrap();
    std::os::unix::fs::symlink("t".repeat(3000), source.join("link")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", 600_000).unwrap();
    sparse.set_len(1_000_000).unwrap();
    for size in [512, 64 << 10] {
        let tape = folder.path().join("tape");
        let archive = ArchiveOptions::tree("tree").block_len(size).plan().unwrap();
        let medium = VirtualTape::create(&tape, VolumeOptions::default()).unwrap();
        let options = TreeOptions::default().birth_time(true);
        let head = TreeHead::new(&[&source], options).unwrap();
        let pipe = Pipe::builder().buffer_size(size).head(head).stage(zstd(3));
        pipe.archive(archive, medium).run().unwrap();
        let reader = ArchiveReader::open(VirtualTape::open(&tape).unwrap(), None).unwrap();
        let restore = RestoreOptions::default().overwrite(true);
        let restore = TreeRestore::new(&dest, restore).unwrap();
        let report = restore.report();
        reader.read().pipe.tail(restore).run().unwrap();
        assert!(report.snapshot().is_whole(), "{:?}", report.snapshot());
        let arguments = [OsStr::new("--restored"), dest.as_os_str()];
        // Its digests take seconds for each megabyte.
        let arguments = if size == 512 { &arguments[..] } else { &[] };
        match ask_also(&tape, Lock::None, folder.path(), arguments) {
            Answer::Stream(_) => {}
            Answer::Error(why) => panic!("blocks of {size}: {why}"),
            Answer::Missing(what) => println!("skipped: {what}"),
        }
        fs::remove_file(&tape).unwrap();
    }
}

/// A reader that accepted everything would prove nothing.
#[test]
fn foreign_reader_rejects_changed_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (tape, data) = (folder.path().join("archive"), make::material(3 * BLOCK));
    let recipe = Recipe {
        lock: Lock::KeyFile,
        ..PLAIN
    };
    make::write(recipe, &tape, &data);
    let good = fs::read(&tape).unwrap();
    for at in (0..good.len()).step_by(good.len() / 20) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&tape, bad).unwrap();
        match ask(&tape, recipe.lock, folder.path()) {
            Answer::Stream(_) => panic!("byte {at} was changed, and the reader did not notice"),
            Answer::Error(why) => assert!(why.starts_with("read_archive.py: "), "byte {at}: {why}"),
            Answer::Missing(what) => println!("skipped: {what}"),
        }
    }
}

#[test]
fn foreign_reader_reads_each_archive_of_each_session() {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/good");
    let folder = tempfile::tempdir().unwrap();
    for (name, lock) in [
        ("sessions", Lock::None),
        ("sessions-key-file", Lock::KeyFile),
        ("sessions-unfinished", Lock::None),
    ] {
        let tape = good.join(format!("{name}.tap"));
        let mut stream = Vec::new();
        for (session, archive) in [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")] {
            let selection = ["--session", session, "--archive", archive].map(OsStr::new);
            match ask_also(&tape, lock, folder.path(), &selection) {
                Answer::Stream(one) => stream.extend(one),
                Answer::Error(why) => panic!("{name}, {selection:?}: {why}"),
                Answer::Missing(what) => return println!("skipped {name}: {what}"),
            }
        }
        let plain = fs::read(tape.with_extension("plain")).unwrap();
        assert!(stream.ends_with(&plain), "{name}");
        assert_eq!(stream.len() > plain.len(), name.contains("unfinished"));
    }
}
