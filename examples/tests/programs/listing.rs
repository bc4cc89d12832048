//! Output for people.

use std::ffi::OsStr;
use std::fs::{self, FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use crate::fixture::{Fixture, TAPE_TO_DISK, failed, ok};

/// A fixture with objects of several kinds in `src/data`, modified at 2001-09-09 01:46, on `tape`.
pub(crate) fn with_kinds() -> Fixture {
    let fixture = Fixture::new();
    let data = fixture.path("src/data");
    fs::create_dir(data.join("sub")).unwrap();
    fs::write(data.join("file"), b"content").unwrap();
    fs::hard_link(data.join("file"), data.join("sub/again")).unwrap();
    symlink("over\nthere\u{e9}", data.join("link")).unwrap();
    fs::write(data.join(OsStr::from_bytes(b"\xff \x1b[31mred\\")), b"").unwrap();
    fs::set_permissions(data.join("file"), Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(data.join("sub"), Permissions::from_mode(0o1777)).unwrap();
    let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    for name in ["file", "sub", "."] {
        fs::File::open(data.join(name))
            .unwrap()
            .set_times(times)
            .unwrap();
    }
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    fixture
}

#[test]
fn list_has_a_line_for_each_object() {
    let fixture = with_kinds();
    let output = fixture.restore(&["--list", "tape"]);
    let list = ok(&output);
    assert!(output.stderr.is_empty());
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 6, "{list}");
    assert_eq!(lines[0], "drwx------            0 2001-09-09 01:46 data");
    assert_eq!(
        lines[1],
        "-rwxr-x--x            7 2001-09-09 01:46 data/file"
    );
    assert!(lines[2].starts_with("lrwxrwxrwx "), "{list}");
    assert!(
        lines[2].ends_with(" data/link -> over\\nthere\u{e9}"),
        "{list}"
    );
    assert_eq!(
        lines[3],
        "drwxrwxrwt            0 2001-09-09 01:46 data/sub"
    );
    assert_eq!(
        lines[4],
        "hrwxr-x--x            0 2001-09-09 01:46 data/sub/again"
    );
    assert!(
        lines[5].ends_with(" data/\\xff \\u{1b}[31mred\\\\"),
        "{list}"
    );
}

#[test]
fn list_of_some_paths_has_only_them() {
    let fixture = with_kinds();
    let list = ok(&fixture.restore(&[
        "--list",
        "--path",
        "data/sub/",
        "--path",
        "data/file",
        "tape",
    ]));
    let names: Vec<&str> = list
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(names, ["data/file", "data/sub", "data/sub/again"]);
    let output = fixture.restore(&["--list", "--path", "sub", "--path", "data/file", "tape"]);
    let text = failed(&output, 3);
    assert!(text.contains("sub: not found in the archive"), "{text}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
}

#[test]
fn hostile_name_sends_no_commands_to_the_terminal() {
    let fixture = with_kinds();
    for path in ["src/\u{1b}[31m\u{202e}", "src/\u{9b}2J"] {
        for output in [fixture.back_up(&[path, "other"]), fixture.restore(&[path])] {
            let text = failed(&output, 1);
            assert!(text.contains("\\u{"), "{text}");
            assert!(
                !text
                    .chars()
                    .any(|c| c.is_control() && c != '\n' || c == '\u{202e}'),
                "{text:?}"
            );
        }
    }
}

#[test]
fn help_describes_the_exit_codes() {
    let fixture = Fixture::new();
    for text in [
        ok(&fixture.back_up(&["--help"])),
        ok(&fixture.restore(&["--help"])),
    ] {
        assert!(text.contains("Exit codes:\n  0  "), "{text}");
        assert!(text.contains("\n  3  "), "{text}");
    }
}

/// The case of `tape_to_disk --list tape | head -1`.
#[test]
fn list_without_a_reader_ends_silently() {
    let fixture = Fixture::with_blocks();
    ok(&fixture.back_up(&["src/data", "tape"]));
    for how in [&["--list", "tape"][..], &["--list", "--json", "tape"]] {
        let mut command = fixture.command(TAPE_TO_DISK, how);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(13), "{}", output.status);
        assert!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
