//! What the example shows: one is killed, another takes its place, and everything arrives.

use std::process::Command;

#[test]
fn one_dies_and_the_job_completes() {
    let done = Command::new(env!("CARGO_BIN_EXE_process_stages"))
        .output()
        .unwrap();
    let (said, complaints) = (
        String::from_utf8(done.stdout).unwrap(),
        String::from_utf8(done.stderr).unwrap(),
    );
    assert!(done.status.success(), "{said}{complaints}");
    assert_eq!(complaints, "");

    let lines: Vec<_> = said.lines().collect();
    let started = |stage: &str| -> Vec<&str> {
        let start = format!("{stage}: process ");
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(&start)?.strip_suffix(" started"))
            .collect()
    };
    let times = |line: &str| lines.iter().filter(|said| **said == line).count();
    for stage in ["count/0", "double/1", "check/0"] {
        assert_eq!(started(stage).len(), 1, "{stage} in {said}");
    }
    let doubles = started("double/0");
    let [first, second] = doubles[..] else {
        panic!("two processes of double/0 in {said}")
    };
    assert_ne!(first, second);
    assert_eq!(
        times(&format!("half of it has arrived: killing process {first}")),
        1,
        "{said}"
    );
    let death = format!("double/0: process {first} died (signal: 9 (SIGKILL)) and is replaced");
    assert_eq!(times(&death), 1, "{said}");
    assert_eq!(
        lines.iter().filter(|line| line.contains(" died")).count(),
        1,
        "{said}"
    );
    assert_eq!(
        times("check: 65536000 bytes arrived, all of them right and in order"),
        1,
        "{said}"
    );
    assert_eq!(
        times("double/0 had 2 processes, double/1 had 1"),
        1,
        "{said}"
    );
    assert!(
        lines
            .last()
            .unwrap()
            .starts_with("process_stages: 62.5 MiB in, 62.5 MiB out, "),
        "{said}"
    );
}
