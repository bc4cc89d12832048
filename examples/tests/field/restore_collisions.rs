//! Destinations that take two names for one: what a restore has made, it does not overwrite.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::fixture::{Fixture, TAPE_TO_DISK, failed, ok};
use crate::shell::in_namespace;

/// An ext4 image with case folding.
const FOLDING: &str = "mkfs.ext4 -q -O casefold -E encoding=utf8 image 20M &&
    mount -o loop image out && mkdir out/fold && chattr +F out/fold";

const RESTORE_FOLDED: &str = "
    tape out/fold; code=$?
    find out/fold -type f | LC_ALL=C sort
    cat out/fold/data/a
    exit $code";

/// Files whose names differ in case are restored to a disk that folds it. With --overwrite each
/// replaced the one before, with exit 0.
#[test]
fn names_that_differ_in_case_do_not_overwrite_each_other() {
    for overwrite in ["", "--overwrite"] {
        let fixture = Fixture::new();
        fs::write(fixture.path("src/data/A"), "one").unwrap();
        fs::write(fixture.path("src/data/a"), "two").unwrap();
        ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
        fs::create_dir_all(fixture.path("out")).unwrap();
        let script = format!("$R {overwrite} {}", RESTORE_FOLDED.trim_start());
        let Some(output) = in_namespace(&fixture, FOLDING, &script) else {
            return;
        };
        let text = failed(&output, 3);
        assert!(text.contains("this restore has already made"), "{text}");
        let found = String::from_utf8_lossy(&output.stdout);
        assert_eq!(found.matches("out/fold/data/").count(), 1, "{found}");
    }
}

/// An overlay at `out/merged`.
const OVERLAY: &str = "mount -t tmpfs none out &&
    mkdir out/lower out/upper out/work out/merged &&
    mount -t overlay -o lowerdir=out/lower,upperdir=out/upper,workdir=out/work overlay out/merged";

/// The names of a hard link are restored over older ones in a container. The second was refused,
/// because replacing the first had changed its inode.
#[test]
fn hard_links_are_replaced_on_an_overlay() {
    let fixture = Fixture::new();
    let file = fixture.path("src/data/a");
    for (content, tape) in [("old", "first"), ("new", "second")] {
        fs::write(&file, content).unwrap();
        let _ = fs::hard_link(&file, fixture.path("src/data/b"));
        ok(&fixture.back_up(&["--quiet", "src/data", tape]));
    }
    fs::create_dir_all(fixture.path("out")).unwrap();
    let script = "$R --quiet first out/merged && $R --quiet --overwrite second out/merged && \
                  cat out/merged/data/a out/merged/data/b";
    let Some(output) = in_namespace(&fixture, OVERLAY, script) else {
        return;
    };
    ok(&output);
    assert_eq!(output.stdout, b"newnew");
}

/// A plain user restores a device by its path. Nothing was there, with exit 0.
#[test]
fn device_that_a_plain_user_cannot_create_is_named() {
    let fixture = Fixture::new();
    let made = Command::new("mknod")
        .arg(fixture.path("src/data/null"))
        .args(["c", "1", "3"])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: only root creates devices");
        return;
    }
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    for path in [".", "tape", "out"] {
        let mode = if path == "tape" { 0o644 } else { 0o777 };
        fs::set_permissions(fixture.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::copy(TAPE_TO_DISK, fixture.path("program")).unwrap();
    let output = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "./program",
        ])
        .args(["--path", "data/null", "tape", "out"])
        .current_dir(fixture.path("."))
        .output();
    let Ok(output) = output else { return };
    let text = failed(&output, 3);
    assert!(text.contains("data/null"), "{text}");
    assert!(text.contains("only root may create"), "{text}");
}
