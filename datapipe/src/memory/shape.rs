//! The shape of a pipe in one segment: its stages, their instances, and the sizes of its buffers.
//!
//! Everything else about the segment follows from the shape by arithmetic, so two processes that
//! agree on it agree on every offset.

use std::fmt;

use super::ids::{BufferId, InstanceId, ParticipantId, QueueId, StageId, TableIndex};
use crate::limits::{
    MAX_BUFFER_SIZE, MAX_BUFFERS, MAX_FLAT_MAP_OUTPUTS, MAX_INSTANCES, MAX_PARTICIPANTS, MAX_ROOM,
    MAX_STAGES, MIN_BUFFER_SIZE,
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
    first: Vec<ParticipantId>,
    /// Asked for at every hand-over, so worked out once.
    ring_slots: u32,
    /// Quota of each participant.
    quotas: Vec<u32>,
    /// Users of each queue's ring, and of the reserve.
    users: Vec<RingUsers>,
}

/// Description of a [`Shape`], unchecked.
///
/// ```
/// use datapipe::memory::{Shape, StageShape};
///
/// // A head that may have 6 of 8 buffers of 4 KiB, and two numbered workers with one each.
/// let shape = Shape::builder(8, 4096)
///     .stage(StageShape::new(1).share(6))
///     .stage(StageShape::new(2).share(2).numbered())
///     .stage(StageShape::new(1))
///     .build()?;
/// assert_eq!((shape.buffers(), shape.participants()), (8, 4));
/// # Ok::<(), datapipe::memory::ShapeError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing before build"]
pub struct ShapeBuilder {
    buffers: u32,
    buffer_size: u32,
    headroom: u32,
    tailroom: u32,
    direction: Direction,
    stages: Vec<StageShape>,
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
    /// Positions that each number has in the next queue: 1, or, for a numbered stage that makes
    /// several blocks from one, the most that it makes.
    pub(crate) parts: u32,
}

impl StageShape {
    /// A stage of `instances` that never allocates and is not numbered.
    pub fn new(instances: u32) -> Self {
        Self {
            instances,
            share: 0,
            numbered: false,
            parts: 1,
        }
    }

    /// The same stage, whose instances together may have `buffers` outstanding.
    #[must_use]
    pub fn share(self, buffers: u32) -> Self {
        Self {
            share: buffers,
            ..self
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

    /// The same stage, which answers each number with up to `parts` blocks.
    #[must_use]
    pub(crate) fn parts(self, parts: u32) -> Self {
        Self { parts, ..self }
    }

    /// The word of the segment's stage table that says if the stage is numbered: 0 if not,
    /// otherwise the positions that each number has.
    pub(super) fn numbered_word(&self) -> u64 {
        if self.numbered { self.parts.into() } else { 0 }
    }

    /// The same stage, numbered as this word says, which may be any.
    pub(super) fn with_numbered_word(self, word: u64) -> Self {
        Self {
            numbered: word > 0,
            parts: u32::try_from(word.max(1)).unwrap_or(u32::MAX),
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
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
    /// First in, first out. The position at which a buffer is put becomes its number.
    Plain,
    /// Fed by a numbered stage: a buffer is put at the position of its number, no matter which
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

impl ShapeBuilder {
    /// Room of `bytes` before the payload of each buffer; 0 unless set.
    pub fn headroom(mut self, bytes: u32) -> Self {
        self.headroom = bytes;
        self
    }

    /// Room of `bytes` after the payload of each buffer; 0 unless set.
    pub fn tailroom(mut self, bytes: u32) -> Self {
        self.tailroom = bytes;
        self
    }

    /// Direction in which the pipe's data flows; [`Direction::Archive`] unless set.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Adds a stage after those added before: the first is the head, the last the tail.
    pub fn stage(mut self, stage: StageShape) -> Self {
        self.stages.push(stage);
        self
    }

    /// Adds several stages, in the order of flow.
    pub fn stages(mut self, stages: impl IntoIterator<Item = StageShape>) -> Self {
        self.stages.extend(stages);
        self
    }

    /// Checks and makes the shape.
    ///
    /// # Errors
    ///
    /// A [`ShapeError`] that names the number which is out of its range.
    pub fn build(self) -> Result<Shape, ShapeError> {
        let Self {
            buffers,
            buffer_size,
            headroom,
            tailroom,
            direction,
            stages,
        } = self;
        check("number of buffers", buffers.into(), 1, MAX_BUFFERS.into())?;
        check(
            "buffer size",
            buffer_size.into(),
            MIN_BUFFER_SIZE.into(),
            MAX_BUFFER_SIZE.into(),
        )?;
        check("headroom", headroom.into(), 0, MAX_ROOM.into())?;
        check("tailroom", tailroom.into(), 0, MAX_ROOM.into())?;
        let first = check_stages(buffers, &stages)?;
        let quotas: Vec<u32> = stages.iter().flat_map(StageShape::quotas).collect();
        let users = ring_users(&stages, &quotas);
        let parts = stages.iter().map(|stage| stage.parts).max().unwrap_or(1);
        Ok(Shape {
            buffers,
            buffer_size,
            headroom,
            tailroom,
            direction,
            stages,
            first,
            ring_slots: ((buffers + 1) * parts).next_power_of_two(),
            quotas,
            users,
        })
    }
}

impl Shape {
    /// Begins the shape of a pipe with a pool of `buffers`, each with `buffer_size` bytes of
    /// payload.
    pub fn builder(buffers: u32, buffer_size: u32) -> ShapeBuilder {
        ShapeBuilder {
            buffers,
            buffer_size,
            headroom: 0,
            tailroom: 0,
            direction: Direction::default(),
            stages: Vec::new(),
        }
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

    /// The last stage.
    #[inline]
    pub fn tail(&self) -> StageId {
        StageId::new(self.stage_count() - 1)
    }

    /// All stages, head first.
    pub fn stage_ids(
        &self,
    ) -> impl DoubleEndedIterator<Item = StageId> + ExactSizeIterator + use<> {
        (0..self.stage_count()).map(StageId::new)
    }

    /// All queues that have a ring: those of the stages, and the reserve.
    pub(crate) fn ring_ids(&self) -> impl Iterator<Item = QueueId> + use<> {
        (0..self.ring_count()).map(QueueId::new)
    }

    /// All participants, those of the head first.
    pub fn participant_ids(&self) -> impl Iterator<Item = ParticipantId> + use<> {
        (0..self.participants()).map(ParticipantId::new)
    }

    /// All buffers.
    pub(crate) fn buffer_ids(&self) -> impl Iterator<Item = BufferId> + use<> {
        (0..self.buffers).map(BufferId::new)
    }

    /// True if there is such a stage.
    pub fn has_stage(&self, stage: StageId) -> bool {
        stage.get() < self.stage_count()
    }

    /// True if there is such an instance.
    pub fn has_instance(&self, instance: InstanceId) -> bool {
        let stage = self.stages.get(instance.stage().as_index());
        stage.is_some_and(|stage| instance.index() < stage.instances)
    }

    /// True if the queue has a ring: it is a stage's, or the reserve.
    pub(crate) fn has_ring(&self, queue: QueueId) -> bool {
        queue.get() < self.ring_count()
    }

    /// True if the participant is an instance of a stage.
    #[inline]
    pub(crate) fn has_participant(&self, participant: ParticipantId) -> bool {
        participant.get() < self.participants()
    }

    /// True if there is such a buffer.
    #[inline]
    pub(crate) fn has_buffer(&self, buffer: BufferId) -> bool {
        buffer.get() < self.buffers
    }

    /// The reserve: the queue of the buffers that were never used. No participant puts anything
    /// there.
    #[inline]
    pub(crate) fn reserve(&self) -> QueueId {
        QueueId::new(self.stage_count())
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
        self.first[self.stages.len()].get()
    }

    /// The participants that are instances of `stage`.
    ///
    /// # Panics
    ///
    /// If there is no such stage.
    pub fn participants_of(&self, stage: StageId) -> impl Iterator<Item = ParticipantId> + use<> {
        let range = self.first[stage.as_index()]..self.first[stage.as_index() + 1];
        (range.start.get()..range.end.get()).map(ParticipantId::new)
    }

    /// The participant that is this instance of its stage.
    ///
    /// # Panics
    ///
    /// If there is no such instance.
    pub fn participant_of(&self, instance: InstanceId) -> ParticipantId {
        assert!(self.has_instance(instance), "the pipe has no {instance}");
        ParticipantId::new(self.first[instance.stage().as_index()].get() + instance.index())
    }

    /// The instance that `participant` is, if there is such a participant.
    pub fn instance_of(&self, participant: ParticipantId) -> Option<InstanceId> {
        let stage = self.stage_of(participant)?;
        let first = self.first[stage.as_index()];
        Some(stage.instance(participant.get() - first.get()))
    }

    /// The stage that `participant` is an instance of, if there is such a participant.
    pub fn stage_of(&self, participant: ParticipantId) -> Option<StageId> {
        let after = || self.first.partition_point(|&first| first <= participant) as u32;
        self.has_participant(participant)
            .then(|| StageId::new(after() - 1))
    }

    /// Buffers that `participant` may have outstanding: its part of its stage's share.
    ///
    /// The share is divided evenly; what is left over goes to the first instances, one each.
    #[inline]
    pub fn quota(&self, participant: ParticipantId) -> u32 {
        let quota = self.quotas.get(participant.as_index());
        quota.copied().unwrap_or(0)
    }

    /// Order of the buffers in queue `queue`.
    ///
    /// A queue is ordered if a numbered stage feeds it. The free list is not, for its order means
    /// nothing; nor is the queue after the head, for there numbers begin.
    #[inline]
    pub fn queue_kind(&self, queue: QueueId) -> QueueKind {
        match queue.feeder() {
            Some(feeder) if self.is_numbered(feeder) => QueueKind::Ordered,
            _ => QueueKind::Plain,
        }
    }

    /// True if `stage` is between two queues and answers every number exactly once.
    #[inline]
    pub fn is_numbered(&self, stage: StageId) -> bool {
        stage > StageId::HEAD && stage < self.tail() && self.stages[stage.as_index()].numbered
    }

    /// Positions that each number of `stage` has in the next queue: more than 1 only for a numbered
    /// stage that makes several blocks from one.
    pub(crate) fn parts(&self, stage: StageId) -> u32 {
        self.stages[stage.as_index()].parts
    }

    /// The number of participants that take from a ring, and that put into it.
    #[inline]
    pub(crate) fn users(&self, queue: QueueId) -> RingUsers {
        self.users[queue.as_index()]
    }

    /// Slots of each ring: a power of two greater than the number of buffers, and as many times
    /// more as a stage makes blocks from one.
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
fn check_stages(buffers: u32, stages: &[StageShape]) -> Result<Vec<ParticipantId>, ShapeError> {
    let count = stages.len() as u64;
    check("number of stages", count, 2, MAX_STAGES.into())?;
    let mut first = Vec::with_capacity(stages.len() + 1);
    let (mut participants, mut shares) = (0, 0u64);
    for (position, stage) in stages.iter().enumerate() {
        let between = position > 0 && position + 1 < stages.len();
        check_stage(buffers, stage, between)?;
        first.push(ParticipantId::new(participants));
        participants += stage.instances;
        shares += u64::from(stage.share);
    }
    first.push(ParticipantId::new(participants));
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
    let most = if between && stage.numbered {
        MAX_FLAT_MAP_OUTPUTS
    } else {
        1
    };
    check(
        "number of outputs for each input",
        stage.parts.into(),
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
        StageShape::new(instances).share(share).numbered()
    }

    fn shape(buffers: u32, buffer_size: u32, stages: &[StageShape]) -> Result<Shape, ShapeError> {
        let stages = stages.iter().copied();
        Shape::builder(buffers, buffer_size).stages(stages).build()
    }

    #[test]
    fn quotas_add_up_to_the_share() {
        let shape = shape(11, 512, &[stage(1, 4), stage(3, 7), stage(2, 0)]).unwrap();
        let quotas: Vec<_> = shape.participant_ids().map(|p| shape.quota(p)).collect();
        assert_eq!(quotas, [4, 3, 2, 2, 0, 0]);
        let stages: Vec<_> = (0..7)
            .map(|p| shape.stage_of(ParticipantId::new(p)).map(StageId::get))
            .collect();
        assert_eq!(
            stages,
            [Some(0), Some(1), Some(1), Some(1), Some(2), Some(2), None]
        );
        for participant in shape.participant_ids() {
            let instance = shape.instance_of(participant).unwrap();
            assert_eq!(shape.participant_of(instance), participant);
        }
        assert_eq!(shape.ring_slots(), 16);
    }

    #[test]
    fn rings_have_slots_for_all_outputs_of_all_inputs() {
        let slots = |parts| {
            let stages = [stage(1, 4), stage(2, 4).parts(parts), stage(1, 0)];
            shape(8, 512, &stages).map(|shape| shape.ring_slots())
        };
        assert_eq!(slots(1), Ok(16));
        assert_eq!(slots(2), Ok(32));
        assert_eq!(slots(4), Ok(64));
        for parts in [0, MAX_FLAT_MAP_OUTPUTS + 1] {
            let refused = slots(parts).unwrap_err();
            assert_eq!(refused.what, "number of outputs for each input");
        }
        let plain = StageShape::new(1).share(4).parts(2);
        let refused = shape(8, 512, &[stage(1, 4), plain, stage(1, 0)]).unwrap_err();
        assert_eq!(refused.max, 1, "a stage that is not numbered has no parts");
    }

    #[test]
    fn queues_are_ordered_where_a_numbered_stage_feeds_them() {
        let stages = [stage(2, 8), stage(2, 0), StageShape::new(1), stage(2, 0)];
        let shape = shape(8, 512, &stages).unwrap();
        let queues = shape.stage_ids().map(QueueId::input_of);
        let kinds: Vec<_> = queues.map(|queue| shape.queue_kind(queue)).collect();
        assert_eq!(
            kinds,
            [
                QueueKind::Plain,
                QueueKind::Plain,
                QueueKind::Ordered,
                QueueKind::Plain
            ]
        );
        assert!(
            !shape.is_numbered(StageId::HEAD),
            "a head has no numbers to answer"
        );
        assert!(shape.is_numbered(StageId::new(1)));
        assert!(
            !shape.is_numbered(shape.tail()),
            "a tail has no numbers to answer"
        );
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let bad = |b, s, stages: &[StageShape]| shape(b, s, stages).unwrap_err().to_string();
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
        let twins = [stage(1, 5), StageShape::new(2), stage(1, 0)];
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
