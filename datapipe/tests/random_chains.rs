//! Random chains of parallel, dropping, repeating, gathering and very slow stages, each with the
//! smallest pool that admission allows: none may deadlock. With one buffer less, each is rejected.
//!
//! `DATAPIPE_CHAINS=n` runs n chains instead of 120; `DATAPIPE_SEED=n` starts with another seed.

use std::time::{Duration, Instant};

use datapipe::Error;
use datapipe::pool::Refusal;
use datapipe::prelude::*;
use datapipe::testkit::{
    Collected, Random, collect, drop_every, gather, numbers, pass, repeat, sleepy,
};

#[path = "harness/data.rs"]
mod data; // settings

use data::setting;

/// Time limit for any chain on any machine. A chain that takes longer hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Returns a random chain and the numbers of the blocks that arrive.
fn chain(seed: u64, blocks: u64, got: &Collected) -> (PipeBuilder<'static>, Vec<u64>) {
    let mut random = Random::new(seed);
    let mut expected: Vec<u64> = (0..blocks).collect();
    let place =
        |stage: MiddleStage<'static>, inline: bool| if inline { stage.inline() } else { stage };
    let mut pipe = Pipe::builder()
        .label(format!("chain {seed}"))
        .buffer_size(512)
        .head(numbers(blocks));
    let mut most_blocks = blocks;
    for _ in 0..random.below(6) {
        let instances = 1 + random.below(5) as u32;
        let inline = random.below(6) == 0;
        let stage = match random.below(6) {
            0 => place(pass(seed).instances(instances), inline),
            1 => {
                let longest = [20, 200, 4000][random.below(3) as usize];
                place(
                    sleepy(seed, Duration::from_micros(longest)).instances(instances),
                    inline,
                )
            }
            2 => {
                let every = 2 + random.below(4);
                expected.retain(|n| !n.is_multiple_of(every));
                place(drop_every(every).instances(instances), inline)
            }
            3 => gather(1 + random.below(7) as u32),
            // Three stages in a row that repeat blocks would take too long.
            4 if most_blocks < 8 * blocks => {
                let most = 1 + random.below(5);
                most_blocks *= most;
                expected = expected
                    .into_iter()
                    .flat_map(|n| std::iter::repeat_n(n, (n % (most + 1)) as usize))
                    .collect();
                repeat(most as u32).instances(instances)
            }
            _ => pass(seed + 1).instances(instances),
        };
        pipe = pipe.stage(stage);
    }
    (
        pipe.tail(collect(got).instances(1 + random.below(2) as u32)),
        expected,
    )
}

/// Returns the smallest number of buffers that admission allows for a chain.
fn smallest_pool(seed: u64) -> u32 {
    let (pipe, _) = chain(seed, 1, &Collected::default());
    match pipe.buffers(1).plan() {
        Err(Error::Refused {
            reason: Refusal::TooFewBuffers { enough, .. },
            ..
        }) => enough,
        Ok(_) => 1,
        Err(error) => panic!("chain {seed}: {error}"),
    }
}

#[test]
fn random_chains_finish_with_the_smallest_pool() {
    let first = setting("DATAPIPE_SEED", 1);
    let chains = setting("DATAPIPE_CHAINS", 120);
    println!("chains {first} to {}", first + chains - 1);
    for seed in first..first + chains {
        let enough = smallest_pool(seed);
        if enough > 1 {
            let (pipe, _) = chain(seed, 1, &Collected::default());
            let refused = pipe.buffers(enough - 1).start().unwrap_err();
            assert!(
                matches!(refused, Error::Refused { .. }),
                "chain {seed}: {refused}"
            );
        }
        let got = Collected::default();
        let (pipe, expected) = chain(seed, 60, &got);
        let started = Instant::now();
        let pipe = pipe.buffers(enough).start().unwrap();
        while let Some(status) = pipe.status_every(Duration::from_millis(200)) {
            assert!(
                started.elapsed() < HANGS,
                "chain {seed} hangs: {}\n{status}",
                pipe.plan()
            );
        }
        let chain = pipe.plan().to_string();
        let report = pipe
            .wait()
            .unwrap_or_else(|error| panic!("{chain}: {error}"));
        let mut numbers = got.numbers();
        if report
            .status
            .stages
            .last()
            .is_some_and(|tail| tail.instances.len() > 1)
        {
            numbers.sort_unstable();
        }
        assert_eq!(numbers, expected, "{chain}");
    }
}

#[test]
fn random_chains_end_when_cancelled() {
    let first = setting("DATAPIPE_SEED", 1) + 100_000;
    for seed in first..first + setting("DATAPIPE_CHAINS", 120) {
        let got = Collected::default();
        let (pipe, _) = chain(seed, 1_000_000, &got);
        let pipe = pipe.buffers(smallest_pool(seed)).start().unwrap();
        let mut random = Random::new(seed);
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        let started = Instant::now();
        pipe.cancel();
        while let Some(status) = pipe.status_every(Duration::from_millis(200)) {
            assert!(
                started.elapsed() < HANGS,
                "chain {seed} does not stop: {}\n{status}",
                pipe.plan()
            );
        }
        let error = pipe.wait().unwrap_err();
        assert!(matches!(error, Error::Cancelled), "chain {seed}: {error}");
        assert!(!got.finished(), "a cancelled stream does not look whole");
    }
}
