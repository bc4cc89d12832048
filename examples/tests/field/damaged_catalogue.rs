//! Archives whose closing catalogue is damaged or missing, of which some paths are restored

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use datapipe::wire::{BlockKind, UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::fixture::{Fixture, failed, noise, ok};

const CONTENT: &[u8] = b"has its first name elsewhere";

/// A fixture whose file `a/first` has two further names in `m` and `z`, with files between them.
fn with_far_names() -> Fixture {
    let fixture = Fixture::new();
    let data = fixture.path("src/data");
    for dir in ["a", "m", "z"] {
        fs::create_dir(data.join(dir)).unwrap();
        for n in 0..10 {
            fs::write(data.join(format!("{dir}/{n}")), noise(9_000 + n)).unwrap();
        }
    }
    fs::write(data.join("a/first"), CONTENT).unwrap();
    fs::hard_link(data.join("a/first"), data.join("m/second")).unwrap();
    fs::hard_link(data.join("a/first"), data.join("z/third")).unwrap();
    fixture
}

/// Damages the body of each unit of the closing catalogue in a volume. Returns their number.
fn damage_catalogue(volume: &Path) -> usize {
    let mut bytes = fs::read(volume).unwrap();
    let is_closing = |at: &usize| {
        UnitHeader::parse(&bytes[*at..]).is_ok_and(|header| {
            header.kind == UnitKind::Block && header.block_kind == BlockKind::ClosingCatalogue
        })
    };
    let all = 0..bytes.len() - UNIT_HEADER_LEN;
    let found: Vec<_> = all.filter(is_closing).collect();
    for at in &found {
        bytes[at + UNIT_HEADER_LEN + 4] ^= 0xff;
    }
    fs::write(volume, bytes).unwrap();
    found.len()
}

/// Damages the closing catalogue on a medium.
fn damage_catalogue_on(medium: &Path) {
    let mut volumes = vec![medium.to_owned()];
    if medium.is_dir() {
        let entries = fs::read_dir(medium).unwrap();
        volumes = entries.map(|entry| entry.unwrap().path()).collect();
        assert!(volumes.len() > 2, "{volumes:?}");
    }
    let damaged: usize = volumes.iter().map(|volume| damage_catalogue(volume)).sum();
    assert!(damaged > 0, "no catalogue was found");
}

/// Restores two further names of a file, and returns the messages.
fn restore_far_names(fixture: &Fixture, options: &[&str]) -> String {
    let paths = ["--path", "data/m/second", "--path", "data/z"];
    let how = [options, &paths, &["medium", "out"]].concat();
    let text = failed(&fixture.restore(&how), 3);
    for (is, was) in [("m/second", "a/first"), ("z/7", "z/7")] {
        let read = |at: PathBuf| fs::read(at).unwrap();
        let (is, was) = (format!("out/data/{is}"), format!("src/data/{was}"));
        assert_eq!(read(fixture.path(&is)), read(fixture.path(&was)), "{text}");
    }
    let inode = |name: &str| fs::metadata(fixture.path(name)).unwrap().ino();
    assert_eq!(inode("out/data/m/second"), inode("out/data/z/third"));
    assert_eq!(fixture.names("out/data"), ["m", "z"], "{text}");
    assert_eq!(fixture.names("out/data/m"), ["second"], "{text}");
    assert!(!text.contains("data/"), "no path is named: {text}");
    fixture.clear("out");
    text
}

/// One file is wanted back from an archive with a damaged end. It was a hard link, and was named
/// among the errors and not restored, although all of its data was there.
#[test]
fn further_names_come_back_without_the_catalogue() {
    for (how, options) in [
        (&["src/data", "medium"][..], &[][..]),
        (&["src/data", "medium"], &["--processes"]),
        (
            &["--key-file", "key", "src/data", "medium"],
            &["--key-file", "key"],
        ),
        (&["--volume-size", "64KiB", "src/data", "medium/"], &[]),
    ] {
        let fixture = with_far_names();
        let backup = ["--quiet", "--buffer-size", "16K", "--readers", "1"];
        ok(&fixture.back_up(&[&backup[..], how].concat()));
        damage_catalogue_on(&fixture.path("medium"));
        let text = restore_far_names(&fixture, options);
        assert!(text.contains("block "), "{text}");
        assert_eq!(text.matches("(checksum)").count(), 1, "once: {text}");
    }
}

/// The same with a backup that did not come to its end, so that there is no catalogue.
#[test]
fn further_names_come_back_from_an_archive_that_is_cut() {
    let fixture = with_far_names();
    let backup = ["--quiet", "--buffer-size", "16K", "--readers", "1"];
    ok(&fixture.back_up(&[&backup[..], &["src/data", "medium"]].concat()));
    let tape = fs::read(fixture.path("medium")).unwrap();
    let is_closing = |at: &usize| {
        UnitHeader::parse(&tape[*at..])
            .is_ok_and(|header| header.block_kind == BlockKind::ClosingCatalogue)
    };
    let cut = (0..tape.len()).find(is_closing).unwrap();
    fs::write(fixture.path("medium"), &tape[..cut]).unwrap();
    let text = restore_far_names(&fixture, &[]);
    assert!(text.contains("the archive is incomplete"), "{text}");
    // A file after the cut would be missing without being named.
    assert!(text.contains("the names of objects after block "), "{text}");
}

/// A path whose only name in the selection is its own, and a path that is not there, are as with
/// a sound catalogue.
#[test]
fn first_name_and_missing_path_are_as_with_the_catalogue() {
    let fixture = with_far_names();
    let backup = ["--quiet", "--buffer-size", "16K", "--readers", "1"];
    ok(&fixture.back_up(&[&backup[..], &["src/data", "medium"]].concat()));
    damage_catalogue_on(&fixture.path("medium"));
    let paths = ["--path", "data/a/first", "--path", "data/z/third"];
    let missing = ["--path", "data/none", "medium", "out"];
    let text = failed(&fixture.restore(&[&paths[..], &missing].concat()), 3);
    let inode = |name: &str| fs::metadata(fixture.path(name)).unwrap().ino();
    assert_eq!(inode("out/data/a/first"), inode("out/data/z/third"));
    assert_eq!(fixture.names("out/data"), ["a", "z"], "{text}");
    assert!(text.contains("data/none: not found"), "{text}");
}
