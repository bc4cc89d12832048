//! Shell scripts that run the programs, and what a machine must allow for a test.

use std::process::{Command, Output};

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK};

/// Runs a script in the fixture's directory, in which `$D` and `$R` are the programs.
pub(crate) fn shell(fixture: &Fixture, script: &str) -> Output {
    script_of(fixture, "bash", &["-c", script])
        .output()
        .unwrap()
}

/// Runs a script as [`shell`] does, as root in a mount namespace of its own, in which nothing
/// outlives it. Returns `None`, and says so, if that is not possible here: then `mounts` has failed
/// and the script has not run.
pub(crate) fn in_namespace(fixture: &Fixture, mounts: &str, script: &str) -> Option<Output> {
    let script = format!("({mounts}) || exit 77\n{script}");
    let output = script_of(fixture, "unshare", &["--mount", "bash", "-c", &script]).output();
    let output = output.ok().filter(|output| {
        let text = String::from_utf8_lossy(&output.stderr);
        output.status.code() != Some(77) && !text.contains("unshare failed")
    });
    if output.is_none() {
        eprintln!("skipped: this needs root, and mounts: {mounts}");
    }
    output
}

fn script_of(fixture: &Fixture, program: &str, args: &[&str]) -> Command {
    let mut command = fixture.command(program, args);
    command.env("D", DISK_TO_TAPE).env("R", TAPE_TO_DISK);
    command
}

/// Returns true if strace can trace programs here, and says so if not.
pub(crate) fn can_trace() -> bool {
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "true"])
        .output();
    let can = traced.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: strace is not installed, or cannot trace here");
    }
    can
}
