//! Archives with damage of every kind: `--verify` and a restore report the same.

use std::fs;
use std::process::Output;

use crate::fixture::{Fixture, noise};

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
    let mut state: u64 = 20_261_129;
    println!("seed {state}");
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
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
