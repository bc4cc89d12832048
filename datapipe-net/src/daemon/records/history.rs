//! The last pipes that have ended, with their outcome. They survive a restart if there is a
//! directory for them.
//!
//! The daemon works on the list in memory. A thread of its own writes the file
//! (`history_file.rs`), so that no pipe and no client ever waits for a disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::history_file::Writer;
use crate::config::User;
use crate::limits::MAX_HISTORY;
use crate::protocol::PastPipe;

/// History of the daemon.
#[derive(Debug, Default)]
pub(in crate::daemon) struct History {
    records: Arc<HistoryRecords>,
    /// The thread that writes the file; `None` if the history is kept in memory only.
    writer: Mutex<Option<Writer>>,
}

/// Pipes that the daemon shares with the thread that writes the file.
#[derive(Debug, Default)]
pub(in crate::daemon) struct HistoryRecords {
    /// Those that have ended, the oldest first.
    pipes: Mutex<VecDeque<PastPipe>>,
    /// Those that have not ended.
    live: Mutex<Vec<PastPipe>>,
    /// Number of pipes that could not be written when they ended.
    unwritten: Mutex<u64>,
}

impl History {
    pub(in crate::daemon) fn records(&self) -> &Arc<HistoryRecords> {
        &self.records
    }

    /// From now on writes pipes that end.
    pub(in crate::daemon) fn set_writer(&self, writer: Writer) {
        *self.writer.lock() = Some(writer);
    }

    /// Writes that a pipe has started, so that the next daemon knows of it if this one is killed.
    /// It does not wait. [`add`](Self::add) must follow when the pipe has ended.
    pub(in crate::daemon) fn begin(&self, pipe: PastPipe) {
        self.records.live.lock().push(pipe.clone());
        if let Some(writer) = &*self.writer.lock() {
            // A line that is lost here is written with the whole file, or with the pipe's end.
            writer.write(pipe);
        }
    }

    /// Adds a pipe that has ended. It does not wait.
    pub(in crate::daemon) fn add(&self, pipe: PastPipe) {
        self.records
            .live
            .lock()
            .retain(|live| live.name != pipe.name);
        self.records.push(pipe.clone());
        if let Some(writer) = &*self.writer.lock()
            && !writer.write(pipe)
        {
            self.records.count_unwritten();
        }
    }

    /// Returns the last pipes that `user` may manage, the newest first: `limit` at most.
    pub(in crate::daemon) fn last(&self, user: User, limit: usize) -> Vec<PastPipe> {
        let pipes = self.records.pipes.lock();
        let own = pipes.iter().rev();
        let own = own.filter(|pipe| user.may_manage(User(pipe.owner)));
        own.take(limit).cloned().collect()
    }

    /// Number of pipes that could not be written when they ended.
    pub(in crate::daemon) fn unwritten(&self) -> u64 {
        *self.records.unwritten.lock()
    }

    /// Waits until the pipes that ended so far are written, for a bounded time. Returns false if
    /// some may not be.
    pub(in crate::daemon) fn close(&self) -> bool {
        let writer = self.writer.lock().take();
        writer.is_none_or(Writer::finish)
    }
}

impl HistoryRecords {
    /// Adds a pipe. If there are too many, the oldest one of the user who has the most goes: a user
    /// who starts many does not displace the pipes of others.
    pub(in crate::daemon) fn push(&self, pipe: PastPipe) {
        let mut pipes = self.pipes.lock();
        pipes.push_back(pipe);
        if pipes.len() <= MAX_HISTORY {
            return;
        }
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for pipe in &*pipes {
            *counts.entry(pipe.owner).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|&(_, count)| count);
        let oldest = most.and_then(|(user, _)| pipes.iter().position(|pipe| pipe.owner == user));
        if let Some(oldest) = oldest {
            pipes.remove(oldest);
        }
    }

    /// A copy of all pipes: those that have ended, the oldest first, and then those that live.
    pub(in crate::daemon) fn all(&self) -> Vec<PastPipe> {
        // In the order of an end, which takes a pipe out of the list of those that live first: it
        // may be in neither list, and its own line follows.
        let live = self.live.lock().clone();
        let pipes = self.pipes.lock();
        let is_over = |live: &PastPipe| pipes.iter().rev().any(|pipe| is_same(pipe, live));
        let live = live.into_iter().filter(|live| !is_over(live));
        pipes.iter().cloned().chain(live).collect()
    }

    /// True if this pipe is among those that have ended.
    pub(in crate::daemon) fn has(&self, pipe: &PastPipe) -> bool {
        self.pipes
            .lock()
            .iter()
            .rev()
            .any(|other| is_same(other, pipe))
    }

    /// Calls `look` with each pipe, the oldest first.
    pub(in crate::daemon) fn for_each(&self, look: impl FnMut(&PastPipe)) {
        self.pipes.lock().iter().for_each(look);
    }

    pub(in crate::daemon) fn count_unwritten(&self) {
        *self.unwritten.lock() += 1;
    }
}

/// True for two records of one pipe. In a container, the pipes of the next daemon have the same
/// names again.
pub(super) fn is_same(pipe: &PastPipe, other: &PastPipe) -> bool {
    (pipe.started, &pipe.name) == (other.started, &other.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_with_many_pipes_displaces_own_ones_only() {
        let history = History::default();
        let add = |owner, n: usize| history.add(PastPipe::new(format!("{owner}.{n}"), owner));
        (0..10).for_each(|n| add(4_000_000_001, n));
        (0..3 * MAX_HISTORY).for_each(|n| add(4_000_000_002, n));
        let all = history.last(User(0), usize::MAX);
        assert_eq!(all.len(), MAX_HISTORY);
        assert_eq!(all[0].name, format!("4000000002.{}", 3 * MAX_HISTORY - 1));
        let own = history.last(User(4_000_000_001), 4);
        let names: Vec<_> = own.iter().map(|pipe| &*pipe.name).collect();
        assert_eq!(
            names,
            [
                "4000000001.9",
                "4000000001.8",
                "4000000001.7",
                "4000000001.6"
            ]
        );
        assert_eq!(history.last(User(4_000_000_001), 99).len(), 10);
        assert_eq!(history.last(User(4_000_000_003), 99), []);
    }
}
