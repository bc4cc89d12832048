//! Commands that are killed at each call that changes something. What is there afterwards is whole,
//! or absent, and the next command goes on. Needs strace, and skips without it.

use std::path::Path;
use std::process::{Command, Stdio};

use datapipe_net::authority::PrivateAuthority;
use datapipe_net::tls::{CertificateRefusal, MachineIdentity};

use super::commands::datapiped;
use super::machines::{HOST, Site, assert_accepted, names, refusal, shake};

/// Calls by which a command changes files. The state between two of them is that before the second,
/// and a file that was created is given its mode next.
const CALLS: &str = "mkdirat fchmod write unlinkat renameat renameat2";

/// Runs a command that is killed when it makes the call `calls` the `count`th time. Returns true if
/// it ended before.
fn ends_before(command: &Command, calls: &str, count: usize) -> bool {
    let mut traced = Command::new("strace");
    let status = traced
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e"])
        .arg(format!("trace={calls}"))
        .arg("-e")
        .arg(format!("inject={calls}:signal=KILL:when={count}"))
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    // strace ends as its child did.
    status.success()
}

/// True if strace can kill here.
fn has_strace() -> bool {
    let can_run = Command::new("strace").arg("-V").output().is_ok()
        && !ends_before(&Command::new("true"), "openat", 1);
    if !can_run {
        eprintln!("skipped: strace cannot be used here");
    }
    can_run
}

/// Kills the command at each of its calls. `prepare` makes a site, and `check` gets it afterwards.
/// Returns the number of kills.
fn kill_everywhere(arguments: &[&str], prepare: impl Fn() -> Site, check: impl Fn(&Site)) -> usize {
    let mut kills = 0;
    for call in CALLS.split(' ') {
        // This architecture may not have the call.
        if !ends_before(&Command::new("true"), call, 9999) {
            continue;
        }
        for count in 1.. {
            let site = prepare();
            if ends_before(&datapiped(arguments, &site.authority()), call, count) {
                break;
            }
            kills += 1;
            check(&site);
        }
    }
    kills
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
