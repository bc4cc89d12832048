//! Pipes of the daemon: those that live, the last that have ended, and the room for more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use datapipe::Pipe;
use parking_lot::{Condvar, Mutex};

use super::live_pipe::LivePipe;
use super::problem_list::ProblemList;
use crate::config::{Limits, User};
use crate::limits::KEPT_ENDED;
use crate::protocol::{Initiate, PipeEntry, PipeStatus, Refusal, RefusalCode};

/// All pipes of the daemon.
#[derive(Debug, Default)]
pub(super) struct PipeTable {
    entries: Mutex<TableEntries>,
    /// Notified when a pipe is finished.
    finished: Condvar,
}

#[derive(Debug, Default)]
struct TableEntries {
    live: Vec<Arc<LivePipe>>,
    ended: VecDeque<EndedPipe>,
    /// Number of pipes that live or are being started.
    count: u32,
    /// Shared memory of these pipes, in bytes.
    memory: u64,
    /// Number of these pipes, and of those that ended but whose end is not published yet.
    unfinished: u32,
    /// Bytes of the pipes that have ended.
    ended_bytes: u64,
    /// True once the daemon stops.
    closing: bool,
}

#[derive(Debug)]
struct EndedPipe {
    since: Instant,
    status: Arc<PipeStatus>,
    problems: Arc<ProblemList>,
}

/// Sums over the pipes of all users.
#[derive(Debug, Default)]
pub(super) struct TableSums {
    /// Entries of the pipes that live.
    pub(super) live: Vec<PipeEntry>,
    /// Shared memory of these pipes and of those that are being started, in bytes.
    pub(super) memory: u64,
    /// Bytes of the pipes that live and of those that have ended.
    pub(super) bytes: u64,
}

/// Pipe that the daemon knows.
pub(super) enum KnownPipe {
    Live(Arc<LivePipe>),
    Ended(Arc<PipeStatus>, Arc<ProblemList>),
}

/// Room for a pipe that is being started. Dropping it frees the room.
pub(super) struct Reservation<'p> {
    table: &'p PipeTable,
    memory: u64,
    committed: bool,
}

impl KnownPipe {
    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Self::Ended(..))
    }

    fn owner(&self) -> User {
        match self {
            Self::Live(live) => live.owner(),
            Self::Ended(status, _) => User(status.entry.owner),
        }
    }
}

impl PipeTable {
    /// Reserves room for a pipe with `memory` bytes of shared memory.
    pub(super) fn reserve(&self, memory: u64, limits: &Limits) -> Result<Reservation<'_>, Refusal> {
        let mut entries = self.entries.lock();
        if entries.closing {
            let why = "the daemon is stopping";
            return Err(Refusal::new(RefusalCode::STOPPING, why));
        }
        entries
            .check_room(memory, limits)
            .map_err(|why| Refusal::new(RefusalCode::LIMIT, why))?;
        entries.count += 1;
        entries.unfinished += 1;
        entries.memory += memory;
        Ok(Reservation {
            table: self,
            memory,
            committed: false,
        })
    }

    /// Returns the pipe named `name`, if `user` may manage it.
    pub(super) fn find(&self, name: &str, user: User) -> Result<KnownPipe, Refusal> {
        let Some(pipe) = self.entries.lock().find(name) else {
            let why = format!("there is no pipe \"{name}\" here");
            return Err(Refusal::new(RefusalCode::NO_SUCH_PIPE, why));
        };
        if !user.may_manage(pipe.owner()) {
            let why = format!("the pipe {name} belongs to another user");
            return Err(Refusal::new(RefusalCode::NOT_ALLOWED, why));
        }
        Ok(pipe)
    }

    /// Returns the pipes that `user` may manage, the oldest first.
    ///
    /// The status of a live pipe is read without the lock of the table, so a pipe may end in
    /// between. The list then has it as a live pipe.
    pub(super) fn list(&self, user: User) -> Vec<PipeEntry> {
        let (live, ended) = {
            let entries = self.entries.lock();
            let ended = entries.ended.iter();
            let ended = ended.map(|ended| (ended.since, ended.status.entry.clone()));
            (entries.live.clone(), ended.collect::<Vec<_>>())
        };
        let live = live.iter().map(|live| {
            let status = live.with_pipe(Pipe::status);
            (live.since(), live.entry(status.as_ref()))
        });
        let mut all: Vec<_> = live.chain(ended).collect();
        all.retain(|(_, entry)| user.may_manage(User(entry.owner)));
        all.sort_by_key(|(since, _)| *since);
        all.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Returns the sums over all pipes. A pipe that ends meanwhile may be missing.
    pub(super) fn sums(&self) -> TableSums {
        let (live, mut sums) = {
            let entries = self.entries.lock();
            let sums = TableSums {
                live: Vec::new(),
                memory: entries.memory,
                bytes: entries.ended_bytes,
            };
            (entries.live.clone(), sums)
        };
        for live in live {
            let status = live.status();
            sums.bytes = sums.bytes.saturating_add(status.bytes());
            sums.live.push(status.entry);
        }
        sums
    }

    /// Admits no further pipe, stops all pipes, and waits until their ends are published.
    pub(super) fn close(&self) {
        let mut entries = self.entries.lock();
        entries.closing = true;
        entries.live.iter().for_each(|live| live.stop());
        self.finished
            .wait_while(&mut entries, |entries| entries.unfinished > 0);
    }

    /// Records that a pipe has ended, with its last status, and frees its room.
    pub(super) fn record_end(&self, live: &Arc<LivePipe>, status: PipeStatus) {
        let mut entries = self.entries.lock();
        entries.free_room(live.memory());
        entries.ended_bytes = entries.ended_bytes.saturating_add(status.bytes());
        entries.live.retain(|other| !Arc::ptr_eq(other, live));
        if entries.ended.len() >= KEPT_ENDED {
            entries.ended.pop_front();
        }
        entries.ended.push_back(EndedPipe {
            since: live.since(),
            status: Arc::new(status),
            problems: Arc::clone(live.problems()),
        });
    }

    /// Records that the end of a pipe is published.
    pub(super) fn finish(&self) {
        let mut entries = self.entries.lock();
        entries.unfinished = entries.unfinished.saturating_sub(1);
        self.finished.notify_all();
    }
}

impl TableEntries {
    fn find(&self, name: &str) -> Option<KnownPipe> {
        if let Some(live) = self.live.iter().find(|live| live.name() == name) {
            return Some(KnownPipe::Live(Arc::clone(live)));
        }
        let mut ended = self.ended.iter();
        let ended = ended.find(|ended| ended.status.entry.name == name)?;
        let (status, problems) = (Arc::clone(&ended.status), Arc::clone(&ended.problems));
        Some(KnownPipe::Ended(status, problems))
    }

    /// Checks the limits for a further pipe. The error is the limit that it would exceed.
    fn check_room(&self, memory: u64, limits: &Limits) -> Result<(), String> {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        if self.count >= limits.pipes {
            let count = self.count;
            return Err(format!(
                "there are {count} pipes, the most that the configuration allows: wait for a pipe \
                 to end"
            ));
        }
        let requested = mib(memory);
        if memory > limits.memory_per_pipe {
            let most = mib(limits.memory_per_pipe);
            return Err(format!(
                "the pipe would take {requested} MiB of shared memory; one may take {most} MiB: \
                 use fewer or smaller buffers"
            ));
        }
        let left = limits.memory.saturating_sub(self.memory);
        if memory > left {
            let (left, all) = (left >> 20, mib(limits.memory));
            return Err(format!(
                "the pipe would take {requested} MiB of shared memory, and {left} MiB of {all} MiB \
                 are left: wait for a pipe to end, or use fewer or smaller buffers"
            ));
        }
        Ok(())
    }

    fn free_room(&mut self, memory: u64) {
        self.count = self.count.saturating_sub(1);
        self.memory = self.memory.saturating_sub(memory);
    }
}

impl Reservation<'_> {
    /// Enters the started pipe in the table.
    pub(super) fn commit(
        mut self,
        pipe: Pipe,
        request: &Initiate,
        owner: User,
        problems: Arc<ProblemList>,
    ) -> Arc<LivePipe> {
        self.committed = true;
        let live = LivePipe::new(pipe, request, owner, self.memory, problems);
        let live = Arc::new(live);
        let mut entries = self.table.entries.lock();
        entries.live.push(Arc::clone(&live));
        // `close` did not see this pipe.
        if entries.closing {
            live.stop();
        }
        live
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.table.entries.lock().free_room(self.memory);
            self.table.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_pipes_is_limited_and_freed() {
        let limits = Limits {
            pipes: 2,
            memory_per_pipe: 64 << 20,
            memory: 96 << 20,
            ..Limits::default()
        };
        let table = PipeTable::default();
        let code = |memory| {
            table
                .reserve(memory, &limits)
                .map(drop)
                .map_err(|refusal| refusal.code)
        };
        let text = |memory| table.reserve(memory, &limits).map(drop).unwrap_err().text;
        assert!(text(65 << 20).contains("65 MiB of shared memory; one may take 64 MiB"));
        let first = table.reserve(64 << 20, &limits).unwrap();
        assert!(text(33 << 20).contains("33 MiB of shared memory, and 32 MiB of 96 MiB are left"));
        let second = table.reserve(32 << 20, &limits).unwrap();
        assert!(text(0).contains("there are 2 pipes"));
        drop((first, second));
        assert_eq!(code(64 << 20), Ok(()));
        table.close();
        assert_eq!(code(0), Err(RefusalCode::STOPPING));
    }
}
