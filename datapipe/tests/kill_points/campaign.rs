//! The rounds of a campaign, and their counts.

use std::collections::BTreeMap;
use std::time::Instant;

use datapipe::memory::points::LABELS;
use datapipe::testkit::Random;

use crate::chains::CHAINS;
use crate::data::number;
use crate::round::{Deed, Outcome, Round};

/// Number of kills of the short form.
const KILLS: u64 = 1000;
/// Number of repetitions of `DATAPIPE_ROUND`.
const REPEATS: u64 = 50;

/// Returns the number of kills of this run.
pub(crate) fn kills() -> u64 {
    number("DATAPIPE_KILLS").unwrap_or(KILLS)
}

/// Returns the points that a participant passes.
pub(crate) fn of_participants() -> impl Iterator<Item = &'static str> {
    LABELS
        .iter()
        .copied()
        .filter(|label| !label.starts_with("reclaim."))
}

pub(crate) fn processes_killed_at_every_point_lose_nothing() {
    let mut campaign = Campaign {
        seed: number("DATAPIPE_SEED").unwrap_or_else(any_seed),
        random: Random::new(1),
        tally: Tally::default(),
    };
    if let Ok(text) = std::env::var("DATAPIPE_ROUND") {
        let round = Round::parse(&text).expect("CHAIN STAGE.INSTANCE DEED LABEL:PASS ...");
        (0..REPEATS).for_each(|_| campaign.round(&round));
    } else {
        println!(
            "kill_points: {} kills to come, DATAPIPE_SEED={}",
            kills(),
            campaign.seed
        );
        campaign.random = Random::new(campaign.seed);
        campaign.every_point();
        while campaign.tally.killed < kills() {
            let round = campaign.some_round();
            campaign.round(&round);
        }
        campaign.check_every_point_was_met();
    }
    campaign.tally.print();
}

fn any_seed() -> u64 {
    use std::hash::BuildHasher as _;
    std::collections::hash_map::RandomState::new().hash_one(0u8) >> 32
}

/// True for a point that a process passes only at its beginning or its end.
fn is_passed_once(label: &str) -> bool {
    ["seat.", "finish.", "leave."]
        .iter()
        .any(|begin| label.starts_with(begin))
}

struct Campaign {
    seed: u64,
    random: Random,
    tally: Tally,
}

impl Campaign {
    /// Kills and stops a process at each point in each stage, at an early and at a later pass.
    fn every_point(&mut self) {
        for (chain, stage) in CHAINS
            .iter()
            .flat_map(|chain| chain.stages.iter().map(move |stage| (chain, stage)))
        {
            for label in of_participants() {
                for deed in [Deed::Kill, Deed::Stop] {
                    let often = !is_passed_once(label) && self.random.below(3) > 0;
                    let pass = if often { 1 + self.random.below(12) } else { 1 };
                    let mut points = vec![(label.to_owned(), pass)];
                    if deed == Deed::Kill && stage.irreplaceable.is_none() {
                        points.push(self.soon_after());
                    }
                    let instance = self.random.below(stage.processes.into()) as u32;
                    self.round(&Round {
                        chain,
                        stage,
                        instance,
                        deed,
                        points,
                    });
                }
            }
        }
    }

    /// Chooses a point soon after a replacement begins, while it still has the input of the dead
    /// process.
    fn soon_after(&mut self) -> (String, u64) {
        let labels: Vec<_> = of_participants().collect();
        let label = labels[self.random.below(labels.len() as u64) as usize];
        (
            label.to_owned(),
            if is_passed_once(label) {
                1
            } else {
                1 + self.random.below(3)
            },
        )
    }

    /// Chooses a round at random.
    fn some_round(&mut self) -> Round {
        let random = &mut self.random;
        let mut choose = |count: usize| random.below(count as u64) as usize;
        let deed = [
            Deed::Kill,
            Deed::Kill,
            Deed::Stop,
            Deed::Resume,
            Deed::Whenever,
        ][choose(5)];
        // Chains that survive a death are three times as likely.
        let survivors = || CHAINS.iter().filter(|chain| chain.survives());
        let mut chains: Vec<_> = survivors().chain(survivors()).chain(survivors()).collect();
        if deed != Deed::Whenever {
            chains.extend(CHAINS.iter().filter(|chain| !chain.survives()));
        }
        let chain = chains[choose(chains.len())];
        let stage = &chain.stages[choose(chain.stages.len())];
        let labels: Vec<_> = of_participants().collect();
        let label = labels[choose(labels.len())];
        let first = match deed {
            Deed::Whenever => ("time".to_owned(), choose(30_000) as u64),
            _ if is_passed_once(label) => (label.to_owned(), 1),
            _ => (label.to_owned(), 1 + choose(30) as u64),
        };
        let instance = choose(stage.processes as usize) as u32;
        let more = match (deed, stage.irreplaceable) {
            (Deed::Whenever, _) | (_, Some(_)) => 0,
            _ => choose(6).saturating_sub(2),
        };
        // The replacements die at the same point, or soon after they begin.
        let again = (0..more).map(|_| {
            if choose(3) == 0 {
                Some(first.clone())
            } else {
                None
            }
        });
        let again: Vec<_> = again.collect();
        let mut points = vec![first];
        points.extend(
            again
                .into_iter()
                .map(|same| same.unwrap_or_else(|| self.soon_after())),
        );
        Round {
            chain,
            stage,
            instance,
            deed,
            points,
        }
    }

    fn round(&mut self, round: &Round) {
        struct Named<'r>(&'r Round);
        impl Drop for Named<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    println!("kill_points: DATAPIPE_ROUND=\"{}\" repeats it", self.0);
                }
            }
        }
        let start = Instant::now();
        let outcome = {
            let _named = Named(round);
            round.run()
        };
        self.tally.note(round, &outcome, start);
    }

    fn check_every_point_was_met(&self) {
        let met = |label: &&str| self.tally.by_label.contains_key(*label);
        let missing: Vec<_> = of_participants().filter(|label| !met(label)).collect();
        assert!(missing.is_empty(), "no process came to {missing:?}");
    }
}

/// Counts of a campaign.
#[derive(Default)]
struct Tally {
    rounds: u64,
    killed: u64,
    /// Those of them that the test killed at any time.
    whenever: u64,
    by_label: BTreeMap<String, u64>,
    looked_at: u64,
    resumed: u64,
    replaced: u64,
    failed: u64,
    /// Pipes in which no process came to its point often enough.
    not_met: u64,
    blocks: u64,
    seconds: f64,
}

impl Tally {
    fn note(&mut self, round: &Round, outcome: &Outcome, start: Instant) {
        let killed = u64::from(outcome.killed);
        self.rounds += 1;
        self.killed += killed;
        self.looked_at += u64::from(outcome.looked_at);
        self.resumed += u64::from(outcome.resumed);
        self.replaced += killed - u64::from(outcome.failed);
        self.failed += u64::from(outcome.failed);
        self.blocks += outcome.blocks;
        self.seconds += start.elapsed().as_secs_f64();
        let met = killed + u64::from(outcome.resumed);
        self.not_met += u64::from(met == 0);
        if round.deed == Deed::Whenever {
            self.whenever += killed;
            return;
        }
        // The processes take their orders one after the other.
        for (label, _) in round.points.iter().take(outcome.killed as usize) {
            *self.by_label.entry(label.clone()).or_default() += 1;
        }
    }

    fn print(&self) {
        let Self {
            rounds,
            killed,
            whenever,
            looked_at,
            resumed,
            replaced,
            failed,
            not_met,
            blocks,
            seconds,
            ..
        } = self;
        println!("kill_points: {killed} processes killed in {rounds} pipes, {seconds:.1} s");
        println!(
            "  {:>6} at labelled points, {whenever} at any time",
            killed - whenever
        );
        println!(
            "  {looked_at:>6} were stopped exactly there and inspected first; \
             {resumed} of them continued"
        );
        println!(
            "  {replaced:>6} replaced, and the result was right; \
             {failed} pipes failed and named the death"
        );
        println!(
            "  {not_met:>6} pipes ended before a process came to its point; \
             {blocks} blocks delivered"
        );
        for (label, kills) in &self.by_label {
            println!("  {kills:>6} at {label}");
        }
        println!("  wedges 0, losses 0, leftovers 0");
    }
}
