//! Reclaims the buffers that a dead participant held.
//!
//! Runs in the controller, once the operating system has reported that the participant is dead.
//! Until then nothing is decided, because a participant that only looks dead may still write.
//! Everything else goes on meanwhile.

#[cfg(not(loom))]
use crate::memory::atomic::AtomicU64;
use crate::memory::atomic::Ordering;
use crate::memory::points::point;
use crate::memory::tables::Tables;
use crate::memory::{Corruption, Number, ParticipantId, QueueId, QueueKind};
#[cfg(not(loom))]
use crate::memory::{Dead, InstanceId, Segment, StageId};

use super::activity::Activity;
use super::participant::{Held, Participant};
#[cfg(not(loom))]
use super::port_core::inheritance;
use super::word::{CONTROLLER, State};

/// Fate of the inputs that the dead participant held.
///
/// Exhaustive: a replacement either follows or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum Inputs {
    /// Its replacement gets them, before anything new. Only for stages that work out of place: an
    /// input that was worked on in place is no longer what it was.
    Inherit,
    /// They are freed: the pipe stops. Stop it first ([`Segment::stop`]), for those who go on would
    /// miss the numbers of what was freed.
    Release,
}

/// Numbers of the buffers that a dead participant held, by what happened to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Inputs that wait for the replacement.
    pub inherited: u32,
    /// Inputs that were freed: the pipe stops, or their output had already been sent.
    pub released: u32,
    /// Buffers that it had allocated and not sent.
    pub loans: u32,
    /// Sends and frees that it had begun and the controller finished.
    pub finished: u32,
}

impl Reclaimed {
    /// Number of buffers that the dead participant held.
    pub fn held(&self) -> u32 {
        self.inherited + self.released + self.loans + self.finished
    }
}

#[cfg(not(loom))]
impl Segment {
    /// Takes back everything that an instance held when it died.
    ///
    /// # Errors
    ///
    /// [`Corruption`] if the seat belongs to another process than the one that died, which may
    /// still work on what it holds; or if the shared words contradict themselves: what could not be
    /// reclaimed is then lost to the pool, and the pipe must stop.
    ///
    /// # Panics
    ///
    /// If there is no such instance.
    pub fn reclaim(
        &self,
        instance: InstanceId,
        proof: &Dead,
        inputs: Inputs,
    ) -> Result<Reclaimed, Corruption> {
        let participant = self.shape().participant_of(instance);
        let owner = &self.tables().participants[participant].owner;
        let process = owner.load(Ordering::Acquire); // SYNC(seat-taken)
        if process != 0 && process != proof.process() {
            let what = format!(
                "the seat is process {process}'s, but it was {} that died",
                proof.process()
            );
            return Err(Corruption::new(what));
        }
        let reclaimed = reclaim(self.tables(), participant, inputs)?;
        owner.store(0, Ordering::Release);
        point!("reclaim.left");
        Ok(reclaimed)
    }

    /// Records the activity of an instance that cannot record it itself.
    pub(crate) fn note_activity(&self, instance: InstanceId, activity: Activity) {
        activity.record(self.tables(), self.shape().participant_of(instance), false);
    }

    /// Records the number of processes that an instance has had.
    pub(crate) fn note_processes(&self, instance: InstanceId, processes: u64) {
        let participant = self.shape().participant_of(instance);
        self.tables().participants[participant]
            .processes
            .store(processes, Ordering::Relaxed);
    }

    /// Number of blocks that all processes of an instance together have taken up.
    pub(crate) fn taken_up(&self, instance: InstanceId) -> u64 {
        let participant = self.shape().participant_of(instance);
        self.tables().participants[participant]
            .counters
            .blocks_in
            .load(Ordering::Relaxed)
    }

    /// True if a process that died had taken the seat of an instance, and the seat was not given
    /// back.
    pub(crate) fn has_seat(&self, instance: InstanceId, process: &Dead) -> bool {
        let participant = self.shape().participant_of(instance);
        let owner = &self.tables().participants[participant].owner;
        owner.load(Ordering::Acquire) == process.process() // SYNC(seat-taken)
    }

    /// Place in the stream of the only instance of a head or tail, which is not running: number of
    /// the first block that it has not sent, or not freed.
    pub(crate) fn place_of_end(&self, instance: InstanceId) -> Result<Number, Corruption> {
        let controller = Participant {
            tables: self.tables(),
            id: CONTROLLER,
        };
        if instance.stage() == StageId::HEAD {
            return controller.count_put(QueueId::output_of(StageId::HEAD));
        }
        match self.first_input(instance) {
            Some(number) => Ok(number),
            None => controller.count_taken(QueueId::input_of(instance.stage())),
        }
    }

    /// Activity of an instance, and a count that grows with each block that it takes up or sends.
    #[cfg(not(loom))]
    pub(crate) fn progress_of(&self, instance: InstanceId) -> (Activity, u64) {
        let tables = self.tables();
        let participant = self.shape().participant_of(instance);
        let counters = &tables.participants[participant].counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let moved = load(&counters.blocks_in).wrapping_add(load(&counters.blocks_out));
        (Activity::of(tables, participant), moved)
    }

    /// The number of the first input that an instance holds: the one on which it works, or, after
    /// its death, the one that waits for its replacement.
    pub(crate) fn first_input(&self, instance: InstanceId) -> Option<Number> {
        let participant = self.shape().participant_of(instance);
        inheritance(self.tables(), participant)
            .front()
            .map(|&(_, number)| number)
    }
}

pub(super) fn reclaim(
    tables: &Tables,
    dead: ParticipantId,
    inputs: Inputs,
) -> Result<Reclaimed, Corruption> {
    let controller = Participant {
        tables,
        id: CONTROLLER,
    };
    let mut report = Reclaimed::default();
    point!("reclaim.begun");
    // Sends first: an input whose answer was sent, but not yet to be found, must not be worked on
    // again.
    for held in of_dead(&controller, dead, State::Sent)? {
        report.finished += u32::from(finish_send(&controller, held, dead)?);
        point!("reclaim.finished");
    }
    point!("reclaim.sends");
    for held in of_dead(&controller, dead, State::Held)? {
        if controller.word(held.buffer)?.allocator == dead {
            free_for(&controller, held, dead)?;
            point!("reclaim.freed");
            report.loans += 1;
            continue;
        }
        let number = controller.number_of(held, dead);
        if inputs == Inputs::Release || is_answered(&controller, dead, number) {
            free_for(&controller, held, dead)?;
            point!("reclaim.freed");
            report.released += 1;
        } else {
            controller.note_number(held, number);
            point!("reclaim.kept");
            report.inherited += 1;
        }
    }
    // Its last activity must not excuse anything that the audit finds from now on. A replacement
    // that is on its way has not ended, so the controller must not conclude that the others wait in
    // vain.
    let activity = if inputs == Inputs::Inherit {
        Activity::Idle
    } else {
        Activity::Ended
    };
    point!("reclaim.inputs");
    activity.record(tables, dead, false);
    point!("reclaim.noted");
    tables.wake_all();
    point!("reclaim.woken");
    Ok(report)
}

/// The buffers that the ledger says are in this state by the dead one's hand.
fn of_dead(
    controller: &Participant<'_>,
    dead: ParticipantId,
    state: State,
) -> Result<Vec<Held>, Corruption> {
    let mut found = Vec::new();
    for buffer in controller.tables.shape.buffer_ids() {
        let word = controller.word(buffer)?;
        if word.who == dead && word.state == state {
            found.push(Held {
                buffer,
                generation: word.generation,
            });
        }
    }
    Ok(found)
}

/// True if the output for input `number` of participant `dead` is already on its way.
fn is_answered(controller: &Participant<'_>, dead: ParticipantId, number: Number) -> bool {
    let shape = &controller.tables.shape;
    let Some(stage) = shape.stage_of(dead) else {
        return false;
    };
    let (output, parts) = (QueueId::output_of(stage), shape.parts(stage));
    let ring = controller.ring(output);
    // A stage that makes several blocks from one may have died between two of them.
    let mut answers = (0..parts).map(|part| number.part(part, parts));
    shape.is_numbered(stage) && answers.all(|answer| ring.is_published(answer.position()))
}

/// Frees a buffer that the dead one held.
fn free_for(
    controller: &Participant<'_>,
    held: Held,
    dead: ParticipantId,
) -> Result<(), Corruption> {
    // The dead participant's own steps, taken by us: no other one touches a buffer that it held.
    Participant {
        id: dead,
        ..*controller
    }
    .free(held)
}

/// Finishes a send that the dead one began. Returns whether there was anything left to do.
fn finish_send(
    controller: &Participant<'_>,
    held: Held,
    dead: ParticipantId,
) -> Result<bool, Corruption> {
    let tables = controller.tables;
    let entry = &tables.buffers[held.buffer];
    let queue = QueueId::new(entry.destination.load(Ordering::Acquire)); // SYNC(destination)
    if queue >= tables.shape.reserve() {
        return Err(
            Corruption::new("a buffer was sent to a queue that does not exist")
                .at_buffer(held.buffer),
        );
    }
    if controller.ring(queue).holds(held.buffer, held.generation) {
        return Ok(false);
    }
    // Not in its ring: never put there, or taken since. Taking moves the ledger word before it
    // touches the slot.
    let word = controller.word(held.buffer)?;
    if word.generation != held.generation || word.state != State::Sent || word.who != dead {
        return Ok(false);
    }
    if queue == QueueId::FREE_LIST {
        controller.publish_free(held, word.allocator)?;
    } else {
        let ordered = tables.shape.queue_kind(queue) == QueueKind::Ordered;
        let noted = entry.number_generation.load(Ordering::Acquire) == held.generation.get();
        if ordered && !noted {
            return Err(Corruption::new("a sent buffer has lost its number").at_buffer(held.buffer));
        }
        controller.publish(held, queue, controller.number_of(held, dead))?;
    }
    Ok(true)
}
