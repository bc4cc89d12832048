//! Real processes and real SIGKILL at random instants: the pipe continues, and nothing is lost.
//!
//! ```text
//!   head(s) > middle(s) > ... > tail(s)        each instance is a process
//!      ^          ^                ^
//!      +----------+--- killed -----+           wait for the death, reclaim, fork a replacement,
//!                                              again and again
//! ```
//!
//! After each round, every block has arrived exactly once, in order and unchanged, every buffer is
//! on the free list, every credit is back, and no process, descriptor or name is left.
//!
//! `DATAPIPE_KILLS=n` kills n processes instead of 300. `DATAPIPE_SEED=n` repeats the choices of an
//! earlier run. It cannot repeat the scheduling of the kernel: the same seed kills the same seats,
//! but not at the same steps.
//!
//! The target has its own harness, because only a process with one thread may fork a child.

mod books; // records outside of the segment
mod campaign; // rounds until enough processes were killed
mod chain; // the work of the processes
mod process; // forks processes, and waits for their deaths
mod random; // choices that a seed repeats
mod round; // one pipe and its processes
mod verdict; // checks after a round

#[path = "../harness/data.rs"]
mod data; // settings
#[path = "../harness/mod.rs"]
mod harness; // arguments and output of a test binary

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use campaign::Campaign;
use harness::{Asked, last_line};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Returns an error with this text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($story:tt)+) => {
        if !$condition {
            return Err(format!($($story)+).into());
        }
    };
}
use ensure;

fn main() -> ExitCode {
    match Asked::of("kills", std::env::args().skip(1)) {
        Asked::List { ours } => {
            if ours {
                println!("kills: test");
            }
            ExitCode::SUCCESS
        }
        Asked::Nothing => {
            println!(
                "\nrunning 0 tests\n\n{}",
                last_line("ok", [0, 0, 1], Duration::ZERO)
            );
            ExitCode::SUCCESS
        }
        Asked::Run => run(),
    }
}

fn run() -> ExitCode {
    println!("\nrunning 1 test");
    let start = Instant::now();
    let mut campaign = Campaign::new();
    println!(
        "kills: {} to come, DATAPIPE_SEED={}",
        campaign.target, campaign.seed
    );
    let result = campaign.run();
    let took = start.elapsed();
    println!("kills: {}", campaign.tally);
    match result {
        Ok(()) => {
            println!("  wedges 0, losses 0");
            println!("test kills ... ok\n\n{}", last_line("ok", [1, 0, 0], took));
            ExitCode::SUCCESS
        }
        Err(story) => {
            println!("kills: {story}");
            println!(
                "test kills ... FAILED\n\n{}",
                last_line("FAILED", [0, 1, 0], took)
            );
            ExitCode::from(101)
        }
    }
}
