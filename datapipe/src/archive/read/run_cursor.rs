//! The run of blocks that is being read.

use std::collections::VecDeque;

use super::super::run::Run;

/// The blocks that are to be read: all of them, or runs in ascending order, one of which is
/// current.
#[derive(Debug, Default)]
pub(super) struct RunCursor {
    /// The runs after the current one; `None` if all blocks are to be read.
    remaining: Option<VecDeque<Run>>,
    current: Option<Run>,
    /// The medium was moved to where reading begins, and reading on from there can reach the next
    /// run.
    is_positioned: bool,
    /// The last run has no end that is known: it ends with the archive.
    is_open: bool,
}

impl RunCursor {
    pub(super) fn all() -> Self {
        Self::default()
    }

    pub(super) fn only(runs: Vec<Run>) -> Self {
        Self {
            remaining: Some(runs.into()),
            ..Self::default()
        }
    }

    /// Lets the last run go on to the end of the archive.
    pub(super) fn until_end(self) -> Self {
        Self {
            is_open: true,
            ..self
        }
    }

    /// True if the last run goes on to the end of the archive.
    pub(super) fn is_to_end(&self) -> bool {
        self.is_open
    }

    /// True if what follows is to be read up to the end of the archive.
    pub(super) fn reads_to_end(&self) -> bool {
        match &self.remaining {
            None => true,
            Some(remaining) => self.is_open && remaining.is_empty() && self.current.is_some(),
        }
    }

    /// True if only some blocks are to be read.
    pub(super) fn is_partial(&self) -> bool {
        self.remaining.is_some()
    }

    /// The runs after the current one; `None` if all blocks are to be read.
    pub(super) fn remaining(&self) -> Option<&VecDeque<Run>> {
        self.remaining.as_ref()
    }

    pub(super) fn current(&self) -> Option<Run> {
        self.current
    }

    /// Returns those of the blocks `first` to `last` that are to be read now: of the current run,
    /// or all.
    pub(super) fn wanted(&self, first: u64, last: u64) -> Option<(u64, u64)> {
        let (first, last) = match (&self.remaining, self.current) {
            (None, _) => (first, last),
            (Some(_), Some(run)) => (first.max(run.first), last.min(run.last)),
            (Some(_), None) => return None,
        };
        (first <= last).then_some((first, last))
    }

    /// True if block `number` is to be read now.
    pub(super) fn is_wanted(&self, number: u64) -> bool {
        self.wanted(number, number).is_some()
    }

    /// True if there is no current run, or block `next` is past its end.
    pub(super) fn is_done(&self, next: u64) -> bool {
        self.current.is_none_or(|run| next > run.last)
    }

    /// Makes the next run the current one.
    pub(super) fn advance(&mut self) -> Option<Run> {
        let run = self.remaining.as_mut()?.pop_front()?;
        self.current = Some(run);
        Some(run)
    }

    /// Notes that the medium is where reading begins. Returns false if it was there before.
    pub(super) fn set_positioned(&mut self) -> bool {
        !std::mem::replace(&mut self.is_positioned, true)
    }

    /// True if `run` is reached by reading on from block `next`, and a seek would gain nothing: no
    /// known start is closer to the run.
    pub(super) fn can_read_on(&self, run: &Run, next: u64) -> bool {
        self.is_positioned && (run.start.block..=run.first).contains(&next)
    }

    /// Gives up the current run. The medium stays where it is.
    pub(super) fn drop_current(&mut self) {
        self.current = None;
    }

    /// Gives up the current run, and the medium's position: the next run needs a seek.
    pub(super) fn abandon(&mut self) {
        (self.current, self.is_positioned) = (None, false);
    }
}
