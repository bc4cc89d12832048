//! The activity of a participant, as it last recorded it.

use crate::memory::ParticipantId;
use crate::memory::atomic::Ordering;
use crate::memory::tables::Tables;

/// Activity of a participant, as it last recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[repr(u32)]
#[non_exhaustive]
pub enum Activity {
    /// It has not begun.
    Idle = 0,
    /// It is working, or briefly between two primitives.
    Working = 1,
    /// It sleeps until it may have a buffer.
    WaitingForBuffer = 2,
    /// It sleeps until there is input.
    WaitingForInput = 3,
    /// It has ended, well or not.
    Ended = 4,
    /// It is to be a process that another program starts, and that has not attached yet.
    Unattached = 5,
    /// It waits for something outside of the pipe, through a [`Stop`](super::Stop).
    WaitingOutside = 6,
}

/// Set beside a waiting activity that ends by itself.
const TIMED: u32 = 1 << 8;

impl Activity {
    #[cfg(not(loom))]
    pub(crate) fn of(tables: &Tables, participant: ParticipantId) -> Self {
        match tables.participants[participant]
            .activity
            .load(Ordering::Acquire)
            & !TIMED
        {
            0 => Self::Idle,
            2 => Self::WaitingForBuffer,
            3 => Self::WaitingForInput,
            4 => Self::Ended,
            5 => Self::Unattached,
            6 => Self::WaitingOutside,
            _ => Self::Working,
        }
    }

    /// Records the activity. `timed`: the wait ends by itself.
    pub(crate) fn record(self, tables: &Tables, participant: ParticipantId, timed: bool) {
        let word = self as u32 | if timed { TIMED } else { 0 };
        tables.participants[participant]
            .activity
            .store(word, Ordering::Release);
    }

    /// Replaces the activity by `next` if it is this one. A handle for stops may be used by another
    /// thread than the participant's own, which must not hide what the participant waits for.
    #[cfg(not(loom))]
    pub(super) fn replace(self, next: Self, tables: &Tables, participant: ParticipantId) {
        let activity = &tables.participants[participant].activity;
        let (from, to) = (self as u32, next as u32);
        let _ = activity.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// True if the participant sleeps until another one does something.
    #[cfg(not(loom))]
    pub(crate) fn waits_for_others(tables: &Tables, participant: ParticipantId) -> bool {
        let word = tables.participants[participant]
            .activity
            .load(Ordering::Acquire);
        word == Self::WaitingForBuffer as u32 || word == Self::WaitingForInput as u32
    }
}
