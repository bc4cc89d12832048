//! Commands that are killed at each call that changes something, and commands whose calls fail.
//! A directory is whole or absent afterwards, and the next command goes on. The tests need strace,
//! and are skipped without it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use datapipe_net::authority::PrivateAuthority;
use datapipe_net::tls::{CertificateRefusal, MachineIdentity};

use super::commands::datapiped;
use super::machines::{HOST, Site, assert_accepted, names, refusal, shake};

/// Calls by which a command changes files. The state between two of them is that before the second,
/// and a file that was created is given its mode next.
const CHANGES: &str = "mkdirat fchmod write unlinkat renameat renameat2";
/// Calls that can fail or be interrupted.
const CALLS: &str = "mkdirat fchmod write unlinkat renameat renameat2 fsync flock";

/// Fault of a call.
#[derive(Clone, Copy)]
enum Fault {
    /// The process is killed before it.
    Kill,
    /// It fails, as on a full disk.
    NoSpace,
    /// A signal interrupts it.
    Signal,
}

impl Fault {
    fn text(self) -> &'static str {
        match self {
            Self::Kill => "signal=KILL",
            Self::NoSpace => "error=ENOSPC",
            Self::Signal => "error=EINTR",
        }
    }
}

/// Runs a command with a fault of the call `call` when it is made the `count`th time. `None` if it
/// was made less often, or this architecture does not have it.
fn with_fault(command: &Command, call: &str, fault: Fault, count: usize) -> Option<Output> {
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:{}:when={count}", fault.text()))
        .arg("-o")
        .arg(log.path())
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let calls = fs::read_to_string(log.path()).unwrap();
    // strace ends as its child did.
    let was_hit = calls.contains("INJECTED") || output.status.signal().is_some();
    was_hit.then_some(output)
}

/// True if strace can be used here.
fn has_strace() -> bool {
    let can_run = Command::new("strace").arg("-V").output().is_ok()
        && with_fault(&Command::new("true"), "openat", Fault::Kill, 1).is_some();
    if !can_run {
        eprintln!("skipped: strace cannot be used here");
    }
    can_run
}

/// Runs a command with a fault of each of its calls. `prepare` makes a site, and `check` gets it
/// afterwards. Returns the number of faults.
fn at_each_call(
    arguments: &[&str],
    (calls, fault): (&str, Fault),
    prepare: impl Fn() -> Site,
    check: impl Fn(&Site, &Output),
) -> usize {
    let mut faults = 0;
    for call in calls.split(' ') {
        for count in 1.. {
            let site = prepare();
            let command = datapiped(arguments, &site.authority());
            let Some(output) = with_fault(&command, call, fault, count) else {
                break;
            };
            faults += 1;
            check(&site, &output);
        }
    }
    faults
}

/// Kills a command at each of its calls. Returns the number of kills.
fn kill_everywhere(arguments: &[&str], prepare: impl Fn() -> Site, check: impl Fn(&Site)) -> usize {
    at_each_call(arguments, (CHANGES, Fault::Kill), prepare, |site, _| {
        check(site)
    })
}

fn succeeds(arguments: &[&str], site: &Site) -> bool {
    let command = datapiped(arguments, &site.authority()).output().unwrap();
    command.status.success()
}

fn has_no_drafts(directory: &Path) {
    let names = names(directory);
    assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
}

#[test]
fn init_that_is_killed_leaves_all_or_nothing() {
    if !has_strace() {
        return;
    }
    let arguments = ["init", "--name", HOST];
    let kills = kill_everywhere(&arguments, Site::empty, |site| {
        let was_made = site.authority().exists();
        assert_eq!(succeeds(&arguments, site), !was_made);
        assert_eq!(site.names(), ["authority"]);
        assert_eq!(names(&site.authority()).len(), 8);
        assert_accepted(&site.client(), &site.server(), HOST, "client.vault.example");
        site.open();
    });
    assert!(kills > 25, "{kills}");
}

#[test]
fn issue_that_is_killed_leaves_no_certificate_that_cannot_be_revoked() {
    if !has_strace() {
        return;
    }
    let arguments = ["issue", "db1.example"];
    let kills = kill_everywhere(&arguments, Site::new, |site| {
        let client = site.authority().join("db1.example/client.pem");
        let was_made = site.authority().join("db1.example").exists();
        if was_made {
            assert_accepted(&client, &site.server(), HOST, "db1.example");
        }
        let issued = PrivateAuthority::issued(&site.authority()).unwrap();
        assert!(issued.len() == 3 || issued.len() == 2 && !was_made);
        assert_eq!(succeeds(&arguments, site), !was_made);
        assert_accepted(&client, &site.server(), HOST, "db1.example");
        assert!(succeeds(&["revoke", "db1.example"], site));
        assert!(shake(&client, &site.server(), HOST).1.is_err());
        has_no_drafts(&site.authority());
    });
    assert!(kills > 20, "{kills}");
}

#[test]
fn revoke_that_is_killed_is_completed_by_the_next_command() {
    if !has_strace() {
        return;
    }
    let arguments = ["revoke", "client.vault.example"];
    let kills = kill_everywhere(&arguments, Site::new, |site| {
        MachineIdentity::load(&site.server()).unwrap();
        let issued = PrivateAuthority::issued(&site.authority()).unwrap();
        let is_revoked = issued.iter().any(|known| known.revoked.is_some());
        // Also one that is about something else.
        site.open();
        let (_, theirs) = shake(&site.client(), &site.server(), HOST);
        assert_eq!(theirs.is_err(), is_revoked);
        assert!(succeeds(&arguments, site));
        let (_, theirs) = shake(&site.client(), &site.server(), HOST);
        let reason = refusal(theirs);
        assert!(
            matches!(reason, CertificateRefusal::Revoked { .. }),
            "{reason}"
        );
        has_no_drafts(&site.authority());
    });
    assert!(kills > 8, "{kills}");
}

#[test]
fn failures_of_commands_leave_nothing_and_are_reported() {
    if !has_strace() {
        return;
    }
    let full = (CALLS, Fault::NoSpace);
    let check = |made: &Path, expected: usize| {
        let (made, directory) = (made.to_owned(), made.parent().unwrap().to_owned());
        move |output: &Output| {
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert!(text.contains("No space left"), "{text}");
            // After the name was given, only the sync of the directory around can fail.
            assert_eq!(
                names(&directory).len(),
                expected + usize::from(made.exists()),
                "{text}"
            );
        }
    };
    let arguments = ["init", "--name", HOST];
    let faults = at_each_call(&arguments, full, Site::empty, |site, output| {
        check(&site.authority(), 0)(output);
        let was_made = site.authority().exists();
        assert_eq!(succeeds(&arguments, site), !was_made);
    });
    assert!(faults > 35, "{faults}");
    let arguments = ["issue", "db1.example"];
    let faults = at_each_call(&arguments, full, Site::new, |site, output| {
        check(&site.authority().join("db1.example"), 8)(output);
        site.open();
    });
    assert!(faults > 25, "{faults}");
    let arguments = ["revoke", "client.vault.example"];
    let faults = at_each_call(&arguments, full, Site::new, |site, output| {
        check(&site.authority().join("none"), 8)(output);
        assert!(succeeds(&arguments, site));
        assert!(shake(&site.client(), &site.server(), HOST).1.is_err());
    });
    assert!(faults > 8, "{faults}");
}

#[test]
fn interrupted_calls_of_commands_are_repeated() {
    if !has_strace() {
        return;
    }
    let signal = (CALLS, Fault::Signal);
    let succeeded = |_: &Site, output: &Output| {
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    };
    for (arguments, least) in [
        (&["issue", "db1.example"][..], 25),
        (&["revoke", "client.vault.example"], 8),
    ] {
        let faults = at_each_call(arguments, signal, Site::new, succeeded);
        assert!(faults > least, "{arguments:?}: {faults}");
    }
}
