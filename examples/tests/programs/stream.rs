//! Standard input and output.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::{Output, Stdio};

use crate::fixture::{DISK_TO_TAPE, Fixture, failed, noise, ok};

/// A fixture with a file of 300 KiB, backed up as a stream.
fn with_stream(args: &[&str]) -> Fixture {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/noise"), noise(300 << 10)).unwrap();
    ok(&pipe_in(&fixture, args));
    fixture
}

fn pipe_in(fixture: &Fixture, args: &[&str]) -> Output {
    let input = File::open(fixture.path("src/data/noise")).unwrap();
    fixture
        .command(DISK_TO_TAPE, args)
        .stdin(input)
        .output()
        .unwrap()
}

#[test]
fn stream_is_restored() {
    let fixture = with_stream(&["--key-file", "key", "--buffer-size", "64K", "-", "tape"]);
    let open = ["--key-file", "key"];
    let output = fixture.restore(&[&open[..], &["tape", "-"]].concat());
    ok(&output);
    assert!(
        output.stdout == noise(300 << 10),
        "nothing but the stream is on standard output"
    );
    assert!(!output.stderr.is_empty(), "messages go to standard error");
    let output = fixture.restore(&[&open[..], &["--quiet", "tape", "-"]].concat());
    assert!(output.stdout == noise(300 << 10) && output.stderr.is_empty());
    ok(&fixture.restore(&[&open[..], &["--verify", "tape"]].concat()));
    let list = ok(&fixture.restore(&[&open[..], &["--list", "tape"]].concat()));
    assert!(
        list.starts_with("----------       307200 2") && list.ends_with(" stdin\n"),
        "{list}"
    );
    ok(&fixture.restore(&[&open[..], &["tape", "out"]].concat()));
    assert_eq!(fixture.names("out"), ["stdin"]);
    assert!(fs::read(fixture.path("out/stdin")).unwrap() == noise(300 << 10));
}

#[test]
fn empty_stream_is_restored() {
    let fixture = Fixture::new();
    ok(&fixture
        .command(DISK_TO_TAPE, &["-", "tape"])
        .stdin(Stdio::null())
        .output()
        .unwrap());
    assert!(fixture.restore(&["tape", "-"]).stdout.is_empty());
    ok(&fixture.restore(&["tape", "out"]));
    assert_eq!(fs::read(fixture.path("out/stdin")).unwrap(), b"");
}

#[test]
fn stream_has_the_given_name() {
    let fixture = with_stream(&["--stdin-name", "dump of db1.sql", "-", "tape"]);
    ok(&fixture.restore(&["--path", "dump of db1.sql", "tape", "out"]));
    assert_eq!(fixture.names("out"), ["dump of db1.sql"]);
    let text = failed(&fixture.restore(&["--path", "stdin", "tape", "out"]), 1);
    assert!(
        text.contains("holds one stream, \"dump of db1.sql\""),
        "{text}"
    );
    let long = "x".repeat(256);
    for name in ["", ".", "..", "a/b", &long] {
        let text = failed(&pipe_in(&fixture, &["--stdin-name", name, "-", "other"]), 2);
        assert!(text.contains("name"), "{text}");
    }
    assert!(!fixture.path("other").exists());
}

#[test]
fn stream_replaces_a_file_only_on_request() {
    let fixture = with_stream(&["-", "tape"]);
    fs::write(fixture.path("out/stdin"), b"precious").unwrap();
    let text = failed(&fixture.restore(&["tape", "out"]), 1);
    assert!(
        text.contains("out/stdin already exists; use --overwrite"),
        "{text}"
    );
    assert_eq!(fs::read(fixture.path("out/stdin")).unwrap(), b"precious");
    ok(&fixture.restore(&["--overwrite", "tape", "out"]));
    assert!(fs::read(fixture.path("out/stdin")).unwrap() == noise(300 << 10));
    // A link is replaced, and not followed.
    fs::remove_file(fixture.path("out/stdin")).unwrap();
    fs::write(fixture.path("precious"), b"precious").unwrap();
    symlink("../precious", fixture.path("out/stdin")).unwrap();
    failed(&fixture.restore(&["tape", "out"]), 1);
    ok(&fixture.restore(&["--overwrite", "tape", "out"]));
    assert_eq!(fs::read(fixture.path("precious")).unwrap(), b"precious");
    assert!(fs::read(fixture.path("out/stdin")).unwrap() == noise(300 << 10));
    assert_eq!(fixture.names("out"), ["stdin"]);
}

#[test]
fn damaged_stream_is_reported() {
    let fixture = with_stream(&["--buffer-size", "64K", "-", "tape"]);
    let mut tape = fs::read(fixture.path("tape")).unwrap();
    let middle = tape.len() / 2;
    tape[middle] ^= 1;
    fs::write(fixture.path("tape"), tape).unwrap();
    let text = failed(&fixture.restore(&["tape", "out"]), 3);
    assert!(
        text.contains("stdin: is damaged; its recovered part is out/stdin.damaged"),
        "{text}"
    );
    assert!(
        text.contains("block 3 at volume 1, record 3 (byte "),
        "{text}"
    );
    assert_eq!(fixture.names("out"), ["stdin.damaged"]);
    let (before, after) = (
        noise(300 << 10),
        fs::read(fixture.path("out/stdin.damaged")).unwrap(),
    );
    assert_eq!(before.len(), after.len());
    let lost: Vec<_> = (0..before.len())
        .filter(|&i| before[i] != after[i])
        .collect();
    assert!(lost[lost.len() - 1] - lost[0] < 65_536 && lost.iter().all(|&i| after[i] == 0));
    let output = fixture.restore(&["tape", "-"]);
    failed(&output, 3);
    assert!(output.stdout == after);
    failed(&fixture.restore(&["--verify", "tape"]), 3);
}

#[test]
fn trees_and_streams_are_distinguished() {
    let fixture = Fixture::with_blocks();
    ok(&fixture.back_up(&["src/data", "tape"]));
    let output = fixture.restore(&["tape", "-"]);
    assert!(failed(&output, 1).contains("holds a file tree and not a stream"));
    assert!(output.stdout.is_empty());
    for args in [
        &["-", "src/data", "tape"][..],
        &["--exclude", "x", "-", "tape"],
        &["--one-file-system", "-", "tape"],
    ] {
        failed(&fixture.back_up(args), 2);
    }
    failed(&fixture.restore(&["--json", "tape", "-"]), 2);
    // A file with the name "-".
    fs::write(fixture.path("-"), b"dash").unwrap();
    ok(&fixture.back_up(&["--overwrite", "./-", "tape"]));
    ok(&fixture.restore(&["tape", "out"]));
    assert_eq!(fs::read(fixture.path("out/-")).unwrap(), b"dash");
}
