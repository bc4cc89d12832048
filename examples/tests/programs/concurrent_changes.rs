//! Trees that change while they are read: changed files are reported, and all others are intact.

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

/// File that is being read when the tree changes. The files after it have not been opened then.
const LARGE: &str = "src/data/b large";

/// A fixture with files before and after a large one.
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

/// Backs up a tree that `change` modifies while the large file is read. The program is suspended in
/// the middle of the file for this; if it is too fast, the next attempt has a larger file. Returns
/// `None` if `run` cannot run the program.
fn back_up_while_changing_with(
    run: impl Fn(&Fixture, &[&str]) -> Option<Command>,
    change: impl Fn(&Fixture),
) -> Option<(Fixture, Output)> {
    for len in [8 << 20, 64 << 20, 512 << 20] {
        let fixture = with_neighbours(len);
        // With few buffers, little is read ahead.
        let options = [
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
            &[&options[..], &["--quiet", "src/data", "media/tape"]].concat(),
        )?;
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let written = || fs::metadata(fixture.path("media/tape")).map_or(0, |tape| tape.len());
        while written() < 1 << 17 && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(2));
        }
        signal(&child, "-STOP");
        // Random letters compress to more than half of their size. So if less than a quarter of the
        // size is written, more than half of the file has not been read.
        let is_in_time = child.try_wait().unwrap().is_none() && written() < len as u64 / 4;
        if is_in_time {
            change(&fixture);
        }
        signal(&child, "-CONT");
        let output = child.wait_with_output().unwrap();
        if is_in_time {
            return Some((fixture, output));
        }
    }
    panic!("the backup ended before the file was half read");
}

fn back_up_while_changing(change: impl Fn(&Fixture)) -> (Fixture, Output) {
    back_up_while_changing_with(
        |fixture, args| Some(fixture.command(DISK_TO_TAPE, args)),
        change,
    )
    .unwrap()
}

/// Asserts that `out` holds the same files as `src`, except the given ones.
fn assert_same_but(fixture: &Fixture, others: &[&str]) {
    let is_other = |path: &Path| others.iter().any(|other| path.starts_with(other));
    let seen = |at: &str| {
        let mut found = walk(&fixture.path(at));
        // A directory changes when its entries change.
        found.retain(|path, _| !is_other(path) && fixture.path("src/data").join(path).is_file());
        found
    };
    let (before, after) = (seen("src/data"), seen("out/data"));
    assert!(before.len() >= 2);
    assert_eq!(before, after);
}

#[test]
fn file_that_changes_while_it_is_read_is_reported() {
    let large = |fixture: &Fixture| {
        File::options()
            .write(true)
            .open(fixture.path(LARGE))
            .unwrap()
    };
    type Change<'m> = (&'m str, &'m dyn Fn(&Fixture));
    let changes: [Change<'_>; 3] = [
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
    for (what, change) in changes {
        let (fixture, output) = back_up_while_changing(change);
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
fn file_that_grows_is_reported() {
    let (fixture, output) = back_up_while_changing(|fixture| {
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

/// An open file keeps its content, also after a change of its name. The other objects are archived
/// as they are when they are read.
#[test]
fn replaced_files_do_not_mislead_the_reader() {
    let (fixture, output) = back_up_while_changing(|fixture| {
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
fn objects_that_become_unreadable_are_reported() {
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
        back_up_while_changing_with(run, |fixture| close(fixture, &["c", "d/e", "h"]))
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
