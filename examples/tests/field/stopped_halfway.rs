//! Jobs that a signal or a full destination stops halfway, and that run again: nothing is left of
//! the first run.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, failed, noise, ok};
use crate::shell::can_trace;

/// The user stops a restore with Ctrl-C and runs it again with `--overwrite`, which ends with 0.
/// The recovered part of the file that the first run was writing stayed beside the whole file, as
/// `NAME.damaged`, and a second such run left `NAME.damaged.1`.
#[test]
fn restore_after_a_stopped_one_leaves_no_recovered_part() {
    if !can_trace() {
        return;
    }
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/large"), noise(24 << 20)).unwrap();
    ok(&fixture.back_up(&["--quiet", "--compress", "none", "src/data", "tape"]));
    for options in [&["--quiet"][..], &["--quiet", "--processes"]] {
        // Each write takes long, so that the signal arrives in the middle of the file.
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64"]);
        strace.args(["-e", "inject=pwrite64:delay_exit=500000"]);
        let restore = strace
            .arg(TAPE_TO_DISK)
            .args(options)
            .args(["--overwrite", "tape", "out"])
            .current_dir(fixture.path("."))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_begun = || {
            let names = fs::read_dir(fixture.path("out/data"));
            names.into_iter().flatten().flatten().any(|found| {
                found.file_name().to_string_lossy().ends_with(".part")
                    && found.metadata().is_ok_and(|part| part.len() > 0)
            })
        };
        while !is_begun() && Instant::now() < deadline {
            sleep(Duration::from_millis(5));
        }
        // With -D the child is the program itself.
        let process = rustix::process::Pid::from_child(&restore);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        let text = failed(&restore.wait_with_output().unwrap(), 1);
        assert!(text.contains("cancelled"), "{text}");
        assert_eq!(fixture.names("out"), ["data"], "{text}");
        assert!(fixture.names("out/data").is_empty(), "{text}");
        ok(&fixture.restore(&["--quiet", "--overwrite", "tape", "out"]));
        fixture.assert_same();
        fixture.clear("out");
    }
}

/// The destination runs full. The user makes room and restores again: the part that did not fit
/// stayed beside the whole file.
#[test]
fn restore_to_a_full_destination_leaves_no_part() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/large"), noise(24 << 20)).unwrap();
    ok(&fixture.back_up(&["--quiet", "--compress", "none", "src/data", "tape"]));
    let out = fixture.path("out");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=10m", "tmpfs"])
        .arg(&out)
        .output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        eprintln!("not tried: a file system cannot be mounted here");
        return;
    }
    let first = fixture.restore(&["--quiet", "tape", "out"]);
    let names = fixture.names("out/data");
    let umount = Command::new("umount").arg(&out).status().unwrap();
    assert!(umount.success());
    let text = failed(&first, 1);
    assert!(text.contains("No space left"), "{text}");
    assert!(text.contains("data/large: could not be written"), "{text}");
    assert!(names.is_empty(), "{names:?}");
}

/// The user stops a backup just when it has created its medium. The hidden file that the new
/// archive was to be written to stayed.
#[test]
fn backup_that_is_stopped_before_its_pipe_runs_leaves_nothing() {
    if !can_trace() {
        return;
    }
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), noise(1000)).unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "old"]));
    for (medium, created) in [("old", ".old.datapipe-new"), ("new", "new")] {
        // Each lock takes long, so that the signal arrives after the file was created.
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fcntl"]);
        strace.args(["-e", "inject=fcntl:delay_exit=200000"]);
        let backup = strace
            .arg(DISK_TO_TAPE)
            .args(["--overwrite", "src/data", medium])
            .current_dir(fixture.path("."))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !fixture.path(created).exists() && Instant::now() < deadline {
            sleep(Duration::from_millis(1));
        }
        let process = rustix::process::Pid::from_child(&backup);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        let text = failed(&backup.wait_with_output().unwrap(), 1);
        assert!(text.contains("stopping because of SIGTERM"), "{text}");
        if medium == "old" {
            assert!(text.contains("still there"), "{text}");
            fixture.assert_holds(&["old"]);
        }
        // What is left is taken without a word.
        ok(&fixture.back_up(&["--quiet", "--overwrite", "src/data", "old"]));
    }
    ok(&fixture.back_up(&["--quiet", "src/data", "new"]));
    fixture.assert_holds(&["old", "new"]);
}

/// A backup was killed while it wrote beside the old archive. The next one removes what is left.
#[test]
fn hidden_file_of_a_killed_backup_is_replaced_by_the_next_one() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), noise(1000)).unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    fs::copy(fixture.path("tape"), fixture.path(".tape.datapipe-new")).unwrap();
    let output = fixture.back_up(&["--quiet", "--overwrite", "src/data", "tape"]);
    ok(&output);
    assert!(output.stderr.is_empty());
    fixture.assert_holds(&["tape"]);
}
