//! Blocks of many files, of which one is begun while the files of the block before are written. The
//! slow twin is one thread, which begins a block after all of the one before.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use datapipe::tree::{RestoreOptions, RestoreOutcome};

use super::pack::{Pack, digest, file};
use crate::placement::Placement;

/// Files of a block: more than those for which one thread is enough.
const FILES: usize = 40;
const BLOCKS: usize = 24;

/// Restores an archive with this number of threads.
fn restore(pack: &Pack, dest: &Path, threads: usize, overwrite: bool) -> RestoreOutcome {
    let options = RestoreOptions::default()
        .threads(threads)
        .overwrite(overwrite);
    pack.clone()
        .restore_paths(dest, options, &[], Placement::Threads)
}

/// Content, mode and names in the destination.
fn found(dest: &Path) -> BTreeMap<String, (Vec<u8>, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut all = BTreeMap::new();
    let mut directories = vec![dest.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let status = fs::symlink_metadata(&path).unwrap();
            let content = match () {
                () if status.is_dir() => Vec::new(),
                () if status.is_symlink() => fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes(),
                () => fs::read(&path).unwrap(),
            };
            let name = path.strip_prefix(dest).unwrap().display().to_string();
            all.insert(name, (content, status.mode()));
            if status.is_dir() {
                directories.push(path);
            }
        }
    }
    all
}

/// In each block: a directory, small files in it and in that of the block before, a file with two
/// names, a symbolic link, and a file that goes on in the next block.
fn mixed() -> Pack {
    let mut pack = Pack::default();
    let mut open: Option<(u64, Vec<u8>)> = None;
    for block in 0..BLOCKS {
        pack.directory(&format!("d{block}"));
        if let Some((number, begun)) = open.take() {
            let rest = vec![b'r'; 5000 + block];
            let at = begun.len() as u64;
            pack.extent(number, at, &rest);
            let sums = digest(&[(0, &begun), (at, &rest)]);
            pack.end(number, at + rest.len() as u64, sums);
        }
        for n in 0..FILES {
            let directory = block - usize::from(block > 0 && n % 3 == 0);
            let data = vec![n as u8; n * 97 % 3000];
            pack.file(&format!("d{directory}/f{block}-{n}"), &data);
        }
        let name = format!("d{block}/first");
        let first = datapipe::wire::ObjectMeta {
            linked: true,
            ..file(&name)
        };
        let target = pack.whole(&first, &[], 3, &[(0, b"two")]);
        pack.link(&format!("d{block}/second"), target);
        pack.symlink(&format!("d{block}/link"), "first");
        if block + 1 < BLOCKS {
            let begun = vec![b'b'; 3000];
            let number = pack.begin(&file(&format!("d{block}/long")));
            pack.extent(number, 0, &begun);
            open = Some((number, begun));
        }
        pack.cut();
    }
    pack
}

#[test]
fn blocks_that_are_begun_ahead_restore_the_same_tree() {
    let pack = mixed();
    let twin = tempfile::tempdir().unwrap();
    let slow = restore(&pack, twin.path(), 1, false);
    assert!(slow.problems.is_empty(), "{:?}", slow.problems);
    let expected = found(twin.path());
    assert_eq!(expected.len(), BLOCKS * (FILES + 5) - 1);
    for threads in [2, 3, 8] {
        let dest = tempfile::tempdir().unwrap();
        for overwrite in [false, true] {
            let fast = restore(&pack, dest.path(), threads, overwrite);
            assert!(fast.problems.is_empty(), "{threads}: {:?}", fast.problems);
            let counts = |outcome: &RestoreOutcome| (outcome.files, outcome.directories);
            assert_eq!(counts(&fast), counts(&slow), "{threads}");
            assert_eq!(found(dest.path()), expected, "{threads}");
        }
    }
}

/// A block begins while the files of the one before are written, and files of several blocks have
/// one path. Two threads could both find the old file in its place, and the second one replaced
/// what the first had just restored, without a word.
#[test]
fn path_that_comes_in_several_blocks_is_restored_once() {
    let mut pack = Pack::default();
    for block in 0..BLOCKS {
        for n in 0..FILES {
            pack.file(&format!("f{n}"), format!("block {block}").as_bytes());
        }
        // One that is not left to the workers.
        pack.symlink(&format!("f{}", block % FILES), "target");
        pack.cut();
    }
    let repeated = BLOCKS * (FILES + 1) - FILES;
    for threads in [1, 2, 8] {
        for overwrite in [false, true] {
            let dest = tempfile::tempdir().unwrap();
            if overwrite {
                (0..FILES).for_each(|n| fs::write(dest.path().join(format!("f{n}")), "").unwrap());
            }
            let outcome = restore(&pack, dest.path(), threads, overwrite);
            let what = format!("{threads} threads, overwrite {overwrite}");
            assert_eq!(outcome.problem_count, repeated as u64, "{what}");
            let restored = outcome.files + outcome.others;
            assert_eq!(restored, FILES as u64, "{what}");
            let found = found(dest.path());
            assert_eq!(found.len(), FILES, "{what}: {:?}", found.keys());
        }
    }
}
