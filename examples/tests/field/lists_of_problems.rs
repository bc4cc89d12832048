//! Lists of objects that are not whole.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{CWD, FileType, Mode};

use crate::fixture::{DISK_TO_TAPE, Fixture, failed, ok};
use crate::shell::can_trace;

/// A file could not be read to its end, which was reported on the night of the backup. Months later
/// a user looks through the list of the archive, and takes the file for intact.
#[test]
fn list_shows_what_is_not_whole() {
    if !can_trace() {
        return;
    }
    let fixture = Fixture::new();
    let large = fixture.path("src/data/large");
    fs::write(&large, vec![7; 9 << 20]).unwrap();
    fs::write(fixture.path("src/data/small"), "whole").unwrap();
    let args = [
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        large.to_str().unwrap(),
    ];
    let output = fixture
        .command("strace", &args)
        .args([
            "-e",
            "trace=pread64",
            "-e",
            "inject=pread64:error=EIO:when=2+",
        ])
        .args([
            DISK_TO_TAPE,
            "--quiet",
            "--readers",
            "1",
            "src/data",
            "tape",
        ])
        .output()
        .unwrap();
    if output.status.code() != Some(3) {
        eprintln!("skipped: strace did not inject an error");
        return;
    }
    let list = ok(&fixture.restore(&["--list", "tape"]));
    let line = |name: &str| list.lines().find(|line| line.contains(name)).unwrap();
    assert!(
        line("large").ends_with("data/large  [not read to its end]"),
        "{list}"
    );
    assert!(line("small").ends_with("data/small"), "{list}");
    let json = ok(&fixture.restore(&["--list", "--json", "tape"]));
    assert!(json.contains("\"state\":\"unread\""), "{json}");
}

/// More than a report, the messages and the JSON object keep.
const MANY: usize = 10_050;

/// Returns the objects of a list of errors, checked for their names.
fn errors_in(fixture: &Fixture, file: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(fixture.path(file)).unwrap();
    let parse = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let lines: Vec<_> = text.lines().map(parse).collect();
    for line in &lines {
        assert!(
            line["kind"].is_string() && line["what"].is_string(),
            "{line}"
        );
    }
    lines
}

/// A restore of a large tree had more errors than the messages list. The user needs the names of
/// all files that are not as they were, and had no way to get them.
#[test]
fn all_names_of_a_restore_are_in_the_list_of_errors() {
    let fixture = Fixture::new();
    for number in 0..MANY {
        fs::write(fixture.path(&format!("src/data/{number}")), b"").unwrap();
    }
    let strange = std::ffi::OsStr::from_bytes(b"src/data/\xff");
    fs::write(fixture.dir.path().join(strange), b"").unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    ok(&fixture.restore(&["--quiet", "tape", "out"]));
    for processes in [&[][..], &["--processes"]] {
        // Each file is there already.
        let args = [processes, &["--errors-to", "errors", "tape", "out"]].concat();
        let text = failed(&fixture.restore(&args), 3);
        // Also the strange name and the directory.
        let more = MANY + 2 - 20;
        assert!(
            text.contains(&format!("and {more} more: errors has all of them")),
            "{text}"
        );
        let errors = errors_in(&fixture, "errors");
        let names: BTreeSet<_> = errors.iter().map(|line| line["path"].to_string()).collect();
        assert_eq!((errors.len(), names.len()), (MANY + 2, MANY + 2));
        let strange = errors.iter().find(|line| line["path_b64"].is_string());
        assert_eq!(strange.unwrap()["path_b64"], "ZGF0YS//");
        let is_error = |line: &serde_json::Value| line["list"] == "errors";
        assert!(errors.iter().all(is_error));
    }
    let text = failed(&fixture.restore(&["--quiet", "tape", "out"]), 3);
    assert!(
        text.contains("more: --errors-to FILE has all of them"),
        "{text}"
    );
}

/// A backup left out more objects than it keeps the names of.
#[test]
fn all_names_of_a_backup_are_in_the_list_of_errors() {
    let fixture = Fixture::new();
    for number in 0..MANY {
        let path = fixture.path(&format!("src/data/{number}"));
        rustix::fs::mknodat(CWD, path, FileType::Socket, Mode::RUSR, 0).unwrap();
    }
    fs::write(fixture.path("src/data/file"), b"a file").unwrap();
    for processes in [&[][..], &["--processes"]] {
        let args = ["--overwrite", "--errors-to", "errors", "src/data", "tape"];
        ok(&fixture.back_up(&[processes, &args].concat()));
        let errors = errors_in(&fixture, "errors");
        let names: BTreeSet<_> = errors.iter().map(|line| line["path"].to_string()).collect();
        assert_eq!((errors.len(), names.len()), (MANY, MANY));
        let is_socket =
            |line: &serde_json::Value| line["list"] == "left_out" && line["kind"] == "socket";
        assert!(errors.iter().all(is_socket));
    }
}

/// A damaged medium, and names that the archive does not have.
#[test]
fn damage_and_missing_names_are_in_the_list_of_errors() {
    let fixture = Fixture::with_blocks();
    ok(&fixture.back_up(&["--quiet", "--buffer-size", "16KiB", "src/data", "tape"]));
    let tape = fixture.path("tape");
    let mut bytes = fs::read(&tape).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&tape, &bytes).unwrap();
    failed(
        &fixture.restore(&["--verify", "--errors-to", "errors", "tape"]),
        3,
    );
    let errors = errors_in(&fixture, "errors");
    let has = |kind: &str| errors.iter().any(|line| line["kind"] == kind);
    assert!(has("medium") && has("damaged"), "{errors:?}");
    let args = [
        "--path",
        "data/none",
        "--errors-to",
        "errors",
        "tape",
        "out",
    ];
    failed(&fixture.restore(&args), 3);
    let errors = errors_in(&fixture, "errors");
    assert!(
        errors.iter().any(|line| line["path"] == "data/none"),
        "{errors:?}"
    );
    failed(
        &fixture.restore(&[
            "--list",
            "--path",
            "nothing",
            "--errors-to",
            "errors",
            "tape",
        ]),
        3,
    );
    assert_eq!(errors_in(&fixture, "errors")[0]["kind"], "not-found");
}

/// A user names the wrong file for the list.
#[test]
fn list_of_errors_replaces_nothing_else() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), b"a file").unwrap();
    fs::write(fixture.path("mine"), b"some text").unwrap();
    let back_up = |errors: &str, medium: &str| {
        let output = fixture.back_up(&["--errors-to", errors, "src/data", medium]);
        failed(&output, if errors == "none/x" { 1 } else { 2 })
    };
    assert!(back_up("tape", "tape").contains("it belongs to the medium"));
    fs::create_dir(fixture.path("volumes")).unwrap();
    assert!(back_up("volumes/x", "volumes").contains("it belongs to the medium"));
    assert!(back_up("mine", "tape").contains("it has other content"));
    assert!(back_up("none/x", "tape").contains("cannot write the errors to none/x"));
    let file = fixture.back_up(&["--errors-to", "mine", "mine", "tape"]);
    assert!(failed(&file, 2).contains("it is one of the sources"));
    assert_eq!(fs::read(fixture.path("mine")).unwrap(), b"some text");
    assert!(fixture.names("volumes").is_empty());
    fixture.assert_holds(&["mine", "volumes"]);
    ok(&fixture.back_up(&["--errors-to", "errors", "src/data", "tape"]));
    assert_eq!(fs::read(fixture.path("errors")).unwrap(), b"");
    let text = failed(&fixture.restore(&["--errors-to", "tape", "tape", "out"]), 2);
    assert!(text.contains("it belongs to the medium"), "{text}");
    ok(&fixture.restore(&["--errors-to", "errors", "--verify", "tape"]));
}

/// The disk with the list is full. The user takes the list for all that is not whole.
#[test]
fn list_of_errors_that_cannot_be_written_is_an_error() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), b"a file").unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    ok(&fixture.restore(&["--quiet", "tape", "out"]));
    let text = failed(
        &fixture.restore(&["--errors-to", "/dev/full", "tape", "out"]),
        1,
    );
    assert!(
        text.contains("the list of errors in /dev/full is incomplete: No space left on device"),
        "{text}"
    );
}
