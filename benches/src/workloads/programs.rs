//! Programs: ours, which stand beside this one, other people's, and shell commands that join them.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Side;

/// Path of one of our programs.
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

/// Says so if one of these is not to be had.
pub(super) fn need(programs: &[&str]) -> Result<(), Box<dyn Error>> {
    let path = env::var_os("PATH").unwrap_or_default();
    let there =
        |program: &str| env::split_paths(&path).any(|directory| directory.join(program).is_file());
    match programs.iter().find(|program| !there(program)) {
        Some(missing) => Err(format!("{missing} is not installed").into()),
        None => Ok(()),
    }
}

/// A side that is a shell command, which finds its arguments as `$1` and so on. Every part of a
/// pipeline counts.
pub(super) fn shell<A: AsRef<OsStr>>(name: &'static str, script: &str, arguments: &[A]) -> Side {
    let mut all: Vec<OsString> = ["-o", "pipefail", "-c", script, "bash"]
        .map(Into::into)
        .into();
    all.extend(
        arguments
            .iter()
            .map(|argument| argument.as_ref().to_owned()),
    );
    Side::other(name, "bash", all)
}

/// The same side, with its standard input or output elsewhere, as the shell says it.
pub(super) fn redirected(side: Side, redirection: &str) -> Side {
    let mut all = vec![side.program];
    all.extend(side.arguments);
    shell(side.name, &format!(r#"exec "$@" {redirection}"#), &all)
}

/// Runs a shell command now. Returns what it printed.
pub(super) fn output<A: AsRef<OsStr>>(
    script: &str,
    arguments: &[A],
) -> Result<String, Box<dyn Error>> {
    run(&shell("bash", script, arguments))
}

/// Runs a side now, for what it leaves or prints.
pub(super) fn run(side: &Side) -> Result<String, Box<dyn Error>> {
    let done = Command::new(&side.program).args(&side.arguments).output()?;
    if !done.status.success() {
        let complaints = String::from_utf8_lossy(&done.stderr);
        let last = complaints
            .trim_end()
            .lines()
            .next_back()
            .unwrap_or("nothing")
            .to_owned();
        return Err(format!("{} ended with {}, and said: {last}", side.name, done.status).into());
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
}

/// A file with 32 random bytes, which only this user can read: a key for our programs.
pub(super) fn make_key(path: &Path) -> Result<(), Box<dyn Error>> {
    output(r#"umask 077; head -c 32 /dev/urandom > "$1""#, &[path]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_fails_with_any_of_its_parts() {
        assert_eq!(output(r#"echo "$2$1" | cat"#, &["b", "a"]).unwrap(), "ab");
        let error = output("sh -c 'echo no >&2; exit 3' | cat", &[""; 0])
            .unwrap_err()
            .to_string();
        assert_eq!(error, "bash ended with exit status: 3, and said: no");
    }

    #[test]
    fn a_missing_program_is_named() {
        assert!(need(&["sh"]).is_ok());
        let error = need(&["sh", "no-such-program-anywhere"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no-such-program-anywhere is not installed"
        );
    }
}
