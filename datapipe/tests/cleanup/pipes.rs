//! Pipes: however one ends, it leaves no descriptor, no mapping, no thread and no name.

use std::panic::{set_hook, take_hook};
use std::time::Duration;

use datapipe::memory::Backing;
use datapipe::prelude::*;
use datapipe::testkit::{Collected, Random, collect, fail_at, numbers, panic_at, pass, sleepy};

use crate::watch::{belongings, wait_until};

pub(crate) fn ended_pipe_leaves_nothing() {
    let hook = take_hook();
    set_hook(Box::new(|_| {})); // the panics here are deliberate
    let before = belongings();
    let mut random = Random::new(42);
    let mut outcomes = Outcomes::default();
    for round in 0..200 {
        let got = Collected::default();
        let at = random.below(100);
        let pipe = Pipe::builder()
            .buffer_size(1024)
            .backing(if round % 5 == 0 {
                Backing::Named
            } else {
                Backing::Anonymous
            })
            .head(numbers(if round % 6 == 1 { 2 * at } else { 1_000_000 }))
            .stage(pass(round).instances(2))
            .stage(match random.below(4) {
                0 => fail_at(at),
                1 => panic_at(at),
                _ => sleepy(round, Duration::from_micros(300)),
            })
            .tail(collect(&got));
        match round % 6 {
            0 => drop(pipe),                                 // never started
            1 => outcomes.note(pipe.run()),                  // to its end, in the foreground
            2 => drop(pipe.start().unwrap()),                // let go of while it runs
            3 => drop(pipe.buffers(1).start().unwrap_err()), // refused
            4 => {
                pipe.canceller().cancel(); // cancelled before it starts
                outcomes.note(pipe.run());
            }
            _ => {
                let pipe = pipe.start().unwrap();
                std::thread::sleep(Duration::from_micros(random.below(2000)));
                pipe.cancel();
                outcomes.note(pipe.wait());
            }
        }
    }
    outcomes.check();
    set_hook(hook);
    // A thread is still listed for an instant after it was joined.
    wait_until("nothing is left of the pipes", || belongings() == before);
}

/// Counts of how the pipes ended. Each must be above zero.
#[derive(Debug, Default)]
struct Outcomes {
    well: u32,
    failed: u32,
    panicked: u32,
    cancelled: u32,
}

impl Outcomes {
    fn note(&mut self, result: Result<Report, Error>) {
        match result {
            Ok(_) => self.well += 1,
            Err(Error::Cancelled) => self.cancelled += 1,
            Err(Error::Stage(failure)) if failure.error.is_panic() => self.panicked += 1,
            Err(Error::Stage(_)) => self.failed += 1,
            Err(other) => panic!("{other}"),
        }
    }

    fn check(&self) {
        let Self {
            well,
            failed,
            panicked,
            cancelled,
        } = self;
        assert!(
            [well, failed, panicked, cancelled]
                .iter()
                .all(|&&count| count > 0),
            "{self:?}"
        );
    }
}
