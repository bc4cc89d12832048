//! A tree through a whole archive, encrypted, and back: compared by `diff` and by a separate walk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use datapipe::prelude::*;
use datapipe::tree::RestoreReport;

use crate::data::key;
use crate::fixture::{archive_options, assert_same_tree, head, set_time};
use crate::medium::{create_tape, open};

const BLOCK: u32 = 64 << 10;

/// Creates one object of each kind that needs no privilege.
fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::create_dir(root.join("empty directory")).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    for i in 0..300u32 {
        fs::write(
            root.join(format!("deep/{i}")),
            i.to_le_bytes().repeat(i as usize * 7),
        )
        .unwrap();
    }
    fs::write(
        root.join("deep/large"),
        b"a line of a larger file\n".repeat(50_000),
    )
    .unwrap();
    fs::write(
        root.join(OsStr::from_bytes(b"name \xff\n in any bytes")),
        b"x",
    )
    .unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(b"first page", 1 << 30).unwrap();
    sparse.write_all_at(b"last page", (1 << 40) - 9).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("x".repeat(4000), root.join("long")).unwrap();
    fs::hard_link(root.join("deep/large"), root.join("deep/er/other name")).unwrap();
    fs::hard_link(root.join("dangling"), root.join("deep/er/other link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    fs::set_permissions(root.join("deep/7"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(
        root.join("empty directory"),
        fs::Permissions::from_mode(0o1700),
    )
    .unwrap();
    for (name, seconds) in [
        ("deep/7", -12_345),
        ("deep", 1_000_000_000),
        ("empty directory", 5),
    ] {
        set_time(&root.join(name), seconds, 123_456_789);
    }
}

/// Describes everything below `root` by `lstat`, except for values that a restore cannot keep.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut found, mut left) = (BTreeMap::new(), vec![root.to_owned()]);
    let mut names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let below = path.strip_prefix(root).unwrap().to_owned();
        let size = if meta.is_dir() { 0 } else { meta.size() };
        let owner = (meta.uid(), meta.gid());
        let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
        let links = if meta.is_dir() { 1 } else { meta.nlink() };
        let mode = meta.mode();
        found.insert(
            below.clone(),
            format!("{mode:o} {owner:?} {size} {seconds}.{nanoseconds} x{links}"),
        );
        if links > 1 {
            names
                .entry(meta.ino())
                .and_modify(|first| *first = below.clone().min(first.clone()))
                .or_insert(below);
        }
        if meta.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    found.insert("first names".into(), names.len().to_string());
    found
}

/// Archives `source` on a new tape.
fn archive(source: &Path, tape: &Path) {
    let archive = archive_options(BLOCK, 300_000)
        .encrypt(key(5))
        .record_len(16 << 10)
        .plan()
        .unwrap();
    let head = head(source);
    let read = head.report();
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(head)
        .stage(analyze())
        .stage(zstd(3).instances(2));
    let archive = archive.map_seal(|seal| seal.instances(2));
    pipe.archive(archive, create_tape(tape)).run().unwrap();
    assert_eq!(read.snapshot().problems, []);
}

/// Reads the archive on a tape to `tail`, whose report is `found`. Everything must be whole.
fn read_back(tape: &Path, tail: TailStage<'static>, found: &RestoreReport) {
    let reader = ArchiveReader::open(open(tape), Some(&key(5))).unwrap();
    let (head, opener) = (reader.head(), reader.open_blocks().unwrap());
    let (report, check) = (head.report(), head.check());
    let pipe = Pipe::builder()
        .buffer_size(BLOCK)
        .head(head)
        .stage(opener.instances(2))
        .stage(check);
    pipe.stage(decompress().instances(2))
        .tail(tail)
        .run()
        .unwrap();
    let found = found.snapshot();
    assert!(report.snapshot().complete && found.is_whole(), "{found:?}");
}

#[test]
fn tree_round_trips_through_an_encrypted_archive() {
    let dir = tempfile::tempdir().unwrap();
    let (source, tape, dest) = (
        dir.path().join("data"),
        dir.path().join("tape"),
        dir.path().join("dest"),
    );
    make_tree(&source);
    fs::create_dir(&dest).unwrap();
    archive(&source, &tape);
    assert!(
        fs::metadata(&tape).unwrap().len() < 2 << 20,
        "holes are not stored"
    );

    let verify = TreeVerify::new();
    let report = verify.report();
    read_back(&tape, verify.into(), &report);
    assert_eq!(
        fs::read_dir(&dest).unwrap().count(),
        0,
        "verifying writes nothing"
    );
    let restore = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
    let report = restore.report();
    read_back(&tape, restore.into(), &report);

    let restored = dest.join("data");
    assert_eq!(describe(&restored), describe(&source));
    let sparse = fs::metadata(restored.join("sparse")).unwrap();
    assert!(sparse.blocks() < 100, "two pages, not a terabyte");
    // diff would read a terabyte, and wait for a writer of the pipe.
    for name in ["sparse", "fifo"] {
        fs::remove_file(source.join(name)).unwrap();
        fs::remove_file(restored.join(name)).unwrap();
    }
    assert_same_tree(&source, &restored);
}

/// A directory that is moved or removed meanwhile has the files where the user does not look for
/// them.
#[test]
fn destination_that_is_not_in_its_place_at_the_end_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (source, dest) = (dir.path().join("source"), dir.path().join("dest"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let restore_while = |change: &dyn Fn()| {
        fs::create_dir(&dest).unwrap();
        let tail = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
        change();
        let restored = Pipe::builder().head(head(&source)).tail(tail).run();
        restored.map(drop).map_err(|error| error.to_string())
    };
    restore_while(&|| ()).unwrap();
    fs::remove_dir_all(&dest).unwrap();

    let moved = dir.path().join("elsewhere");
    let error = restore_while(&|| fs::rename(&dest, &moved).unwrap()).unwrap_err();
    let expected = format!("what was restored is in {}", moved.display());
    assert!(error.contains(&expected), "{error}");
    assert_same_tree(&source, &moved.join("source"));

    let error = restore_while(&|| fs::remove_dir(&dest).unwrap()).unwrap_err();
    assert!(error.contains("was removed"), "{error}");
}
