//! Output for programs: one object on standard output, and nothing else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::process::Output;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::fixture::{Fixture, noise};
use crate::listing::with_kinds;

/// Returns the printed object.
fn object(output: &Output, exit: i32) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{errors}");
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let object: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(object.is_object() && object["exit"] == exit, "{text}");
    object
}

#[test]
fn job_is_reported_as_one_object() {
    let fixture = with_kinds();
    let backup = fixture.back_up(&["--json", "--overwrite", "src/data", "tape"]);
    assert!(
        backup.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&backup.stderr)
    );
    let backup = object(&backup, 0);
    let restored = object(&fixture.restore(&["--json", "tape", "out"]), 0);
    let verified = object(
        &fixture.restore(&["--json", "--quiet", "--verify", "tape"]),
        0,
    );
    for (found, job) in [
        (&backup, "backup"),
        (&restored, "restore"),
        (&verified, "verify"),
    ] {
        assert_eq!(found["job"], job);
        assert_eq!(
            (&found["status"], &found["archive"]),
            (&json!("ok"), &json!("data"))
        );
        let counts = (&found["files"], &found["directories"], &found["others"]);
        assert_eq!(counts, (&json!(2), &json!(2), &json!(2)), "{found}");
        assert_eq!(
            (&found["errors"], &found["errors_total"]),
            (&json!([]), &json!(0))
        );
        assert!(
            found["bytes_in"].as_u64().unwrap() > 0 && found["bytes_out"].as_u64().unwrap() > 0
        );
        assert!(found["seconds"].as_f64().unwrap() > 0.0);
        assert!(found["limiting_stage"].is_string() && found["message"].is_null());
    }
    assert_eq!(backup["bytes_in"], restored["bytes_out"]);
}

#[test]
fn left_out_objects_are_not_errors() {
    let fixture = Fixture::with_blocks();
    let _socket = UnixListener::bind(fixture.path("src/data/socket")).unwrap();
    let found = object(&fixture.back_up(&["--json", "src/data", "tape"]), 0);
    assert_eq!(
        (&found["errors"], &found["errors_total"]),
        (&json!([]), &json!(0))
    );
    let expected = json!([{ "path": "data/socket", "what": "is a socket: left out" }]);
    assert_eq!(found["left_out"], expected);
}

#[test]
fn stream_counts_as_one_file() {
    let fixture = Fixture::new();
    let jobs = [
        fixture.back_up(&["--json", "-", "tape"]),
        fixture.restore(&["--json", "tape", "out"]),
        fixture.restore(&["--json", "--verify", "tape"]),
        fixture.restore(&["--json", "--list", "tape"]),
    ];
    for job in jobs {
        let found = object(&job, 0);
        assert_eq!(
            (&found["files"], &found["archive"]),
            (&json!(1), &json!("stdin")),
            "{found}"
        );
    }
}

#[test]
fn list_is_one_object() {
    let fixture = with_kinds();
    let list = object(&fixture.restore(&["--json", "--list", "tape"]), 0);
    assert_eq!((&list["job"], &list["files"]), (&json!("list"), &json!(2)));
    let entries = list["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 6);
    let expected = json!({
        "path": "data/file",
        "kind": "file",
        "mode": 0o751,
        "size": 7,
        "modified": [1_000_000_000, 0],
        "state": "whole"
    });
    assert_eq!(entries[1], expected);
    assert_eq!(entries[2]["target"], "over\nthere\u{e9}");
    let lost = &entries[5];
    assert_eq!(lost["path"], "data/\u{fffd} \u{1b}[31mred\\");
    let bytes = BASE64_STANDARD
        .decode(lost["path_b64"].as_str().unwrap())
        .unwrap();
    assert_eq!(bytes, b"data/\xff \x1b[31mred\\");
    let none = object(
        &fixture.restore(&["--json", "--list", "--path", "none", "tape"]),
        3,
    );
    assert_eq!(
        (&none["entries"], &none["errors"][0]["path"]),
        (&json!([]), &json!("none"))
    );
    let failed = object(&fixture.restore(&["--json", "--list", "nowhere"]), 1);
    assert_eq!(
        (&failed["entries"], &failed["status"]),
        (&json!([]), &json!("failed"))
    );
}

#[test]
fn failure_is_reported_as_one_object() {
    let fixture = Fixture::with_blocks();
    let found = object(&fixture.back_up(&["--json", "src/nothing", "tape"]), 1);
    assert_eq!(found["status"], "failed");
    assert!(
        found["message"].as_str().unwrap().contains("src/nothing"),
        "{found}"
    );
    let found = object(
        &fixture.back_up(&["--json", "src/data", "src/data", "tape"]),
        2,
    );
    assert!(
        found["message"].as_str().unwrap().contains("would both be"),
        "{found}"
    );
    object(
        &fixture.back_up(&["--json", "--key-file", "key", "src/data", "tape"]),
        0,
    );
    let found = object(
        &fixture.restore(&["--json", "--key-file", "other-key", "tape", "out"]),
        1,
    );
    assert!(
        found["message"]
            .as_str()
            .unwrap()
            .contains("not the right one"),
        "{found}"
    );
}

#[test]
fn errors_have_paths() {
    let fixture = Fixture::new();
    let name = OsStr::from_bytes(b"noise \xfe");
    fs::write(fixture.path("src/data").join(name), noise(300 << 10)).unwrap();
    object(
        &fixture.back_up(&["--json", "--buffer-size", "64K", "src/data", "tape"]),
        0,
    );
    let mut tape = fs::read(fixture.path("tape")).unwrap();
    let middle = tape.len() / 2;
    tape[middle] ^= 1;
    fs::write(fixture.path("tape"), tape).unwrap();
    let found = object(&fixture.restore(&["--json", "tape", "out"]), 3);
    assert_eq!(found["status"], "incomplete");
    let errors = found["errors"].as_array().unwrap();
    assert_eq!(found["errors_total"], errors.len());
    assert_eq!(errors[0]["path"], "data/noise \u{fffd}", "{found}");
    let bytes = BASE64_STANDARD
        .decode(errors[0]["path_b64"].as_str().unwrap())
        .unwrap();
    assert_eq!(bytes, b"data/noise \xfe");
    assert!(
        errors.iter().any(|error| error["path"].is_null()),
        "{found}"
    );
}
