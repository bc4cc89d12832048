//! Pipes that a screen shows: their statuses and their last minute.

use super::rate_history::RateHistory;
use super::table::status_table;
use crate::protocol::PipeStatus;

/// Most ended pipes that stay on the screen.
const MAX_ENDED: usize = 8;

/// Pipes that a screen shows. [`screen`](Self::screen) draws them.
#[derive(Debug, Default)]
pub struct Watch {
    pub(super) pipes: Vec<WatchedPipe>,
}

/// Pipe that a screen shows.
#[derive(Debug)]
pub(super) struct WatchedPipe {
    pub(super) now: PipeStatus,
    pub(super) before: Option<PipeStatus>,
    pub(super) history: RateHistory,
}

impl Watch {
    /// Names of the pipes that had not ended at their last status.
    pub fn live(&self) -> Vec<String> {
        let live = self.pipes.iter().map(|pipe| &pipe.now.entry);
        let live = live.filter(|entry| !entry.state.is_final());
        live.map(|entry| entry.name.clone()).collect()
    }

    /// Takes new statuses. A pipe that is in none of them stays if it has ended, and is forgotten
    /// otherwise; of the ended ones the last eight stay.
    pub fn update(&mut self, statuses: Vec<PipeStatus>) {
        let is_new = |name: &str| statuses.iter().any(|status| status.entry.name == name);
        self.pipes.retain(|pipe| {
            let entry = &pipe.now.entry;
            entry.state.is_final() || is_new(&entry.name)
        });
        for status in statuses {
            let name = &status.entry.name;
            let known = self.pipes.iter_mut();
            match known.into_iter().find(|pipe| pipe.now.entry.name == *name) {
                Some(pipe) => pipe.update(status),
                None => self.pipes.push(WatchedPipe::new(status)),
            }
        }
        let is_over = |pipe: &WatchedPipe| pipe.now.entry.state.is_final();
        let ended = self.pipes.iter().filter(|pipe| is_over(pipe)).count();
        let mut excess = ended.saturating_sub(MAX_ENDED);
        self.pipes.retain(|pipe| {
            let goes = excess > 0 && is_over(pipe);
            excess -= usize::from(goes);
            !goes
        });
    }

    /// Last statuses as tables.
    pub fn tables(&self, columns: usize) -> String {
        if self.pipes.is_empty() {
            return "no pipes\n".to_owned();
        }
        let table = |pipe: &WatchedPipe| status_table(&pipe.now, pipe.before.as_ref(), columns);
        self.pipes.iter().map(table).collect::<Vec<_>>().join("\n")
    }
}

impl WatchedPipe {
    fn new(now: PipeStatus) -> Self {
        let mut pipe = Self {
            now,
            before: None,
            history: RateHistory::default(),
        };
        pipe.sample();
        pipe
    }

    fn update(&mut self, status: PipeStatus) {
        self.before = Some(std::mem::replace(&mut self.now, status));
        self.sample();
    }

    fn sample(&mut self) {
        // The beginning of a pipe is known, also if the watch begins later.
        if !self.now.entry.state.is_final() {
            self.history.add(self.now.entry.elapsed, self.now.bytes());
        }
    }
}
