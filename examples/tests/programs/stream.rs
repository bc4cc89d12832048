//! Standard input and output.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::{Output, Stdio};

use crate::bench::{Bench, DISK_TO_TAPE, failed, noise, ok};

/// A bench with a file of 300 KiB, which is backed up as a stream.
fn with_stream(args: &[&str]) -> Bench {
    let bench = Bench::new();
    fs::write(bench.path("src/data/noise"), noise(300 << 10)).unwrap();
    ok(&pipe_in(&bench, args));
    bench
}

fn pipe_in(bench: &Bench, args: &[&str]) -> Output {
    let input = File::open(bench.path("src/data/noise")).unwrap();
    bench
        .command(DISK_TO_TAPE, args)
        .stdin(input)
        .output()
        .unwrap()
}

#[test]
fn a_stream_goes_in_and_comes_out() {
    let bench = with_stream(&["--key-file", "key", "--buffer-size", "64K", "-", "tape"]);
    let open = ["--key-file", "key"];
    let output = bench.restore(&[&open[..], &["tape", "-"]].concat());
    ok(&output);
    assert!(
        output.stdout == noise(300 << 10),
        "nothing but the stream is on standard output"
    );
    assert!(!output.stderr.is_empty(), "what is said goes elsewhere");
    let output = bench.restore(&[&open[..], &["--quiet", "tape", "-"]].concat());
    assert!(output.stdout == noise(300 << 10) && output.stderr.is_empty());
    ok(&bench.restore(&[&open[..], &["--verify", "tape"]].concat()));
    let list = ok(&bench.restore(&[&open[..], &["--list", "tape"]].concat()));
    assert!(
        list.starts_with("----------       307200 2") && list.ends_with(" stdin\n"),
        "{list}"
    );
    ok(&bench.restore(&[&open[..], &["tape", "out"]].concat()));
    assert_eq!(bench.names("out"), ["stdin"]);
    assert!(fs::read(bench.path("out/stdin")).unwrap() == noise(300 << 10));
}

#[test]
fn an_empty_stream_is_one_too() {
    let bench = Bench::new();
    ok(&bench
        .command(DISK_TO_TAPE, &["-", "tape"])
        .stdin(Stdio::null())
        .output()
        .unwrap());
    assert!(bench.restore(&["tape", "-"]).stdout.is_empty());
    ok(&bench.restore(&["tape", "out"]));
    assert_eq!(fs::read(bench.path("out/stdin")).unwrap(), b"");
}

#[test]
fn a_stream_has_the_name_that_it_was_given() {
    let bench = with_stream(&["--stdin-name", "dump of db1.sql", "-", "tape"]);
    ok(&bench.restore(&["--path", "dump of db1.sql", "tape", "out"]));
    assert_eq!(bench.names("out"), ["dump of db1.sql"]);
    let text = failed(&bench.restore(&["--path", "stdin", "tape", "out"]), 1);
    assert!(
        text.contains("holds one stream, \"dump of db1.sql\""),
        "{text}"
    );
    let long = "x".repeat(256);
    for name in ["", ".", "..", "a/b", &long] {
        let text = failed(&pipe_in(&bench, &["--stdin-name", name, "-", "other"]), 2);
        assert!(text.contains("name"), "{text}");
    }
    assert!(!bench.path("other").exists());
}

#[test]
fn a_file_is_not_replaced_by_a_stream_unasked() {
    let bench = with_stream(&["-", "tape"]);
    fs::write(bench.path("out/stdin"), b"precious").unwrap();
    let text = failed(&bench.restore(&["tape", "out"]), 1);
    assert!(
        text.contains("out/stdin exists already; give --overwrite"),
        "{text}"
    );
    assert_eq!(fs::read(bench.path("out/stdin")).unwrap(), b"precious");
    ok(&bench.restore(&["--overwrite", "tape", "out"]));
    assert!(fs::read(bench.path("out/stdin")).unwrap() == noise(300 << 10));
    // A link is replaced, and not followed.
    fs::remove_file(bench.path("out/stdin")).unwrap();
    fs::write(bench.path("precious"), b"precious").unwrap();
    symlink("../precious", bench.path("out/stdin")).unwrap();
    failed(&bench.restore(&["tape", "out"]), 1);
    ok(&bench.restore(&["--overwrite", "tape", "out"]));
    assert_eq!(fs::read(bench.path("precious")).unwrap(), b"precious");
    assert!(fs::read(bench.path("out/stdin")).unwrap() == noise(300 << 10));
    assert_eq!(bench.names("out"), ["stdin"]);
}

#[test]
fn a_damaged_stream_says_so() {
    let bench = with_stream(&["--buffer-size", "64K", "-", "tape"]);
    let mut tape = fs::read(bench.path("tape")).unwrap();
    let middle = tape.len() / 2;
    tape[middle] ^= 1;
    fs::write(bench.path("tape"), tape).unwrap();
    let text = failed(&bench.restore(&["tape", "out"]), 3);
    assert!(
        text.contains("stdin: is damaged; what there is of it is out/stdin.damaged"),
        "{text}"
    );
    assert!(
        text.contains("block 2 at volume 1, record 1 (byte "),
        "{text}"
    );
    assert_eq!(bench.names("out"), ["stdin.damaged"]);
    let (before, after) = (
        noise(300 << 10),
        fs::read(bench.path("out/stdin.damaged")).unwrap(),
    );
    assert_eq!(before.len(), after.len());
    let lost: Vec<_> = (0..before.len())
        .filter(|&i| before[i] != after[i])
        .collect();
    assert!(lost[lost.len() - 1] - lost[0] < 65_536 && lost.iter().all(|&i| after[i] == 0));
    let output = bench.restore(&["tape", "-"]);
    failed(&output, 3);
    assert!(output.stdout == after);
    failed(&bench.restore(&["--verify", "tape"]), 3);
}

#[test]
fn trees_and_streams_are_told_apart() {
    let bench = Bench::with_blocks();
    ok(&bench.back_up(&["src/data", "tape"]));
    let output = bench.restore(&["tape", "-"]);
    assert!(failed(&output, 1).contains("holds a file tree, and no stream"));
    assert!(output.stdout.is_empty());
    for args in [
        &["-", "src/data", "tape"][..],
        &["--exclude", "x", "-", "tape"],
        &["--one-file-system", "-", "tape"],
    ] {
        failed(&bench.back_up(args), 2);
    }
    failed(&bench.restore(&["--json", "tape", "-"]), 2);
    // A file of that name.
    fs::write(bench.path("-"), b"dash").unwrap();
    ok(&bench.back_up(&["--overwrite", "./-", "tape"]));
    ok(&bench.restore(&["tape", "out"]));
    assert_eq!(fs::read(bench.path("out/-")).unwrap(), b"dash");
}
