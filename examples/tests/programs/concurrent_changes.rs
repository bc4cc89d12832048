//! Trees that change while they are read: what changed is named, and all else is whole.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};

use crate::fixture::{DISK_TO_TAPE, Fixture, failed, letters};
use crate::left_out::plain_user_command;
use crate::walk::walk;

/// The file that is read when the tree changes. Those behind it have not been opened then.
const LARGE: &str = "src/data/b large";

/// A fixture with files before and behind a large one.
fn with_neighbours(len: usize) -> Fixture {
    let fixture = Fixture::new();
    for name in ["a", "c", "d/e", "d/f", "g", "h/i"] {
        let path = fixture.path("src/data").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, letters(1000)).unwrap();
    }
    fs::write(fixture.path(LARGE), letters(len)).unwrap();
    fs::create_dir(fixture.path("media")).unwrap();
    fs::set_permissions(fixture.path("media"), Permissions::from_mode(0o777)).unwrap();
    fixture
}

fn signal(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &id])
            .status()
            .unwrap()
            .success()
    );
}

/// Backs a tree up that `meddle` changes while the large file is read. Somewhere in the middle of
/// it the program is stopped; should it be faster than that, there is more to read the next time.
/// `run` may find that it cannot be run.
fn back_up_meddled_by(
    run: impl Fn(&Fixture, &[&str]) -> Option<Command>,
    meddle: impl Fn(&Fixture),
) -> Option<(Fixture, Output)> {
    for len in [8 << 20, 64 << 20, 512 << 20] {
        let fixture = with_neighbours(len);
        // With few buffers not much is read ahead.
        let how = [
            "--compress",
            "zstd:22",
            "--buffer-size",
            "64K",
            "--buffers",
            "6",
            "--instances",
            "1",
        ];
        let mut command = run(
            &fixture,
            &[&how[..], &["--quiet", "src/data", "media/tape"]].concat(),
        )?;
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let written = || fs::metadata(fixture.path("media/tape")).map_or(0, |tape| tape.len());
        while written() < 1 << 17 && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(2));
        }
        signal(&child, "-STOP");
        // Letters take more than half of their bytes, so more than half of them have not been read.
        let is_in_time = child.try_wait().unwrap().is_none() && written() < len as u64 / 4;
        if is_in_time {
            meddle(&fixture);
        }
        signal(&child, "-CONT");
        let output = child.wait_with_output().unwrap();
        if is_in_time {
            return Some((fixture, output));
        }
    }
    panic!("nothing is so fast");
}

fn back_up_meddled(meddle: impl Fn(&Fixture)) -> (Fixture, Output) {
    back_up_meddled_by(
        |fixture, args| Some(fixture.command(DISK_TO_TAPE, args)),
        meddle,
    )
    .unwrap()
}

/// What is in `out` is as it is in `src`, but for these.
fn assert_same_but(fixture: &Fixture, others: &[&str]) {
    let is_other = |path: &Path| others.iter().any(|other| path.starts_with(other));
    let seen = |at: &str| {
        let mut found = walk(&fixture.path(at));
        // Directories change with what is in them.
        found.retain(|path, _| !is_other(path) && fixture.path("src/data").join(path).is_file());
        found
    };
    let (before, after) = (seen("src/data"), seen("out/data"));
    assert!(before.len() >= 2);
    assert_eq!(before, after);
}

#[test]
fn a_file_that_changes_under_the_reader_is_named() {
    let large = |fixture: &Fixture| {
        File::options()
            .write(true)
            .open(fixture.path(LARGE))
            .unwrap()
    };
    type Meddle<'m> = (&'m str, &'m dyn Fn(&Fixture));
    let changes: [Meddle<'_>; 3] = [
        ("shrinks", &|fixture| {
            large(fixture).set_len(7 << 20).unwrap()
        }),
        ("vanishes as far as it was not read", &|fixture| {
            large(fixture).set_len(0).unwrap()
        }),
        ("is written to", &|fixture| {
            large(fixture).write_all_at(b"new", 5).unwrap()
        }),
    ];
    for (what, meddle) in changes {
        let (fixture, output) = back_up_meddled(meddle);
        let text = failed(&output, 3);
        assert!(
            text.starts_with("disk_to_tape: data/b large: changed while it was read\n"),
            "{what}: {text}"
        );
        assert_eq!(text.matches("data/").count(), 1, "{what}: {text}");
        let text = failed(&fixture.restore(&["media/tape", "out"]), 3);
        assert!(
            text.contains("data/b large: changed while it was archived"),
            "{what}: {text}"
        );
        assert_same_but(&fixture, &["b large", "b large.damaged"]);
    }
}

#[test]
fn a_file_that_grows_is_named() {
    let (fixture, output) = back_up_meddled(|fixture| {
        let mut large = File::options()
            .append(true)
            .open(fixture.path(LARGE))
            .unwrap();
        large.write_all(b"more").unwrap();
    });
    let text = failed(&output, 3);
    assert!(
        text.starts_with("disk_to_tape: data/b large: changed while it was read\n"),
        "{text}"
    );
    failed(&fixture.restore(&["media/tape", "out"]), 3);
    assert_same_but(&fixture, &["b large", "b large.damaged"]);
}

/// Who has a file open has its content, whatever becomes of its name; the rest is as it is when its
/// turn comes.
#[test]
fn what_takes_the_place_of_files_is_no_trap() {
    let (fixture, output) = back_up_meddled(|fixture| {
        let data = fixture.path("src/data");
        fs::rename(data.join("b large"), fixture.path("moved")).unwrap();
        fs::write(data.join("b large"), b"another").unwrap();
        fs::remove_file(data.join("c")).unwrap();
        fs::remove_dir_all(data.join("h")).unwrap();
        fs::remove_file(data.join("d/e")).unwrap();
        rustix::fs::mknodat(
            CWD,
            data.join("d/e"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        fs::remove_file(data.join("d/f")).unwrap();
        symlink("../../../key", data.join("d/f")).unwrap();
        fs::remove_file(data.join("g")).unwrap();
        fs::create_dir(data.join("g")).unwrap();
    });
    let text = failed(&output, 3);
    for name in ["c", "g", "h"] {
        assert!(
            text.contains(&format!("data/{name}: vanished before it was read\n")),
            "{text}"
        );
    }
    failed(&fixture.restore(&["media/tape", "out"]), 3);
    let out = fixture.path("out/data");
    assert_eq!(fixture.names("out/data"), ["a", "b large", "d"]);
    assert!(fs::read(out.join("b large")).unwrap() == fs::read(fixture.path("moved")).unwrap());
    assert!(fs::metadata(out.join("d/e")).unwrap().file_type().is_fifo());
    assert_eq!(
        fs::read_link(out.join("d/f")).unwrap(),
        Path::new("../../../key")
    );
}

#[test]
fn what_turns_unreadable_is_named() {
    let run = |fixture: &Fixture, args: &[&str]| plain_user_command(fixture, DISK_TO_TAPE, args);
    let close = |fixture: &Fixture, names: &[&str]| {
        for name in names {
            fs::set_permissions(
                fixture.path("src/data").join(name),
                Permissions::from_mode(0o000),
            )
            .unwrap();
        }
    };
    let Some((fixture, output)) =
        back_up_meddled_by(run, |fixture| close(fixture, &["c", "d/e", "h"]))
    else {
        return;
    };
    fs::set_permissions(fixture.path("src/data/h"), Permissions::from_mode(0o755)).unwrap();
    let text = failed(&output, 3);
    for name in ["c", "d/e", "h"] {
        assert!(
            text.contains(&format!("data/{name}: cannot be read: Permission denied")),
            "{text}"
        );
    }
    assert_eq!(text.matches("data/").count(), 3, "{text}");
    failed(&fixture.restore(&["media/tape", "out"]), 3);
    assert_same_but(&fixture, &["c", "d/e", "h"]);
}
