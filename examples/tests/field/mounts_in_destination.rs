//! File systems that are mounted below the destination of a restore.

use std::fs;

use crate::fixture::{Fixture, failed, noise, ok};
use crate::shell::in_namespace;

/// A server is restored in place, and one directory of it is mounted read-only, or is full. The
/// restore ended there, and nothing that came after it was restored.
#[test]
fn file_system_that_takes_nothing_costs_only_what_belongs_there() {
    for mounts in [
        "mount -t tmpfs -o ro none out/data/b",
        "mount --bind out/data/b out/data/b && mount -o remount,bind,ro out/data/b",
        "mount -t tmpfs -o size=64k none out/data/b && head -c 64K /dev/zero >out/data/b/full",
    ] {
        let fixture = Fixture::new();
        for dir in ["a", "b", "c"] {
            fs::create_dir_all(fixture.path("src/data").join(dir)).unwrap();
            for file in 0..20 {
                let path = fixture.path(&format!("src/data/{dir}/{file}"));
                fs::write(path, noise(10_000)).unwrap();
            }
        }
        fs::create_dir_all(fixture.path("out/data/b")).unwrap();
        ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
        for options in ["", "--overwrite"] {
            let script = format!("$R --quiet {options} tape out");
            let Some(output) = in_namespace(&fixture, mounts, &script) else {
                return;
            };
            let text = failed(&output, 3);
            assert!(text.contains("data/b/0: "), "{mounts}: {text}");
            for dir in ["a", "c"] {
                for file in 0..20 {
                    let name = format!("data/{dir}/{file}");
                    let restored = fs::read(fixture.path("out").join(&name)).unwrap();
                    assert!(restored == noise(10_000), "{mounts}: {name}");
                }
            }
            fs::remove_dir_all(fixture.path("out/data")).unwrap();
            fs::create_dir_all(fixture.path("out/data/b")).unwrap();
        }
    }
}
