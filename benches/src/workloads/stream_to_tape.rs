//! `README.md`, "stream-to-tape" and "stream-to-tape-small": a stream that does not compress.

use std::error::Error;
use std::ffi::OsStr;

use super::memory_file::MemoryFile;
use super::scratch::Scratch;
use super::{Bound, Comparison, ExpectedFiles, Measure, PAIRS, Task, Workload, programs};

const STREAM_LEN: u64 = 3 << 30;

const BOUNDS: &[Bound] = &[Bound {
    measure: Measure::Wall,
    at_most: 1.0,
}];

pub(super) const LARGE: Workload = Workload {
    name: "stream-to-tape",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: BOUNDS,
        prepare: || prepare(32, 4 << 20),
    },
};

pub(super) const SMALL: Workload = Workload {
    name: "stream-to-tape-small",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: BOUNDS,
        prepare: || prepare(8, 1 << 20),
    },
};

/// Compares a backup of standard input with `buffers` buffers of `size` bytes.
fn prepare(buffers: u64, size: u64) -> Result<Comparison, Box<dyn Error>> {
    programs::require(&["mbuffer"])?;
    // The tape exists beside the stream, and its frames and headers are a little longer.
    let scratch = Scratch::new(STREAM_LEN / 16 * 17, 1)?;
    let stream = MemoryFile::random(STREAM_LEN)?;
    let (ours, theirs) = (scratch.join("ours.tap"), scratch.join("theirs"));
    let (disk_to_tape, path) = (programs::ours("disk_to_tape")?, stream.path());
    let [count, size, total] = [buffers, size, buffers * size].map(|number| number.to_string());
    Ok(Comparison {
        ours: programs::shell(
            "disk_to_tape",
            r#"exec "$1" --quiet --compress none --buffers "$2" --buffer-size "$3" - "$5" < "$4""#,
            &[
                disk_to_tape.as_ref(),
                OsStr::new(&count),
                OsStr::new(&size),
                &path,
                ours.as_ref(),
            ],
        )
        .expect_files(ExpectedFiles::Any(ours)),
        peer: programs::shell(
            "mbuffer",
            r#"exec mbuffer -q -s "$1" -m "$2" -o "$4" < "$3""#,
            &[
                OsStr::new(&size),
                OsStr::new(&total),
                &path,
                theirs.as_ref(),
            ],
        )
        .expect_files(ExpectedFiles::Any(theirs)),
        _resources: Some(Box::new((stream, scratch))),
    })
}
