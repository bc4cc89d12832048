//! A file tree through a whole archive, encrypted, and back: compared by `diff` and by a walker of
//! its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use datapipe::prelude::*;
use datapipe::wire::looks_like_record;

fn key() -> Secret {
    Secret::Key(Key::from_bytes([5; 32]))
}

/// One of each kind that anybody may make.
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
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: 123_456_789,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, root.join(name), &times, flags).unwrap();
    }
}

/// What `lstat` says of everything below `root`, but for what cannot be the same.
fn look(root: &Path) -> BTreeMap<PathBuf, String> {
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
    found.insert(
        "first names".into(),
        format!("{:?}", names.into_values().collect::<Vec<_>>().len()),
    );
    found
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

    let options = ArchiveOptions::new("tree")
        .content(Content::Tree)
        .encrypt(key());
    let archive = options
        .block_len(64 << 10)
        .chunk_len(300_000)
        .record_len(16 << 10)
        .plan()
        .unwrap();
    let head = TreeHead::new(&[&source], TreeOptions::default()).unwrap();
    let read = head.report();
    let (seal, tail) =
        archive.stages(VirtualTape::create(&tape, VolumeOptions::default()).unwrap());
    let pipe = Pipe::builder()
        .buffer_size(64 << 10)
        .head(head)
        .stage(analyze())
        .stage(Zstd::level(3).instances(2));
    pipe.stage(seal.unwrap().instances(2))
        .tail(tail)
        .run()
        .unwrap();
    assert_eq!(read.problems(), []);
    assert!(
        fs::metadata(&tape).unwrap().len() < 2 << 20,
        "holes are not stored"
    );

    let back = |restore: bool| {
        let tape = VirtualTape::open(&tape, looks_like_record).unwrap();
        let reader = ArchiveReader::open(tape, Some(&key())).unwrap();
        let (head, open) = (reader.head(), reader.open_blocks().unwrap());
        let report = head.report();
        let pipe = Pipe::builder()
            .buffer_size(64 << 10)
            .head(head)
            .stage(open.instances(2));
        let pipe = pipe.stage(decompress().instances(2));
        let found = if restore {
            let tail = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
            let found = tail.report();
            pipe.tail(tail).run().unwrap();
            found
        } else {
            let tail = TreeVerify::new();
            let found = tail.report();
            pipe.tail(tail).run().unwrap();
            found
        };
        assert!(
            report.outcome().complete && found.is_whole(),
            "{:?} {:?}",
            found.problems(),
            found.damaged()
        );
    };
    back(false);
    assert_eq!(
        fs::read_dir(&dest).unwrap().count(),
        0,
        "verifying writes nothing"
    );
    back(true);
    assert_eq!(look(&dest.join("data")), look(&source));
    let sparse = fs::metadata(dest.join("data/sparse")).unwrap();
    assert!(sparse.blocks() < 100, "two pages, not a terabyte");
    fs::remove_file(source.join("sparse")).unwrap();
    fs::remove_file(dest.join("data/sparse")).unwrap();
    // diff would wait for a writer.
    fs::remove_file(source.join("fifo")).unwrap();
    fs::remove_file(dest.join("data/fifo")).unwrap();
    let mut diff = Command::new("diff");
    diff.args(["-r", "--no-dereference"])
        .arg(&source)
        .arg(dest.join("data"));
    let output = diff.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
