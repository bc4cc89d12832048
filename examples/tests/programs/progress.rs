//! The line that is redrawn on a terminal, and nowhere else.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, noise, ok};

/// A terminal of so many columns: who draws it, and who writes to it.
fn terminal(columns: u16) -> (File, OwnedFd) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let program = openat(
        CWD,
        name,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&program, size).unwrap();
    (File::from(screen), program)
}

/// What is drawn until there is a rate.
fn until_a_rate(screen: &mut File) -> String {
    let (mut drawn, mut byte) = (Vec::new(), [0]);
    while !drawn.ends_with(b"B/s") {
        screen.read_exact(&mut byte).unwrap();
        drawn.push(byte[0]);
    }
    String::from_utf8(drawn).unwrap()
}

#[test]
fn a_backup_shows_its_rate_in_the_width_that_there_is() {
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
    let drawn = until_a_rate(&mut screen);
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
fn a_restore_shows_how_much_is_done() {
    let fixture = Fixture::new();
    let input = fixture.path("src/data/noise");
    std::fs::write(&input, noise(4 << 20)).unwrap();
    let how = [
        "--compress",
        "none",
        "--buffer-size",
        "64K",
        "--quiet",
        "-",
        "tape",
    ];
    ok(&fixture
        .command(DISK_TO_TAPE, &how)
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
    // It stands still while nobody takes what it restores.
    let mut restored = child.stdout.take().unwrap();
    let drawn = until_a_rate(&mut screen);
    assert!(drawn.contains(" %  "), "{drawn:?}");
    // Behind that, what it draws has nowhere to go.
    drop(screen);
    let mut bytes = Vec::new();
    restored.read_to_end(&mut bytes).unwrap();
    assert!(bytes == noise(4 << 20));
    assert!(child.wait().unwrap().success());
}
