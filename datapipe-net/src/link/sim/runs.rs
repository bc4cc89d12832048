//! Tests: many seeds, and wrong rules that the same runs must find.

use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use super::super::wrong::Wrong;
use super::plan::Plan;
use super::random::Random;
use super::world::{Ending, World, Wreck};

/// Outcome of a run with a wrong rule.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Hang,
    Ending,
    Check,
}

/// Seed of the first run: `DATAPIPE_SEED`, or another one each time.
fn first_seed() -> u64 {
    let Some(text) = std::env::var_os("DATAPIPE_SEED") else {
        return RandomState::new().hash_one(0_u8);
    };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.expect("DATAPIPE_SEED is a number")
}

fn run(seed: u64) -> Ending {
    let result = panic::catch_unwind(|| World::new(seed, Wrong::Nothing).run());
    let repeat = format!("DATAPIPE_SEED={seed} DATAPIPE_LINK_SEEDS=1 repeats it");
    match result {
        Ok(Ok(ending)) => ending,
        Ok(Err(wreck)) => panic!("{repeat}: {wreck:?}"),
        Err(_) => panic!("{repeat}"),
    }
}

#[test]
fn runs_end_whole_or_with_a_reason_on_both_sides() {
    let count = std::env::var("DATAPIPE_LINK_SEEDS").map_or(20_000, |text| text.parse().unwrap());
    let first = first_seed();
    println!("DATAPIPE_SEED={first} DATAPIPE_LINK_SEEDS={count}");
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = |thread: u64| {
        let mut sums = [0_u64; 5];
        for step in (thread..count).step_by(threads as usize) {
            let ending = run(first.wrapping_add(step));
            let whole = u64::from(ending.sender == Some(Ok(())));
            let had_to = u64::from(ending.had_to);
            let counts = [whole, had_to, ending.events, ending.lost, ending.held_up];
            sums = std::array::from_fn(|at| sums[at] + counts[at]);
        }
        sums
    };
    let sums = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || part(thread)))
            .collect();
        parts
            .into_iter()
            .map(|part| part.join().expect("all runs are right"))
            .fold([0; 5], |sums, part| {
                std::array::from_fn(|at| sums[at] + part[at])
            })
    });
    let [whole, had_to, events, lost, held_up] = sums;
    println!(
        "{count} runs, {whole} whole ({had_to} had to be), {} failed on both sides with a reason; \
         {events} events, {lost} connections closed, {held_up} because they held up the others",
        count - whole
    );
}

/// The first of many seeds at which the runs find a wrong rule.
fn find(wrong: Wrong) -> (u64, Found) {
    for seed in 0..20_000 {
        // The message of a check that finds the rule is of no interest.
        let result = panic::catch_unwind(AssertUnwindSafe(|| World::new(seed, wrong).run()));
        let found = match result {
            Ok(Ok(_)) => continue,
            Ok(Err(Wreck::Hang(_))) => Found::Hang,
            Ok(Err(Wreck::Ending(_))) => Found::Ending,
            Err(_) => Found::Check,
        };
        return (seed, found);
    }
    (0, Found::Nothing)
}

#[test]
fn promises_to_connections_instead_of_numbers_are_found_as_a_hang() {
    let (seed, found) = find(Wrong::CreditsByConnection);
    println!("credits by connection: {found:?} at seed {seed}");
    assert_eq!(found, Found::Hang);
}

#[test]
fn wrong_rules_are_found() {
    let mut faults = 0;
    for (wrong, expected) in [
        (Wrong::ClaimKept, Found::Check),
        (Wrong::FreeNext, Found::Check),
        (Wrong::FreeWhileWritten, Found::Check),
        (Wrong::NotSentAgain, Found::Hang),
        (Wrong::TakenAgain, Found::Check),
        (Wrong::OldLimit, Found::Ending),
        (Wrong::SilenceIgnored, Found::Hang),
        (Wrong::EndOnce, Found::Hang),
        (Wrong::NoWait, Found::Hang),
    ] {
        let (seed, found) = find(wrong);
        println!("{wrong:?}: {found:?} at seed {seed}");
        faults += u32::from(found != expected);
    }
    assert_eq!(faults, 0);
}

/// Admission asks for as many buffers as the tail gathers. With one less every run hangs, so the
/// simulation is as strict as the admission is.
#[test]
fn pool_with_one_buffer_less_than_admission_asks_for_hangs_in_every_run() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut plan = Plan::new(&mut random);
        plan.faults.clear();
        plan.liar = None;
        plan.gather = 2 + seed % 4;
        plan.blocks = plan.gather + seed % 7;
        plan.pool_b = plan.gather - 1;
        let ending = World::with_plan(random, plan, Wrong::Nothing).run();
        assert!(
            matches!(ending, Err(Wreck::Hang(_))),
            "seed {seed}: {ending:?}"
        );
    }
}
