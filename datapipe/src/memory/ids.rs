//! The ids and numbers of the shared memory, each with a type of its own.
//!
//! ```text
//!   StageId s ------- input_of ------> QueueId s        the free list is the queue of the head
//!      |                                  |
//!   InstanceId (s, i)                  RingPosition p --- number ---> Number p
//!      |  Shape::participant_of           |  p / slots
//!   ParticipantId                      Lap
//! ```
//!
//! All but [`InstanceId`] are one integer each and cost nothing at run time. An id that was read
//! from shared memory is not checked: a [`Shape`](super::Shape) says whether it exists.
//!
//! This module offers no arithmetic. The few steps that an algorithm takes have names.

use std::fmt;

use crate::limits::GENERATION_BITS;

/// Defines a newtype of one integer.
macro_rules! newtype {
    ($(#[$attribute:meta])* $vis:vis struct $name:ident($int:ty);) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        $vis struct $name($int);

        #[allow(dead_code, reason = "every type offers the same calls")]
        impl $name {
            /// Wraps a plain integer.
            #[inline]
            $vis const fn new(value: $int) -> Self {
                Self(value)
            }

            /// The plain integer.
            #[inline]
            $vis const fn get(self) -> $int {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// Id that is the index of an entry in a table.
pub(crate) trait TableIndex: Copy {
    /// The index of the entry.
    fn as_index(self) -> usize;
}

/// Defines a newtype that is the index of an entry in a table.
macro_rules! index {
    ($(#[$attribute:meta])* $vis:vis struct $name:ident;) => {
        newtype! {
            $(#[$attribute])*
            $vis struct $name(u32);
        }

        impl TableIndex for $name {
            #[inline]
            fn as_index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index! {
    /// Id of a stage: its position in the chain, from 0 for the head.
    pub struct StageId;
}

index! {
    /// Id of a participant. The instances of all stages are numbered from 0, head first; the
    /// controller has an id of its own.
    pub struct ParticipantId;
}

index! {
    /// Id of a queue. Queue `s` is the input of stage `s`, and queue 0 is the free list.
    pub struct QueueId;
}

index! {
    /// Id of a buffer: its index in the pool.
    pub(crate) struct BufferId;
}

newtype! {
    /// Generation of a buffer: grows by one each time that the buffer changes hands, and wraps
    /// after [`GENERATION_BITS`] bits.
    pub(crate) struct Generation(u64);
}

newtype! {
    /// Number of a block: its position in the input of the stage that receives it, from 0 without
    /// gaps.
    pub struct Number(u64);
}

newtype! {
    /// Position in a ring: counts the slots that the ring has passed, over all laps.
    pub(crate) struct RingPosition(u64);
}

newtype! {
    /// Lap of a ring: counts the passes over all of its slots.
    pub(crate) struct Lap(u64);
}

impl StageId {
    /// The first stage of every pipe.
    pub const HEAD: Self = Self(0);

    /// The stage that follows this one. The tail has no such stage: the caller checks.
    #[inline]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The instance of this stage with index `index`, from 0.
    #[inline]
    pub const fn instance(self, index: u32) -> InstanceId {
        InstanceId { stage: self, index }
    }
}

impl QueueId {
    /// The queue from which buffers are allocated.
    pub const FREE_LIST: Self = Self(0);

    /// The queue from which `stage` receives; for the head, the free list.
    #[inline]
    pub const fn input_of(stage: StageId) -> Self {
        Self(stage.0)
    }

    /// The queue to which `stage` sends. The tail has no such queue: the caller checks.
    #[inline]
    pub(crate) const fn output_of(stage: StageId) -> Self {
        Self::input_of(stage.next())
    }

    /// The stage that sends to this queue; `None` for the free list, to which all stages free.
    #[inline]
    pub(crate) const fn feeder(self) -> Option<StageId> {
        match self.0.checked_sub(1) {
            Some(stage) => Some(StageId(stage)),
            None => None,
        }
    }
}

impl Generation {
    /// The generation of a buffer that has never changed hands.
    pub(crate) const FIRST: Self = Self(0);

    /// Largest value: all bits of a generation set.
    pub(crate) const MASK: u64 = (1 << GENERATION_BITS) - 1;

    /// The generation after the buffer has changed hands once more.
    #[inline]
    pub(crate) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1) & Self::MASK)
    }
}

impl Number {
    /// The number of the first block.
    pub(crate) const FIRST: Self = Self(0);

    /// The number of the block that follows.
    #[inline]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number of the block that is part `part` of the answer to this number, of a stage that
    /// answers each with up to `parts` blocks. One that is out of range is beyond every window.
    pub(crate) fn part(self, part: u32, parts: u32) -> Self {
        let first = self.0.saturating_mul(parts.into());
        Self(first.saturating_add(part.into()))
    }

    /// The position that a block with this number has in an ordered queue.
    #[inline]
    pub(crate) const fn position(self) -> RingPosition {
        RingPosition(self.0)
    }
}

impl RingPosition {
    /// The position that follows.
    #[inline]
    pub(crate) const fn next(self) -> Self {
        self.ahead(1)
    }

    /// The position `slots` slots further on.
    #[inline]
    pub(crate) const fn ahead(self, slots: u64) -> Self {
        Self(self.0.wrapping_add(slots))
    }

    /// The number of the block that is taken at this position.
    #[inline]
    pub(crate) const fn number(self) -> Number {
        Number(self.0)
    }
}

impl Lap {
    /// The lap on which an unused ring is.
    pub(crate) const FIRST: Self = Self(0);

    /// The lap that follows.
    #[inline]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Id of an instance: its stage, and its index among the instances of the stage.
///
/// ```
/// use datapipe::memory::StageId;
///
/// let second = StageId::new(1).instance(1);
/// assert_eq!((second.stage(), second.index()), (StageId::new(1), 1));
/// assert_eq!(second.to_string(), "instance 1 of stage 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    stage: StageId,
    index: u32,
}

impl InstanceId {
    /// The stage.
    #[inline]
    pub const fn stage(self) -> StageId {
        self.stage
    }

    /// Index among the instances of the stage, from 0.
    #[inline]
    pub const fn index(self) -> u32 {
        self.index
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instance {} of stage {}", self.index, self.stage)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn queues_lead_from_stage_to_stage() {
        let middle = StageId::HEAD.next();
        assert_eq!(QueueId::input_of(StageId::HEAD), QueueId::FREE_LIST);
        assert_eq!(QueueId::FREE_LIST.feeder(), None);
        assert_eq!(QueueId::output_of(StageId::HEAD), QueueId::input_of(middle));
        assert_eq!(QueueId::input_of(middle).feeder(), Some(StageId::HEAD));
    }

    #[test]
    fn generations_wrap() {
        assert_eq!(Generation::FIRST.next(), Generation::new(1));
        assert_eq!(Generation::new(Generation::MASK).next(), Generation::FIRST);
    }
}
