//! Directories of volumes in which files have wrong names.

use std::fs;

use crate::fixture::{Fixture, failed, noise, ok};

/// A person copies volumes back and exchanges two names. All data of both volumes was reported as
/// damaged, without advice.
#[test]
fn volumes_that_have_exchanged_their_names_are_read_by_their_labels() {
    let fixture = Fixture::new();
    for n in 0..8 {
        fs::write(
            fixture.path(&format!("src/data/{n}")),
            noise((512 << 10) + n),
        )
        .unwrap();
    }
    let options = ["--quiet", "--compress", "none", "--buffer-size", "256K"];
    let medium = ["--volume-size", "1MiB", "src/data", "tape/"];
    ok(&fixture.back_up(&[&options[..], &medium[..]].concat()));
    assert!(
        fixture.names("tape").len() > 3,
        "{:?}",
        fixture.names("tape")
    );
    for (first, second) in [("000002.tap", "000003.tap"), ("000001.tap", "000002.tap")] {
        let (first, second) = (format!("tape/{first}"), format!("tape/{second}"));
        let rename = |from: &str, to: &str| fs::rename(fixture.path(from), fixture.path(to));
        rename(&first, "aside").unwrap();
        rename(&second, &first).unwrap();
        rename("aside", &second).unwrap();
        for options in [&["--overwrite"][..], &["--overwrite", "--processes"]] {
            let output = fixture.restore(&[options, &["tape", "out"]].concat());
            ok(&output);
            let text = String::from_utf8_lossy(&output.stderr);
            for name in [&first, &second] {
                assert!(
                    text.contains(&format!("{name} has the label of volume")),
                    "{text}"
                );
            }
            fixture.assert_same();
            fixture.clear("out");
        }
        ok(&fixture.restore(&["--verify", "tape"]));
        let list = ok(&fixture.restore(&["--list", "--path", "data/7", "tape"]));
        assert!(list.contains("data/7"), "{list}");
    }
}

/// A directory has copies of volumes under other numbers, and those of a second archive: the advice
/// was to rename them over the volumes that are there, and the second archive was left out of a
/// restore with exit code 0.
#[test]
fn copies_and_volumes_of_another_archive_are_not_to_be_renamed() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), noise(2 << 20)).unwrap();
    for medium in ["tape/", "other/"] {
        let options = ["--quiet", "--volume-size", "1MiB", "src/data", medium];
        ok(&fixture.back_up(&options));
    }
    let copy = |from: &str, to: &str| fs::copy(fixture.path(from), fixture.path(to)).unwrap();
    let ways = [
        &["--list", "tape"][..],
        &["--verify", "tape"],
        &["--overwrite", "tape", "out"],
    ];
    copy("tape/000002.tap", "tape/000040.tap");
    for way in ways {
        let output = fixture.restore(way);
        ok(&output);
        let text = String::from_utf8_lossy(&output.stderr);
        let note = "tape/000040.tap is another copy of volume 2";
        assert!(text.contains(note) && !text.contains("rename"), "{text}");
    }
    for volume in 1..=fixture.names("other").len() {
        let from = format!("other/{volume:06}.tap");
        copy(&from, &format!("tape/{:06}.tap", 50 + volume));
    }
    for way in ways {
        let text = failed(&fixture.restore(way), 3);
        let error = "tape/000051.tap: belongs to another archive than the first volume";
        assert!(text.contains(error) && !text.contains("rename"), "{text}");
    }
    fixture.assert_same();
}

/// The directory has a directory that is named like a volume. The job wrote everything, failed when
/// it gave the volume its name, and called the old archive gone.
#[test]
fn directory_with_the_name_of_a_volume_is_refused_before_anything_is_written() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), noise(1000)).unwrap();
    for name in [
        "000001.tap",
        "000002.tap",
        "000001.tap.new",
        "000003.tap.last",
    ] {
        for options in [&["--overwrite"][..], &[]] {
            fs::create_dir_all(fixture.path("medium").join(name)).unwrap();
            let output = fixture.back_up(&[options, &["src/data", "medium"]].concat());
            let text = failed(&output, 1);
            assert!(
                text.contains(name) && text.contains("not a regular file"),
                "{text}"
            );
            assert!(!text.contains("gone"), "{text}");
            assert_eq!(fixture.names("medium"), [name]);
            fs::remove_dir_all(fixture.path("medium")).unwrap();
        }
    }
    // The volumes that are there stay.
    ok(&fixture.back_up(&["--quiet", "src/data", "medium/"]));
    fs::create_dir(fixture.path("medium/000002.tap")).unwrap();
    let text = failed(&fixture.back_up(&["--overwrite", "src/data", "medium"]), 1);
    assert!(text.contains("held before is still there"), "{text}");
    assert_eq!(fixture.names("medium"), ["000001.tap", "000002.tap"]);
    fs::remove_dir(fixture.path("medium/000002.tap")).unwrap();
    ok(&fixture.restore(&["--quiet", "medium", "out"]));
    fixture.assert_same();
}

/// A volume is missing. The list came from the catalogue in the last one, with exit code 0 and no
/// word of the volume.
#[test]
fn list_names_a_missing_volume() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), noise(3 << 20)).unwrap();
    ok(&fixture.back_up(&["--quiet", "--volume-size", "1MiB", "src/data", "tape/"]));
    fs::remove_file(fixture.path("tape/000002.tap")).unwrap();
    let output = fixture.restore(&["--list", "tape"]);
    assert!(ok(&output).contains("data/file"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("has no volume 2 (000002.tap)"), "{text}");
    let text = failed(&fixture.restore(&["--verify", "tape"]), 3);
    assert!(text.contains("has no volume 2 (000002.tap)"), "{text}");
}

/// The label of volumes is written, shown and limited, and a damaged volume record costs nothing.
#[test]
fn label_of_volumes_is_shown_and_a_damaged_record_is_mentioned() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), noise(1000)).unwrap();
    for medium in ["a.tap", "volumes/"] {
        ok(&fixture.back_up(&["--label", "A00001L5", "src/data", medium]));
        let verified = || {
            let output = fixture.restore(&["--verify", medium]);
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            ok(&output) + &errors
        };
        let shown = verified();
        let label = "has the volume label A00001L5";
        assert!(shown.contains(label), "{shown}");
        let file = match medium {
            "a.tap" => fixture.path(medium),
            _ => fixture.path("volumes/000001.tap"),
        };
        let mut bytes = fs::read(&file).unwrap();
        bytes[100] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let shown = verified();
        let note = "has a damaged volume record, and is read all the same: its label names it \
                    volume 1 of its session";
        assert!(shown.contains(note) && !shown.contains(label), "{shown}");
    }
    let long = "l".repeat(65);
    let refused = failed(
        &fixture.back_up(&["--label", &long, "src/data", "b.tap"]),
        2,
    );
    assert!(
        refused.contains("a label has at most 64 bytes, and not 65"),
        "{refused}"
    );
    assert!(!fixture.path("b.tap").exists());
}
