//! The slow twin of the hand-over: compares every word with every other, and changes nothing.
//!
//! The ledger is the truth. Each buffer is held by one participant, or is in exactly the ring its
//! descriptor names; every slot and hint agrees with that. A participant in the middle of a
//! primitive may be one step ahead of that with one buffer, so such a difference counts only if its
//! participant is waiting, has ended, or is the controller.

use std::fmt;

use crate::memory::atomic::Ordering;
use crate::memory::tables::Tables;
use crate::memory::{
    BufferId, Corruption, InstanceId, ParticipantId, QueueId, QueueKind, Segment, TableIndex,
};
use crate::queue::Slot;

use super::activity::Activity;
use super::participant::Participant;
use super::word::{CONTROLLER, State, Word};

/// A contradiction between shared words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFinding(String);

impl fmt::Display for AuditFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AuditFinding {}

impl From<AuditFinding> for Corruption {
    fn from(finding: AuditFinding) -> Self {
        Self::new(finding.0)
    }
}

impl Segment {
    /// Compares the ledger with the rings, and reports the first contradiction.
    ///
    /// On a pipe that is running, a finding may be a participant caught in the act: it means
    /// something only if it is there again after a while in which nothing moved.
    ///
    /// # Errors
    ///
    /// The first [`AuditFinding`].
    pub fn audit(&self) -> Result<(), AuditFinding> {
        audit(self.tables(), true)
    }

    /// Number of buffers on the free list.
    pub fn free_buffers(&self) -> u32 {
        free_buffers(self.tables())
    }

    /// Marks as finished an instance that is known to have finished.
    pub(crate) fn mark_done(&self, instance: InstanceId) {
        let participant = self.shape().participant_of(instance);
        Participant {
            tables: self.tables(),
            id: CONTROLLER,
        }
        .finish(participant);
    }

    /// Time at which each participant last fell asleep, 0 for those that have ended; `None` if one
    /// of them is at work, or in a wait with a timeout.
    pub(crate) fn asleep(&self) -> Option<Vec<u64>> {
        let tables = self.tables();
        let asleep = |id| {
            if Activity::waits_for_others(tables, id) {
                return Some(tables.participants[id].since.load(Ordering::Relaxed).max(1));
            }
            (Activity::of(tables, id) == Activity::Ended).then_some(0)
        };
        self.shape().participant_ids().map(asleep).collect()
    }

    /// A digest of all that a waiting instance may wait for: the ledger words, the marks of
    /// instances that have sent everything, and the instances that have ended. It stays the same
    /// while nothing moves, and almost certainly changes when something does.
    pub(crate) fn movement_digest(&self) -> u64 {
        let tables = self.tables();
        let words = tables
            .buffers
            .as_slice()
            .iter()
            .map(|entry| entry.word.load(Ordering::Acquire));
        let marks = self
            .shape()
            .stage_ids()
            .map(|stage| tables.stages[stage].done.load(Ordering::Acquire));
        let ends = self
            .shape()
            .participant_ids()
            .map(|id| u64::from(Activity::of(tables, id) == Activity::Ended));
        words
            .chain(marks)
            .chain(ends)
            .fold(0, |sum: u64, word| sum.rotate_left(7) ^ word)
    }
}

/// For each participant the number of buffers that it holds, that it holds and allocated itself,
/// and that count against its quota.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) held: Vec<u32>,
    pub(crate) unsent: Vec<u32>,
    pub(crate) outstanding: Vec<u32>,
}

/// Counts from the ledger.
pub(crate) fn tally(tables: &Tables) -> Tally {
    let view = Participant {
        tables,
        id: CONTROLLER,
    };
    let none = vec![0; tables.shape.participants() as usize];
    let mut tally = Tally {
        held: none.clone(),
        unsent: none.clone(),
        outstanding: none,
    };
    for buffer in tables.shape.buffer_ids() {
        let Ok(word) = view.word(buffer) else {
            continue;
        };
        let destination = &tables.buffers[buffer].destination;
        let queue = QueueId::new(destination.load(Ordering::Relaxed));
        let free = word.state == State::Sent && view.is_home(queue);
        let mut count = |counts: fn(&mut Tally) -> &mut Vec<u32>, who: ParticipantId| {
            counts(&mut tally)
                .get_mut(who.as_index())
                .map(|count| *count += 1)
        };
        if word.state == State::Held {
            count(|tally| &mut tally.held, word.who);
        }
        if word.state == State::Held && word.allocator == word.who {
            count(|tally| &mut tally.unsent, word.who);
        }
        if !free {
            count(|tally| &mut tally.outstanding, word.allocator);
        }
    }
    tally
}

/// Buffers in a queue; in the head's, those of the reserve, too.
pub(crate) fn queue_depth(tables: &Tables, queue: QueueId) -> u32 {
    let view = Participant {
        tables,
        id: CONTROLLER,
    };
    if has_passed_positions(&view, queue) {
        return view.ring(queue).count_filled() as u32;
    }
    let reserve = if queue == QueueId::FREE_LIST {
        view.ring(tables.shape.reserve()).depth()
    } else {
        0
    };
    (view.ring(queue).depth() + reserve) as u32
}

/// True if some positions of a queue get no buffer: its feeder answers a number with several.
fn has_passed_positions(view: &Participant<'_>, queue: QueueId) -> bool {
    let shape = &view.tables.shape;
    queue
        .feeder()
        .is_some_and(|feeder| shape.has_stage(feeder) && shape.parts(feeder) > 1)
}

pub(super) fn free_buffers(tables: &Tables) -> u32 {
    let view = Participant {
        tables,
        id: CONTROLLER,
    };
    let at_home = |buffer: &BufferId| {
        let Ok(word) = view.word(*buffer) else {
            return false;
        };
        let home = [QueueId::FREE_LIST, tables.shape.reserve()];
        word.state == State::Sent
            && home
                .iter()
                .any(|&queue| view.ring(queue).holds(*buffer, word.generation))
    };
    tables.shape.buffer_ids().filter(at_home).count() as u32
}

/// `live`: participants may be in the middle of something.
pub(super) fn audit(tables: &Tables, live: bool) -> Result<(), AuditFinding> {
    let view = Participant {
        tables,
        id: CONTROLLER,
    };
    let shape = &tables.shape;
    // A stage may wait outside of the pipe on a thread of its own while its port sends.
    let in_the_act = |activity| matches!(activity, Activity::Working | Activity::WaitingOutside);
    let excused = |who: ParticipantId| {
        live && shape.has_participant(who) && in_the_act(Activity::of(tables, who))
    };
    let mut queued = vec![0u32; shape.ring_count() as usize];
    for buffer in shape.buffer_ids() {
        let Ok(Word {
            state,
            who,
            allocator,
            generation,
        }) = view.word(buffer)
        else {
            return finding(format!(
                "the ledger word of buffer {buffer} is in no known state"
            ));
        };
        if !shape.has_participant(who) && who != CONTROLLER {
            return finding(format!(
                "buffer {buffer} belongs to {who}, who is not a participant"
            ));
        }
        let queue = QueueId::new(tables.buffers[buffer].destination.load(Ordering::Acquire));
        match state {
            State::Held => {}
            State::Sent if !shape.has_ring(queue) => {
                return finding(format!(
                    "buffer {buffer} was sent to queue {queue}, which does not exist"
                ));
            }
            State::Sent => {
                if view.ring(queue).holds(buffer, generation) {
                    queued[queue.as_index()] += 1;
                } else if !excused(who) {
                    return finding(format!(
                        "buffer {buffer} was sent to queue {queue}, and is not there"
                    ));
                }
            }
        }
        let home = state == State::Sent && view.is_home(queue);
        if !home && !shape.has_participant(allocator) {
            return finding(format!(
                "buffer {buffer} is on loan to {allocator}, who is not a participant"
            ));
        }
    }
    shape
        .ring_ids()
        .try_for_each(|queue| audit_ring(&view, queue, queued[queue.as_index()], live))
}

/// `expected`: the buffers that the ledger says are in this ring.
fn audit_ring(
    view: &Participant<'_>,
    queue: QueueId,
    expected: u32,
    live: bool,
) -> Result<(), AuditFinding> {
    let ring = view.ring(queue);
    let (head, tail) = ring.ends();
    let passes = has_passed_positions(view, queue);
    let mut present = 0;
    for (position, slot) in ring.window() {
        match slot {
            // A slot just after the head may still be at the lap before, if its taker has not
            // emptied it yet. A position that was passed over is on the next lap at once.
            Slot::Empty { lap }
                if lap == ring.lap(position)
                    || ((position == head || passes) && lap == ring.lap(position).next()) => {}
            Slot::Empty { lap } => {
                return finding(format!(
                    "position {position} of queue {queue} is empty on lap {lap}"
                ));
            }
            Slot::Full { buffer, generation } => {
                let exists = view.tables.shape.has_buffer(buffer);
                let word = exists.then(|| view.word(buffer));
                let Some(Ok(word)) = word else {
                    return finding(format!(
                        "position {position} of queue {queue} names buffer {buffer}"
                    ));
                };
                let current = word.state == State::Sent && word.generation == generation;
                present += u32::from(current);
                if !current && position != head {
                    return finding(format!(
                        "position {position} of queue {queue} names a buffer that has moved on"
                    ));
                }
                // One put may not have moved the tail yet; the next one moves it first.
                if current
                    && position > tail
                    && view.tables.shape.queue_kind(queue) == QueueKind::Plain
                {
                    return finding(format!(
                        "position {position} of queue {queue} is after its tail {tail}"
                    ));
                }
            }
        }
    }
    if present != expected && !live {
        return finding(format!(
            "queue {queue} has {present} buffers, the ledger says {expected}"
        ));
    }
    Ok(())
}

fn finding(text: String) -> Result<(), AuditFinding> {
    Err(AuditFinding(text))
}
