//! Cleanup: pipes and killed creators of segments leave nothing.
//!
//! The tests run one after the other, alone in their process, because they count what the process
//! has. The test binary is also the creator that is killed, so its `main` is its own.

#![allow(
    clippy::disallowed_types,
    reason = "a flag of the test, not a shared word"
)]

mod pipes; // pipes, however they end
mod segments; // named segments of killed creators

#[path = "../harness/data.rs"]
mod data; // settings
#[path = "../harness/mod.rs"]
mod harness; // arguments and output of a test binary
#[path = "../harness/suite.rs"]
mod suite; // runs one test after the other
#[path = "../harness/watch.rs"]
mod watch; // children, descriptors, threads

use std::process::ExitCode;
use std::time::Duration;

/// Time limit of all tests together.
const HANGS: Duration = Duration::from_secs(300);

const TESTS: &[suite::Test] = suite::tests![
    segments::segment_of_a_killed_creator_is_swept,
    segments::creating_a_named_segment_sweeps_first,
    segments::segment_of_a_stopped_creator_is_kept,
    segments::foreign_files_are_not_swept,
    segments::segment_being_created_is_not_swept,
    segments::creator_killed_at_any_moment_leaves_nothing,
    pipes::ended_pipe_leaves_nothing,
];

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(segments::CREATOR) => segments::be_a_creator(),
        Some(segments::MAKER) => segments::make_one_after_the_other(),
        _ => {}
    }
    suite::run(TESTS, HANGS)
}
