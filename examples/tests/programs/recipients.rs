//! Key pairs, and archives that are encrypted for recipients.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Output, Stdio};

use crate::fixture::{Fixture, failed, ok};

const DATAPIPE_KEY: &str = env!("CARGO_BIN_EXE_datapipe-key");

const NOTE: &str = "tape_to_disk: an identity has opened the archive, which does not prove who has \
                    written it";

fn key(fixture: &Fixture, args: &[&str]) -> Output {
    fixture.command(DATAPIPE_KEY, args).output().unwrap()
}

/// Makes a key pair: NAME.identity and NAME.recipient.
fn make_pair(fixture: &Fixture, name: &str) {
    let identity = format!("{name}.identity");
    let line = ok(&key(fixture, &["new", &identity]));
    fs::write(fixture.path(&format!("{name}.recipient")), line).unwrap();
}

fn mode(fixture: &Fixture, name: &str) -> u32 {
    let found = fs::metadata(fixture.path(name)).unwrap();
    found.permissions().mode() & 0o7777
}

#[test]
fn key_pair_is_made_for_its_owner_only_and_shown_again() {
    let fixture = Fixture::new();
    make_pair(&fixture, "one");
    let recipient = fs::read_to_string(fixture.path("one.recipient")).unwrap();
    let identity = fs::read_to_string(fixture.path("one.identity")).unwrap();
    for (line, prefix) in [
        (&recipient, "datapipe-public-1 "),
        (&identity, "datapipe-secret-1 "),
    ] {
        let digits = line
            .strip_prefix(prefix)
            .unwrap()
            .strip_suffix('\n')
            .unwrap();
        assert_eq!(digits.len(), 64);
        assert!(digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
    assert_eq!(mode(&fixture, "one.identity"), 0o600);
    let shown = key(&fixture, &["public", "one.identity"]);
    assert_eq!(ok(&shown), recipient);
    assert!(shown.stderr.is_empty());
    make_pair(&fixture, "two");
    assert_ne!(
        fs::read_to_string(fixture.path("two.recipient")).unwrap(),
        recipient
    );
    // A mask that takes everything leaves the owner's rights.
    let script = format!("umask 777; {DATAPIPE_KEY} new three.identity");
    ok(&fixture.command("sh", &["-c", &script]).output().unwrap());
    assert_eq!(mode(&fixture, "three.identity"), 0o600);
}

#[test]
fn file_that_exists_is_not_replaced_by_an_identity() {
    let fixture = Fixture::new();
    make_pair(&fixture, "one");
    let before = fs::read(fixture.path("one.identity")).unwrap();
    symlink("nowhere", fixture.path("link")).unwrap();
    for name in ["one.identity", "link", "out"] {
        let text = failed(&key(&fixture, &["new", name]), 1);
        let expected = format!("datapipe-key: {name} exists, and is not replaced");
        assert!(text.starts_with(&expected), "{text}");
    }
    assert_eq!(fs::read(fixture.path("one.identity")).unwrap(), before);
    assert!(
        !fixture.path("nowhere").exists(),
        "the link was not followed"
    );
    let text = failed(&key(&fixture, &["new", "none/identity"]), 1);
    assert!(
        text.starts_with("datapipe-key: cannot create none/identity: "),
        "{text}"
    );
}

#[test]
fn identity_without_a_reader_of_its_public_key_is_kept_and_named() {
    let fixture = Fixture::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = fixture.command(DATAPIPE_KEY, &["new", "one.identity"]);
    let text = failed(&command.stdout(Stdio::from(full)).output().unwrap(), 1);
    assert!(
        text.contains("cannot write the public key to standard output"),
        "{text}"
    );
    assert!(
        text.contains("datapipe-key public one.identity prints"),
        "{text}"
    );
    ok(&key(&fixture, &["public", "one.identity"]));
    // Nothing is made or shown if the public key has no destination.
    for job in ["new two.identity", "public one.identity"] {
        let script = format!("{DATAPIPE_KEY} {job} >&-");
        let text = failed(
            &fixture.command("sh", &["-c", &script]).output().unwrap(),
            1,
        );
        assert!(text.contains("standard output is closed"), "{text}");
    }
    assert!(!fixture.path("two.identity").exists());
}

#[test]
fn archive_for_recipients_opens_with_their_identities() {
    let fixture = Fixture::with_tree();
    make_pair(&fixture, "one");
    make_pair(&fixture, "two");
    make_pair(&fixture, "three");
    ok(&fixture.back_up(&[
        "--recipient",
        "one.recipient",
        "--passphrase-file",
        "passphrase",
        "--recipient",
        "two.recipient",
        "src/data",
        "tape",
    ]));
    for secret in ["one.identity", "two.identity"] {
        let verified = fixture.restore(&["--identity", secret, "--verify", "tape"]);
        ok(&verified);
        let text = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(text.starts_with(NOTE), "{text}");
    }
    let opened = fixture.restore(&["--passphrase-file", "passphrase", "tape", "out"]);
    ok(&opened);
    assert!(!String::from_utf8_lossy(&opened.stderr).contains(NOTE));
    fixture.assert_same();
    fixture.clear("out");
    for (how, says) in [
        (
            ["--identity", "three.identity"],
            "the identity is not the right one",
        ),
        (["--key-file", "key"], "the key slot opens with"),
    ] {
        let text = fixture.fail_to_restore(&[&how[..], &["tape", "out"]].concat(), 1);
        assert!(text.contains(says), "{text}");
    }
}

/// The machine that writes has no secret: it can write, and read nothing.
#[test]
fn machine_with_recipients_only_cannot_read_its_archives() {
    let fixture = Fixture::with_blocks();
    make_pair(&fixture, "one");
    ok(&fixture.back_up(&["--recipient", "one.recipient", "src/data", "tape"]));
    let text = fixture.fail_to_restore(&["tape", "out"], 1);
    assert!(
        text.contains("--key-file, --passphrase-file or --identity"),
        "{text}"
    );
    let text = fixture.fail_to_restore(&["--identity", "one.recipient", "tape", "out"], 1);
    assert!(
        text.contains("identity file one.recipient has the public key of a pair"),
        "{text}"
    );
    let json = ok(&fixture.restore(&["--identity", "one.identity", "--json", "tape", "out"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"], "ok");
    let note = json["notes"][0].as_str().unwrap();
    assert!(NOTE.contains(&note[..40]), "{note}");
    fixture.assert_same();
}

#[test]
fn files_of_other_keys_are_not_taken_for_recipients_or_identities() {
    let fixture = Fixture::with_blocks();
    make_pair(&fixture, "one");
    ok(&fixture.back_up(&["--recipient", "one.recipient", "src/data", "tape"]));
    for (how, says) in [
        (
            ["--recipient", "one.identity"],
            "one.identity has the secret key of a pair",
        ),
        (
            ["--recipient", "key"],
            "recipient file key must have one line",
        ),
        (["--recipient", "none"], "cannot read recipient file none"),
        (
            ["--key-file", "one.identity"],
            "one.identity has an identity and not a key",
        ),
        (
            ["--key-file", "one.recipient"],
            "one.recipient has a recipient and not a key",
        ),
        (
            ["--passphrase-file", "one.recipient"],
            "one.recipient has a recipient and not a passphrase",
        ),
    ] {
        let text = failed(
            &fixture.back_up(&[&how[..], &["src/data", "new"]].concat()),
            1,
        );
        assert!(text.contains(says), "{text}");
    }
    for (how, says) in [
        (
            ["--identity", "key"],
            "identity file key must have one line",
        ),
        (["--identity", "none"], "cannot read identity file none"),
        (
            ["--key-file", "one.identity"],
            "one.identity has an identity and not a key",
        ),
    ] {
        let text = fixture.fail_to_restore(&[&how[..], &["tape", "out"]].concat(), 1);
        assert!(text.contains(says), "{text}");
    }
    for name in ["key", "one.recipient", "none"] {
        let text = failed(&key(&fixture, &["public", name]), 1);
        assert!(text.contains(&format!("identity file {name}")), "{text}");
    }
    assert!(!fixture.path("new").exists());
    let both = [
        "--identity",
        "one.identity",
        "--key-file",
        "key",
        "tape",
        "out",
    ];
    failed(&fixture.restore(&both), 2);
    let many = ["--recipient", "one.recipient"].repeat(9);
    let text = failed(
        &fixture.back_up(&[&many[..], &["src/data", "new"]].concat()),
        2,
    );
    assert!(text.contains("9 secrets and recipients"), "{text}");
}

#[test]
fn key_files_that_others_can_use_cause_a_warning_and_are_not_replaced() {
    let fixture = Fixture::with_blocks();
    make_pair(&fixture, "one");
    let set = |name: &str, mode| {
        fs::set_permissions(fixture.path(name), Permissions::from_mode(mode)).unwrap();
    };
    let args = [
        "--quiet",
        "--overwrite",
        "--recipient",
        "one.recipient",
        "src/data",
        "tape",
    ];
    for (mode, warned) in [(0o644, false), (0o664, true), (0o646, true)] {
        set("one.recipient", mode);
        let output = fixture.back_up(&args);
        ok(&output);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(text.contains("chmod go-w one.recipient"), warned, "{text}");
    }
    set("one.identity", 0o640);
    let output = fixture.restore(&["--identity", "one.identity", "--verify", "tape"]);
    let shown = key(&fixture, &["public", "one.identity"]);
    for output in [output, shown] {
        ok(&output);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("chmod 600 one.identity"), "{text}");
    }
    let args = [
        "--overwrite",
        "--recipient",
        "one.recipient",
        "src/data",
        "one.recipient",
    ];
    let text = failed(&fixture.back_up(&args), 2);
    assert!(
        text.contains("would replace one.recipient, the file of a recipient"),
        "{text}"
    );
    // A restore keeps the file of the identity that it uses.
    fs::write(fixture.path("src/data/first"), "other").unwrap();
    fs::create_dir(fixture.path("out/data")).unwrap();
    fs::hard_link(fixture.path("one.identity"), fixture.path("out/data/first")).unwrap();
    let args = ["--overwrite", "--identity", "one.identity", "tape", "out"];
    failed(&fixture.restore(&args), 3);
    ok(&key(&fixture, &["public", "one.identity"]));
}
