//! Jobs that wait for something that never comes: a signal ends them.

use std::fs::{self, File};
use std::io::{PipeReader, Write, pipe};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use datapipe::crypto::Argon2Cost;
use datapipe::limits::{MAX_ARGON2_MEMORY_KIB, MAX_ARGON2_PASSES};
use datapipe::prelude::*;

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, ok};
use crate::terminal::terminal;

/// A deadline that only a hang reaches.
const HANG: Duration = Duration::from_secs(60);

/// A pipe that is full, and that nothing reads.
fn full_pipe() -> (PipeReader, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while (&writer).write(&[0; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer.into())
}

/// Waits until the job handles signals: it has a thread for them.
fn wait_for_handlers(child: &mut Child) {
    let tasks = format!("/proc/{}/task", child.id());
    loop {
        let names = fs::read_dir(&tasks).into_iter().flatten().flatten();
        let mut names = names.map(|task| fs::read_to_string(task.path().join("comm")));
        if names.any(|name| name.is_ok_and(|name| name == "signals\n")) {
            break;
        }
        assert!(child.try_wait().unwrap().is_none(), "the job has ended");
        thread::sleep(Duration::from_millis(1));
    }
    // For the job to come to its wait. Earlier, a signal ends it as well.
    thread::sleep(Duration::from_millis(300));
}

/// Sends a signal, waits until the job has ended, and asserts that it has failed.
fn end_by(signal: &str, mut child: Child, what: &str) {
    wait_for_handlers(&mut child);
    let id = child.id().to_string();
    let sent = Command::new("kill").args([signal, &id]).status();
    assert!(sent.unwrap().success());
    let until = Instant::now() + HANG;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > until => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{what}: the job waits on after {signal}");
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    assert_eq!(status.code(), Some(1), "{what}, {signal}");
}

const SIGNALS: [&str; 3] = ["-TERM", "-INT", "-HUP"];

/// The reader of a job's output is a pager, a stopped terminal or a program that hangs. Neither
/// the first signal nor the second ended the job.
#[test]
fn output_that_is_not_read_does_not_keep_a_job() {
    let fixture = Fixture::new();
    for n in 0..2000 {
        let name = format!("src/data/{}-{n}", "long".repeat(20));
        File::create(fixture.path(&name)).unwrap();
    }
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    let jobs: [(&str, &[&str]); 4] = [
        (TAPE_TO_DISK, &["--list", "tape"]),
        (TAPE_TO_DISK, &["--list", "--json", "tape"]),
        (DISK_TO_TAPE, &["-", "new"]),
        (DISK_TO_TAPE, &["--overwrite", "-", "volumes/"]),
    ];
    for (i, (program, args)) in jobs.iter().enumerate() {
        for placement in [&[][..], &["--processes"]] {
            let args = [placement, args].concat();
            let job = |signal: &str, out: Stdio, err: Stdio| {
                let (input, _kept) = pipe().unwrap();
                let mut command = fixture.command(program, &args);
                let child = command.stdin(input).stdout(out).stderr(err).spawn();
                end_by(signal, child.unwrap(), &format!("{args:?}"));
            };
            let (_reader, full) = full_pipe();
            job(SIGNALS[i % 3], full.into(), Stdio::null());
            let (_reader, full) = full_pipe();
            let again = full.try_clone().unwrap();
            job(SIGNALS[(i + 1) % 3], full.into(), again.into());
            let (_screen, program) = terminal(80);
            let (_reader, full) = full_pipe();
            if args.contains(&"--list") {
                job(SIGNALS[(i + 2) % 3], program.into(), full.into());
            }
        }
    }
}

/// The user loses patience while a passphrase is derived that was made to be slow.
#[test]
fn slow_passphrase_does_not_keep_a_job() {
    let fixture = Fixture::new();
    let cost = Argon2Cost {
        memory_kib: MAX_ARGON2_MEMORY_KIB.min(256 << 10),
        passes: MAX_ARGON2_PASSES,
        lanes: 1,
    };
    let passphrase = Passphrase::from_file(fixture.path("passphrase")).unwrap();
    let archive = ArchiveOptions::stream("slow")
        .encrypt_at(passphrase.into(), cost)
        .plan()
        .unwrap();
    let tape = VirtualTape::create(fixture.path("tape"), VolumeOptions::default()).unwrap();
    let pipe = Pipe::builder().head(StreamHead::new(&b"data"[..]));
    pipe.archive(archive, tape).run().unwrap();
    for signal in SIGNALS {
        let args = ["--verify", "--passphrase-file", "passphrase", "tape"];
        let child = fixture.command(TAPE_TO_DISK, &args).spawn().unwrap();
        end_by(signal, child, "a passphrase");
    }
}
