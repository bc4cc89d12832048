//! Jobs whose medium, sources and destination overlap.

use std::fs;
use std::os::unix::fs::symlink;

use datapipe::limits::MAX_LOG_ENTRIES;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::fixture::{Fixture, failed, ok};

/// A user rotates tapes inside the directory that they back up, and restores an old one over it:
/// a tape in the archive has the name that the tape at hand has by now, and replaced it. With that
/// the only copy of everything that is newer was gone, with exit code 0.
#[test]
fn restore_does_not_replace_its_own_medium() {
    for medium in ["src/data/tape", "src/data/volumes/"] {
        let file = medium.replace("volumes/", "volumes/000001.tap");
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.path(&file).parent().unwrap()).unwrap();
        fs::write(fixture.path(&file), "an older tape").unwrap();
        fs::write(fixture.path("src/data/other"), "archived").unwrap();
        ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
        fs::copy(fixture.path("tape"), fixture.path(&file)).unwrap();
        fs::write(fixture.path("src/data/other"), "newer").unwrap();
        let text = failed(
            &fixture.restore(&["--quiet", "--overwrite", medium, "src"]),
            3,
        );
        let name = file.trim_start_matches("src/");
        assert!(
            text.contains(&format!(
                "{name}: is a part of the medium that is read, or its key, and is kept"
            )),
            "{text}"
        );
        ok(&fixture.restore(&["--quiet", "--verify", medium]));
        let other = fs::read(fixture.path("src/data/other")).unwrap();
        assert_eq!(other, b"archived");
    }
}

/// A user exchanges two arguments: `--key-file k --overwrite data k`. The archive replaced its own
/// key with exit code 0, so nothing could read it or the older ones.
#[test]
fn key_is_not_replaced_by_the_archive_that_needs_it() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "content").unwrap();
    fs::create_dir(fixture.path("volumes")).unwrap();
    fs::copy(fixture.path("key"), fixture.path("volumes/000001.tap")).unwrap();
    symlink("key", fixture.path("link")).unwrap();
    fs::hard_link(fixture.path("passphrase"), fixture.path("twin")).unwrap();
    for (option, secret, medium) in [
        ("--key-file", "key", "key"),
        ("--key-file", "link", "key"),
        ("--key-file", "key", "link"),
        ("--passphrase-file", "passphrase", "twin"),
        ("--key-file", "volumes/000001.tap", "volumes"),
    ] {
        let before = fs::read(fixture.path(secret)).unwrap();
        for place in [&["--overwrite"][..], &["--overwrite", "--in-place"]] {
            let args = [&[option, secret][..], place, &["src/data", medium]].concat();
            let text = failed(&fixture.back_up(&args), 2);
            assert!(
                text.contains("without which its archive cannot be read"),
                "{text}"
            );
            assert_eq!(fs::read(fixture.path(secret)).unwrap(), before);
        }
    }
}

/// A user has changed the key since the backup that they restore over their home directory: the
/// old key in the archive replaced the one that all newer archives need.
#[test]
fn restore_does_not_replace_its_own_key() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/key"), "an older key").unwrap();
    let encrypted = ["--quiet", "--key-file", "key"];
    ok(&fixture.back_up(&[&encrypted[..], &["src/data", "tape"]].concat()));
    fs::create_dir(fixture.path("out/data")).unwrap();
    fs::rename(fixture.path("key"), fixture.path("out/data/key")).unwrap();
    let before = fs::read(fixture.path("out/data/key")).unwrap();
    let used = ["--quiet", "--overwrite", "--key-file", "out/data/key"];
    let text = failed(&fixture.restore(&[&used[..], &["tape", "out"]].concat()), 3);
    assert!(text.contains("data/key: is a part of the medium"), "{text}");
    assert_eq!(fs::read(fixture.path("out/data/key")).unwrap(), before);

    let script = "$D --quiet --stdin-name key --key-file out/data/key - dump <src/data/key";
    ok(&crate::shell::shell(&fixture, script));
    let refused = fixture.restore(&[&used[..], &["dump", "out/data"]].concat());
    let text = failed(&refused, 1);
    assert!(text.contains("or its key"), "{text}");
    assert_eq!(fs::read(fixture.path("out/data/key")).unwrap(), before);
}

/// A stream that has the name of its tape replaced it as well.
#[test]
fn stream_does_not_replace_its_own_medium() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/dump"), "content").unwrap();
    let script = "$D --quiet --stdin-name dump - tape <src/data/dump && mv tape dump";
    ok(&crate::shell::shell(&fixture, script));
    let text = failed(
        &fixture.restore(&["--quiet", "--overwrite", "dump", "."]),
        1,
    );
    assert!(
        text.contains("would replace the medium that is read, or its key"),
        "{text}"
    );
    ok(&fixture.restore(&["--quiet", "--verify", "dump"]));
}

/// A user forgets the medium: `disk_to_tape --overwrite src/*`. The last file was replaced by an
/// archive of the others.
#[test]
fn file_of_a_source_is_not_replaced() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "the only copy").unwrap();
    symlink("data", fixture.path("src/link")).unwrap();
    for (source, medium) in [
        ("src", "src/data/file"),
        ("src/data", "src/link/file"),
        ("src/link/", "src/data/file"),
    ] {
        for place in [&["--overwrite"][..], &["--overwrite", "--in-place"]] {
            let refused = fixture.back_up(&[place, &[source, medium]].concat());
            let text = failed(&refused, 2);
            assert!(text.contains("would leave no copy"), "{text}");
            let kept = fs::read(fixture.path("src/data/file")).unwrap();
            assert_eq!(kept, b"the only copy");
        }
    }
    // An archive that the source has is one that may be replaced.
    ok(&fixture.back_up(&["--quiet", "src", "src/tape"]));
    ok(&fixture.back_up(&["--quiet", "--overwrite", "src", "src/tape"]));
}

/// Volumes are written to a directory of the source that has other files. These were left out with
/// it, and the exit code was 0.
#[test]
fn files_beside_the_volumes_are_named() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("src/data/media")).unwrap();
    fs::write(fixture.path("src/data/file"), "1").unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "src/data/media"]));
    fs::write(fixture.path("src/data/media/notes"), "2").unwrap();
    let job = ["--quiet", "--overwrite", "src/data", "src/data/media"];
    let text = failed(&fixture.back_up(&job), 3);
    assert!(
        text.contains("data/media/notes: is in the directory of the archive's own medium"),
        "{text}"
    );
    ok(&fixture.back_up(&[&job[..], &["--exclude", "media"]].concat()));
}

/// The same in a tree with more problems than a report keeps: the files beside the volumes were not
/// named, and the exit code was 0.
#[test]
fn files_beside_the_volumes_are_named_among_many_problems() {
    let fixture = Fixture::new();
    for dir in ["a", "data/media"] {
        fs::create_dir(fixture.path("src").join(dir)).unwrap();
    }
    // The walk is ahead of the readers, which report the sockets.
    for n in 0..=2 * MAX_LOG_ENTRIES {
        let socket = fixture.path("src/a").join(n.to_string());
        mknodat(CWD, &socket, FileType::Socket, Mode::RWXU, 0).unwrap();
    }
    fs::write(fixture.path("src/data/file"), "1").unwrap();
    fs::write(fixture.path("src/data/media/notes"), "2").unwrap();
    for more in [&[][..], &["--processes"]] {
        let job = [
            "--quiet",
            "--overwrite",
            "src/a",
            "src/data",
            "src/data/media",
        ];
        let text = failed(&fixture.back_up(&[more, &job].concat()), 3);
        assert!(
            text.contains("data/media/notes: is in the directory of the archive's own medium"),
            "{text}"
        );
    }
}

/// A stranger, or a sync tool, leaves a link that dangles under the name of the lock. The backup
/// looked for the file for ever, and a link to a file let two jobs have two locks.
#[test]
fn name_of_the_lock_that_is_no_file_is_refused() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "1").unwrap();
    fs::create_dir(fixture.path("media")).unwrap();
    let lock = fixture.path("media/.datapipe-lock");
    for target in ["nowhere", "../src/data/file"] {
        symlink(target, &lock).unwrap();
        let script = "timeout 20 $D src/data media";
        let text = failed(&crate::shell::shell(&fixture, script), 1);
        assert!(text.contains("it is a symbolic link"), "{text}");
        fs::remove_file(&lock).unwrap();
    }
    fs::create_dir(&lock).unwrap();
    let text = failed(&fixture.back_up(&["src/data", "media"]), 1);
    assert!(text.contains("it is not a regular file"), "{text}");
    fs::remove_dir(&lock).unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "media"]));
}
