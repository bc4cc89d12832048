//! The progress line, which is drawn on a terminal only.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, noise, ok};
use crate::terminal::terminal;

/// Reads from the screen until a rate is shown.
fn read_until_rate(screen: &mut File) -> String {
    let (mut drawn, mut byte) = (Vec::new(), [0]);
    while !drawn.ends_with(b"B/s") {
        screen.read_exact(&mut byte).unwrap();
        drawn.push(byte[0]);
    }
    String::from_utf8(drawn).unwrap()
}

#[test]
fn backup_shows_its_rate_within_the_width_of_the_terminal() {
    let fixture = Fixture::new();
    let (mut screen, program) = terminal(24);
    let mut child = fixture
        .command(DISK_TO_TAPE, &["--buffer-size", "64K", "-", "tape"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(program)
        .spawn()
        .unwrap();
    let mut source = child.stdin.take().unwrap();
    source.write_all(&noise(3 << 20)).unwrap();
    let drawn = read_until_rate(&mut screen);
    assert!(drawn.starts_with("\r\x1b[K"), "{drawn:?}");
    for line in drawn.split("\r\x1b[K") {
        assert!(
            line.chars().count() < 24 && !line.contains('\n'),
            "{line:?}"
        );
    }
    drop(source);
    assert!(child.wait().unwrap().success());
}

#[test]
fn restore_shows_the_part_that_is_done() {
    let fixture = Fixture::new();
    let input = fixture.path("src/data/noise");
    std::fs::write(&input, noise(4 << 20)).unwrap();
    let options = [
        "--compress",
        "none",
        "--buffer-size",
        "64K",
        "--quiet",
        "-",
        "tape",
    ];
    ok(&fixture
        .command(DISK_TO_TAPE, &options)
        .stdin(File::open(input).unwrap())
        .output()
        .unwrap());
    let (mut screen, program) = terminal(200);
    let mut child = fixture
        .command(TAPE_TO_DISK, &["tape", "-"])
        .stdout(Stdio::piped())
        .stderr(program)
        .spawn()
        .unwrap();
    // The restore blocks while its output is not read.
    let mut restored = child.stdout.take().unwrap();
    let drawn = read_until_rate(&mut screen);
    assert!(drawn.contains(" %  "), "{drawn:?}");
    // From now on the screen is gone, and drawing fails.
    drop(screen);
    let mut bytes = Vec::new();
    restored.read_to_end(&mut bytes).unwrap();
    assert!(bytes == noise(4 << 20));
    assert!(child.wait().unwrap().success());
}
