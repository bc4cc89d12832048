//! Media that have more than one archive, and media with other bytes after the archive.

use std::fs;

use crate::fixture::{Fixture, failed, ok};

/// The programs' ways to read a medium.
const WAYS: [&[&str]; 4] = [
    &["--list", "ab.tap"],
    &["--verify", "ab.tap"],
    &["--overwrite", "ab.tap", "out"],
    &["--overwrite", "--path", "data", "ab.tap", "out"],
];

/// A fixture with two tapes, `a.tap` and `b.tap`.
fn with_two_tapes() -> (Fixture, Vec<u8>, Vec<u8>) {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "one").unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "a.tap"]));
    ok(&fixture.back_up(&["--quiet", "src/data", "b.tap"]));
    let tape = |name| fs::read(fixture.path(name)).unwrap();
    let (a, b) = (tape("a.tap"), tape("b.tap"));
    (fixture, a, b)
}

/// A user joins two tapes with `cat`, and later restores "everything" from the result. The last
/// archive comes back, and the programs say that there is another one, and how to read it.
#[test]
fn joined_archives_are_listed_and_each_can_be_read() {
    let (fixture, a, b) = with_two_tapes();
    let joined = [
        [&a[..], &b].concat(),
        // Padded to whole blocks.
        [&a[..], &vec![0; 65_536 - a.len() % 65_536], &b].concat(),
        // The second one has a damaged start.
        [&a[..], &[9; 100], &b[40..]].concat(),
    ];
    for (i, bytes) in joined.iter().enumerate() {
        fs::write(fixture.path("ab.tap"), bytes).unwrap();
        for way in WAYS {
            let output = fixture.restore(way);
            let text = match way.contains(&"--verify") {
                // Nothing is where the footer of the second one says.
                true => failed(&output, 3),
                false => {
                    ok(&output);
                    String::from_utf8_lossy(&output.stderr).into_owned()
                }
            };
            assert!(text.contains("has 2 archives"), "{i}, {way:?}: {text}");
            let is_noted = text.contains("the label of a session is damaged, or is not where");
            assert!(is_noted, "{i}, {way:?}: {text}");
        }
        for number in ["1", "2"] {
            ok(&fixture.restore(&["--overwrite", "--archive", number, "ab.tap", "out"]));
        }
    }
    // The same archive twice is one session, whose rest is not read.
    fs::write(fixture.path("ab.tap"), [&a[..], &a].concat()).unwrap();
    for way in WAYS {
        let text = failed(&fixture.restore(way), 3);
        assert!(text.contains("has another archive"), "{way:?}: {text}");
    }
}

/// The same with a directory: a volume of last week's job was left in it.
#[test]
fn volume_of_another_archive_is_an_error() {
    let (fixture, a, b) = with_two_tapes();
    fs::create_dir(fixture.path("ab.tap")).unwrap();
    fs::write(fixture.path("ab.tap/000001.tap"), a).unwrap();
    fs::write(fixture.path("ab.tap/000002.tap"), b).unwrap();
    for way in WAYS {
        let text = failed(&fixture.restore(way), 3);
        assert!(
            text.contains("belongs to another archive"),
            "{way:?}: {text}"
        );
    }
}

/// A copy of a tape is longer than the tape, because a tool has padded it or has appended its own
/// data. All of the archive is there.
#[test]
fn bytes_after_the_archive_are_a_note() {
    let (fixture, a, _) = with_two_tapes();
    fs::write(fixture.path("ab.tap"), [&a[..], &[9; 3000]].concat()).unwrap();
    for way in WAYS {
        let output = fixture.restore(way);
        ok(&output);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("bytes after the end"), "{way:?}: {text}");
    }
    fs::write(fixture.path("ab.tap"), [&a[..], &[0; 3000]].concat()).unwrap();
    for way in WAYS {
        let output = fixture.restore(way);
        ok(&output);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{way:?}");
    }
}
