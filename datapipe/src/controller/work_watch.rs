//! Time that each instance has worked on its present block, as the controller sees it.
//!
//! An instance does not record when it begins a block: that would be a look at the clock for each.
//! The controller looks at the counters of all instances at each tick instead. An instance that
//! works, and whose counters are those of the last tick, has worked on one block since then.

use std::time::Duration;

use parking_lot::Mutex;

use super::awake_clock::AwakeClock;
use crate::memory::{InstanceId, Segment, StageId};
use crate::pool::Activity;

/// Work of an instance on one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BlockWork {
    /// Number of the block, from 0; `None` if it is unknown: of the blocks that several instances
    /// of a head fill, or of a loop that holds no input.
    pub block: Option<u64>,
    /// Time that the instance has worked on it, at least.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::seconds"))]
    pub time: Duration,
}

/// Work of all instances of a pipe.
#[derive(Debug)]
pub(super) struct WorkWatch(Mutex<Watch>);

#[derive(Debug)]
struct Watch {
    /// A time for which the controller was stopped is not a time of work.
    clock: AwakeClock,
    instances: Vec<Watched>,
}

/// One instance, as it was at the last tick.
#[derive(Debug)]
struct Watched {
    id: InstanceId,
    moved: u64,
    /// Time awake at which it was first seen at work on its present block.
    since: Option<Duration>,
    /// True if a stall was reported for this block.
    is_reported: bool,
}

impl WorkWatch {
    pub(super) fn new(segment: &Segment) -> Self {
        let watched = |id| Watched {
            id,
            moved: 0,
            since: None,
            is_reported: false,
        };
        let shape = segment.shape();
        let ids = shape
            .participant_ids()
            .filter_map(|id| shape.instance_of(id));
        Self(Mutex::new(Watch {
            clock: AwakeClock::new(),
            instances: ids.map(watched).collect(),
        }))
    }

    /// Looks at every instance.
    pub(super) fn look(&self, segment: &Segment) {
        let mut watch = self.0.lock();
        let now = watch.clock.look();
        for watched in &mut watch.instances {
            let (activity, moved) = segment.progress_of(watched.id);
            if activity != Activity::Working {
                (watched.since, watched.is_reported) = (None, false);
            } else if std::mem::replace(&mut watched.moved, moved) != moved
                || watched.since.is_none()
            {
                (watched.since, watched.is_reported) = (Some(now), false);
            }
        }
    }

    /// Returns the work of an instance on its present block, if it works on one.
    pub(super) fn of(&self, id: InstanceId, segment: &Segment) -> Option<BlockWork> {
        let watch = self.0.lock();
        let watched = watch.instances.iter().find(|watched| watched.id == id)?;
        // The instance may have gone on since the last look.
        let is_current = segment.progress_of(id) == (Activity::Working, watched.moved);
        let since = watched.since.filter(|_| is_current)?;
        let time = watch.clock.now().saturating_sub(since);
        let block = block_of(id, segment);
        Some(BlockWork { block, time })
    }

    /// Returns the instances that have worked on one block for longer than `limit` and were not
    /// returned with this block before.
    pub(super) fn stalls(
        &self,
        limit: Duration,
        segment: &Segment,
    ) -> Vec<(InstanceId, BlockWork)> {
        let mut stalls = Vec::new();
        let mut watch = self.0.lock();
        let now = watch.clock.now();
        let unreported = |watched: &&mut Watched| !watched.is_reported;
        for watched in watch.instances.iter_mut().filter(unreported) {
            let time = watched.since.map(|since| now.saturating_sub(since));
            if let Some(time) = time.filter(|&time| time > limit) {
                watched.is_reported = true;
                let block = block_of(watched.id, segment);
                stalls.push((watched.id, BlockWork { block, time }));
            }
        }
        stalls
    }
}

/// Returns the number of the block on which an instance works, if it is known.
pub(super) fn block_of(id: InstanceId, segment: &Segment) -> Option<u64> {
    if id.stage() != StageId::HEAD {
        return segment.first_input(id).map(|number| number.get());
    }
    let is_single = segment.shape().participants_of(StageId::HEAD).count() == 1;
    // A single head fills the block that follows those it has sent.
    is_single.then(|| segment.progress_of(id).1)
}
