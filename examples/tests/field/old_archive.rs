//! Jobs with --overwrite that fail: the old archive is still there.

use std::fs;
use std::process::{Command, Output};

use crate::fixture::{DISK_TO_TAPE, Fixture, failed, noise, ok};
use crate::shell::in_namespace;

/// Runs a shell command in the fixture's directory, in which `$D` is the program.
fn shell(fixture: &Fixture, script: &str, medium: &str) -> Output {
    Command::new("bash")
        .args(["-c", script])
        .env("D", DISK_TO_TAPE)
        .env("M", medium)
        .current_dir(fixture.path("."))
        .output()
        .unwrap()
}

/// A fixture with an archive of one file on the medium.
fn with_archive(medium: &str) -> Fixture {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "the only copy").unwrap();
    fs::create_dir(fixture.path("empty")).unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", medium]));
    fixture
}

fn assert_is_whole(fixture: &Fixture, medium: &str, what: &str) {
    ok(&fixture.restore(&["--quiet", "--overwrite", medium, "out"]));
    let restored = fs::read(fixture.path("out/data/file")).unwrap();
    assert_eq!(restored, b"the only copy", "{what}");
}

/// Ways in which a job ends before it has anything to write.
const WAYS: [&str; 14] = [
    // Memory.
    "ulimit -v 200000; $D --overwrite $O src/data $M",
    "$D --overwrite $O --readers 64 --buffers 4096 --buffer-size 64MiB src/data $M",
    // Descriptors.
    "ulimit -n 8; $D --overwrite $O src/data $M",
    // Processes that do not start.
    "ulimit -n 16; $D --overwrite $O --processes src/data $M",
    // Standard input.
    "$D --overwrite $O - $M < src",
    "$D --overwrite $O - $M <&-",
    "false | $D --overwrite $O - $M",
    "false | $D --overwrite $O --processes - $M",
    // Sources.
    "$D --overwrite $O nothing $M",
    "$D --overwrite $O empty $M",
    "$D --overwrite $O --processes empty $M",
    "$D --overwrite $O --exclude '*' src/data $M",
    // Options.
    "$D --overwrite $O --key-file nothing src/data $M",
    "$D --overwrite $O --buffers 1 src/data $M",
];

/// The nightly job replaces last night's archive, and fails at its start. The user had neither.
#[test]
fn old_archive_survives_a_job_that_cannot_start() {
    for medium in ["tape", "volumes/"] {
        for in_place in ["", "--in-place"] {
            let fixture = with_archive(medium);
            let names = fixture.names(".");
            for way in WAYS {
                let way = way.replace("$O", in_place);
                let output = shell(&fixture, &way, medium);
                let text = String::from_utf8_lossy(&output.stderr);
                assert!(!output.status.success(), "{way}");
                assert_is_whole(&fixture, medium, &format!("{way}: {text}"));
                let kept = text.contains(&format!("what {medium} held before is still there"));
                assert!(kept || text.contains("panicked"), "{way}: {text}");
                assert_eq!(fixture.names("."), names, "{way}");
                if medium == "volumes/" {
                    assert_eq!(fixture.names(medium), ["000001.tap"], "{way}");
                }
            }
        }
    }
}

/// A user wants an archive without anything in it, and says so twice.
#[test]
fn empty_archive_replaces_another_if_it_is_allowed() {
    for medium in ["tape", "volumes/"] {
        for way in [
            "$D --quiet --overwrite --allow-empty empty $M",
            "true | $D --quiet --overwrite --allow-empty --processes - $M",
            "true | $D --quiet --overwrite --in-place --allow-empty - $M",
        ] {
            let fixture = with_archive(medium);
            ok(&shell(&fixture, way, medium));
            let list = ok(&fixture.restore(&["--list", medium]));
            assert_eq!(list.lines().count(), 1, "{way}: {list}");
            assert!(!list.contains("file"), "{list}");
        }
        // Where nothing is lost, nothing has to be allowed.
        let fixture = with_archive(medium);
        ok(&shell(
            &fixture,
            "true | $D --quiet --overwrite - new.tap",
            "",
        ));
        ok(&shell(&fixture, "$D --quiet empty other.tap", ""));
    }
}

/// The medium has no room for the new archive and the old one. The job names the full file system
/// and the option that helps, and the old archive is there.
#[test]
fn old_archive_survives_a_full_file_system() {
    let fixture = with_archive("tape");
    fs::write(fixture.path("src/data/large"), noise(12 << 20)).unwrap();
    // A limit on the size of files is reported as a full file system is.
    let limited = "trap '' XFSZ; ulimit -f 8000; $D --buffer-size 64KiB --overwrite src/data $M";
    let text = failed(&shell(&fixture, limited, "tape"), 1);
    for part in ["File too large", "overwrite in place", "is still there"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_is_whole(&fixture, "tape", &text);
    assert_eq!(
        fixture.names(".").len(),
        8,
        "nothing is left: {:?}",
        fixture.names(".")
    );
}

/// An archive that is replaced in place is gone after a failure in the middle, and the job says so.
#[test]
fn archive_that_is_lost_in_place_is_named() {
    let fixture = with_archive("tape");
    fs::write(fixture.path("src/data/large"), noise(12 << 20)).unwrap();
    let limited = "trap '' XFSZ; ulimit -f 8000; \
                   $D --buffer-size 64KiB --overwrite --in-place src/data $M";
    let text = failed(&shell(&fixture, limited, "tape"), 1);
    assert!(text.contains("what tape held before is gone"), "{text}");
}

/// A container has its tape as a mount of one file, or a user has one of another user in /tmp. The
/// job wrote everything for hours, and could not give the new archive its name.
#[test]
fn medium_that_cannot_be_replaced_is_refused_at_the_start() {
    let plain = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    for (mounts, prefix, medium, what) in [
        (
            "mount --bind tape tape",
            "",
            "tape",
            "is a mount point, and no other file can take its name; overwrite it in place",
        ),
        (
            "mount --bind volumes/000001.tap volumes/000001.tap",
            "",
            "volumes",
            "is a mount point, and no other file can take its name; write to another directory",
        ),
        (
            "chmod 755 . && chmod 1777 sticky && chmod 666 sticky/tape && setpriv --version",
            plain,
            "sticky/tape",
            "its directory is sticky",
        ),
    ] {
        let fixture = with_archive("tape");
        fs::create_dir(fixture.path("sticky")).unwrap();
        for other in ["volumes/", "sticky/tape"] {
            ok(&fixture.back_up(&["--quiet", "src/data", other]));
        }
        let script = format!("{prefix} $D --overwrite src/data {medium}");
        let Some(output) = in_namespace(&fixture, mounts, &script) else {
            continue;
        };
        let text = failed(&output, 1);
        let kept = format!("what {medium} held before is still there");
        assert!(text.contains(what) && text.contains(&kept), "{text}");
        assert_is_whole(&fixture, medium, medium);
    }
}

/// The file system has no room for old and new volumes. The message advised to write elsewhere, and
/// did not name the option for this.
#[test]
fn full_directory_of_volumes_mentions_overwriting_in_place() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), noise(3 << 20)).unwrap();
    let script = "$D --quiet src/data out/v/ && $D --quiet --overwrite src/data out/v/; code=$?
                  $R --quiet --verify out/v || exit 9; exit $code";
    let mounts = "mount -t tmpfs -o size=5M none out";
    let Some(output) = in_namespace(&fixture, mounts, script) else {
        return;
    };
    let text = failed(&output, 1);
    assert!(text.contains("or overwrite in place"), "{text}");
    assert!(text.contains("still there"), "{text}");
}
