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
