//! However a pipe ends, nothing of it stays behind: no descriptor, no mapping, no thread. Alone in
//! its process, for it counts what the process has.

use std::fs;
use std::time::Duration;

use datapipe::memory::Backing;
use datapipe::prelude::*;
use datapipe::testkit::{Collected, Random, collect, fail_at, numbers, panic_at, pass, sleepy};

/// Open descriptors, mappings of segments, threads, and named segments.
fn belongings() -> [usize; 4] {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let segments = maps
        .lines()
        .filter(|line| line.contains("datapipe"))
        .count();
    let ours = format!(".{}.", std::process::id());
    let names = fs::read_dir("/dev/shm").unwrap().flatten();
    let named = names
        .filter(|entry| entry.file_name().to_string_lossy().contains(&ours))
        .count();
    [
        count("/proc/self/fd"),
        segments,
        count("/proc/self/task"),
        named,
    ]
}

#[test]
fn nothing_stays_behind() {
    std::panic::set_hook(Box::new(|_| {})); // the panics here are asked for
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
    // A thread is still listed for an instant after it was joined.
    for _ in 0..1000 {
        if belongings() == before {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(
        belongings(),
        before,
        "descriptors, mappings, threads, named segments"
    );
}

/// How pipes ended: each way must have been tried.
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
