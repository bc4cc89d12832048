//! A set of blocks of an archive, by their numbers.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::limits::MAX_BLOCK_RUNS;

/// A set of block numbers, kept as runs that do not touch.
///
/// It has at most [`MAX_BLOCK_RUNS`] runs. Beyond that, runs that are close to each other become
/// one, together with the blocks between them: the set then has more blocks than were inserted, but
/// never fewer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockSet {
    /// Last block of each run, by its first.
    runs: BTreeMap<u64, u64>,
    /// Largest number of blocks between two runs that are still joined. It grows with each
    /// [`coarsen`](Self::coarsen).
    grain: u64,
}

impl BlockSet {
    /// Makes an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a run of blocks; none if the run is empty.
    ///
    /// Runs do not overlap, so runs that begin earlier end earlier, too. The loop takes the last
    /// run that begins within reach of the new one, joins it if it ends within reach, and stops at
    /// the first that does not: all runs before that end even earlier.
    pub fn insert(&mut self, run: RangeInclusive<u64>) {
        if run.is_empty() {
            return;
        }
        let (mut first, mut last) = run.into_inner();
        let reach = self.grain.saturating_add(1);
        while let Some((&begins, &ends)) =
            self.runs.range(..=last.saturating_add(reach)).next_back()
        {
            if ends.saturating_add(reach) < first {
                break;
            }
            self.runs.remove(&begins);
            (first, last) = (first.min(begins), last.max(ends));
        }
        self.runs.insert(first, last);
        if self.runs.len() > MAX_BLOCK_RUNS {
            self.coarsen();
        }
    }

    /// True if block `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.runs
            .range(..=number)
            .next_back()
            .is_some_and(|(_, &last)| number <= last)
    }

    /// True if the set has no blocks.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Iterates over the runs, in ascending order.
    pub fn runs(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.runs.iter().map(|(&first, &last)| first..=last)
    }

    /// Iterates over the runs of the set, limited to the blocks `first` to `last`.
    pub(crate) fn within(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        let before = self
            .runs
            .range(..first)
            .next_back()
            .map_or(first, |(&begins, _)| begins);
        let runs = if before <= last {
            Some(self.runs.range(before..=last))
        } else {
            None
        };
        runs.into_iter()
            .flatten()
            .filter_map(move |(&begins, &ends)| {
                let (begins, ends) = (begins.max(first), ends.min(last));
                (begins <= ends).then_some((begins, ends))
            })
    }

    /// Joins runs that are close to each other, until at most half of [`MAX_BLOCK_RUNS`] are left.
    /// Each round doubles the distance at which runs are joined.
    fn coarsen(&mut self) {
        while self.runs.len() > MAX_BLOCK_RUNS / 2 {
            self.grain = self.grain.saturating_mul(2).saturating_add(1);
            let mut coarse: BTreeMap<u64, u64> = BTreeMap::new();
            for (&first, &last) in &self.runs {
                match coarse.last_entry() {
                    Some(mut run) if first - *run.get() <= self.grain.saturating_add(1) => {
                        run.insert(last);
                    }
                    _ => drop(coarse.insert(first, last)),
                }
            }
            self.runs = coarse;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testkit::Random;

    #[test]
    fn block_set_behaves_as_a_set_of_numbers() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (mut blocks, mut model) = (BlockSet::new(), BTreeSet::new());
            for _ in 0..random.below(30) {
                let first = random.below(100);
                let last = first + random.below(8);
                blocks.insert(first..=last);
                model.extend(first..=last);
            }
            let numbers: Vec<u64> = blocks.runs().flatten().collect();
            assert!(numbers.iter().eq(&model), "seed {seed}");
            assert!((0..120).all(|number| blocks.contains(number) == model.contains(&number)));
            let runs: Vec<_> = blocks.runs().collect();
            assert!(
                runs.windows(2)
                    .all(|pair| pair[0].end() + 1 < *pair[1].start()),
                "seed {seed}: {runs:?}"
            );
            let (first, last) = (random.below(60), 40 + random.below(60));
            let within = blocks
                .within(first, last)
                .flat_map(|(first, last)| first..=last);
            assert!(
                within.eq(model
                    .iter()
                    .copied()
                    .filter(|number| (first..=last).contains(number)))
            );
        }
    }

    #[test]
    fn block_set_over_its_limit_joins_runs_and_loses_no_block() {
        let mut blocks = BlockSet::new();
        blocks.insert(u64::MAX..=u64::MAX);
        let (first, last) = (5, 4);
        blocks.insert(first..=last);
        for number in 0..3 * MAX_BLOCK_RUNS as u64 {
            blocks.insert(number * 3..=number * 3);
            assert!(blocks.runs.len() <= MAX_BLOCK_RUNS);
        }
        assert!((0..3 * MAX_BLOCK_RUNS as u64).all(|number| blocks.contains(number * 3)));
        assert!(blocks.contains(u64::MAX) && !blocks.contains(u64::MAX - 1));
    }
}
