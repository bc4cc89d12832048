//! Restores that a signal stops, and run again: nothing is left of the first run.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixture::{Fixture, TAPE_TO_DISK, failed, noise, ok};
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
