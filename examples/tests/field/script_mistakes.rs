//! Scripts that pass an option, a name or a directory that they did not mean.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};

use crate::fixture::{Fixture, TAPE_TO_DISK, failed, ok};
use crate::shell::shell;

fn with_archive() -> Fixture {
    let fixture = Fixture::new();
    for n in 0..30 {
        fs::write(fixture.path(&format!("src/data/{n}")), "x").unwrap();
    }
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    fixture
}

/// A variable of the script is not set: `--path "$FILE"`. Everything was restored.
#[test]
fn empty_path_is_refused() {
    let fixture = with_archive();
    for job in [&["tape", "out"][..], &["--list", "tape"]] {
        let output = fixture.restore(&[&["--path", ""][..], job].concat());
        let text = failed(&output, 2);
        assert!(text.contains("cannot be empty"), "{text}");
        assert!(fixture.names("out").is_empty());
    }
    ok(&fixture.restore(&["--quiet", "--path", ".", "tape", "out"]));
    fixture.assert_same();
}

/// The errors go to a named pipe, whose reader comes late or never. All lines were lost, with the
/// exit code of a complete list.
#[test]
fn list_of_errors_in_a_named_pipe_waits_for_its_reader() {
    let fixture = with_archive();
    fs::create_dir(fixture.path("out/data")).unwrap();
    fs::write(fixture.path("out/data/7"), "old").unwrap();
    let pipe = fixture.path("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let start = || {
        let mut command = fixture.command(TAPE_TO_DISK, &["--errors-to", "pipe", "tape", "out"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let restore = start();
    let lines = fs::read_to_string(&pipe).unwrap();
    failed(&restore.wait_with_output().unwrap(), 3);
    assert!(lines.contains("data/7"), "{lines}");
    // Without a reader, one signal ends it.
    let mut restore = start();
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        assert!(restore.try_wait().unwrap().is_none(), "it did not wait");
        sleep(Duration::from_millis(20));
    }
    let process = rustix::process::Pid::from_child(&restore);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    failed(&restore.wait_with_output().unwrap(), 1);
}

/// `-` was taken for the name of a file.
#[test]
fn list_of_errors_on_a_standard_stream_is_refused() {
    let fixture = with_archive();
    let text = failed(&fixture.restore(&["--errors-to", "-", "tape", "out"]), 2);
    assert!(text.contains("/dev/stderr"), "{text}");
    assert!(!fixture.path("-").exists() && fixture.names("out").is_empty());
}

/// The script's directory was removed while it waited. Each object was an error of its own.
#[test]
fn restore_to_a_directory_that_was_removed_is_one_error() {
    let fixture = with_archive();
    for program in ["$R --quiet", "$R --quiet --processes"] {
        let script = format!("mkdir gone && cd gone && rmdir ../gone && {program} ../tape2 .");
        let tape = fixture.path("tape");
        let script = script.replace("../tape2", tape.to_str().unwrap());
        let text = failed(&shell(&fixture, &script), 1);
        assert!(text.contains("was removed"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

/// A name of 254 bytes has no room for the end of the hidden name beside it.
#[test]
fn tape_with_a_long_name_is_overwritten() {
    let fixture = with_archive();
    for len in [241, 242, 254, 255] {
        let name = "n".repeat(len);
        ok(&fixture.back_up(&["--quiet", "src/data", &name]));
        ok(&fixture.back_up(&["--quiet", "--overwrite", "src/data", &name]));
        ok(&fixture.restore(&["--quiet", &name, "out"]));
        fixture.assert_same();
        fixture.clear("out");
        fixture.assert_holds(&["tape", &name]);
        fs::remove_file(fixture.path(&name)).unwrap();
    }
}

/// The old archive is protected with `chattr`. The error was only "Operation not permitted".
#[test]
fn immutable_medium_is_named_as_such() {
    let fixture = with_archive();
    fs::create_dir(fixture.path("dir")).unwrap();
    File::create(fixture.path("dir/file")).unwrap();
    let change = |attribute: &str, name: &str| {
        let changed = Command::new("chattr")
            .args([attribute])
            .arg(fixture.path(name))
            .output();
        changed.is_ok_and(|output| output.status.success())
    };
    for attribute in ["i", "a"] {
        if !change(&format!("+{attribute}"), "tape") {
            eprintln!("not tried: this file system has no immutable files");
            return;
        }
        let overwritten = fixture.back_up(&["--overwrite", "src/data", "tape"]);
        assert!(change(&format!("-{attribute}"), "tape"));
        let text = failed(&overwritten, 1);
        assert!(text.contains("chattr -i"), "{text}");
        assert!(text.contains("still there"), "{text}");
    }
    assert!(change("+i", "dir"));
    let created = fixture.back_up(&["src/data", "dir/new"]);
    assert!(change("-i", "dir"));
    let text = failed(&created, 1);
    assert!(text.contains("chattr -i"), "{text}");
}
