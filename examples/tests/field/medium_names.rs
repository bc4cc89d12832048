//! Media that are not what their names promise.

use std::fs;
use std::os::unix::fs::symlink;

use crate::fixture::{Fixture, failed, noise, ok};
use crate::shell::shell;

/// A user of tar writes the archive to standard output: a file called - was made, and the pipe got
/// the summary. Through /dev/stdout both were mixed in one file.
#[test]
fn standard_stream_is_refused_as_a_medium() {
    let fixture = Fixture::with_blocks();
    let names = fixture.names(".");
    for script in [
        "$D src/data -",
        "$D src/data /dev/stdout",
        "$D src/data /dev/stdout | cat; exit ${PIPESTATUS[0]}",
        "$D src/data /dev/fd/1 > out/file",
        "$D src/data /dev/stderr 2> out/messages; r=$?; cat out/messages >&2; exit $r",
        "$D --overwrite - out/same < out/file > out/same",
        "$R -",
    ] {
        fs::write(fixture.path("out/file"), "data").unwrap();
        let text = failed(&shell(&fixture, script), 2);
        let named =
            text.contains("cannot be a standard stream (-)") || text.contains("is also standard ");
        assert!(named, "{script}: {text}");
        assert_eq!(fixture.names("."), names, "{script}");
    }
    ok(&shell(&fixture, "$D src/data ./-"));
    ok(&shell(&fixture, "$R --verify ./-"));
}

/// A link to the medium points to a disk that is not there. The message was that the file
/// does not exist, although the user sees it.
#[test]
fn dangling_link_is_named_as_one() {
    let fixture = Fixture::with_blocks();
    symlink("disk/tape", fixture.path("tape")).unwrap();
    let text = failed(&fixture.back_up(&["src/data", "tape"]), 1);
    assert!(
        text.contains("tape: it is a symbolic link to a file that does not exist"),
        "{text}"
    );
}

/// A job that was killed is started again. The message called its remains an archive like any
/// other.
#[test]
fn unfinished_archive_is_named_as_one() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/large"), noise(1 << 20)).unwrap();
    for (options, medium) in [
        (&[][..], "tape"),
        (&["--key-file", "key"], "sealed"),
        (&["--volume-size", "1M"], "volumes/"),
    ] {
        ok(&fixture.back_up(&[options, &["--quiet", "src/data", medium]].concat()));
        let again = [options, &["--quiet", "src/data", medium]].concat();
        let text = failed(&fixture.back_up(&again), 1);
        assert!(!text.contains("unfinished"), "{text}");
        let file = match medium {
            "volumes/" => "volumes/000001.tap",
            medium => medium,
        };
        if medium == "volumes/" {
            fs::remove_file(fixture.path("volumes/000002.tap")).unwrap();
        }
        let all = fs::read(fixture.path(file)).unwrap();
        fs::write(fixture.path(file), &all[..all.len() - 300]).unwrap();
        let text = failed(&fixture.back_up(&again), 1);
        assert!(
            text.contains("already holds an archive") && text.contains("that is unfinished"),
            "{text}"
        );
    }
}

/// The disk is full. The message was that a virtual tape has one volume.
#[test]
fn full_file_system_is_named() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/large"), noise(12 << 20)).unwrap();
    let text = failed(
        &shell(
            &fixture,
            "trap '' XFSZ; ulimit -f 8000; $D --buffer-size 64KiB src/data tape",
        ),
        1,
    );
    for part in [
        "tape is full: File too large (EFBIG)",
        "(ulimit -f)",
        "make room, or write to another file system",
        "on stable storage is not confirmed",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Two sources have one name. The advice was to use an option that does not exist.
#[test]
fn sources_of_one_name_get_advice_that_helps() {
    let fixture = Fixture::new();
    for folder in ["p/x", "q/x"] {
        fs::create_dir_all(fixture.path("src").join(folder)).unwrap();
    }
    let text = failed(&fixture.back_up(&["src/p/x", "src/q/x", "tape"]), 2);
    assert!(
        text.contains("name a directory that contains both"),
        "{text}"
    );
    ok(&fixture.back_up(&["src", "tape"]));
}
