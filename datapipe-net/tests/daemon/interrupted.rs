//! Signals that interrupt calls of the daemon and of its clients. A supervisor that installs
//! handlers without SA_RESTART, a debugger, and network file systems cause them. Needs strace, and
//! skips without it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::site::{Site, wait_until};

/// A program whose calls fail with `error` if `when` says so. `log` gets the calls.
fn traced(program: &Command, log: &Path, calls: &str, error: &str, when: &str) -> Command {
    let mut traced = Command::new("strace");
    let inject = format!("inject={calls}:error={error}:when={when}");
    traced
        .args(["-f", "-qq", "-e", "signal=none", "-e"])
        .arg(format!("trace={calls}"))
        .args(["-e", &inject, "-o"])
        .arg(log)
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    traced
}

/// True if strace can make calls fail here.
fn has_strace() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let can_run = traced(&Command::new("true"), &log, "close", "EINTR", "9999")
        .output()
        .is_ok_and(|done| done.status.success());
    if !can_run {
        eprintln!("skipped: strace cannot be used here");
    }
    can_run
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The daemon starts, answers and ends, although each of its calls is interrupted every other time.
/// It did not start, or made its clients wait.
pub(crate) fn interrupted_calls_of_the_daemon_are_repeated() {
    if !has_strace() {
        return;
    }
    for calls in [
        "accept4",
        "flock",
        "chmod,fchmodat",
        "connect",
        "recvmsg",
        "sendmsg",
        "poll,ppoll",
        "getdents64",
    ] {
        let site = Site::without_daemon("");
        let mut more = site.configuration("");
        more.insert_str(
            0,
            &format!("temporary_directory = {:?}\n", site.path("tmp")),
        );
        fs::create_dir(site.path("tmp")).unwrap();
        fs::set_permissions(site.path("tmp"), PermissionsExt::from_mode(0o700)).unwrap();
        site.configure(&more);
        // What a killed daemon has left.
        fs::create_dir_all(site.path("tmp/datapiped-left/inner")).unwrap();
        drop(UnixListener::bind(site.socket()).unwrap());
        let log = site.path("trace");
        let mut daemon = traced(&site.command("run"), &log, calls, "EINTR", "1+2")
            .spawn()
            .unwrap();
        let mut ended = None;
        wait_until("the daemon answers", || {
            ended = daemon.try_wait().unwrap();
            ended.is_some() || site.run("status", &[]).status.success()
        });
        if ended.is_none() {
            // strace passes no signal on: the daemon is its child.
            let children = crate::site::children_of(daemon.id());
            let child = Pid::from_raw(children[0] as i32).unwrap();
            kill_process(child, Signal::TERM).unwrap();
        }
        let output = daemon.wait_with_output().unwrap();
        let (text, trace) = (text(&output), fs::read_to_string(&log).unwrap());
        assert!(
            output.status.success(),
            "{calls}: {}: {text}",
            output.status
        );
        assert!(!text.contains("cannot"), "{calls}: {text}");
        assert!(trace.contains("INJECTED"), "{calls} are not called");
        assert!(!site.path("tmp/datapiped-left").exists(), "{calls}: {text}");
        assert!(!site.socket().exists(), "{calls}: {text}");
    }
}

/// The same for a client.
pub(crate) fn interrupted_calls_of_a_client_are_repeated() {
    if !has_strace() {
        return;
    }
    let site = Site::new("");
    for calls in ["connect", "recvmsg", "sendmsg", "poll,ppoll"] {
        let log = site.path("trace");
        let status = site.command("status");
        let output = traced(&status, &log, calls, "EINTR", "1+2")
            .output()
            .unwrap();
        assert!(output.status.success(), "{calls}: {}", text(&output));
        let trace = fs::read_to_string(&log).unwrap();
        assert!(
            calls == "poll,ppoll" || trace.contains("INJECTED"),
            "{calls}"
        );
    }
}

/// A call that fails while the daemon looks for a program at its socket is not taken for proof that
/// the socket is unused: the socket of a program that serves was replaced.
pub(crate) fn socket_that_cannot_be_looked_at_is_not_replaced() {
    if !has_strace() {
        return;
    }
    for error in ["ENOMEM", "EAGAIN", "EACCES"] {
        let site = Site::without_daemon("");
        let _other = UnixListener::bind(site.socket()).unwrap();
        let log = site.path("trace");
        let run = traced(&site.command("run"), &log, "connect", error, "1+");
        let output = { run }.output().unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{error}: {text}");
        assert!(text.contains(site.socket().to_str().unwrap()), "{text}");
        assert!(site.stranger().peer_addr().is_ok(), "{error}: it is served");
    }
}
