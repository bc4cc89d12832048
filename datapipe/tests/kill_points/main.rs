//! Processes that die or stop exactly between two effects on shared memory: at every labelled point
//! of the hand-over, in every stage and instance, and at random moments.
//!
//! ```text
//!   head > [process] > [process] > checking tail     one of them has an order: "send.sent 17 kill"
//!             ^
//!             +-- dies at its 17th pass of that point. It is replaced, and everything arrives;
//!                 or the pipe fails and names the death
//! ```
//!
//! After each pipe, all blocks have arrived in order and unchanged, or the error names the stage
//! and the death of its process. No buffer is held, and the audit of the segment finds nothing. No
//! child, descriptor, socket, mapping, thread, name or file is left.
//!
//! `DATAPIPE_KILLS=n` kills n processes instead of 1000. `DATAPIPE_SEED=n` repeats the choices of
//! an earlier run. `DATAPIPE_ROUND="codecs zstd.0 kill send.sent:17"` repeats one pipe. The labels
//! are in `docs/testing.md`.
//!
//! The target needs the feature `kill-points`. The test binary is the host of its own stages, so
//! its `main` is its own.

#![allow(
    clippy::disallowed_types,
    reason = "flags and counts of the test, not shared words"
)]

mod campaign; // the rounds and their counts
mod chains; // the pipes
mod controllers; // deaths of the controller
mod orders; // orders to processes, and their reports
mod round; // one pipe and its incident
mod stages; // the stages of the pipes

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

use suite::Test;

/// Time limit of all tests together, plus a second for each kill.
const HANGS: Duration = Duration::from_secs(600);

const TESTS: &[Test] = suite::tests![
    campaign::processes_killed_at_every_point_lose_nothing,
    controllers::controllers_killed_while_reclaiming_leave_nothing,
    controllers::controllers_killed_with_a_stopped_process_leave_nothing,
];

fn main() -> ExitCode {
    datapipe::host::serve(stages::modules());
    if std::env::args().nth(1).as_deref() == Some(controllers::CONTROLLER) {
        return controllers::be_one();
    }
    let home = orders::settle();
    let verdict = suite::run(TESTS, HANGS + Duration::from_secs(campaign::kills()));
    drop(home);
    verdict
}
