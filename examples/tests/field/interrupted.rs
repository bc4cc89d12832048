//! Signals that interrupt calls to the kernel, as on network file systems: no file is missing, and
//! no job fails. Needs strace, and skips without it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Command;

use rustix::fs::XattrFlags;

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, ok};

/// Runs a program with one interrupted call after the other. Returns false without strace.
fn interrupt_each(fixture: &Fixture, call: &str, program: &str, args: &[&str]) -> bool {
    let log = fixture.path("log");
    let mut failures = Vec::new();
    for n in 1..100 {
        let _ = fs::remove_dir_all(fixture.path("out"));
        let _ = fs::remove_file(fixture.path("new.tap"));
        let inject = format!("inject={call}:error=EINTR:when={n}");
        let traced = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-e",
                &format!("trace={call}"),
                "-e",
                &inject,
                "-o",
            ])
            .arg(&log)
            .arg(program)
            .args(args)
            .current_dir(fixture.path("."))
            .output();
        let Ok(output) = traced else {
            return false;
        };
        let trace = fs::read_to_string(&log).unwrap_or_default();
        if !trace.contains("INJECTED") {
            if n == 1 && !output.status.success() {
                eprintln!("{}", String::from_utf8_lossy(&output.stderr));
                return false;
            }
            break;
        }
        // The loader of programs does not repeat its calls.
        let is_loader = trace
            .lines()
            .filter(|line| line.contains("INJECTED"))
            .all(|line| line.contains("/lib") || line.contains("/etc/ld.so"));
        if !(is_loader || output.status.success() && output.stderr.is_empty()) {
            let text = String::from_utf8_lossy(&output.stderr);
            failures.push(format!("{call} {n}: {}: {text}", output.status));
        }
    }
    failures.retain(|failure| !failure.contains("error while loading shared libraries"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    true
}

#[test]
fn interrupted_calls_are_repeated() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("src/data/below")).unwrap();
    fs::write(fixture.path("src/data/below/file"), "data").unwrap();
    fs::hard_link(
        fixture.path("src/data/below/file"),
        fixture.path("src/data/below/name"),
    )
    .unwrap();
    symlink("file", fixture.path("src/data/below/link")).unwrap();
    let mut sparse = File::create(fixture.path("src/data/sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    sparse.write_all(b"start").unwrap();
    drop(sparse);
    let file = fixture.path("src/data/below/file");
    rustix::fs::setxattr(&file, "user.note", b"x", XattrFlags::empty()).unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "old.tap"]));

    let reading = [
        "--quiet",
        "--readers=1",
        "--instances=1",
        "src/data",
        "new.tap",
    ];
    for call in [
        "openat",
        "statx",
        "getdents64",
        "readlinkat",
        "flistxattr",
        "listxattr",
        "fgetxattr",
        "lseek",
        "ioctl",
    ] {
        if !interrupt_each(&fixture, call, DISK_TO_TAPE, &reading) {
            eprintln!("skipped: strace cannot be used here");
            return;
        }
    }
    let restoring = ["--quiet", "--instances=1", "old.tap", "out"];
    for call in [
        "openat",
        "openat2",
        "statx",
        "mkdirat",
        "fchmod",
        "fchown",
        "fchownat",
        "fsetxattr",
        "flistxattr",
        "utimensat",
        "linkat",
        "renameat2,renameat",
        "symlinkat",
    ] {
        interrupt_each(&fixture, call, TAPE_TO_DISK, &restoring);
    }
}
