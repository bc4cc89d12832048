//! A slot for a process: the instances that it runs, and the processes that have run them so far.

use std::time::Duration;

use crate::error::StageError;
use crate::memory::{InstanceId, Segment};
use crate::pool::Activity;

use super::running_process::RunningProcess;
use super::spec::ProcessSpec;

/// A slot for the process of one instance, or of several that share a process.
pub(super) struct Slot {
    pub(super) spec: ProcessSpec,
    /// The process; `None` while the slot waits for one to attach.
    pub(super) running: Option<RunningProcess>,
    /// Time awake at which it was made.
    pub(super) created_at: Duration,
    /// End of each instance, as its process reported it.
    pub(super) ends: Vec<Option<ReportedEnd>>,
    /// Number of processes that the slot has had.
    pub(super) processes: u64,
    /// Blocks that the instance had taken up when a process of it last died.
    pub(super) taken_up: u64,
    /// Consecutive deaths without a block taken up.
    pub(super) fruitless_deaths: u32,
    /// Time for which the process was seen stopped.
    pub(super) stopped_for: Duration,
    /// Work of each instance, as it was at the last check.
    pub(super) work: Vec<InstanceWork>,
    /// The work limit, if the process was killed because it exceeded it.
    pub(super) over_limit: Option<Duration>,
    /// Time awake at which the controller gave up an attached process: it hung up without a report,
    /// or was stopped for too long.
    pub(super) left_at: Option<Duration>,
    /// Time awake at which the last instance was reported to have ended.
    pub(super) finished_at: Option<Duration>,
}

/// Work of an instance on its present block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InstanceWork {
    /// Count that grows with each block.
    pub(super) moved: u64,
    /// Time for which it was seen at work on the same block.
    pub(super) time: Duration,
}

/// End of an instance, as its process reported it.
pub(super) struct ReportedEnd {
    pub(super) result: Result<(), StageError>,
    /// True if the pipe had been stopped by then.
    pub(super) after_stop: bool,
}

impl Slot {
    pub(super) fn new(spec: ProcessSpec, created_at: Duration) -> Self {
        Self {
            ends: spec.ids().map(|_| None).collect(),
            running: None,
            created_at,
            processes: 0,
            taken_up: 0,
            fruitless_deaths: 0,
            stopped_for: Duration::ZERO,
            work: spec.ids().map(|_| InstanceWork::default()).collect(),
            over_limit: None,
            left_at: None,
            finished_at: None,
            spec,
        }
    }

    /// True if the controller starts the slot's process.
    pub(super) fn is_bound(&self) -> bool {
        self.spec.is_bound()
    }

    /// True if the end of every instance was reported.
    pub(super) fn has_finished(&self) -> bool {
        self.ends.iter().all(Option::is_some)
    }

    /// Adds `tick` to the time of each instance that still works on the block of the last check.
    /// Returns an instance that has exceeded the work limit, if there is one.
    pub(super) fn check_work(&mut self, tick: Duration, segment: &Segment) -> Option<InstanceId> {
        let limit = self.spec.work_limit?;
        let mut over = None;
        for (id, work) in self.spec.ids().zip(&mut self.work) {
            let (activity, moved) = segment.progress_of(id);
            let is_same = std::mem::replace(&mut work.moved, moved) == moved;
            if !is_same || activity != Activity::Working {
                work.time = Duration::ZERO;
                continue;
            }
            work.time += tick;
            if work.time > limit {
                over = over.or(Some(id));
            }
        }
        over
    }

    /// Records the end of an instance, unless one was recorded before. A failure stops the pipe.
    pub(super) fn record_end(
        &mut self,
        instance: usize,
        result: Result<(), StageError>,
        segment: &Segment,
    ) {
        let runs = self.ends.len();
        let (instance, result) = if instance < runs {
            (instance, result)
        } else {
            let what = format!(
                "its process reported the end of instance {instance}, \
                 but its number of instances is {runs}"
            );
            (0, Err(StageError::new(what)))
        };
        let Some(end @ None) = self.ends.get_mut(instance) else {
            return;
        };
        let is_failure = result.is_err();
        *end = Some(ReportedEnd {
            result,
            after_stop: segment.is_stopped(),
        });
        if is_failure {
            segment.stop();
        }
    }
}
