//! Helpers that the tests of trees share: sources, archives of trees, comparisons.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use datapipe::prelude::*;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};

use crate::entries::Seen;

/// Returns the head that reads `source`.
pub(crate) fn head(source: &Path) -> TreeHead {
    TreeHead::new(&[source], TreeOptions::default()).unwrap()
}

/// Creates an empty source with the name `data`.
pub(crate) fn source() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    fs::create_dir(&path).unwrap();
    (dir, path)
}

/// Sets the times of an object, but does not follow symbolic links.
pub(crate) fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Creates nested directories called `name`, each with one file that sorts before the next
/// directory and one that sorts after it. Their paths may be longer than the system's limit.
pub(crate) fn nest_directories(path: &Path, name: &str, levels: usize) {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut fd = rustix::fs::open(path, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&fd, name, Mode::RWXU).unwrap();
        for file in ["before", "z after"] {
            let create = OFlags::CREATE | OFlags::WRONLY;
            let file = rustix::fs::openat(&fd, file, create, Mode::RUSR | Mode::WUSR).unwrap();
            rustix::io::write(file, b"some data").unwrap();
        }
        fd = rustix::fs::openat(&fd, name, flags, Mode::empty()).unwrap();
    }
}

/// Returns the options of an archive of a tree.
pub(crate) fn archive_options(block: u32, chunk: u64) -> ArchiveOptions {
    ArchiveOptions::tree("tree")
        .block_len(block)
        .chunk_len(chunk)
}

/// Returns the paths of the objects.
pub(crate) fn names(seen: &BTreeMap<Vec<u8>, Seen>) -> Vec<String> {
    seen.keys()
        .map(|path| path.escape_ascii().to_string())
        .collect()
}

/// Asserts that `diff` finds no difference between two trees.
pub(crate) fn assert_same_tree(left: &Path, right: &Path) {
    let output = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([left, right])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
