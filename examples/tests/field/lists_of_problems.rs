//! Lists of objects that are not whole.

use std::fs;
use std::process::Command;

use crate::fixture::{DISK_TO_TAPE, Fixture, ok};

/// A file could not be read to its end, which was reported on the night of the backup. Months later
/// a user looks through the list of the archive, and takes the file for intact.
#[test]
fn list_shows_what_is_not_whole() {
    let works = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
    if !works(Command::new("strace").args(["-f", "-o", "/dev/null", "true"])) {
        eprintln!("skipped: strace is not installed, or may not trace");
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
