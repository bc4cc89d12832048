//! Trees through the programs and back.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::bench::{Bench, DISK_TO_TAPE, failed, ok};
use crate::walk::assert_same;

#[test]
fn a_tree_comes_back() {
    let bench = Bench::with_tree();
    for (compress, framing) in [
        ("zstd", "header"),
        ("none", "header-footer"),
        ("zstd:9", "once"),
        ("deflate", "once"),
        ("deflate:9", "header"),
    ] {
        let how = ["--compress", compress, "--framing", framing, "--overwrite"];
        let printed = ok(&bench.back_up(&[&how[..], &["src/data", "tape"]].concat()));
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
        let printed = ok(&bench.restore(&["--overwrite", "tape", "out"]));
        assert!(printed.contains("> tree-restore"), "{printed}");
        bench.assert_same();
        let sparse = fs::metadata(bench.path("out/data/sparse")).unwrap();
        assert!(sparse.blocks() * 512 < 1 << 20, "holes stay holes");
        bench.clear("out");
        let printed = ok(&bench.restore(&["--verify", "tape"]));
        assert!(
            printed.contains("the archive is complete, on 1 volume"),
            "{printed}"
        );
        assert!(bench.names("out").is_empty(), "verifying writes nothing");
    }
}

#[test]
fn a_tree_comes_back_with_a_key() {
    let bench = Bench::with_tree();
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
        ok(&bench.back_up(&[&how[..], &["--quiet", "src/data", "tape"]].concat()));
        ok(&bench.restore(&[
            "--key-file",
            "key",
            "--instances",
            instances,
            "--overwrite",
            "tape",
            "out",
        ]));
        bench.assert_same();
        bench.clear("out");
        let tape = fs::read(bench.path("tape")).unwrap();
        assert!(
            !tape.windows(4).any(|bytes| bytes == b"text"),
            "the tape shows names"
        );
    }
    assert_eq!(
        fs::metadata(bench.path("tape")).unwrap().mode() & 0o777,
        0o600
    );
}

#[test]
fn several_sources_lie_side_by_side() {
    let bench = Bench::with_blocks();
    fs::create_dir_all(bench.path("src/more/inner")).unwrap();
    fs::write(bench.path("src/single"), b"a file is a source too").unwrap();
    symlink("nowhere", bench.path("src/link")).unwrap();
    ok(&bench.back_up(&["src/single", "src/data/", "src/more", "src/link", "tape"]));
    ok(&bench.restore(&["tape", "out"]));
    assert_eq!(bench.names("out"), ["data", "link", "more", "single"]);
    assert_same(&bench.path("src"), &{
        // The sources' directory was none of the sources.
        let times = fs::FileTimes::new()
            .set_modified(fs::metadata(bench.path("src")).unwrap().modified().unwrap());
        fs::File::open(bench.path("out"))
            .unwrap()
            .set_times(times)
            .unwrap();
        bench.path("out")
    });
}

#[test]
fn a_source_is_called_what_it_is_called() {
    let bench = Bench::new();
    fs::create_dir(bench.path("src/data/inner")).unwrap();
    let named = |source: &str, name: &str| {
        ok(&bench.back_up(&["--quiet", "--overwrite", source, "tape"]));
        ok(&bench.restore(&["--quiet", "tape", "out"]));
        assert_eq!(bench.names("out"), [name], "{source}");
        fs::remove_dir_all(bench.path("out").join(name)).unwrap();
    };
    named("src/data/", "data");
    named("src/data/.", "data");
    named("src/data/inner/..", "data");
    named(bench.path("src/data").to_str().unwrap(), "data");
    named(".", bench.dir.path().file_name().unwrap().to_str().unwrap());
    let mut above = bench.command(DISK_TO_TAPE, &["--overwrite", "..", "../../tape"]);
    ok(&above
        .current_dir(bench.path("src/data/inner"))
        .output()
        .unwrap());
    assert_eq!(fs::read_dir(bench.path("src")).unwrap().count(), 2);
    ok(&bench.restore(&["src/tape", "out"]));
    assert_eq!(bench.names("out"), ["data"]);
    // Without anything but its own name.
    ok(&bench.back_up(&["--overwrite", "--exclude", "root/*", "/", "tape"]));
    assert!(ok(&bench.restore(&["--list", "tape"])).ends_with(" root\n"));
}

#[test]
fn two_sources_of_one_name_are_refused() {
    let bench = Bench::with_blocks();
    fs::create_dir_all(bench.path("src/other/data")).unwrap();
    for other in ["src/other/data", "src/data/.", "src/data"] {
        let text = failed(&bench.back_up(&["src/data", other, "tape"]), 2);
        assert!(
            text.contains("would both be named \"data\" in the archive"),
            "{text}"
        );
    }
    assert!(!bench.path("tape").exists());
}

#[test]
fn one_path_comes_back() {
    let bench = Bench::with_tree();
    ok(&bench.back_up(&["--quiet", "src/data", "tape"]));
    ok(&bench.restore(&[
        "--path",
        "data/empty dir",
        "--path",
        "/data/text",
        "tape",
        "out",
    ]));
    assert_eq!(bench.names("out/data"), ["empty dir", "text"]);
    assert_same(
        &bench.path("src/data/empty dir"),
        &bench.path("out/data/empty dir"),
    );
    assert_same(&bench.path("src/data/text"), &bench.path("out/data/text"));
    let text = failed(
        &bench.restore(&["--path", "data/none", "--path", "data/link", "tape", "out"]),
        3,
    );
    assert!(
        text.contains("data/none: not found in the archive"),
        "{text}"
    );
    assert_eq!(bench.names("out/data"), ["empty dir", "link", "text"]);
}

#[test]
fn the_destination_is_made() {
    let bench = Bench::with_blocks();
    ok(&bench.back_up(&["src/data", "tape"]));
    ok(&bench.restore(&["tape", "new"]));
    assert_same(&bench.path("src/data"), &bench.path("new/data"));
    let text = failed(&bench.restore(&["tape", "far/away"]), 1);
    assert!(text.contains("cannot make far/away"), "{text}");
    let text = failed(&bench.restore(&["tape", "tape"]), 1);
    assert!(text.contains("cannot restore to tape"), "{text}");
    // Where one stands, if nothing is said.
    ok(&bench.restore(&["--quiet", "tape"]));
    assert_same(&bench.path("src/data"), &bench.path("data"));
}

#[test]
fn a_directory_takes_as_many_volumes_as_are_needed() {
    let bench = Bench::with_tree();
    let how = [
        "--passphrase-file",
        "passphrase",
        "--volume-size",
        "512KiB",
        "--buffer-size",
        "128KiB",
    ];
    ok(&bench.back_up(&[&how[..], &["src/data", "volumes/"]].concat()));
    let names = bench.names("volumes");
    assert!(names.len() > 10, "{names:?}");
    for (number, name) in names.iter().enumerate() {
        assert_eq!(
            name.to_str(),
            Some(format!("{:06}.tap", number + 1).as_str())
        );
        let len = fs::metadata(bench.path("volumes").join(name))
            .unwrap()
            .len();
        assert!(len <= 512 << 10, "{name:?} has {len} bytes");
    }
    let open = ["--passphrase-file", "passphrase"];
    let printed = ok(&bench.restore(&[&open[..], &["--verify", "volumes"]].concat()));
    assert!(
        printed.contains(&format!("complete, on {} volumes", names.len())),
        "{printed}"
    );
    ok(&bench.restore(&[&open[..], &["volumes", "out"]].concat()));
    bench.assert_same();

    // With other files in it, and fewer volumes the next time.
    fs::write(bench.path("volumes/mine"), b"precious").unwrap();
    let text = failed(&bench.back_up(&["src/data", "volumes"]), 1);
    assert!(
        text.contains("volumes: already holds an archive written 2"),
        "{text}"
    );
    ok(&bench.back_up(&["--overwrite", "src/data", "volumes"]));
    assert_eq!(bench.names("volumes"), ["000001.tap", "mine"]);
    ok(&bench.restore(&["--overwrite", "volumes/", "out"]));
    bench.assert_same();
}

#[test]
fn a_volume_that_is_missing_is_damage() {
    let bench = Bench::with_blocks();
    let how = ["--volume-size", "64KiB", "--buffer-size", "64KiB"];
    ok(&bench.back_up(&[&how[..], &["src/data", "volumes/"]].concat()));
    ok(&bench.restore(&["volumes", "out"]));
    bench.assert_same();
    bench.clear("out");
    fs::remove_file(bench.path("volumes/000003.tap")).unwrap();
    let text = bench.fail_to_restore(&["volumes", "out"], 3);
    assert!(
        text.contains("volume 3 of ") && text.contains("data/noise: "),
        "{text}"
    );
}
