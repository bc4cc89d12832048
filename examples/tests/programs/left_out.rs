//! Objects that are not in an archive, or not as they were, and the reports of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use crate::fixture::{DISK_TO_TAPE, Fixture, TAPE_TO_DISK, failed, ok};
use crate::walk::{assert_same, is_root, walk};

#[test]
fn socket_is_reported_and_changes_nothing_else() {
    let fixture = Fixture::with_blocks();
    let before = walk(&fixture.path("src/data"));
    let socket = UnixListener::bind(fixture.path("src/data/socket")).unwrap();
    let output = fixture.back_up(&["src/data", "tape"]);
    ok(&output);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text, "disk_to_tape: data/socket: is a socket: left out\n");
    assert!(
        fixture
            .back_up(&["--quiet", "--overwrite", "src/data", "tape"])
            .stderr
            .is_empty()
    );
    drop(socket);
    ok(&fixture.restore(&["tape", "out"]));
    assert!(walk(&fixture.path("out/data")).keys().eq(before.keys()));
}

#[test]
fn medium_inside_a_source_is_left_out() {
    let fixture = Fixture::with_blocks();
    let before = walk(&fixture.path("src/data"));
    for medium in ["src/data/tape", "src/data/volumes/"] {
        let output = fixture.back_up(&["--volume-size", "512K", "src/data", medium]);
        ok(&output);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let name = medium.trim_start_matches("src/").trim_end_matches('/');
        assert_eq!(
            text,
            format!("disk_to_tape: {name}: is the archive's own medium: left out\n")
        );
        ok(&fixture.restore(&[medium, "out"]));
        assert!(walk(&fixture.path("out/data")).keys().eq(before.keys()));
        fs::remove_dir_all(fixture.path("out/data")).unwrap();
        fs::rename(fixture.path(medium), fixture.path("moved")).unwrap();
        let _ = fs::remove_file(fixture.path("moved"))
            .or_else(|_| fs::remove_dir_all(fixture.path("moved")));
    }
}

/// The archive must not overwrite its source.
#[test]
fn medium_that_is_a_source_is_rejected() {
    let fixture = Fixture::with_blocks();
    for source in ["src/data", "src/data/noise"] {
        let text = failed(&fixture.back_up(&["--overwrite", "key", source, source]), 2);
        assert!(text.contains("is one of the sources"), "{text}");
    }
    assert_eq!(fixture.names("src/data"), ["first", "noise", "zlast"]);
    assert_eq!(
        fs::metadata(fixture.path("src/data/noise")).unwrap().len(),
        300 << 10
    );
}

#[test]
fn excluded_objects_are_left_out() {
    let fixture = Fixture::new();
    for name in [
        "keep/a.c",
        "keep/a.o",
        "build/x",
        "deep/build/y",
        "deep/z.tmp",
    ] {
        let path = fixture.path("src/data").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    let exclude = [
        "--exclude",
        "*.o",
        "--exclude",
        "data/build",
        "--exclude",
        "**/*.tmp",
    ];
    let output = fixture.back_up(&[&exclude[..], &["src/data", "tape"]].concat());
    let printed = ok(&output);
    assert!(
        printed.contains("2 files, 4 directories, 0 others; 3 names left out by --exclude"),
        "{printed}"
    );
    ok(&fixture.restore(&["tape", "out"]));
    let found: Vec<_> = walk(&fixture.path("out/data")).into_keys().collect();
    let found: Vec<_> = found.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(
        found,
        ["", "deep", "deep/build", "deep/build/y", "keep", "keep/a.c"]
    );
    let text = failed(
        &fixture.back_up(&["--overwrite", "--exclude", "a[", "src/data", "tape"]),
        2,
    );
    assert!(text.contains("invalid pattern \"a[\""), "{text}");
}

#[test]
fn other_file_system_is_left_out_on_request() {
    let fixture = Fixture::with_blocks();
    fs::create_dir(fixture.path("src/data/mounted")).unwrap();
    let run = |one: &str, medium: &str| {
        // The mount is visible in its own namespace only.
        let script = format!(
            "mount -t tmpfs none src/data/mounted && echo x >src/data/mounted/inside && \
             exec '{DISK_TO_TAPE}' {one} src/data {medium}"
        );
        let namespaces = if is_root() {
            "--mount"
        } else {
            "--mount --map-root-user"
        };
        let arguments = namespaces.split(' ').chain(["sh", "-c", &script]);
        fixture
            .command("unshare", &arguments.collect::<Vec<_>>())
            .output()
    };
    let may_mount = |output: &Output| !String::from_utf8_lossy(&output.stderr).contains("mount:");
    let Some(output) = run("--one-file-system", "one").ok().filter(may_mount) else {
        eprintln!("skipped: nothing can be mounted here");
        return;
    };
    ok(&output);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        text,
        "disk_to_tape: data/mounted: another file system begins here: left out\n"
    );
    ok(&run("", "all").unwrap());
    let list = |tape| ok(&fixture.restore(&["--list", tape]));
    assert!(list("one").contains(" data/mounted\n") && !list("one").contains("inside"));
    assert!(list("all").contains(" data/mounted/inside\n"));
}

/// Returns a command of an unprivileged user; `None` if the test cannot run as one. All users can
/// read the files that the command needs.
pub(crate) fn plain_user_command(
    fixture: &Fixture,
    program: &str,
    args: &[&str],
) -> Option<Command> {
    fs::set_permissions(fixture.dir.path(), Permissions::from_mode(0o755)).unwrap();
    // The program may be in a directory that only root can read, so it is copied. `cp` makes the
    // copy: a file that this process had open for writing would be busy while another test forks.
    let copy = fixture.path("program");
    assert!(
        Command::new("cp")
            .arg(program)
            .arg(&copy)
            .status()
            .unwrap()
            .success()
    );
    let copy = copy.to_str().unwrap();
    if !is_root() {
        return Some(fixture.command(copy, args));
    }
    let id = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    if !can_setpriv(&id) {
        eprintln!("skipped: setpriv does not work here");
        return None;
    }
    Some(fixture.command("setpriv", &[&id[..], &[copy], args].concat()))
}

/// Runs a program as an unprivileged user, and returns its output.
fn as_plain_user(fixture: &Fixture, program: &str, args: &[&str]) -> Option<Output> {
    let output = plain_user_command(fixture, program, args)?
        .output()
        .unwrap();
    fs::remove_file(fixture.path("program")).unwrap();
    Some(output)
}

fn can_setpriv(id: &[&str]) -> bool {
    Command::new("setpriv")
        .args(id)
        .arg("true")
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn unreadable_objects_are_reported_and_the_rest_is_archived() {
    let fixture = Fixture::with_blocks();
    for n in 0..25 {
        let secret = fixture.path(&format!("src/data/secret{n:02}"));
        fs::write(&secret, b"unreadable").unwrap();
        fs::set_permissions(secret, Permissions::from_mode(0o000)).unwrap();
    }
    fs::create_dir(fixture.path("src/data/closed")).unwrap();
    fs::set_permissions(
        fixture.path("src/data/closed"),
        Permissions::from_mode(0o000),
    )
    .unwrap();
    let open = fixture.path("media");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let args = ["--quiet", "src/data", "media/tape"];
    let Some(output) = as_plain_user(&fixture, DISK_TO_TAPE, &args) else {
        return;
    };
    let text = failed(&output, 3);
    assert!(
        text.contains("disk_to_tape: data/secret00: cannot be read: Permission denied"),
        "{text}"
    );
    assert!(
        text.contains("data/closed: cannot be read: Permission denied"),
        "{text}"
    );
    assert_eq!(
        text.lines().count(),
        22,
        "20 of 26 are named, then how many more: {text}"
    );
    assert!(
        text.contains("\ndisk_to_tape: and 6 more: --errors-to FILE has all of them\n"),
        "{text}"
    );
    let _ = fs::set_permissions(
        fixture.path("src/data/closed"),
        Permissions::from_mode(0o755),
    );
    let text = failed(&fixture.restore(&["media/tape", "out"]), 3);
    assert!(
        text.contains("data/closed: was not read to its end when it was archived"),
        "{text}"
    );
    for name in ["first", "noise", "zlast"] {
        assert_same(
            &fixture.path("src/data").join(name),
            &fixture.path("out/data").join(name),
        );
    }
    assert_eq!(
        fixture.names("out/data"),
        ["closed", "first", "noise", "zlast"]
    );
}

#[test]
fn unprivileged_restore_warns_once_about_owners() {
    if !is_root() {
        eprintln!("skipped: only root can make files of other owners");
        return;
    }
    let fixture = Fixture::with_blocks();
    ok(&fixture.back_up(&["src/data", "tape"]));
    fs::set_permissions(fixture.path("tape"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(fixture.path("out"), Permissions::from_mode(0o777)).unwrap();
    let args = ["--quiet", "tape", "out"];
    let Some(output) = as_plain_user(&fixture, TAPE_TO_DISK, &args) else {
        return;
    };
    ok(&output);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        text,
        "tape_to_disk: owners are not restored: only root may do that\n"
    );
    for name in ["first", "noise", "zlast"] {
        let read = |at: &str| fs::read(fixture.path(at).join(name)).unwrap();
        assert!(read("src/data") == read("out/data"), "{name}");
    }
}

/// With any limit on threads, a restore succeeds or reports the limit. It does not depend on the
/// additional threads that make small files.
#[test]
fn restore_works_with_few_threads() {
    if !is_root() {
        eprintln!(
            "skipped: only root can run a program as a separate user, whose threads are counted"
        );
        return;
    }
    let fixture = Fixture::new();
    for i in 0..1000 {
        fs::write(fixture.path("src/data").join(i.to_string()), b"small").unwrap();
    }
    // Many blocks with many files each, so that all threads of the pipe exist while files are made.
    ok(&fixture.back_up(&["--quiet", "--buffer-size", "4K", "src/data", "tape"]));
    fs::set_permissions(fixture.dir.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(fixture.path("tape"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(fixture.path("out"), Permissions::from_mode(0o777)).unwrap();
    let copy = fixture.path("program");
    assert!(
        Command::new("cp")
            .arg(TAPE_TO_DISK)
            .arg(&copy)
            .status()
            .unwrap()
            .success()
    );
    let user = (200_000 + std::process::id()).to_string();
    let (user, group) = (format!("--reuid={user}"), format!("--regid={user}"));
    let restore = |threads: u32, args: &[&str]| {
        let limit = format!("--nproc={threads}");
        let program = [
            &limit,
            "setpriv",
            &user,
            &group,
            "--clear-groups",
            copy.to_str().unwrap(),
        ];
        fixture
            .command("prlimit", &[&program[..], args].concat())
            .output()
            .unwrap()
    };
    if !restore(100, &["--verify", "tape"]).status.success() {
        eprintln!("skipped: setpriv or prlimit does not work here");
        return;
    }
    let mut done = 0;
    for threads in 1..=7 {
        let restored = restore(threads, &["--quiet", "--instances", "1", "tape", "out"]);
        if restored.status.success() {
            done += 1;
            assert_eq!(fixture.names("out/data").len(), 1000);
        } else {
            let why = failed(&restored, 1);
            assert!(
                why.contains("thread") || why.contains("unavailable"),
                "{why}"
            );
        }
        fixture.clear("out");
        fs::set_permissions(fixture.path("out"), Permissions::from_mode(0o777)).unwrap();
    }
    assert!(done > 0);
}
