//! Restores that are killed: the user finds nothing under a name that is not whole, and a second
//! run completes the tree.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixture::{Fixture, TAPE_TO_DISK, noise, ok};
use crate::shell::can_trace;

/// A fixture with many small files and a large one, and an archive of them.
fn with_archive() -> Fixture {
    let fixture = Fixture::new();
    for n in 0..300 {
        let dir = fixture.path(&format!("src/data/{}", n % 20));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(n.to_string()), noise(1000 + n)).unwrap();
    }
    fs::write(fixture.path("src/data/large"), noise(20 << 20)).unwrap();
    ok(&fixture.back_up(&["--quiet", "--compress", "none", "src/data", "tape"]));
    fixture
}

/// Starts a restore whose system call `slow` takes long, with strace. Returns `None` without it.
fn start_slowly(fixture: &Fixture, slow: &str) -> Option<Child> {
    if !can_trace() {
        return None;
    }
    let inject = format!("inject={slow}:delay_exit=30000");
    let trace = format!("trace={slow}");
    let strace = Command::new("strace")
        .args([
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
        ])
        .args([TAPE_TO_DISK, "--quiet", "tape", "out"])
        .current_dir(fixture.path("."))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Some(strace.unwrap())
}

/// Calls `visit` with each file below a directory.
fn each_file(dir: &Path, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            each_file(&path, visit);
        } else {
            visit(&path);
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .starts_with(".datapipe-")
}

/// Asserts that each file that has its name has its content and its mode. Returns the number of
/// hidden files.
fn hidden_beside_whole(fixture: &Fixture) -> usize {
    let (out, mut hidden) = (fixture.path("out"), 0);
    each_file(&out, &mut |path| {
        if is_hidden(path) {
            hidden += 1;
            return;
        }
        let source = fixture.path("src").join(path.strip_prefix(&out).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(path), mode(&source), "{}", path.display());
        assert!(
            fs::read(path).unwrap() == fs::read(source).unwrap(),
            "{}",
            path.display()
        );
    });
    hidden
}

/// The machine runs out of memory in the middle of a restore, and the kernel kills it. The user
/// starts it again. Parts of files stood under their names, and the second run left them there.
#[test]
fn killed_restore_leaves_whole_files_and_the_next_one_completes_them() {
    for slow in ["pwrite64", "renameat2", "syncfs", "fchmod"] {
        let fixture = with_archive();
        let Some(mut restore) = start_slowly(&fixture, slow) else {
            return;
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let mut hidden = 0;
            each_file(&fixture.path("out"), &mut |path| {
                hidden += usize::from(is_hidden(path))
            });
            if hidden > 3 || restore.try_wait().unwrap().is_some() {
                break;
            }
            sleep(Duration::from_millis(5));
        }
        // With -D the child is the program itself.
        restore.kill().unwrap();
        restore.wait().unwrap();
        hidden_beside_whole(&fixture);
        let again = fixture.restore(&["tape", "out"]);
        assert!(matches!(again.status.code(), Some(0 | 3)), "{again:?}");
        assert_eq!(hidden_beside_whole(&fixture), 0, "after {slow}: {again:?}");
        ok(&fixture.restore(&["--quiet", "--overwrite", "tape", "out"]));
        fixture.assert_same();
    }
}

/// Two restores run to one destination at once. Neither takes the other's parts for leftovers.
#[test]
fn parts_of_a_restore_that_runs_are_left_alone() {
    let fixture = with_archive();
    let Some(mut slow) = start_slowly(&fixture, "pwrite64") else {
        return;
    };
    let other = fixture.restore(&["--path", "data/large", "tape", "out"]);
    assert!(matches!(other.status.code(), Some(0 | 3)), "{other:?}");
    assert!(matches!(slow.wait().unwrap().code(), Some(0 | 3)));
    assert_eq!(hidden_beside_whole(&fixture), 0);
    ok(&fixture.restore(&["--quiet", "--overwrite", "tape", "out"]));
    fixture.assert_same();
}

/// A part whose restore is not known may belong to one that runs elsewhere: it is named and kept.
#[test]
fn part_of_an_unknown_restore_is_named() {
    let fixture = with_archive();
    let part = fixture.path("out/data/.datapipe-0123456789abcdef-1.part");
    fs::create_dir(fixture.path("out/data")).unwrap();
    fs::write(&part, "").unwrap();
    let output = fixture.restore(&["--overwrite", "tape", "out"]);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains(".datapipe-0123456789abcdef-1.part"), "{text}");
    assert!(part.exists());
}
