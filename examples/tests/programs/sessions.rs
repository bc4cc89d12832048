//! Media with several sessions: appended, listed, selected, and cut off at the end.

use std::fs;

use datapipe::wire::{UNIT_HEADER_LEN, UnitHeader, UnitKind};
use serde_json::Value;

use crate::fixture::{ARCHIVE_COPY, DISK_TO_TAPE, Fixture, failed, noise, ok};

/// Appends a session with the content of `src/data`, to which it first adds a file.
fn append(fixture: &Fixture, more: &[&str], number: usize) {
    let file = fixture.path(&format!("src/data/{number}"));
    fs::write(file, noise(20_000 + number)).unwrap();
    let args = [&["--append", "--quiet"], more, &["src/data", "tape"]].concat();
    ok(&fixture.back_up(&args));
}

fn list(fixture: &Fixture) -> Vec<Value> {
    let text = ok(&fixture.restore(&["--sessions", "--json", "tape"]));
    let list: Value = serde_json::from_str(&text).unwrap();
    list["sessions"].as_array().unwrap().clone()
}

/// Restores session `number`, and returns the number of its files.
fn restored(fixture: &Fixture, more: &[&str], number: usize) -> usize {
    fixture.clear("out");
    let number = number.to_string();
    let select = ["--quiet", "--session", &number, "tape", "out"];
    ok(&fixture.restore(&[more, &select].concat()));
    fixture.names("out/data").len()
}

#[test]
fn appended_sessions_are_listed_selected_and_restored() {
    for key in [&[][..], &["--key-file", "key"]] {
        let fixture = Fixture::new();
        let mut before = Vec::new();
        for number in 1..=3 {
            append(&fixture, key, number);
            let tape = fs::read(fixture.path("tape")).unwrap();
            assert!(tape.starts_with(&before), "an earlier byte has changed");
            before = tape;
        }
        let sessions = list(&fixture);
        assert_eq!(sessions.len(), 3);
        assert!(
            sessions
                .iter()
                .all(|session| session["state"] == "finished")
        );
        for number in 1..=3 {
            assert_eq!(restored(&fixture, key, number), number);
        }
        // Without a selection, the last one.
        fixture.clear("out");
        let output = fixture.restore(&[key, &["--quiet", "tape", "out"]].concat());
        ok(&output);
        assert_eq!(fixture.names("out/data").len(), 3);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("has 3 archives"), "{text}");
        let id = sessions[1]["id"].as_str().unwrap();
        ok(&fixture.restore(&[key, &["--session", &id[..9], "--verify", "tape"]].concat()));
        let missing = [key, &["--session", "4", "--verify", "tape"]].concat();
        assert!(failed(&fixture.restore(&missing), 1).contains("no session 4"));
    }
}

#[test]
fn hash_of_a_header_that_was_printed_is_that_of_its_archive_only() {
    let fixture = Fixture::new();
    let mut hashes = Vec::new();
    for number in 1..=2 {
        fs::write(fixture.path("src/data/file"), number.to_string()).unwrap();
        let text = ok(&fixture.back_up(&["--append", "--json", "src/data", "tape"]));
        let summary: Value = serde_json::from_str(&text).unwrap();
        hashes.push(summary["header_hash"].as_str().unwrap().to_owned());
    }
    for (index, hash) in hashes.iter().enumerate() {
        let number = (index + 1).to_string();
        ok(&fixture.restore(&["--archive", &number, "--expect", hash, "--verify", "tape"]));
        let other = (2 - index).to_string();
        let args = ["--archive", &other, "--expect", hash, "--verify", "tape"];
        let text = failed(&fixture.restore(&args), 1);
        assert!(text.contains("it is another archive"), "{text}");
    }
    failed(
        &fixture.restore(&["--expect", "abc", "--verify", "tape"]),
        2,
    );
}

#[test]
fn append_keeps_the_key_of_the_last_archive_unless_it_is_told() {
    let fixture = Fixture::new();
    append(&fixture, &["--key-file", "key"], 1);
    let tape = fs::read(fixture.path("tape")).unwrap();
    for other in [
        &[][..],
        &["--key-file", "other-key"],
        &["--passphrase-file", "passphrase"],
    ] {
        let args = [&["--append"], other, &["src/data", "tape"]].concat();
        let text = failed(&fixture.back_up(&args), 1);
        assert!(text.contains("--other-key"), "{text}");
        assert!(fs::read(fixture.path("tape")).unwrap() == tape);
    }
    append(&fixture, &["--key-file", "other-key", "--other-key"], 2);
    assert_eq!(restored(&fixture, &["--key-file", "key"], 1), 1);
    assert_eq!(restored(&fixture, &["--key-file", "other-key"], 2), 2);
    failed(
        &fixture.back_up(&["--append", "--overwrite", "src/data", "tape"]),
        2,
    );
}

#[test]
fn file_that_is_not_a_medium_is_not_appended_to() {
    let fixture = Fixture::new();
    fs::write(fixture.path("note"), "precious").unwrap();
    let text = failed(&fixture.back_up(&["--append", "src/data", "note"]), 1);
    assert!(text.contains("not an archive"), "{text}");
    let text = failed(&fixture.restore(&["--sessions", "note"]), 1);
    assert!(text.contains("no session that can be read"), "{text}");
    assert_eq!(fs::read(fixture.path("note")).unwrap(), b"precious");
}

#[test]
fn archives_are_selected_by_their_names_and_an_unfinished_one_is_named() {
    let fixture = Fixture::new();
    for name in ["2024", "accounts", "2024"] {
        let args = ["--append", "--quiet", "--stdin-name", name, "-", "tape"];
        let mut command = fixture.command(DISK_TO_TAPE, &args);
        let input = fs::File::open(fixture.path("key")).unwrap();
        ok(&command.stdin(input).output().unwrap());
    }
    let select = |archive: &str| {
        fixture.clear("out");
        let args = ["--quiet", "--archive", archive, "tape", "out"];
        ok(&fixture.restore(&args));
        fixture.names("out")
    };
    assert_eq!(select("2024"), ["2024"]);
    assert_eq!(select("accounts"), ["accounts"]);
    assert_eq!(select("2"), ["accounts"]);
    for wrong in [["--sessions", "--archive"], ["--sessions", "--session"]] {
        failed(&fixture.restore(&[&wrong[..], &["1", "tape"]].concat()), 2);
    }
    // The end of the last session is cut off.
    let tape = fs::read(fixture.path("tape")).unwrap();
    fs::write(fixture.path("tape"), &tape[..tape.len() - 1000]).unwrap();
    let output = fixture.restore(&["--quiet", "--verify", "tape"]);
    ok(&output);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("number 2, of session 2; 1 that may be newer is not whole"),
        "{text}"
    );
}

/// The header of an encrypted archive had its name in clear, and so had the label of its session.
#[test]
fn names_of_encrypted_archives_are_listed_and_selected_with_their_key() {
    let fixture = Fixture::new();
    let key = ["--key-file", "key"];
    for (name, key) in [("accounts", &key[..]), ("letters", &key), ("notes", &[])] {
        let args = ["--append", "--quiet", "--other-key", "--stdin-name", name];
        let args = [key, &args, &["-", "tape"]].concat();
        let mut command = fixture.command(DISK_TO_TAPE, &args);
        let input = fs::File::open(fixture.path("key")).unwrap();
        ok(&command.stdin(input).output().unwrap());
    }
    let tape = fs::read(fixture.path("tape")).unwrap();
    let has = |name: &str| tape.windows(name.len()).any(|at| at == name.as_bytes());
    assert!(!has("accounts") && !has("letters") && has("notes"));

    let names = |key: &[&str]| -> Vec<Value> {
        let text = ok(&fixture.restore(&[key, &["--sessions", "--json", "tape"]].concat()));
        let list: Value = serde_json::from_str(&text).unwrap();
        let sessions = list["sessions"].as_array().unwrap().iter();
        let archives = sessions.flat_map(|session| session["archives"].as_array().unwrap());
        archives.map(|archive| archive["name"].clone()).collect()
    };
    assert_eq!(names(&[]), [Value::Null, Value::Null, "notes".into()]);
    assert_eq!(names(&key), ["accounts", "letters", "notes"]);
    let table = ok(&fixture.restore(&["--sessions", "tape"]));
    assert_eq!(table.matches("(encrypted)").count(), 2, "{table}");

    ok(&fixture.restore(&[&key[..], &["--archive", "accounts", "tape", "out"]].concat()));
    assert_eq!(fixture.names("out"), ["accounts"]);
    let text = failed(
        &fixture.restore(&["--archive", "accounts", "--verify", "tape"]),
        1,
    );
    assert!(text.contains("2 names are encrypted"), "{text}");
    // The number selects it without the key, and it is named as far as that is possible.
    let text = ok(&fixture.restore(&["--archive", "1", "--verify", "tape"]));
    assert!(
        text.contains("an archive whose name is encrypted, written"),
        "{text}"
    );
}

/// Damage of what belongs to no archive was passed over in silence on a medium of several sessions.
#[test]
fn damage_outside_of_archives_is_an_error_of_jobs_that_check_the_medium() {
    let fixture = Fixture::new();
    for number in 1..=2 {
        append(&fixture, &["--key-file", "key"], number);
    }
    let mut tape = fs::read(fixture.path("tape")).unwrap();
    // In the footer of the last session.
    let at = tape.len() - 100;
    tape[at] ^= 1;
    fs::write(fixture.path("tape"), tape).unwrap();
    let key = ["--key-file", "key"];
    let what = "the footer of a session is damaged";
    for args in [
        &["--sessions", "tape"][..],
        &["--verify", "tape"],
        &[&key[..], &["--verify", "tape"]].concat(),
    ] {
        let text = failed(&fixture.restore(args), 3);
        assert_eq!(text.matches(what).count(), 1, "{text}");
    }
    let copy = fixture.command(ARCHIVE_COPY, &["--all", "tape", "copy"]);
    let text = failed(&{ copy }.output().unwrap(), 3);
    assert!(text.contains(what), "{text}");
    // The archive is whole.
    let text = ok(&fixture.restore(&[&key[..], &["--json", "tape", "out"]].concat()));
    assert!(text.contains(what), "{text}");
    let text = failed(
        &fixture.restore(&["--session", "abcd", "--verify", "tape"]),
        1,
    );
    assert!(text.contains("at least 8 digits"), "{text}");
    let text = failed(&fixture.back_up(&["--append", "src/data", "tape"]), 1);
    assert!(text.contains("whose name is encrypted"), "{text}");
}

/// Offsets of the headers of units of these kinds on a tape.
fn units(bytes: &[u8], kinds: &[UnitKind]) -> Vec<(usize, UnitHeader)> {
    let unit = |at: usize| UnitHeader::parse(&bytes[at..]).ok().map(|unit| (at, unit));
    let all = (0..bytes.len()).filter_map(unit);
    all.filter(|(_, unit)| kinds.contains(&unit.kind)).collect()
}

#[test]
fn time_of_a_session_is_not_shown_as_that_of_its_archive() {
    let fixture = Fixture::new();
    let key = ["--key-file", "key"];
    append(&fixture, &key, 1);
    ok(&fixture
        .command(ARCHIVE_COPY, &["--quiet", "tape", "copy"])
        .output()
        .unwrap());
    // The first of January 2100, in the header of the session and on its label.
    for medium in ["tape", "copy"] {
        let mut tape = fs::read(fixture.path(medium)).unwrap();
        let found = units(&tape, &[UnitKind::SessionHeader]);
        assert!(found.len() > 1, "{found:?}");
        for (at, mut unit) in found {
            let body = at + UNIT_HEADER_LEN..at + UNIT_HEADER_LEN + unit.stored as usize;
            tape[body.start + 16..][..8].copy_from_slice(&4_102_444_800_i64.to_le_bytes());
            unit.body_crc = crc32fast::hash(&tape[body]);
            tape[at..at + UNIT_HEADER_LEN].copy_from_slice(&unit.to_bytes());
        }
        fs::write(fixture.path(medium), tape).unwrap();
    }
    let created = list(&fixture)[0]["archives"][0]["created"].clone();
    assert!(created.as_i64().unwrap() < 4_102_444_800);
    let text = ok(&fixture.restore(&[&key[..], &["--verify", "tape"]].concat()));
    assert!(!text.contains("2100-01-01"), "{text}");
    let output = fixture.restore(&[&key[..], &["--verify", "--json", "copy"]].concat());
    ok(&output);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["created"], created);
    for args in [&key[..], &[]] {
        let text = ok(&fixture.restore(&[args, &["--verify", "copy"]].concat()));
        assert!(!text.contains("written 2100"), "{text}");
        assert!(
            text.contains(", copied on 2100-01-01 00:00, copy of session "),
            "{text}"
        );
    }
    let again = fixture.command(ARCHIVE_COPY, &["copy", "again"]).output();
    let text = ok(&again.unwrap());
    assert!(
        text.contains(", written ") && !text.contains("2100-01-01"),
        "{text}"
    );
    let text = failed(
        &fixture.back_up(&[&key[..], &["src/data", "tape"]].concat()),
        1,
    );
    assert!(!text.contains("2100-01-01"), "{text}");
}

#[test]
fn append_after_headers_that_cannot_be_read_says_that_the_key_was_not_checked() {
    let fixture = Fixture::new();
    append(&fixture, &["--key-file", "key"], 1);
    let mut tape = fs::read(fixture.path("tape")).unwrap();
    let headers = [
        UnitKind::ArchiveHeader,
        UnitKind::ChunkFooter,
        UnitKind::Locator,
    ];
    for (at, _) in units(&tape, &headers) {
        tape[at + UNIT_HEADER_LEN] ^= 1;
    }
    fs::write(fixture.path("tape"), &tape).unwrap();
    for (more, is_noted) in [(&[][..], true), (&["--other-key"], false)] {
        let args = [&["--append", "--json"], more, &["src/data", "tape"]].concat();
        let output = fixture.back_up(&args);
        ok(&output);
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        let notes = summary["notes"].to_string();
        assert_eq!(notes.contains("was not checked"), is_noted, "{notes}");
        fs::write(fixture.path("tape"), &tape).unwrap();
    }
}
