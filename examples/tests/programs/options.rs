//! Keys, pools, existing files, and usage errors.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::Value;

use crate::fixture::{Fixture, failed, ok};

#[test]
fn archive_opens_only_with_the_right_key() {
    let fixture = Fixture::with_blocks();
    ok(&fixture.back_up(&["--key-file", "key", "src/data", "sealed"]));
    ok(&fixture.back_up(&["--passphrase-file", "passphrase", "src/data", "phrased"]));
    ok(&fixture.back_up(&["src/data", "plain"]));
    for (how, medium, reason) in [
        (
            &[][..],
            "sealed",
            "the archive is encrypted: give its key, its passphrase, or the identity of one of its \
             recipients (--key-file, --passphrase-file or --identity)",
        ),
        (
            &["--key-file", "key"],
            "plain",
            "is not encrypted, although a key was given",
        ),
        (
            &["--passphrase-file", "passphrase"],
            "plain",
            "is not encrypted, although a key was given",
        ),
        (
            &["--key-file", "other-key"],
            "sealed",
            "key file is not the right one",
        ),
        (
            &["--passphrase-file", "other-passphrase"],
            "phrased",
            "passphrase is not the right one",
        ),
        (
            &["--passphrase-file", "passphrase"],
            "sealed",
            "opens with a key file",
        ),
        (&["--key-file", "key"], "phrased", "opens with a passphrase"),
        (&["--key-file", "nowhere"], "sealed", "cannot read key file"),
        (
            &["--key-file", "sealed"],
            "sealed",
            "must have exactly 32 bytes",
        ),
        (
            &["--passphrase-file", "sealed"],
            "phrased",
            "more than 4096 bytes",
        ),
    ] {
        for doing in &[&["--verify"][..], &["--list"], &[]][usize::from(how.is_empty())..] {
            let to = if doing.is_empty() { &["out"][..] } else { &[] };
            let text = fixture.fail_to_restore(&[*doing, how, &[medium], to].concat(), 1);
            assert!(text.contains(reason), "{reason:?} is not in: {text}");
        }
    }
    for (how, medium) in [
        (["--key-file", "key"], "sealed"),
        (["--passphrase-file", "passphrase"], "phrased"),
    ] {
        ok(&fixture.restore(&[&how[..], &["--verify", medium]].concat()));
        assert_eq!(
            ok(&fixture.restore(&[&how[..], &["--list", medium]].concat()))
                .lines()
                .count(),
            4
        );
        ok(&fixture.restore(&[&how[..], &["--overwrite", medium, "out"]].concat()));
        fixture.assert_same();
    }
}

#[test]
fn secret_that_others_can_read_causes_a_warning() {
    let fixture = Fixture::with_blocks();
    for (option, name, mode, warned) in [
        ("--key-file", "key", 0o644, true),
        ("--key-file", "key", 0o400, false),
        ("--passphrase-file", "passphrase", 0o640, true),
    ] {
        fs::set_permissions(fixture.path(name), Permissions::from_mode(mode)).unwrap();
        let to = ["--quiet", "--overwrite"];
        for output in [
            fixture.back_up(&[&to[..], &[option, name, "src/data", "tape"]].concat()),
            fixture.restore(&[&to[..], &[option, name, "tape", "out"]].concat()),
        ] {
            ok(&output);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(
                text.contains(&format!("chmod 600 {name}")),
                warned,
                "{text}"
            );
        }
    }
}

#[test]
fn existing_data_is_replaced_only_on_request() {
    let fixture = Fixture::with_blocks();
    fs::write(fixture.path("tape"), b"precious").unwrap();
    let text = failed(&fixture.back_up(&["src/data", "tape"]), 1);
    assert!(
        text.contains("tape: already holds data that is not an archive; use --overwrite"),
        "{text}"
    );
    assert_eq!(fs::read(fixture.path("tape")).unwrap(), b"precious");
    failed(&fixture.back_up(&["--overwrite", "src/nothing", "tape"]), 1);
    failed(
        &fixture.back_up(&["--overwrite", "--buffers", "1", "src/data", "tape"]),
        2,
    );
    failed(
        &fixture.back_up(&["--overwrite", "--volume-size", "1K", "src/data", "tape"]),
        2,
    );
    assert_eq!(fs::read(fixture.path("tape")).unwrap(), b"precious");
    ok(&fixture.back_up(&["--key-file", "key", "--overwrite", "src/data", "tape"]));
    let before = fs::read(fixture.path("tape")).unwrap();
    let date = creation_date(&fixture);
    let host = Command::new("uname").arg("-n").output().unwrap().stdout;
    let host = format!(" by host {}", String::from_utf8(host).unwrap().trim());
    // Without its key the archive is not opened.
    for (how, host) in [(&[][..], ""), (&["--key-file", "key"], &host[..])] {
        let text = failed(&fixture.back_up(&[how, &["src/data", "tape"]].concat()), 1);
        let expected = format!(
            "disk_to_tape: tape: already holds an archive written {date}{host}; \
             use --overwrite to replace it, or --append to add to it\n"
        );
        assert_eq!(text, expected);
    }
    assert_eq!(fs::read(fixture.path("tape")).unwrap(), before);
    ok(&fixture.back_up(&["--overwrite", "src/data", "tape"]));
    fixture.assert_holds(&["tape"]);

    // Existing files are not changed; the others are restored.
    fs::create_dir(fixture.path("out/data")).unwrap();
    fs::write(fixture.path("out/data/first"), b"precious").unwrap();
    let text = failed(&fixture.restore(&["tape", "out"]), 3);
    assert!(
        text.contains("data/first: already exists and is left unchanged"),
        "{text}"
    );
    assert_eq!(
        fs::read(fixture.path("out/data/first")).unwrap(),
        b"precious"
    );
    assert_eq!(fixture.names("out/data"), ["first", "noise", "zlast"]);
    ok(&fixture.restore(&["--overwrite", "tape", "out"]));
    fixture.assert_same();
    // A link in place of a directory is not followed.
    fs::remove_dir_all(fixture.path("out/data")).unwrap();
    symlink("../src", fixture.path("out/data")).unwrap();
    for how in [&[][..], &["--overwrite"]] {
        failed(&fixture.restore(&[how, &["tape", "out"]].concat()), 3);
        assert_eq!(
            fixture.names("src"),
            ["data"],
            "nothing is written where the link leads"
        );
    }
}

/// Creation date of a medium, to the minute in UTC, as formatted by `date`.
fn creation_date(fixture: &Fixture) -> String {
    let list = fixture.restore(&["--sessions", "--json", "tape"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let seconds = &list["sessions"][0]["archives"][0]["created"];
    let date = ["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%d %H:%M"].map(str::to_owned);
    let date = Command::new("date").args(date).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

#[test]
fn instances_above_the_processors_are_remarked_on() {
    let fixture = Fixture::with_blocks();
    let run = |instances| {
        let how = [
            "--instances",
            instances,
            "--buffer-size",
            "4K",
            "--overwrite",
        ];
        let output = fixture.back_up(&[&how[..], &["src/data", "tape"]].concat());
        ok(&output);
        String::from_utf8(output.stderr).unwrap()
    };
    let (one, most) = (run("1"), run("64"));
    assert!(!one.contains("more instances than processors"), "{one}");
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(
        most.contains("--instances 64") && most.contains("more instances than processors"),
        processors < 64,
        "{most}"
    );
}

#[test]
fn smallest_pool_works_and_a_smaller_one_is_rejected() {
    let fixture = Fixture::with_blocks();
    let how = |buffers: &'static str| {
        [
            "--key-file",
            "key",
            "--instances",
            "2",
            "--buffer-size",
            "4K",
            "--buffers",
            buffers,
            "src/data",
            "tape",
        ]
    };
    let text = failed(&fixture.back_up(&how("3")), 2);
    assert!(
        text.contains("3 / 2 allocating modules") && text.contains("use 4 buffers or more"),
        "{text}"
    );
    assert!(!fixture.path("tape").exists());
    let output = fixture.back_up(&how("4"));
    ok(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("stages wait for each other"));
    ok(&fixture.restore(&["--key-file", "key", "--instances", "2", "tape", "out"]));
    fixture.assert_same();
    ok(&fixture.back_up(&[
        "--compress",
        "none",
        "--buffers",
        "1",
        "--overwrite",
        "src/data",
        "tape",
    ]));
    ok(&fixture.restore(&["--overwrite", "tape", "out"]));
    fixture.assert_same();
}

#[test]
fn usage_errors_and_failures_have_different_exit_codes() {
    let fixture = Fixture::new();
    for args in [
        &["src/data"][..],
        &[],
        &["--nonsense", "src/data", "tape"],
        &["--buffer-size", "4X", "src/data", "tape"],
        &["--buffer-size", "65M", "src/data", "tape"],
        &["--buffer-size", "100", "src/data", "tape"],
        &["--buffers", "0", "src/data", "tape"],
        &["--buffers", "5000", "src/data", "tape"],
        &["--instances", "0", "src/data", "tape"],
        &["--instances", "65", "src/data", "tape"],
        &["--compress", "gzip", "src/data", "tape"],
        &["--compress", "zstd:23", "src/data", "tape"],
        &["--compress", "deflate:0", "src/data", "tape"],
        &["--compress", "none:1", "src/data", "tape"],
        &["--framing", "footer", "src/data", "tape"],
        &["--volume-size", "1K", "src/data", "tape"],
        &["--stdin-name", "a/b", "-", "tape"],
        &["--stdin-name", "name", "src/data", "tape"],
        &[
            "--key-file",
            "key",
            "--passphrase-file",
            "passphrase",
            "src/data",
            "tape",
        ],
    ] {
        failed(&fixture.back_up(args), 2);
    }
    for args in [
        &[][..],
        &["--instances", "0", "tape"],
        &["a", "b", "c"],
        &["--verify", "a", "b"],
        &["--verify", "--list", "a"],
        &["--list", "a", "out"],
        &["--list", "--overwrite", "a"],
        &["--verify", "--overwrite", "a"],
        &["--verify", "--path", "x", "a"],
        &["--salvage", "a"],
        &["--key-file", "key", "--passphrase-file", "passphrase", "a"],
    ] {
        failed(&fixture.restore(args), 2);
    }
    for args in [&["src/nothing", "tape"][..], &["src/data", "nowhere/tape"]] {
        assert!(failed(&fixture.back_up(args), 1).starts_with("disk_to_tape: "));
    }
    for args in [&["nothing"][..], &["key"], &["src"]] {
        assert!(failed(&fixture.restore(args), 1).starts_with("tape_to_disk: "));
    }
    fixture.assert_holds(&[]);
}
