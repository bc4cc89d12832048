//! Media whose files have another name: hard links, as snapshots by `cp -al` and `rsnapshot` make
//! them.

use std::fs;
use std::process::Command;

use crate::fixture::{Fixture, failed, ok};

/// A fixture whose `src/data/file` is the second version, and with archives of the first one in
/// the tape `a` and the directory `dir`, which have the other names `b` and `copy`.
fn with_linked_media() -> Fixture {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "first").unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "a"]));
    ok(&fixture.back_up(&["--quiet", "src/data", "dir/"]));
    fs::hard_link(fixture.path("a"), fixture.path("b")).unwrap();
    let mut copy = Command::new("cp");
    copy.args(["-al", "dir", "copy"]).current_dir(&fixture.dir);
    assert!(copy.status().unwrap().success());
    fs::write(fixture.path("src/data/file"), "second").unwrap();
    fixture
}

fn assert_has(fixture: &Fixture, medium: &str, content: &str, what: &str) {
    ok(&fixture.restore(&["--quiet", "--overwrite", medium, "out"]));
    let restored = fs::read_to_string(fixture.path("out/data/file")).unwrap();
    assert_eq!(restored, content, "{medium}, {what}");
}

/// A user keeps last week's tape under another name with `ln`, and replaces the tape. Written in
/// place, the new archive would be under both names, and last week's under none.
#[test]
fn other_name_of_a_medium_keeps_its_archive() {
    for placement in [&[][..], &["--processes"]] {
        for (medium, other) in [("a", "b"), ("b", "a"), ("dir", "copy"), ("copy", "dir")] {
            let fixture = with_linked_media();
            // Without the permission to overwrite, nothing happens to either of them.
            let refused = fixture.back_up(&[placement, &["src/data", medium]].concat());
            failed(&refused, 1);
            assert_has(&fixture, medium, "first", "refused");
            let args = [placement, &["--quiet", "--overwrite", "src/data", medium]].concat();
            ok(&fixture.back_up(&args));
            assert_has(&fixture, medium, "second", "overwritten");
            assert_has(&fixture, other, "first", "overwritten");
        }
        for (medium, other) in [("dir", "copy"), ("copy", "dir")] {
            let fixture = with_linked_media();
            let options = ["--quiet", "--overwrite", "--in-place"];
            let args = [placement, &options, &["src/data", medium]].concat();
            ok(&fixture.back_up(&args));
            assert_has(&fixture, medium, "second", "in place");
            assert_has(&fixture, other, "first", "in place");
        }
        for (medium, other) in [("a", "b"), ("b", "a")] {
            let fixture = with_linked_media();
            let options = ["--overwrite", "--in-place"];
            let args = [placement, &options, &["src/data", medium]].concat();
            let text = failed(&fixture.back_up(&args), 1);
            assert!(text.contains("has 2 names (hard links)"), "{text}");
            assert!(text.contains("is still there"), "{text}");
            assert_has(&fixture, medium, "first", "refused in place");
            assert_has(&fixture, other, "first", "refused in place");
        }
    }
}
