//! Rounds until enough processes were killed, and their counts.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::mem::take;

use datapipe::memory::Backing;
use datapipe::pool::Reclaimed;

use crate::chain::Plan;
use crate::data::number;
use crate::random::{Random, mix};
use crate::round::Round;
use crate::{Outcome, ensure};

/// Number of kills of one run, unless `DATAPIPE_KILLS` gives another.
const KILLS: u64 = 300;

/// Rounds until enough processes were killed.
pub(crate) struct Campaign {
    pub(crate) target: u64,
    pub(crate) seed: u64,
    pub(crate) tally: Tally,
}

impl Campaign {
    pub(crate) fn new() -> Self {
        let seed = number("DATAPIPE_SEED").unwrap_or_else(|| RandomState::new().hash_one(0u8));
        Self {
            target: number("DATAPIPE_KILLS").unwrap_or(KILLS),
            seed,
            tally: Tally::default(),
        }
    }

    pub(crate) fn run(&mut self) -> Outcome {
        while self.tally.kills < self.target {
            let number = self.tally.rounds;
            let random = Random(mix(self.seed ^ mix(number)) | 1);
            let descriptors = open_descriptors()?;
            self.round(number, random)
                .map_err(|story| format!("seed {}, round {number}: {story}", self.seed))?;
            let left = open_descriptors()?;
            ensure!(
                left == descriptors,
                "round {number} left {left} descriptors open instead of {descriptors}"
            );
            let names = names_left()?;
            ensure!(
                names.is_empty(),
                "round {number} left {names:?} in /dev/shm"
            );
        }
        Ok(())
    }

    fn round(&mut self, number: u64, mut random: Random) -> Outcome {
        let plan = Plan::draw(&mut random);
        let backing = if number % 4 == 1 {
            Backing::Named
        } else {
            Backing::Anonymous
        };
        let mut round = Round::new(plan, backing, random)?;
        round.tally = take(&mut self.tally);
        let result = if number % 8 == 3 {
            round.until_stopped()
        } else {
            round.until_ended()
        };
        self.tally = take(&mut round.tally);
        result.map_err(|story| round.story(&*story))?;
        self.tally.rounds += 1;
        self.tally.named += u64::from(backing == Backing::Named);
        Ok(())
    }
}

/// Counts of a campaign.
#[derive(Default)]
pub(crate) struct Tally {
    rounds: u64,
    named: u64,
    /// Rounds in which the pipe was stopped after a kill.
    pub(crate) stopped: u64,
    pub(crate) kills: u64,
    /// Victims that were stopped before they were killed.
    pub(crate) stopped_first: u64,
    /// Victims that died of a timer of their own, in the middle of their work.
    by_timer: u64,
    /// Victims that died at labelled points of the hand-over.
    at_points: BTreeMap<&'static str, u64>,
    /// Victims that died together with others, before anything was reclaimed.
    pub(crate) together: u64,
    /// Victims that held nothing.
    nothing: u64,
    inherited: u64,
    answered: u64,
    released: u64,
    loans: u64,
    finished: u64,
    /// Blocks that the heads sent.
    pub(crate) blocks: u64,
    /// Blocks that a tail received again, because its predecessor died before it freed them.
    pub(crate) again: u64,
}

impl Tally {
    /// Counts a victim that died before its kill: at a point, or of its timer.
    pub(crate) fn by_itself(&mut self, at: Option<&'static str>) {
        match at {
            Some(label) => *self.at_points.entry(label).or_default() += 1,
            None => self.by_timer += 1,
        }
    }

    pub(crate) fn victim(&mut self, reclaimed: Reclaimed, stopping: bool) {
        let Reclaimed {
            inherited,
            released,
            loans,
            finished,
            ..
        } = reclaimed;
        self.kills += 1;
        self.nothing += u64::from(reclaimed.held() == 0);
        self.inherited += u64::from(inherited);
        self.loans += u64::from(loans);
        self.finished += u64::from(finished);
        *(if stopping {
            &mut self.released
        } else {
            &mut self.answered
        }) += u64::from(released);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.inherited + self.answered + self.released + self.loans + self.finished;
        writeln!(
            f,
            "{} processes killed in {} rounds ({} with a named segment, {} given up after a kill)",
            self.kills, self.rounds, self.named, self.stopped
        )?;
        let Self {
            stopped_first,
            by_timer,
            together,
            ..
        } = self;
        write!(
            f,
            "  {stopped_first} were stopped first, \
             {by_timer} were killed by a timer while they worked, "
        )?;
        writeln!(f, "{together} died together with others")?;
        writeln!(
            f,
            "  they held {held} buffers, and {} of them held nothing:",
            self.nothing
        )?;
        writeln!(f, "    {:>6} inputs inherited", self.inherited)?;
        writeln!(
            f,
            "    {:>6} inputs released, because their answer was on its way",
            self.answered
        )?;
        writeln!(
            f,
            "    {:>6} inputs released, because the pipe stopped",
            self.released
        )?;
        writeln!(f, "    {:>6} loans freed", self.loans)?;
        writeln!(f, "    {:>6} sends finished", self.finished)?;
        if !self.at_points.is_empty() {
            let all: u64 = self.at_points.values().sum();
            writeln!(f, "  {all} died exactly at a labelled point:")?;
        }
        for (label, kills) in &self.at_points {
            writeln!(f, "    {kills:>6} at {label}")?;
        }
        write!(
            f,
            "  {} blocks sent, {} of them seen again by a second tail",
            self.blocks, self.again
        )
    }
}

fn open_descriptors() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// Returns the named segments of this process. Other tests may have some of their own.
fn names_left() -> io::Result<Vec<String>> {
    let ours = format!(".{}.", std::process::id());
    let names = fs::read_dir("/dev/shm")?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: io::Result<Vec<String>> = names.collect();
    Ok(names?
        .into_iter()
        .filter(|name| name.starts_with("datapipe-") && name.contains(&ours))
        .collect())
}
