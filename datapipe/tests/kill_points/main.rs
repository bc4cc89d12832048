//! Processes that die, or stop, exactly between two effects on shared memory: at every labelled
//! point of the hand-over, in every stage and instance; and at moments that nobody chose.
//!
//! ```text
//!   head > [process] > [process] > checking tail        one of them has an order: "send.sent 17 kill"
//!             ^
//!             +-- dies at its 17th pass of that point: replaced, and everything arrives; or the pipe fails and says who
//! ```
//!
//! After each pipe: all blocks arrived in order and unchanged, or the error names the stage and its
//! process's death; no buffer is held, the segment agrees with itself; no child, descriptor,
//! socket, mapping, thread, name or file is left.
//!
//! `DATAPIPE_KILLS=n` kills n processes instead of 1000; `DATAPIPE_SEED=n` makes the choices of an
//! earlier run again; `DATAPIPE_ROUND="codecs zstd.0 kill send.sent:17"` repeats one pipe.
//! `docs/testing.md` has the labels.
//!
//! Needs the feature `kill-points`. The test binary is the host of its own stages, so its main is
//! its own.

#![allow(
    clippy::disallowed_types,
    reason = "flags and counts of the test, not shared words"
)]

mod campaign; // which processes are to die where, and what was counted
mod chains; // the pipes that they belong to
mod controllers; // the controller itself dies
mod orders; // tells a process where to die, and learns whether it did
mod round; // one pipe, and whether it got over what happened to it
mod stages; // what the pipes consist of

#[path = "../harness/data.rs"]
mod data; // settings
#[path = "../harness/mod.rs"]
mod harness; // arguments and output of a test binary
#[path = "../harness/suite.rs"]
mod suite; // one test after the other
#[path = "../harness/watch.rs"]
mod watch; // children, descriptors, threads

use std::process::ExitCode;
use std::time::Duration;

use suite::Test;

/// How long all tests together may take before one of them counts as hanging: a second for each
/// kill of a long form.
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
