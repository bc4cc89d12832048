//! Backup and restore of trees.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::fixture::{DISK_TO_TAPE, Fixture, failed, ok};
use crate::walk::assert_same;

#[test]
fn tree_is_restored() {
    let fixture = Fixture::with_tree();
    for (compress, framing) in [
        ("zstd", "header"),
        ("none", "header-footer"),
        ("zstd:9", "once"),
        ("deflate", "once"),
        ("deflate:9", "header"),
    ] {
        let how = ["--compress", compress, "--framing", framing, "--overwrite"];
        let printed = ok(&fixture.back_up(&[&how[..], &["src/data", "tape"]].concat()));
        let method = compress.split(':').next().unwrap();
        assert_eq!(
            printed.contains(&format!("> {method} ")),
            method != "none",
            "{printed}"
        );
        assert!(
            printed.contains("tree-head x") && printed.contains(" > analyze >"),
            "{printed}"
        );
        let printed = ok(&fixture.restore(&["--overwrite", "tape", "out"]));
        assert!(printed.contains("> tree-restore"), "{printed}");
        fixture.assert_same();
        let sparse = fs::metadata(fixture.path("out/data/sparse")).unwrap();
        assert!(sparse.blocks() * 512 < 1 << 20, "holes stay holes");
        fixture.clear("out");
        let printed = ok(&fixture.restore(&["--verify", "tape"]));
        assert!(
            printed.contains("the archive is complete, on 1 volume"),
            "{printed}"
        );
        assert!(fixture.names("out").is_empty(), "verifying writes nothing");
    }
}

#[test]
fn encrypted_tree_is_restored() {
    let fixture = Fixture::with_tree();
    for (instances, size) in [("1", "4MiB"), ("3", "64K"), ("2", "8192")] {
        let how = [
            "--key-file",
            "key",
            "--instances",
            instances,
            "--buffer-size",
            size,
            "--overwrite",
        ];
        ok(&fixture.back_up(&[&how[..], &["--quiet", "src/data", "tape"]].concat()));
        ok(&fixture.restore(&[
            "--key-file",
            "key",
            "--instances",
            instances,
            "--overwrite",
            "tape",
            "out",
        ]));
        fixture.assert_same();
        fixture.clear("out");
        let tape = fs::read(fixture.path("tape")).unwrap();
        assert!(
            !tape.windows(4).any(|bytes| bytes == b"text"),
            "the tape shows names"
        );
    }
    assert_eq!(
        fs::metadata(fixture.path("tape")).unwrap().mode() & 0o777,
        0o600
    );
}

#[test]
fn several_sources_are_restored_side_by_side() {
    let fixture = Fixture::with_blocks();
    fs::create_dir_all(fixture.path("src/more/inner")).unwrap();
    fs::write(fixture.path("src/single"), b"a file is a source too").unwrap();
    symlink("nowhere", fixture.path("src/link")).unwrap();
    ok(&fixture.back_up(&["src/single", "src/data/", "src/more", "src/link", "tape"]));
    ok(&fixture.restore(&["tape", "out"]));
    assert_eq!(fixture.names("out"), ["data", "link", "more", "single"]);
    assert_same(&fixture.path("src"), &{
        // The directory of the sources was not a source, so its time is not restored.
        let times = fs::FileTimes::new().set_modified(
            fs::metadata(fixture.path("src"))
                .unwrap()
                .modified()
                .unwrap(),
        );
        fs::File::open(fixture.path("out"))
            .unwrap()
            .set_times(times)
            .unwrap();
        fixture.path("out")
    });
}

#[test]
fn source_has_its_own_name_in_the_archive() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("src/data/inner")).unwrap();
    let named = |source: &str, name: &str| {
        ok(&fixture.back_up(&["--quiet", "--overwrite", source, "tape"]));
        ok(&fixture.restore(&["--quiet", "tape", "out"]));
        assert_eq!(fixture.names("out"), [name], "{source}");
        fs::remove_dir_all(fixture.path("out").join(name)).unwrap();
    };
    named("src/data/", "data");
    named("src/data/.", "data");
    named("src/data/inner/..", "data");
    named(fixture.path("src/data").to_str().unwrap(), "data");
    named(
        ".",
        fixture.dir.path().file_name().unwrap().to_str().unwrap(),
    );
    let mut above = fixture.command(DISK_TO_TAPE, &["--overwrite", "..", "../../tape"]);
    ok(&above
        .current_dir(fixture.path("src/data/inner"))
        .output()
        .unwrap());
    assert_eq!(fs::read_dir(fixture.path("src")).unwrap().count(), 2);
    ok(&fixture.restore(&["src/tape", "out"]));
    assert_eq!(fixture.names("out"), ["data"]);
    // An archive of the root directory without its entries.
    ok(&fixture.back_up(&[
        "--overwrite",
        "--allow-empty",
        "--exclude",
        "root/*",
        "/",
        "tape",
    ]));
    assert!(ok(&fixture.restore(&["--list", "tape"])).ends_with(" root\n"));
}

#[test]
fn two_sources_of_one_name_are_rejected() {
    let fixture = Fixture::with_blocks();
    fs::create_dir_all(fixture.path("src/other/data")).unwrap();
    for other in ["src/other/data", "src/data/.", "src/data"] {
        let text = failed(&fixture.back_up(&["src/data", other, "tape"]), 2);
        assert!(
            text.contains("would both be named \"data\" in the archive"),
            "{text}"
        );
    }
    assert!(!fixture.path("tape").exists());
}

#[test]
fn one_path_is_restored() {
    let fixture = Fixture::with_tree();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    ok(&fixture.restore(&[
        "--path",
        "data/empty dir",
        "--path",
        "/data/text",
        "tape",
        "out",
    ]));
    assert_eq!(fixture.names("out/data"), ["empty dir", "text"]);
    assert_same(
        &fixture.path("src/data/empty dir"),
        &fixture.path("out/data/empty dir"),
    );
    assert_same(
        &fixture.path("src/data/text"),
        &fixture.path("out/data/text"),
    );
    let text = failed(
        &fixture.restore(&["--path", "data/none", "--path", "data/link", "tape", "out"]),
        3,
    );
    assert!(
        text.contains("data/none: not found in the archive"),
        "{text}"
    );
    assert_eq!(fixture.names("out/data"), ["empty dir", "link", "text"]);
}

#[test]
fn destination_is_created() {
    let fixture = Fixture::with_blocks();
    ok(&fixture.back_up(&["src/data", "tape"]));
    ok(&fixture.restore(&["tape", "new"]));
    assert_same(&fixture.path("src/data"), &fixture.path("new/data"));
    let text = failed(&fixture.restore(&["tape", "far/away"]), 1);
    assert!(text.contains("cannot create far/away"), "{text}");
    let text = failed(&fixture.restore(&["tape", "tape"]), 1);
    assert!(text.contains("cannot restore to tape"), "{text}");
    // The default destination is the current directory.
    ok(&fixture.restore(&["--quiet", "tape"]));
    assert_same(&fixture.path("src/data"), &fixture.path("data"));
}

#[test]
fn directory_holds_as_many_volumes_as_needed() {
    let fixture = Fixture::with_tree();
    let how = [
        "--passphrase-file",
        "passphrase",
        "--volume-size",
        "512KiB",
        "--buffer-size",
        "128KiB",
    ];
    ok(&fixture.back_up(&[&how[..], &["src/data", "volumes/"]].concat()));
    let names = fixture.names("volumes");
    assert!(names.len() > 10, "{names:?}");
    for (number, name) in names.iter().enumerate() {
        assert_eq!(
            name.to_str(),
            Some(format!("{:06}.tap", number + 1).as_str())
        );
        let len = fs::metadata(fixture.path("volumes").join(name))
            .unwrap()
            .len();
        assert!(len <= 512 << 10, "{name:?} has {len} bytes");
    }
    let open = ["--passphrase-file", "passphrase"];
    let printed = ok(&fixture.restore(&[&open[..], &["--verify", "volumes"]].concat()));
    assert!(
        printed.contains(&format!("complete, on {} volumes", names.len())),
        "{printed}"
    );
    ok(&fixture.restore(&[&open[..], &["volumes", "out"]].concat()));
    fixture.assert_same();

    // The directory has other files, and the next archive needs fewer volumes.
    fs::write(fixture.path("volumes/mine"), b"precious").unwrap();
    let text = failed(&fixture.back_up(&["src/data", "volumes"]), 1);
    assert!(
        text.contains("volumes: already holds an archive written 2"),
        "{text}"
    );
    ok(&fixture.back_up(&["--overwrite", "src/data", "volumes"]));
    assert_eq!(fixture.names("volumes"), ["000001.tap", "mine"]);
    ok(&fixture.restore(&["--overwrite", "volumes/", "out"]));
    fixture.assert_same();
}

#[test]
fn missing_volume_is_reported_as_damage() {
    let fixture = Fixture::with_blocks();
    let how = ["--volume-size", "64KiB", "--buffer-size", "64KiB"];
    ok(&fixture.back_up(&[&how[..], &["src/data", "volumes/"]].concat()));
    ok(&fixture.restore(&["volumes", "out"]));
    fixture.assert_same();
    fixture.clear("out");
    fs::remove_file(fixture.path("volumes/000003.tap")).unwrap();
    let text = fixture.fail_to_restore(&["volumes", "out"], 3);
    assert!(
        text.contains("volume 3 of ") && text.contains("data/noise: "),
        "{text}"
    );
}
