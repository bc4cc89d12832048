//! Messages that name the fault and the remedy: a user reads them at night, and acts on them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::fixture::{Fixture, failed, noise, ok};
use crate::shell::{in_namespace, shell};

/// A user restores to a directory of another user. There was one message for each of the objects,
/// and none about the directory.
#[test]
fn destination_without_write_permission_is_one_error() {
    let fixture = Fixture::new();
    for number in 0..30 {
        fs::write(fixture.path(&format!("src/data/{number}")), "x").unwrap();
    }
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    fs::set_permissions(fixture.path("."), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(fixture.path("tape"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(fixture.path("out"), Permissions::from_mode(0o755)).unwrap();
    let user = "setpriv --reuid 54321 --regid 54321 --clear-groups";
    if !shell(&fixture, &format!("{user} $R --version"))
        .status
        .success()
    {
        eprintln!("skipped: another user cannot run the programs here");
        return;
    }
    for args in ["tape out", "--processes tape out", "--path data/7 tape out"] {
        let text = failed(&shell(&fixture, &format!("{user} $R --quiet {args}")), 1);
        assert_eq!(text.lines().count(), 1, "{args}: {text}");
        assert!(
            text.contains("may not write to the destination") && text.contains("Permission denied"),
            "{args}: {text}"
        );
    }
    assert!(fixture.names("out").is_empty());
    // A directory below, to which the user may write, is restored to all the same.
    fs::create_dir(fixture.path("out/data")).unwrap();
    fs::set_permissions(fixture.path("out/data"), Permissions::from_mode(0o777)).unwrap();
    failed(&shell(&fixture, &format!("{user} $R --quiet tape out")), 3);
    assert_eq!(fixture.names("out/data").len(), 30);
}

/// The disk with the volumes is full. The message asked for larger volumes.
#[test]
fn full_disk_of_volumes_is_named() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/large"), noise(6 << 20)).unwrap();
    for job in [
        "$D --buffer-size 64KiB --volume-size 2M src/data out/",
        "$D --buffer-size 64KiB src/data out/",
        "$D src/data out/",
        "$D --buffer-size 64KiB src/data out/tape",
    ] {
        let mounts = "mount -t tmpfs -o size=4M none out";
        let Some(output) = in_namespace(&fixture, mounts, job) else {
            return;
        };
        let text = failed(&output, 1);
        assert!(
            text.contains("is full") && text.contains("No space left on device (ENOSPC)"),
            "{job}: {text}"
        );
        assert!(text.contains("is not confirmed"), "{job}: {text}");
    }
}

/// A shell limits the size of files. The message spoke of a function and a number.
#[test]
fn limit_of_the_size_of_files_is_named() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/large"), noise(12 << 20)).unwrap();
    ok(&fixture.back_up(&["--quiet", "--buffer-size", "64KiB", "src/data", "tape"]));
    for (kilobytes, job) in [
        (8000, "$D --buffer-size 64KiB src/data new"),
        (8000, "$R tape out"),
        (100, "$D src/data other"),
        (100, "$R --verify tape"),
    ] {
        let output = shell(&fixture, &format!("ulimit -f {kilobytes}; {job}"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 3)), "{job}: {text}");
        assert!(text.contains("(ulimit -f)"), "{job}: {text}");
    }
}

/// A message of one block spoke of "1 blocks".
#[test]
fn one_block_is_not_plural() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), noise(300 << 10)).unwrap();
    let args = ["--quiet", "--buffer-size", "1MiB", "src/data", "tape"];
    ok(&fixture.back_up(&args));
    let all = fs::read(fixture.path("tape")).unwrap();
    let mut is_named = false;
    for kept in (all.len() - 2400..all.len()).step_by(60) {
        fs::write(fixture.path("cut"), &all[..kept]).unwrap();
        let output = fixture.restore(&["--verify", "cut"]);
        let text = String::from_utf8_lossy(&output.stderr);
        for wrong in [" 1 blocks", " 1 bytes", " 1 objects", " 1 records"] {
            assert!(!text.contains(wrong), "{kept}: {text}");
        }
        is_named |= text.contains("1 block was read before that");
    }
    assert!(is_named, "no part of the archive ends after one block");
}

/// A stream is restored to a full disk.
#[test]
fn full_disk_of_a_stream_is_named() {
    let fixture = Fixture::new();
    ok(&shell(
        &fixture,
        "head -c 100000 /dev/zero | $D --quiet - tape",
    ));
    for placement in ["", "--processes"] {
        let output = shell(&fixture, &format!("$R {placement} tape - > /dev/full"));
        let text = failed(&output, 1);
        assert!(text.contains("No space left on device (ENOSPC)"), "{text}");
    }
}

/// A pattern leaves out the source itself, and the message called it unreadable.
#[test]
fn excluded_source_is_not_unreadable() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "1").unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    for pattern in ["data", "*", "data/"] {
        let job = ["--overwrite", "--exclude", pattern, "src/data", "tape"];
        let text = failed(&fixture.back_up(&job), 1);
        assert!(
            text.contains("the sources are left out by a pattern"),
            "{text}"
        );
    }
}
