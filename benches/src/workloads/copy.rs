//! `README.md`, "copy": an encrypted archive to another medium, without its key.

use std::env;
use std::error::Error;
use std::ffi::OsStr;

use super::scratch::Scratch;
use super::{Bound, Comparison, ExpectedFiles, Measure, PAIRS, Task, Workload, programs};

/// Environment variable with the length of the archive in MiB.
const SIZE: &str = "DATAPIPE_COPY_MIB";
const DEFAULT_MIB: u64 = 4096;

/// Pairs of runs on a disk. Each writes 8 GiB.
const DISK_PAIRS: usize = 5;

pub(super) const WORKLOAD: Workload = Workload {
    name: "copy",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: &[WALL],
        prepare: || prepare(Scratch::new),
    },
};

pub(super) const DISK: Workload = Workload {
    name: "copy-disk",
    task: Task::Pairs {
        pairs: DISK_PAIRS,
        bounds: &[WALL],
        prepare: || prepare(Scratch::on_disk),
    },
};

const WALL: Bound = Bound {
    measure: Measure::Wall,
    at_most: 1.25,
};

/// Makes a directory for so many bytes and files.
type Make = fn(u64, u64) -> Result<Scratch, Box<dyn Error>>;

fn prepare(make: Make) -> Result<Comparison, Box<dyn Error>> {
    programs::require(&["cp", "sync", "head"])?;
    let mib = match env::var(SIZE) {
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{SIZE}={text} is not a number of MiB"))?,
        Err(_) => DEFAULT_MIB,
    };
    // The source and both copies exist at the same time. Frames and headers add a little.
    let scratch = make(3 * (mib << 20) / 16 * 17, 5)?;
    let [key, source, ours, theirs] =
        ["key", "source.tap", "ours.tap", "theirs.tap"].map(|name| scratch.join(name));
    programs::make_key(&key)?;
    let (disk_to_tape, archive_copy) = (
        programs::ours("disk_to_tape")?,
        programs::ours("archive_copy")?,
    );
    let count = format!("{mib}M");
    programs::output(
        r#"head -c "$1" /dev/urandom | "$2" --quiet --compress none --key-file "$3" - "$4""#,
        &[
            OsStr::new(&count),
            disk_to_tape.as_ref(),
            key.as_ref(),
            source.as_ref(),
        ],
    )?;
    Ok(Comparison {
        ours: programs::shell(
            "archive_copy",
            r#"exec "$1" --quiet "$2" "$3""#,
            &[&archive_copy, &source, &ours],
        )
        .expect_files(ExpectedFiles::Any(ours)),
        peer: programs::shell(
            "cp; sync",
            r#"cp --reflink=never "$1" "$2" && exec sync "$2""#,
            &[&source, &theirs],
        )
        .expect_files(ExpectedFiles::Any(theirs)),
        _resources: Some(Box::new(scratch)),
    })
}
