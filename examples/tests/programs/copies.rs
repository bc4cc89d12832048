//! `archive_copy`: copies that are made without a key, and what they say of themselves.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{ARCHIVE_COPY, Fixture, failed, next_random, noise, ok, setting};

fn copy(fixture: &Fixture, args: &[&str]) -> Output {
    fixture.command(ARCHIVE_COPY, args).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

const KEYS: [&[&str]; 2] = [&[], &["--key-file", "key"]];

#[test]
fn copy_without_key_restores_as_its_source_on_other_media() {
    for key in KEYS {
        let fixture = Fixture::with_tree();
        ok(&fixture.back_up(&[key, &["--quiet", "src/data", "tape"]].concat()));
        let variants: [&[&str]; 3] = [
            &["tape", "other"],
            &[
                "--record-size",
                "8KiB",
                "--framing",
                "once",
                "tape",
                "other",
            ],
            &["--volume-size", "256KiB", "tape", "volumes/"],
        ];
        for args in variants {
            let dest = *args.last().unwrap();
            let output = copy(&fixture, &[&["--json"], args].concat());
            ok(&output);
            let summary = json(&output);
            assert_eq!(summary["job"], "copy");
            assert_eq!(summary["copies"][0]["state"], "complete");
            let hash = summary["header_hash"].as_str().unwrap().to_owned();
            let restore = ["--quiet", "--expect", &hash, dest, "out"];
            ok(&fixture.restore(&[key, &restore].concat()));
            fixture.assert_same();
            fixture.clear("out");
            let verified = fixture.restore(&[key, &["--verify", "--json", dest]].concat());
            ok(&verified);
            assert_eq!(json(&verified)["authenticated"], !key.is_empty());
            remove(&fixture, dest);
        }
        fixture.assert_holds(&["tape"]);
    }
}

#[test]
fn copy_is_listed_with_the_session_of_its_source() {
    let fixture = Fixture::with_blocks();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    ok(&copy(&fixture, &["--quiet", "tape", "other"]));
    let sessions = |medium| json(&fixture.restore(&["--sessions", "--json", medium]));
    let source = sessions("tape");
    let id = source["sessions"][0]["id"].as_str().unwrap().to_owned();
    let listed = sessions("other");
    let archive = &listed["sessions"][0]["archives"][0];
    assert_eq!(archive["copy_of"]["session"], id.as_str());
    assert_eq!(
        archive["copy_of"]["created"],
        source["sessions"][0]["created"]
    );
    assert!(
        source["sessions"][0]["archives"][0]
            .get("copy_of")
            .is_none()
    );
    let text = ok(&fixture.restore(&["--sessions", "other"]));
    let copy_of = format!("(copy of session {} of ", &id[..8]);
    assert!(text.contains(&copy_of), "{text}");
    let text = ok(&fixture.restore(&["--verify", "other"]));
    assert!(text.contains(&copy_of[1..]), "{text}");
}

#[test]
fn encrypted_archive_is_verified_without_its_key_and_says_that_nothing_is_authenticated() {
    let fixture = Fixture::with_blocks();
    let key = ["--key-file", "key", "--quiet", "--compress", "none"];
    ok(&fixture.back_up(&[&key[..], &["--buffer-size", "64KiB", "src/data", "tape"]].concat()));
    let output = fixture.restore(&["--verify", "--json", "tape"]);
    ok(&output);
    let summary = json(&output);
    assert_eq!(
        (&summary["authenticated"], &summary["exit"]),
        (&false.into(), &0.into())
    );
    assert_eq!(summary["errors_total"], 0);
    let output = fixture.restore(&["--verify", "tape"]);
    assert!(ok(&output).contains("the archive is complete"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("nothing was authenticated"), "{text}");

    // One byte of a block, and the last block.
    let good = fs::read(fixture.path("tape")).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(fixture.path("tape"), &bad).unwrap();
    let text = failed(&fixture.restore(&["--verify", "tape"]), 3);
    assert!(
        text.contains("checksum") && text.contains("block "),
        "{text}"
    );
    let copied = copy(&fixture, &["--json", "tape", "other"]);
    failed(&copied, 3);
    assert_eq!(json(&copied)["copies"][0]["state"], "incomplete");
    let text = failed(&fixture.restore(&["--verify", "other"]), 3);
    assert!(text.contains("missing"), "{text}");
    let with_key = ["--verify", "--key-file", "key", "other"];
    let of_copy = failed(&fixture.restore(&with_key), 3);
    assert!(of_copy.contains("data/noise"), "{of_copy}");

    fs::write(fixture.path("tape"), &good[..good.len() * 2 / 3]).unwrap();
    let text = failed(&fixture.restore(&["--verify", "tape"]), 3);
    assert!(text.contains("incomplete"), "{text}");
    // It does not replace anything, and can be copied all the same.
    let cut = copy(&fixture, &["--quiet", "--overwrite", "tape", "other"]);
    assert!(failed(&cut, 1).contains("is still there"), "{cut:?}");
    let cut = copy(&fixture, &["--quiet", "tape", "new"]);
    assert!(failed(&cut, 3).contains("incomplete"), "{cut:?}");
    // Without a key nothing else is done.
    for args in [&["--list", "tape"][..], &["tape", "out"]] {
        failed(&fixture.restore(args), 1);
    }
}

#[test]
fn all_archives_are_copied_in_their_order() {
    let fixture = Fixture::new();
    for (number, key) in [(1, KEYS[0]), (2, KEYS[1]), (3, KEYS[1])] {
        fs::write(fixture.path("src/data/file"), noise(20_000 + number)).unwrap();
        let args = ["--quiet", "--append", "--other-key", "src/data", "tape"];
        ok(&fixture.back_up(&[key, &args].concat()));
    }
    let output = copy(&fixture, &["--all", "--json", "tape", "other/"]);
    ok(&output);
    let hashes = |medium: &str| -> Vec<Value> {
        let list = json(&fixture.restore(&["--sessions", "--json", medium]));
        let sessions = list["sessions"].as_array().unwrap().clone();
        let archives = sessions
            .iter()
            .flat_map(|one| one["archives"].as_array().unwrap());
        archives
            .map(|archive| archive["header_hash"].clone())
            .collect()
    };
    assert_eq!(hashes("tape"), hashes("other/"));
    assert_eq!(json(&output)["copies"].as_array().unwrap().len(), 3);
    let args = [
        "--key-file",
        "key",
        "--archive",
        "2",
        "--quiet",
        "other/",
        "out",
    ];
    ok(&fixture.restore(&args));
    assert_eq!(
        fs::read(fixture.path("out/data/file")).unwrap(),
        noise(20_002)
    );
    // One session after the other keeps them apart; without a selection the last one is copied.
    for number in ["1", "2"] {
        let args = [
            "--quiet",
            "--all",
            "--session",
            number,
            "--append",
            "tape",
            "third",
        ];
        ok(&copy(&fixture, &args));
    }
    ok(&copy(&fixture, &["--quiet", "--append", "tape", "third"]));
    assert_eq!(hashes("tape"), hashes("third"));
}

#[test]
fn copy_never_replaces_its_source_or_other_content() {
    let fixture = Fixture::with_blocks();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    ok(&fixture.back_up(&["--quiet", "--volume-size", "128KiB", "src/data", "volumes/"]));
    fs::hard_link(fixture.path("tape"), fixture.path("link")).unwrap();
    let before = fs::read(fixture.path("tape")).unwrap();
    let volumes = fixture.names("volumes");
    for args in [
        &["--overwrite", "tape", "tape"][..],
        &["--append", "tape", "tape"],
        &["--overwrite", "tape", "link"],
        &["--overwrite", "volumes/", "volumes/000001.tap"],
        &["--append", "volumes/", "volumes"],
        &["volumes/", "volumes/copy.tap"],
        &["--append", "volumes/", "volumes/000999.tap"],
    ] {
        let text = failed(&copy(&fixture, args), 2);
        assert!(text.contains("is the source of the copy"), "{text}");
    }
    assert!(fs::read(fixture.path("tape")).unwrap() == before);
    assert_eq!(fixture.names("volumes"), volumes);
    let text = failed(&copy(&fixture, &["volumes/", "tape"]), 1);
    assert!(text.contains("already holds an archive"), "{text}");
    // A source without an archive leaves what is to be replaced.
    fs::write(fixture.path("nothing"), vec![0; 4096]).unwrap();
    let text = failed(&copy(&fixture, &["--overwrite", "nothing", "tape"]), 1);
    assert!(text.contains("is still there"), "{text}");
    assert!(fs::read(fixture.path("tape")).unwrap() == before);
    let bad = copy(&fixture, &["--record-size", "100", "tape", "new"]);
    assert!(failed(&bad, 2).contains("1024 to 16777216"));
    fixture.assert_holds(&["link", "nothing", "tape", "volumes"]);
}

/// A signal stops the copy at a random moment: the source stays whole, what is left is not called
/// complete unless it is, and the next attempt makes the copy.
#[test]
fn stopped_or_killed_copy_leaves_its_source_and_is_made_again() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/noise"), noise(6 << 20)).unwrap();
    ok(&fixture.back_up(&["--quiet", "--key-file", "key", "src/data", "tape"]));
    let before = fs::read(fixture.path("tape")).unwrap();
    let rounds = setting("DATAPIPE_KILLS", 2);
    let mut random = setting("DATAPIPE_SEED", 1);
    println!("DATAPIPE_SEED={random} DATAPIPE_KILLS={rounds}");
    for (signal, dest, size) in [
        ("-KILL", "other", "1GiB"),
        ("-KILL", "volumes/", "1MiB"),
        ("-INT", "other", "1GiB"),
        ("-INT", "volumes/", "1MiB"),
    ] {
        let sizes = ["--record-size", "4KiB", "--volume-size", size];
        let args = [&["--quiet"], &sizes[..], &["tape", dest]].concat();
        remove(&fixture, dest);
        let start = Instant::now();
        ok(&copy(&fixture, &args));
        let most = start.elapsed().as_micros() as u64 * 5 / 4;
        let mut complete = 0;
        for _ in 0..rounds {
            remove(&fixture, dest);
            let mut child = fixture.command(ARCHIVE_COPY, &args);
            let mut child = child.stderr(Stdio::null()).spawn().unwrap();
            sleep(Duration::from_micros(next_random(&mut random) % most));
            let id = child.id().to_string();
            // The copy may have ended already.
            let _ = Command::new("kill").args([signal, &id]).output().unwrap();
            child.wait().unwrap();
            assert!(fs::read(fixture.path("tape")).unwrap() == before);
            let verified = fixture.restore(&["--verify", "--quiet", dest]);
            match verified.status.code() {
                Some(0) => {
                    complete += 1;
                    restore_same(&fixture, dest);
                }
                // Damaged or incomplete, or there is no archive yet.
                code => assert!(matches!(code, Some(1 | 3)), "{verified:?}"),
            }
            ok(&copy(&fixture, &[&["--overwrite"], &args[..]].concat()));
            restore_same(&fixture, dest);
        }
        println!("{signal} {dest}: {rounds} copies stopped, {complete} of them complete");
    }
}

fn restore_same(fixture: &Fixture, medium: &str) {
    ok(&fixture.restore(&["--quiet", "--key-file", "key", medium, "out"]));
    fixture.assert_same();
    fixture.clear("out");
}

/// Removes a medium, if there is one.
fn remove(fixture: &Fixture, medium: &str) {
    let path = fixture.path(medium);
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        fs::remove_file(path).unwrap();
    }
}
