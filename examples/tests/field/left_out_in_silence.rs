//! Backups that miss something, of which the user learns when it is too late: each says so, or does
//! not miss it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use crate::fixture::{Fixture, failed, ok};
use crate::shell::in_namespace;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn list(fixture: &Fixture, tape: &str) -> String {
    ok(&fixture.restore(&["--list", tape]))
}

/// In a container: the root is an overlay, whose files have the devices of its layers.
#[test]
fn files_of_an_overlay_are_on_one_file_system() {
    let fixture = Fixture::new();
    let mounts = "mkdir lo up ov && mount -t tmpfs tmpfs lo && mount -t tmpfs tmpfs up && \
                  mkdir lo/dir up/u up/w && echo x >lo/file && echo x >lo/dir/f && mount -t \
                  overlay -o lowerdir=lo,upperdir=up/u,workdir=up/w,xino=off overlay ov && \
                  echo x >ov/new";
    let script = "$D --one-file-system --quiet ov a.tap";
    let Some(output) = in_namespace(&fixture, mounts, script) else {
        return;
    };
    ok(&output);
    assert_eq!(stderr(&output), "");
    let list = list(&fixture, "a.tap");
    for file in ["ov/file", "ov/dir/f", "ov/new"] {
        assert!(list.contains(file), "{file}: {list}");
    }
}

/// A file over which another is mounted, as a container has in /etc, and a directory that is
/// mounted a second time inside itself: both are other mounts, and named.
#[test]
fn mounted_files_and_directories_are_named() {
    let fixture = Fixture::new();
    for name in ["src/data/file", "src/data/hosts", "outside"] {
        fs::write(fixture.path(name), name).unwrap();
    }
    fs::create_dir(fixture.path("src/data/again")).unwrap();
    let mounts = "mount --bind outside src/data/hosts && mount --bind src src/data/again";
    let script = "$D --one-file-system src/data a.tap && $D --quiet src/data b.tap";
    let Some(output) = in_namespace(&fixture, mounts, script) else {
        return;
    };
    ok(&output);
    for name in ["hosts", "again"] {
        let wanted = format!("data/{name}: another file system begins here: left out");
        assert!(stderr(&output).contains(&wanted), "{}", stderr(&output));
    }
    let one = list(&fixture, "a.tap");
    assert!(
        one.contains("data/file") && one.contains("data/again\n"),
        "{one}"
    );
    assert!(
        !one.contains("data/hosts") && !one.contains("again/data"),
        "{one}"
    );
    let all = list(&fixture, "b.tap");
    assert!(
        all.contains("data/hosts") && all.contains("again/data/file"),
        "{all}"
    );
}

/// Files that the kernel makes when they are read state a size of 0, or of a page. They were empty
/// in the archive, or "changed".
#[test]
fn files_without_a_true_size_are_read_to_their_end() {
    let fixture = Fixture::new();
    let files = [
        "/proc/version",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ];
    for file in files.iter().filter(|file| Path::new(file).exists()) {
        let content = fs::read(file).unwrap();
        assert!(!content.is_empty(), "{file}");
        for options in ["--quiet", "--processes"] {
            let output = fixture.back_up(&["--overwrite", options, file, "a.tap"]);
            ok(&output);
            assert_eq!(stderr(&output), "", "{file}");
            ok(&fixture.restore(&["--quiet", "--overwrite", "a.tap", "out"]));
            let name = Path::new(file).file_name().unwrap();
            assert_eq!(
                fs::read(fixture.path("out").join(name)).unwrap(),
                content,
                "{file}"
            );
        }
    }
}

/// A pattern as a shell completes it, or as other programs take it. It was accepted, matched
/// nothing, and the archive had a terabyte of cache.
#[test]
fn pattern_leaves_out_or_is_named_or_refused() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("src/data/cache")).unwrap();
    fs::write(fixture.path("src/data/cache/big"), "x").unwrap();
    fs::write(fixture.path("src/data/kept"), "x").unwrap();
    let absolute = fixture.path("src/data/cache").display().to_string();
    let understood = [
        "cache/",
        "data/cache/",
        "./cache",
        "./data/cache",
        "data//cache",
        "data/./cache",
        "**/cache/",
        absolute.as_str(),
    ];
    for pattern in understood {
        let args = [
            "--quiet",
            "--overwrite",
            "--exclude",
            pattern,
            "src/data",
            "a.tap",
        ];
        let output = fixture.back_up(&args);
        ok(&output);
        assert_eq!(stderr(&output), "", "{pattern}");
        let list = list(&fixture, "a.tap");
        assert!(
            !list.contains("cache") && list.contains("data/kept"),
            "{pattern}: {list}"
        );
    }
    for pattern in ["kept/", "/data/cache", "src/data/cache", "Cache"] {
        for place in ["--quiet", "--processes"] {
            let args = [
                place,
                "--overwrite",
                "--exclude",
                pattern,
                "src/data",
                "a.tap",
            ];
            let output = fixture.back_up(&args);
            ok(&output);
            let wanted = format!("the pattern \"{pattern}\" left nothing out");
            assert!(stderr(&output).contains(&wanted), "{}", stderr(&output));
            assert!(
                list(&fixture, "a.tap").contains("data/cache/big"),
                "{pattern}"
            );
        }
    }
    for pattern in ["", "/", ".", "../data/cache", "data/../cache"] {
        let text = failed(
            &fixture.back_up(&["--exclude", pattern, "src/data", "b.tap"]),
            2,
        );
        assert!(text.contains("invalid pattern"), "{text}");
        assert!(!fixture.path("b.tap").exists(), "{pattern}");
    }
}

/// The source is an empty mount point, or all of it is excluded.
#[test]
fn archive_without_files_is_named() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "x").unwrap();
    fs::create_dir(fixture.path("empty")).unwrap();
    for args in [
        &["empty", "a.tap"][..],
        &["--exclude", "*", "src/data", "b.tap"],
        &["--exclude", "file", "src/data", "c.tap"],
        &["--processes", "empty", "d.tap"],
    ] {
        let output = fixture.back_up(&[&["--quiet"], args].concat());
        ok(&output);
        let text = stderr(&output);
        assert_eq!(
            text.matches("the archive has no files").count(),
            1,
            "{args:?}: {text}"
        );
    }
}

/// /srv/current is a link to today's directory, and the archive had the link and no data.
#[test]
fn symbolic_link_as_source_is_named_or_followed() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "x").unwrap();
    symlink("src/data", fixture.path("link")).unwrap();
    symlink("nothing", fixture.path("dangling")).unwrap();
    for place in ["--quiet", "--processes"] {
        let run = |source, tape| fixture.back_up(&[place, "--overwrite", source, tape]);
        let output = run("link", "a.tap");
        ok(&output);
        assert!(
            stderr(&output).contains("link: is a symbolic link"),
            "{}",
            stderr(&output)
        );
        assert_eq!(list(&fixture, "a.tap").lines().count(), 1);
        let output = run("link/", "b.tap");
        ok(&output);
        assert_eq!(stderr(&output), "");
        assert!(list(&fixture, "b.tap").contains("link/file"));
        let output = run("dangling", "c.tap");
        ok(&output);
        assert!(
            stderr(&output).contains("does not exist"),
            "{}",
            stderr(&output)
        );
    }
    let text = failed(&fixture.back_up(&["dangling/", "d.tap"]), 1);
    assert!(text.contains("cannot read dangling/"), "{text}");
}

/// Files that `chattr` had marked came back unmarked.
#[test]
fn inode_flags_come_back() {
    let fixture = Fixture::new();
    for name in ["a", "b", "c", "plain"] {
        fs::write(fixture.path("src/data").join(name), "x").unwrap();
    }
    let paths = ["a", "b", "c"].map(|name| fixture.path("src/data").join(name));
    let set = Command::new("chattr").arg("+d").args(&paths).output();
    if !set.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this file system has no inode flags, or chattr is missing");
        return;
    }
    for place in ["--quiet", "--processes"] {
        let output = fixture.back_up(&["--overwrite", place, "src/data", "a.tap"]);
        ok(&output);
        assert!(!stderr(&output).contains("flags"), "{}", stderr(&output));
        ok(&fixture.restore(&[place, "a.tap", "out"]));
        for name in ["a", "b", "c", "plain"] {
            let shown = Command::new("lsattr")
                .arg(fixture.path("out/data").join(name))
                .output();
            let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
            let flags = shown.split(' ').next().unwrap();
            assert_eq!(flags.contains('d'), name != "plain", "{place}: {shown}");
        }
        fixture.clear("out");
    }
}
