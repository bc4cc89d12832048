//! Archives with damage of every kind: `--verify` and a restore report the same.

use std::fs;
use std::process::Output;

use crate::fixture::{Fixture, next_random, noise};

/// Returns the errors of a job and its counts, from its JSON object, and its exit code. The name of
/// the part that a restore keeps of a damaged file is not compared.
fn findings(output: &Output) -> (Option<i32>, Vec<String>, Vec<u64>) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
        return (output.status.code(), vec![], vec![]);
    };
    let error = |error: &serde_json::Value| {
        let what = error["what"].as_str().unwrap_or_default();
        let what = what
            .split("; its recovered part")
            .next()
            .unwrap_or_default();
        format!("{}: {what}", error["path"])
    };
    let errors = json["errors"].as_array().into_iter().flatten();
    let mut errors: Vec<_> = errors.map(error).collect();
    errors.sort();
    let counts = ["files", "directories", "others", "errors_total"];
    let counts = counts.map(|name| json[name].as_u64().unwrap_or_default());
    (output.status.code(), errors, counts.to_vec())
}

/// A generator of numbers below its argument.
fn random_numbers(seed: u64) -> impl FnMut(usize) -> usize {
    println!("seed {seed}");
    let mut state = seed;
    move |below| next_random(&mut state) as usize % below
}

/// The weekly check of the archives says that all is well, and the restore that is needed a year
/// later fails; or the other way round.
#[test]
fn verify_finds_what_a_restore_finds() {
    let fixture = Fixture::new();
    for (name, len) in [("a", 0), ("b", 10), ("c", 3000), ("d", 200_000)] {
        fs::write(fixture.path("src/data").join(name), noise(len)).unwrap();
    }
    fs::hard_link(fixture.path("src/data/b"), fixture.path("src/data/e")).unwrap();
    let options = ["--quiet", "--buffer-size", "64KiB", "src/data", "tape"];
    assert!(fixture.back_up(&options).status.success());
    let good = fs::read(fixture.path("tape")).unwrap();
    let mut random = random_numbers(20_261_129);
    for round in 0..120 {
        let (mut bad, at) = (good.clone(), random(good.len()));
        // Half of the damage is in the last 3,000 bytes: the catalogue and the footers.
        let at = if round % 2 == 0 {
            at
        } else {
            good.len() - 1 - at % 3000
        };
        let len = [1, 8, 500, 4096][random(4)].min(good.len() - at);
        match random(4) {
            0 => bad[at] ^= 1 << random(8),
            1 => bad[at..at + len].fill(0),
            2 => drop(bad.drain(at..at + len)),
            _ => drop(bad.splice(at..at, noise(len))),
        }
        fs::write(fixture.path("tape"), &bad).unwrap();
        let verified = fixture.restore(&["--json", "--verify", "tape"]);
        let restored = fixture.restore(&["--json", "tape", "out"]);
        let what = format!("round {round}, byte {at} of {}", good.len());
        assert_eq!(findings(&verified), findings(&restored), "{what}");
        fixture.clear("out");
    }
}

/// A user restores one directory of a damaged tape, gets no message, and finds out later what a
/// restore of everything would have reported about it.
#[test]
fn restore_of_some_paths_finds_what_a_restore_of_all_finds_about_them() {
    let fixture = Fixture::new();
    for (name, len) in [("a", 0), ("b", 10), ("c", 3000), ("d", 200_000)] {
        for dir in ["src/data", "src/data/dir"] {
            fs::create_dir_all(fixture.path(dir)).unwrap();
            fs::write(fixture.path(dir).join(name), noise(len)).unwrap();
        }
    }
    fs::hard_link(
        fixture.path("src/data/dir/b"),
        fixture.path("src/data/dir/e"),
    )
    .unwrap();
    let options = ["--quiet", "--buffer-size", "64KiB", "src/data", "tape"];
    assert!(fixture.back_up(&options).status.success());
    let good = fs::read(fixture.path("tape")).unwrap();
    let mut random = random_numbers(20_261_130);
    for round in 0..60 {
        let (mut bad, at) = (good.clone(), random(good.len()));
        let len = [1, 8, 500, 4096][random(4)].min(good.len() - at);
        match random(3) {
            0 => bad[at] ^= 1 << random(8),
            1 => bad[at..at + len].fill(0),
            _ => drop(bad.drain(at..at + len)),
        }
        fs::write(fixture.path("tape"), &bad).unwrap();
        let all = fixture.restore(&["--json", "tape", "out"]);
        fixture.clear("out");
        let part = fixture.restore(&["--json", "--path", "data/dir", "tape", "out"]);
        fixture.clear("out");
        let about = |output: &Output| -> Vec<String> {
            let (_, errors, _) = findings(output);
            errors
                .into_iter()
                .filter(|error| error.starts_with("\"data/dir"))
                .collect()
        };
        let what = format!("round {round}, byte {at} of {}", good.len());
        assert_eq!(about(&all), about(&part), "{what}");
    }
}

/// One byte of a small tape is wrong: each one of its first header, and every 29th after that.
/// `DATAPIPE_FLIPS=1` tries each byte, which takes minutes.
/// Verify and restore agree on the exit code and the names, and what has its name is intact.
#[test]
fn flipped_byte_is_reported_alike_wherever_it_is() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "some data").unwrap();
    fs::hard_link(fixture.path("src/data/file"), fixture.path("src/data/link")).unwrap();
    let options = ["--quiet", "--compress", "none", "src/data", "tape"];
    assert!(fixture.back_up(&options).status.success());
    let good = fs::read(fixture.path("tape")).unwrap();
    let step = match std::env::var_os("DATAPIPE_FLIPS") {
        Some(_) => 1,
        None => 29,
    };
    for at in (0..good.len()).filter(|at| *at < 40 || at % step == 0) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(fixture.path("tape"), &bad).unwrap();
        let verified = fixture.restore(&["--json", "--verify", "tape"]);
        let restored = fixture.restore(&["--json", "tape", "out"]);
        let what = format!("byte {at} of {}", good.len());
        assert_eq!(findings(&verified), findings(&restored), "{what}");
        fixture.assert_no_damage_under_original_names();
        if restored.status.success() {
            fixture.assert_same();
        }
        fixture.clear("out");
    }
}
