//! The example `process_stages`: a process is killed and replaced, and all data arrives.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

#[test]
fn job_completes_after_the_death_of_a_process() {
    let done = Command::new(env!("CARGO_BIN_EXE_process_stages"))
        .output()
        .unwrap();
    let (text, errors) = (
        String::from_utf8(done.stdout).unwrap(),
        String::from_utf8(done.stderr).unwrap(),
    );
    assert!(done.status.success(), "{text}{errors}");
    assert_eq!(errors, "");

    let lines: Vec<_> = text.lines().collect();
    let started = |stage: &str| -> Vec<&str> {
        let start = format!("{stage}: process ");
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(&start)?.strip_suffix(" started"))
            .collect()
    };
    let times = |line: &str| lines.iter().filter(|found| **found == line).count();
    for stage in ["count/0", "double/1", "check/0"] {
        assert_eq!(started(stage).len(), 1, "{stage} in {text}");
    }
    let doubles = started("double/0");
    let [first, second] = doubles[..] else {
        panic!("two processes of double/0 in {text}")
    };
    assert_ne!(first, second);
    assert_eq!(
        times(&format!(
            "half of the data has arrived: killing process {first}"
        )),
        1,
        "{text}"
    );
    let death = format!("double/0: process {first} died (signal: 9 (SIGKILL)) and is replaced");
    assert_eq!(times(&death), 1, "{text}");
    assert_eq!(
        lines.iter().filter(|line| line.contains(" died")).count(),
        1,
        "{text}"
    );
    assert_eq!(
        times("check: 65536000 bytes arrived, all correct and in order"),
        1,
        "{text}"
    );
    assert_eq!(
        times("double/0 had 2 processes, double/1 had 1"),
        1,
        "{text}"
    );
    assert!(
        lines
            .last()
            .unwrap()
            .starts_with("process_stages: 62.5 MiB in, 62.5 MiB out, "),
        "{text}"
    );
}

// process_stages | head -1
#[test]
fn closed_output_ends_the_program_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_process_stages"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    drop(output);
    let done = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    assert_eq!(done.status.signal(), Some(Signal::PIPE.as_raw()));
}
