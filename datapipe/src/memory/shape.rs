//! The shape of a pipe in one segment: its stages, their instances, and the sizes of its buffers.
//!
//! Everything else about the segment follows from the shape by arithmetic, so two processes that
//! agree on it agree on every offset.

use std::fmt;
use std::ops::Range;

use crate::limits::{
    MAX_BUFFER_SIZE, MAX_BUFFERS, MAX_INSTANCES, MAX_PARTICIPANTS, MAX_ROOM, MAX_STAGES,
    MIN_BUFFER_SIZE,
};

/// A validated shape. Two shapes that are equal give byte-identical layouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    buffers: u32,
    buffer_size: u32,
    headroom: u32,
    tailroom: u32,
    direction: Direction,
    stages: Vec<StageShape>,
    /// First participant of each stage, and one past the last of all: `stages.len() + 1` entries,
    /// ascending.
    first: Vec<u32>,
    /// Asked for at every hand-over, so worked out once.
    ring_slots: u32,
    quotas: Vec<u32>,
    users: Vec<RingUsers>,
}

/// One stage of a [`Shape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageShape {
    /// Instances, 1 to [`MAX_INSTANCES`].
    pub instances: u32,
    /// Buffers that all instances of the stage together may have outstanding; 0 for a stage that
    /// never allocates.
    pub share: u32,
    /// True if the stage answers every number that it receives exactly once. Stages between two
    /// queues that have several instances, or that are to be restarted after a crash, must.
    pub numbered: bool,
}

impl StageShape {
    /// A stage with the given instances and share that is not numbered.
    pub fn new(instances: u32, share: u32) -> Self {
        Self {
            instances,
            share,
            numbered: false,
        }
    }

    /// The same stage, numbered.
    #[must_use]
    pub fn numbered(self) -> Self {
        Self {
            numbered: true,
            ..self
        }
    }

    /// The quota of each instance: an even part of the share, and one more for the first instances
    /// if the share does not divide evenly.
    fn quotas(&self) -> impl Iterator<Item = u32> + use<> {
        let (instances, share) = (self.instances, self.share);
        let (part, rest) = (share / instances, share % instances);
        (0..instances).map(move |instance| part + u32::from(instance < rest))
    }
}

/// Direction in which a pipe's data flows.
///
/// Exhaustive: data flows one way or the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum Direction {
    /// From where it is used to where it is kept.
    #[default]
    Archive,
    /// From where it is kept to where it is used.
    Restore,
}

/// Order of the buffers in a queue.
///
/// Exhaustive: version 1 of the segment has no other order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum QueueKind {
    /// First in, first out. The place where a buffer is put becomes its number.
    Plain,
    /// Fed by a numbered stage: a buffer is put at the place of its number, no matter which
    /// instance finishes first.
    Ordered,
}

/// Rings with only one participant that takes, or puts. A word with one writer needs no
/// compare-and-swap, which costs more than all else in a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingUsers {
    /// One participant takes. The controller never does.
    pub(crate) one_taker: bool,
    /// One participant puts, and after its death the controller.
    pub(crate) one_putter: bool,
}

impl Shape {
    /// Checks and makes a shape.
    ///
    /// `buffers` is the size of the pool, `buffer_size`, `headroom` and `tailroom` are in bytes,
    /// `stages` are in the order of flow: the first is the head, the last the tail.
    ///
    /// # Errors
    ///
    /// A [`ShapeError`] that names the number which is out of its range.
    pub fn new(
        buffers: u32,
        buffer_size: u32,
        headroom: u32,
        tailroom: u32,
        stages: &[StageShape],
    ) -> Result<Self, ShapeError> {
        check("number of buffers", buffers.into(), 1, MAX_BUFFERS.into())?;
        check(
            "buffer size",
            buffer_size.into(),
            MIN_BUFFER_SIZE.into(),
            MAX_BUFFER_SIZE.into(),
        )?;
        check("headroom", headroom.into(), 0, MAX_ROOM.into())?;
        check("tailroom", tailroom.into(), 0, MAX_ROOM.into())?;
        let first = check_stages(buffers, stages)?;
        let quotas: Vec<u32> = stages.iter().flat_map(StageShape::quotas).collect();
        let users = ring_users(stages, &quotas);
        Ok(Self {
            buffers,
            buffer_size,
            headroom,
            tailroom,
            direction: Direction::default(),
            stages: stages.to_vec(),
            first,
            ring_slots: (buffers + 1).next_power_of_two(),
            quotas,
            users,
        })
    }

    /// The same shape for a pipe that flows the given way. [`Shape::new`] makes one for archiving.
    #[must_use]
    pub fn flowing(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// Direction in which the pipe's data flows.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Buffers in the pool.
    pub fn buffers(&self) -> u32 {
        self.buffers
    }

    /// Payload bytes of one buffer.
    pub fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    /// Bytes before the payload of each buffer.
    pub fn headroom(&self) -> u32 {
        self.headroom
    }

    /// Bytes after the payload of each buffer.
    pub fn tailroom(&self) -> u32 {
        self.tailroom
    }

    /// The stages, head first.
    pub fn stages(&self) -> &[StageShape] {
        &self.stages
    }

    /// Number of stages, and so of queues: queue `s` is the input of stage `s`, and queue 0 is the
    /// free list.
    #[inline]
    pub fn stage_count(&self) -> u32 {
        self.stages.len() as u32
    }

    /// Number of rings: one for each stage's queue, and the reserve.
    pub(crate) fn ring_count(&self) -> u32 {
        self.stage_count() + 1
    }

    /// Index of the reserve: the ring of the buffers that were never used. No participant
    /// puts anything there.
    #[inline]
    pub(crate) fn reserve(&self) -> u32 {
        self.stage_count()
    }

    /// Buffers that should be on the free list before an allocator prefers them to the reserve:
    /// those of about a megabyte. Small buffers need slack between the stages more than warmth, for
    /// large ones it is the other way.
    #[inline]
    pub(crate) fn slack(&self) -> u32 {
        (1 << 20) / self.buffer_size
    }

    /// Instances of all stages.
    #[inline]
    pub fn participants(&self) -> u32 {
        self.first[self.stages.len()]
    }

    /// The participants that are instances of `stage`.
    ///
    /// # Panics
    ///
    /// If there is no such stage.
    pub fn instances_of(&self, stage: u32) -> Range<u32> {
        self.first[stage as usize]..self.first[stage as usize + 1]
    }

    /// Returns the participant that is this instance of `stage`, counted from 0.
    pub(crate) fn participant_of(&self, stage: u32, instance: u32) -> u32 {
        self.instances_of(stage).start + instance
    }

    /// The stage that `participant` is an instance of, if there is such a participant.
    pub fn stage_of(&self, participant: u32) -> Option<u32> {
        (participant < self.participants())
            .then(|| self.first.partition_point(|&f| f <= participant) as u32 - 1)
    }

    /// Buffers that `participant` may have outstanding: its part of its stage's share.
    ///
    /// The share is divided evenly; what is left over goes to the first instances, one each.
    #[inline]
    pub fn quota(&self, participant: u32) -> u32 {
        self.quotas.get(participant as usize).copied().unwrap_or(0)
    }

    /// Order of the buffers in queue `queue`.
    ///
    /// A queue is ordered if a numbered stage feeds it. The free list is not, for its order means
    /// nothing; nor is the queue after the head, for there numbers begin.
    #[inline]
    pub fn queue_kind(&self, queue: u32) -> QueueKind {
        match queue.checked_sub(1) {
            Some(feeder) if self.is_numbered(feeder) => QueueKind::Ordered,
            _ => QueueKind::Plain,
        }
    }

    /// True if `stage` is between two queues and answers every number exactly once.
    #[inline]
    pub fn is_numbered(&self, stage: u32) -> bool {
        stage > 0 && stage + 1 < self.stage_count() && self.stages[stage as usize].numbered
    }

    /// The number of participants that take from a ring, and that put into it.
    #[inline]
    pub(crate) fn users(&self, ring: u32) -> RingUsers {
        self.users[ring as usize]
    }

    /// Slots of each ring: a power of two greater than the number of buffers.
    ///
    /// Strictly greater, because a taker that dies leaves one slot full whose buffer has moved on.
    #[inline]
    pub fn ring_slots(&self) -> u32 {
        self.ring_slots
    }
}

/// Fails if `value` is outside of its range.
fn check(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), ShapeError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ShapeError {
        what,
        value,
        min,
        max,
    })
}

/// Checks the stages of a pool of `buffers`. Returns the first participant of each stage, and one
/// past the last of all.
fn check_stages(buffers: u32, stages: &[StageShape]) -> Result<Vec<u32>, ShapeError> {
    let count = stages.len() as u64;
    check("number of stages", count, 2, MAX_STAGES.into())?;
    let mut first = Vec::with_capacity(stages.len() + 1);
    let (mut participants, mut shares) = (0, 0u64);
    for (position, stage) in stages.iter().enumerate() {
        let between = position > 0 && position + 1 < stages.len();
        check_stage(buffers, stage, between)?;
        first.push(participants);
        participants += stage.instances;
        shares += u64::from(stage.share);
    }
    first.push(participants);
    check(
        "number of instances of all stages",
        participants.into(),
        2,
        MAX_PARTICIPANTS.into(),
    )?;
    check("sum of the stages' shares", shares, 1, buffers.into())?;
    check(
        "head's share of the buffers",
        stages[0].share.into(),
        1,
        buffers.into(),
    )?;
    Ok(first)
}

/// Checks one stage; `between`: it is neither head nor tail. Such a stage must be numbered if it
/// has several instances, or their outputs could not be put in order.
fn check_stage(buffers: u32, stage: &StageShape, between: bool) -> Result<(), ShapeError> {
    let instances = stage.instances.into();
    check("number of instances", instances, 1, MAX_INSTANCES.into())?;
    let most = if between && !stage.numbered {
        1
    } else {
        MAX_INSTANCES
    };
    check(
        "number of instances of a stage that is not numbered",
        instances,
        1,
        most.into(),
    )?;
    if stage.share > 0 {
        check(
            "stage's share of the buffers",
            stage.share.into(),
            instances,
            buffers.into(),
        )?;
    }
    Ok(())
}

/// The users of each queue, and of the reserve.
fn ring_users(stages: &[StageShape], quotas: &[u32]) -> Vec<RingUsers> {
    let allocators = quotas.iter().filter(|&&quota| quota > 0).count();
    // All participants free, and none puts into the reserve.
    let free = RingUsers {
        one_taker: allocators == 1,
        one_putter: false,
    };
    let pairs = stages.iter().zip(&stages[1..]);
    let queue = |(feeder, stage): (&StageShape, &StageShape)| RingUsers {
        one_taker: stage.instances == 1,
        one_putter: feeder.instances == 1,
    };
    std::iter::once(free)
        .chain(pairs.map(queue))
        .chain([free])
        .collect()
}

/// A number of a shape is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShapeError {
    /// Name of the number.
    pub what: &'static str,
    /// The number.
    pub value: u64,
    /// Smallest legal value.
    pub min: u64,
    /// Largest legal value.
    pub max: u64,
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            value,
            min,
            max,
        } = self;
        write!(f, "{what} is {value}, but must be between {min} and {max}")
    }
}

impl std::error::Error for ShapeError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(instances: u32, share: u32) -> StageShape {
        StageShape::new(instances, share).numbered()
    }

    #[test]
    fn quotas_add_up_to_the_share() {
        let shape = Shape::new(11, 512, 0, 0, &[stage(1, 4), stage(3, 7), stage(2, 0)]).unwrap();
        assert_eq!(
            (0..6).map(|p| shape.quota(p)).collect::<Vec<_>>(),
            [4, 3, 2, 2, 0, 0]
        );
        assert_eq!(
            (0..7).map(|p| shape.stage_of(p)).collect::<Vec<_>>(),
            [Some(0), Some(1), Some(1), Some(1), Some(2), Some(2), None]
        );
        assert_eq!(shape.ring_slots(), 16);
    }

    #[test]
    fn queues_are_ordered_where_a_numbered_stage_feeds_them() {
        let shape = Shape::new(
            8,
            512,
            0,
            0,
            &[stage(2, 8), stage(2, 0), StageShape::new(1, 0), stage(2, 0)],
        )
        .unwrap();
        let kinds: Vec<_> = (0..4).map(|q| shape.queue_kind(q)).collect();
        assert_eq!(
            kinds,
            [
                QueueKind::Plain,
                QueueKind::Plain,
                QueueKind::Ordered,
                QueueKind::Plain
            ]
        );
        assert!(!shape.is_numbered(0), "a head has no numbers to answer");
        assert!(shape.is_numbered(1));
        assert!(!shape.is_numbered(3), "a tail has no numbers to answer");
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let bad = |b, s, st: &[StageShape]| Shape::new(b, s, 0, 0, st).unwrap_err().to_string();
        let ok = [stage(1, 1), stage(1, 0)];
        assert_eq!(
            bad(0, 512, &ok),
            "number of buffers is 0, but must be between 1 and 4096"
        );
        assert_eq!(
            bad(8, 1, &ok),
            "buffer size is 1, but must be between 512 and 67108864"
        );
        assert!(bad(8, 512, &[stage(1, 1)]).starts_with("number of stages is 1"));
        assert!(bad(8, 512, &[stage(1, 1), stage(65, 0)]).starts_with("number of instances is 65"));
        let twins = [stage(1, 5), StageShape::new(2, 0), stage(1, 0)];
        assert!(
            bad(8, 512, &twins)
                .starts_with("number of instances of a stage that is not numbered is 2")
        );
        assert!(
            bad(8, 512, &[stage(1, 5), stage(2, 4), stage(1, 0)])
                .starts_with("sum of the stages' shares is 9")
        );
        assert!(
            bad(8, 512, &[stage(1, 1), stage(2, 1), stage(1, 0)])
                .starts_with("stage's share of the buffers")
        );
        assert!(bad(8, 512, &[stage(1, 0), stage(2, 2), stage(1, 0)]).starts_with("head's share"));
    }
}
