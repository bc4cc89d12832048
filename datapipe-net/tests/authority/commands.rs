//! The commands of the program, one after the other and at the same time.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use datapipe_net::authority::PrivateAuthority;
use datapipe_net::tls::MachineIdentity;

use super::machines::{HOST, Site, assert_accepted, names, shake};

pub(crate) fn datapiped(arguments: &[&str], authority: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_datapiped"));
    match arguments {
        ["init", rest @ ..] => command.arg("init").arg(authority).args(rest),
        _ => command.args(arguments).arg("--authority").arg(authority),
    };
    command.stdin(Stdio::null());
    command
}

fn output(site: &Site, arguments: &[&str]) -> Output {
    datapiped(arguments, &site.authority()).output().unwrap()
}

/// Standard output of a command that succeeds.
fn text(site: &Site, arguments: &[&str]) -> String {
    let output = output(site, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that fails with this code.
fn error(site: &Site, arguments: &[&str], code: i32) -> String {
    let output = output(site, arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

#[test]
fn commands_issue_list_and_revoke() {
    let site = Site::empty();
    let made = text(&site, &["init", "--name", HOST, "--name", "192.0.2.1"]);
    assert!(
        made.contains("server.pem: server vault.example 192.0.2.1, valid until 20"),
        "{made}"
    );
    let issued = text(&site, &["issue", "DB1.example", "--days", "7"]);
    assert!(issued.contains("client db1.example"), "{issued}");
    let client = site.authority().join("db1.example/client.pem");
    assert_accepted(&client, &site.server(), HOST, "db1.example");
    let twice = error(&site, &["issue", "db1.example"], 1);
    assert!(twice.contains("exists and is not replaced"), "{twice}");

    let list = text(&site, &["issued"]);
    assert_eq!(list.lines().count(), 4, "{list}");
    assert!(
        list.lines().last().unwrap().starts_with("client  valid "),
        "{list}"
    );
    let object: serde_json::Value =
        serde_json::from_str(&text(&site, &["issued", "--json"])).unwrap();
    let serial = object["certificates"][2]["serial"].as_str().unwrap();
    let revoked = text(&site, &["revoke", "--serial", serial]);
    assert!(
        revoked.contains(serial) && revoked.contains("crl.pem"),
        "{revoked}"
    );
    assert!(text(&site, &["revoke", "db1.example"]).contains("were revoked before"));
    assert!(
        text(&site, &["issued"])
            .lines()
            .last()
            .unwrap()
            .starts_with("client  revoked ")
    );
    assert!(shake(&client, &site.server(), HOST).1.is_err());
}

#[test]
fn commands_with_mistakes_change_nothing() {
    let site = Site::new();
    let before = names(&site.authority());
    for (arguments, code, expected) in [
        (
            &["init", "--name", HOST][..],
            1,
            "exists and is not replaced",
        ),
        (
            &["init", "--name", "*"],
            2,
            "cannot be the name of a server",
        ),
        (&["issue", "../../db1"], 2, "cannot be the name of a client"),
        (&["issue", "a", "b"], 2, "exactly 1 names, not 2"),
        (&["issue", "a", "--days", "0"], 2, "1 to 3653 days, not 0"),
        (
            &["issue", "a", "--key", "/dev/null"],
            1,
            "/dev/null is not a regular file",
        ),
        (&["revoke", "--serial", "1"], 2, "32 hexadecimal digits"),
        (
            &["revoke", "db9"],
            2,
            "has not issued a certificate with the name \"db9\"",
        ),
    ] {
        let error = error(&site, arguments, code);
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    assert_eq!(names(&site.authority()), before);
    assert_eq!(site.names(), ["authority"]);
    assert_eq!(
        PrivateAuthority::issued(&site.authority()).unwrap().len(),
        2
    );
}

#[test]
fn commands_at_the_same_time_wait_for_each_other() {
    let site = Site::empty();
    let start = |arguments: &[&str]| {
        datapiped(arguments, &site.authority())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let inits: Vec<_> = (0..4).map(|_| start(&["init", "--name", HOST])).collect();
    let outcomes: Vec<_> = inits
        .into_iter()
        .map(|init| init.wait_with_output().unwrap())
        .collect();
    let made = outcomes
        .iter()
        .filter(|outcome| outcome.status.success())
        .count();
    assert_eq!(made, 1);
    for failed in outcomes.iter().filter(|outcome| !outcome.status.success()) {
        let text = String::from_utf8_lossy(&failed.stderr);
        assert!(text.contains("exists and is not replaced"), "{text}");
    }
    assert_eq!(site.names(), ["authority"]);

    let mut commands: Vec<_> = (0..6)
        .map(|index| start(&["issue", &format!("db{index}")]))
        .collect();
    commands.push(start(&["revoke", "client.vault.example"]));
    commands.push(start(&["revoke", HOST]));
    for command in commands {
        let outcome = command.wait_with_output().unwrap();
        assert!(
            outcome.status.success(),
            "{}",
            String::from_utf8_lossy(&outcome.stderr)
        );
    }
    let issued = PrivateAuthority::issued(&site.authority()).unwrap();
    assert_eq!(issued.len(), 8);
    assert_eq!(
        issued
            .iter()
            .filter(|known| known.revoked.is_some())
            .count(),
        2
    );
    for index in 0..6 {
        let directory = site.authority().join(format!("db{index}"));
        MachineIdentity::load(&directory.join("client.pem")).unwrap();
    }
    let hidden: Vec<_> = names(&site.authority())
        .into_iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(hidden, Vec::<String>::new());
}
