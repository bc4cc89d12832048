//! Pipes of the daemon: those that live, and the last that have ended.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use datapipe::Pipe;
use parking_lot::{Condvar, Mutex};

use super::accounts::Charge;
use super::live_pipe::LivePipe;
use super::records::ProblemList;
use crate::config::User;
use crate::limits::{KEPT_ENDED, MOST_BYTES_OF_A_PIPE};
use crate::protocol::{Initiate, PipeEntry, PipeStatus, Refusal, RefusalCode};

/// Cause of the stop of a pipe that the daemon stops with itself.
const DAEMON_STOPS: &str = "because the daemon stops";

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
    /// Number of pipes that live, are being started, or ended without that being published yet.
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
    /// Bytes of the pipes that live and of those that have ended.
    pub(super) bytes: u64,
}

/// Pipe that the daemon knows.
pub(super) enum KnownPipe {
    Live(Arc<LivePipe>),
    Ended(Arc<PipeStatus>, Arc<ProblemList>),
}

/// Place for a pipe that is being started. Dropping it frees the place.
pub(super) struct Reservation<'p> {
    table: &'p PipeTable,
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
    /// Reserves a place for a pipe, unless the daemon stops.
    pub(super) fn reserve(&self) -> Result<Reservation<'_>, Refusal> {
        let mut entries = self.entries.lock();
        if entries.closing {
            let why = "the daemon is stopping";
            return Err(Refusal::new(RefusalCode::STOPPING, why));
        }
        entries.unfinished += 1;
        Ok(Reservation {
            table: self,
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
                bytes: entries.ended_bytes,
            };
            (entries.live.clone(), sums)
        };
        for live in live {
            let status = live.status();
            sums.bytes = sums.bytes.saturating_add(counted_bytes(&status));
            sums.live.push(status.entry);
        }
        sums
    }

    /// Admits no further pipe, stops all pipes, and waits until their ends are published.
    pub(super) fn close(&self) {
        let mut entries = self.entries.lock();
        entries.closing = true;
        entries.live.iter().for_each(|live| live.stop(DAEMON_STOPS));
        self.finished
            .wait_while(&mut entries, |entries| entries.unfinished > 0);
    }

    /// Records that a pipe has ended, with its last status.
    pub(super) fn record_end(&self, live: &Arc<LivePipe>, status: PipeStatus) {
        let mut entries = self.entries.lock();
        entries.ended_bytes = entries.ended_bytes.saturating_add(counted_bytes(&status));
        entries.live.retain(|other| !Arc::ptr_eq(other, live));
        if entries.ended.len() >= KEPT_ENDED {
            entries.forget_one();
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

/// Bytes of a pipe that count in the sum of all users. Its processes may write any number.
fn counted_bytes(status: &PipeStatus) -> u64 {
    status.bytes().min(MOST_BYTES_OF_A_PIPE)
}

impl TableEntries {
    /// Forgets the oldest ended pipe of the user who has the most, so that a user with many short
    /// pipes does not make the daemon forget those of others.
    fn forget_one(&mut self) {
        let mut counts = HashMap::new();
        for ended in &self.ended {
            *counts.entry(ended.status.entry.owner).or_insert(0) += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        let oldest = self
            .ended
            .iter()
            .position(|ended| counts.get(&ended.status.entry.owner) == Some(&most));
        if let Some(oldest) = oldest {
            self.ended.remove(oldest);
        }
    }

    fn find(&self, name: &str) -> Option<KnownPipe> {
        if let Some(live) = self.live.iter().find(|live| live.name() == name) {
            return Some(KnownPipe::Live(Arc::clone(live)));
        }
        let mut ended = self.ended.iter();
        let ended = ended.find(|ended| ended.status.entry.name == name)?;
        let (status, problems) = (Arc::clone(&ended.status), Arc::clone(&ended.problems));
        Some(KnownPipe::Ended(status, problems))
    }
}

impl Reservation<'_> {
    /// Enters the started pipe in the table.
    pub(super) fn commit(
        mut self,
        pipe: Pipe,
        request: &Initiate,
        charge: Charge,
        problems: Arc<ProblemList>,
    ) -> Arc<LivePipe> {
        self.committed = true;
        let live = Arc::new(LivePipe::new(pipe, request, charge, problems));
        let mut entries = self.table.entries.lock();
        entries.live.push(Arc::clone(&live));
        // `close` did not see this pipe.
        if entries.closing {
            live.stop(DAEMON_STOPS);
        }
        live
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.committed {
            self.table.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_with_many_ended_pipes_does_not_displace_those_of_others() {
        let mut entries = TableEntries::default();
        let ended = |owner, number: usize| EndedPipe {
            since: Instant::now(),
            status: Arc::new(PipeStatus::without_stages(PipeEntry::new(
                number.to_string(),
                owner,
            ))),
            problems: Arc::default(),
        };
        entries.ended.push_back(ended(7, 0));
        for number in 1..1000 {
            if entries.ended.len() >= KEPT_ENDED {
                entries.forget_one();
            }
            entries.ended.push_back(ended(8, number));
        }
        assert_eq!(entries.ended.len(), KEPT_ENDED);
        assert!(entries.find("0").is_some() && entries.find("999").is_some());
        assert!(entries.find("1").is_none());
    }

    #[test]
    fn table_that_is_closed_has_no_place() {
        let table = PipeTable::default();
        drop(table.reserve().map_err(|refusal| refusal.code).unwrap());
        table.close();
        let code = table.reserve().map(drop).unwrap_err().code;
        assert_eq!(code, RefusalCode::STOPPING);
    }
}
