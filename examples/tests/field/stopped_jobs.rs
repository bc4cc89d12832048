//! A user stops a job with Ctrl-Z and continues it, at any moment of its life.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::fixture::{DISK_TO_TAPE, Fixture, failed, next_random, noise, ok};
use crate::shell::can_trace;

/// Starts a backup with processes in a process group of its own, as a shell does.
fn start(fixture: &Fixture, args: &[&str]) -> Child {
    let options = ["--processes", "--quiet", "--buffer-size", "64KiB"];
    fixture
        .command(DISK_TO_TAPE, &[&options, args].concat())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Sends a signal to the process group of a job, as a terminal or a shell does.
fn signal_group(job: &Child, signal: &str) {
    let group = format!("-{}", job.id());
    let sent = Command::new("kill").args([signal, "--", &group]).status();
    assert!(sent.unwrap().success());
}

fn seed() -> u64 {
    let seed = std::env::var("DATAPIPE_SEED").ok().map(|seed| seed.parse());
    let seed = seed.map(Result::unwrap).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    println!("DATAPIPE_SEED={seed}");
    seed
}

/// Ctrl-Z while the processes of a job start. A child that was in the job's process group until
/// that moment stayed stopped for ever: neither `fg` nor the end of the job reached it.
#[test]
fn job_that_is_stopped_while_its_processes_start_goes_on() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/noise"), noise(300_000)).unwrap();
    let mut state = seed();
    for round in 0..30 {
        for stop in ["-TSTP", "-STOP"] {
            let tape = format!("{round}{stop}");
            let job = start(&fixture, &["src/data", &tape]);
            thread::sleep(Duration::from_micros(next_random(&mut state) % 40_000));
            signal_group(&job, stop);
            signal_group(&job, "-CONT");
            ok(&job.wait_with_output().unwrap());
        }
    }
}

/// The same at the exact moment: strace sends the signal to each child between its birth and its
/// program.
#[test]
fn child_that_is_stopped_before_its_program_runs_is_continued() {
    if !can_trace() {
        return;
    }
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/noise"), noise(300_000)).unwrap();
    for stop in ["SIGTSTP", "SIGSTOP"] {
        let inject = format!("inject=setpgid:signal={stop}");
        let trace = [
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=setpgid",
            "-e",
            &inject,
        ];
        let job = ["--quiet", "--processes", "src/data", stop];
        let args = [&trace[..], &[DISK_TO_TAPE], &job].concat();
        ok(&fixture.command("strace", &args).output().unwrap());
        ok(&fixture.restore(&["--quiet", "--verify", stop]));
    }
}

/// Ctrl-Z, and `fg` after longer than a stopped process may live: the children run on meanwhile,
/// and none is taken for one that hangs.
#[test]
fn job_that_was_stopped_for_long_goes_on() {
    let fixture = Fixture::new();
    let mut job = start(&fixture, &["-", "tape"]);
    let mut input = job.stdin.take().unwrap();
    input.write_all(&noise(1 << 20)).unwrap();
    signal_group(&job, "-TSTP");
    thread::sleep(Duration::from_secs(7));
    signal_group(&job, "-CONT");
    input.write_all(&noise(1 << 20)).unwrap();
    drop(input);
    ok(&job.wait_with_output().unwrap());
    ok(&fixture.restore(&["--quiet", "--verify", "tape"]));
}

/// A job that is stopped and not wanted any more: the signal takes effect when it goes on.
#[test]
fn signal_to_a_stopped_job_cancels_it() {
    let fixture = Fixture::new();
    let mut job = start(&fixture, &["-", "tape"]);
    let mut input = job.stdin.take().unwrap();
    input.write_all(&noise(1 << 20)).unwrap();
    signal_group(&job, "-TSTP");
    signal_group(&job, "-TERM");
    signal_group(&job, "-CONT");
    let text = failed(&job.wait_with_output().unwrap(), 1);
    assert!(text.contains("SIGTERM"), "{text}");
    drop(input);
}

/// A job that `nohup` started, whose terminal is closed: the signal is sent to its process group,
/// and to the processes of its stages if they are in it.
#[test]
fn processes_of_a_job_under_nohup_go_on() {
    let fixture = Fixture::new();
    let ignoring = "trap '' HUP; exec \"$0\" --processes --quiet --buffer-size 64KiB - tape";
    let mut job = fixture
        .command("sh", &["-c", ignoring, DISK_TO_TAPE])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut input = job.stdin.take().unwrap();
    // More than a pipe holds, so all stages run.
    input.write_all(&noise(1 << 20)).unwrap();
    let threads = fs::read_dir(format!("/proc/{}/task", job.id())).unwrap();
    let processes: Vec<String> = threads
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|ids| ids.split_whitespace().map(String::from).collect::<Vec<_>>())
        .collect();
    assert!(!processes.is_empty());
    signal_group(&job, "-HUP");
    for process in &processes {
        let sent = Command::new("kill").args(["-HUP", process]).status();
        assert!(sent.unwrap().success());
    }
    input.write_all(&noise(1 << 20)).unwrap();
    drop(input);
    ok(&job.wait_with_output().unwrap());
    ok(&fixture.restore(&["--quiet", "--verify", "tape"]));
}
