//! Programs: ours, in the directory of this executable; installed ones; and shell commands that
//! join them.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::RunSpec;

/// Returns the path of one of our programs.
pub(super) fn ours(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let path = env::current_exe()?.with_file_name(name);
    if !path.exists() {
        return Err(format!(
            "{} is not built: cargo build --release -p datapipe-examples",
            path.display()
        )
        .into());
    }
    Ok(path)
}

/// Checks that all these programs are installed.
pub(super) fn require(programs: &[&str]) -> Result<(), Box<dyn Error>> {
    let path = env::var_os("PATH").unwrap_or_default();
    let there =
        |program: &str| env::split_paths(&path).any(|directory| directory.join(program).is_file());
    match programs.iter().find(|program| !there(program)) {
        Some(missing) => Err(format!("{missing} is not installed").into()),
        None => Ok(()),
    }
}

/// Returns a run of a shell command, which gets its arguments as `$1` and so on. It fails if any
/// part of a pipeline fails.
pub(super) fn shell<A: AsRef<OsStr>>(name: &'static str, script: &str, arguments: &[A]) -> RunSpec {
    let mut all: Vec<OsString> = ["-o", "pipefail", "-c", script, "bash"]
        .map(Into::into)
        .into();
    all.extend(
        arguments
            .iter()
            .map(|argument| argument.as_ref().to_owned()),
    );
    RunSpec::command(name, "bash", all)
}

/// Redirects standard input or output of a run, with a redirection in the shell's syntax.
pub(super) fn redirect(spec: RunSpec, redirection: &str) -> RunSpec {
    let mut all = vec![spec.program];
    all.extend(spec.arguments);
    shell(spec.name, &format!(r#"exec "$@" {redirection}"#), &all)
}

/// Runs a shell command now and returns its output.
pub(super) fn output<A: AsRef<OsStr>>(
    script: &str,
    arguments: &[A],
) -> Result<String, Box<dyn Error>> {
    run(&shell("bash", script, arguments))
}

/// Runs a command now, for its files or its output.
pub(super) fn run(spec: &RunSpec) -> Result<String, Box<dyn Error>> {
    let done = Command::new(&spec.program).args(&spec.arguments).output()?;
    if !done.status.success() {
        let complaints = String::from_utf8_lossy(&done.stderr);
        let last = complaints
            .trim_end()
            .lines()
            .next_back()
            .unwrap_or("none")
            .to_owned();
        let (name, status) = (spec.name, done.status);
        return Err(format!("{name} ended with {status}; its last message: {last}").into());
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
}

/// Makes a key for our programs: a file with 32 random bytes that only this user can read.
pub(super) fn make_key(path: &Path) -> Result<(), Box<dyn Error>> {
    output(r#"umask 077; head -c 32 /dev/urandom > "$1""#, &[path]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipeline_fails_with_any_of_its_parts() {
        assert_eq!(output(r#"echo "$2$1" | cat"#, &["b", "a"]).unwrap(), "ab");
        let error = output("sh -c 'echo no >&2; exit 3' | cat", &[""; 0])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "bash ended with exit status: 3; its last message: no"
        );
    }

    #[test]
    fn missing_program_is_named() {
        assert!(require(&["sh"]).is_ok());
        let error = require(&["sh", "no-such-program-anywhere"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no-such-program-anywhere is not installed"
        );
    }
}
