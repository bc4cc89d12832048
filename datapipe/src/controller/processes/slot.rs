//! A slot for a process: the instances that it runs, and the processes that have run them so far.

use std::collections::HashSet;
use std::time::Duration;

use crate::error::{NotReplaced, StageError};
use crate::limits::{MAX_FRUITLESS_DEATHS, MAX_FUTILE_DEATHS};
use crate::memory::{InstanceId, Number, Segment, StageId};
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
    taken_up: u64,
    /// Consecutive deaths without a block taken up.
    fruitless_deaths: u32,
    /// Place of a head or tail in the stream when a process of it last died.
    place: Number,
    /// Consecutive deaths at that place.
    futile_deaths: u32,
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
            place: Number::FIRST,
            futile_deaths: 0,
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

    /// Counts a death at a block, or before one was taken up. `first_input` is the block that the
    /// dead process left, and `fatal_blocks` has those at which an instance died. Fails if the
    /// process is not to be replaced.
    ///
    /// Two bounds end every series of deaths. If the dead process had taken up a block since the
    /// last death, the block it left is to blame, and the same block may kill only once. If not,
    /// the program is to blame, and may die [`MAX_FRUITLESS_DEATHS`] times in a row.
    pub(super) fn count_death(
        &mut self,
        taken_up: u64,
        first_input: Option<Number>,
        fatal_blocks: &mut HashSet<(StageId, Number)>,
    ) -> Result<(), NotReplaced> {
        if taken_up == std::mem::replace(&mut self.taken_up, taken_up) {
            // No block was taken up, so no block can be to blame.
            return self.count_fruitless_death();
        }
        self.fruitless_deaths = 0;
        match first_input {
            Some(number) if !fatal_blocks.insert((self.spec.id.stage(), number)) => {
                Err(NotReplaced::PoisonBlock(number.get()))
            }
            _ => Ok(()),
        }
    }

    /// As [`count_death`](Self::count_death), for a head or tail that is replaced. `has_begun` is
    /// true if the process had taken its seat; `place` is the number of the first block that the
    /// stage has not sent or freed.
    ///
    /// Such a stage may keep a block for as long as another machine takes, so neither the block nor
    /// the time without one is to blame for a death. But a program that always dies before it moves
    /// anything must not be started for ever.
    pub(super) fn count_death_at_end(
        &mut self,
        has_begun: bool,
        place: Number,
    ) -> Result<(), NotReplaced> {
        if place != std::mem::replace(&mut self.place, place) {
            self.futile_deaths = 0;
        }
        self.futile_deaths += 1;
        if self.futile_deaths >= MAX_FUTILE_DEATHS {
            return Err(NotReplaced::Futile(self.futile_deaths));
        }
        if !has_begun {
            return self.count_fruitless_death();
        }
        self.fruitless_deaths = 0;
        Ok(())
    }

    fn count_fruitless_death(&mut self) -> Result<(), NotReplaced> {
        self.fruitless_deaths += 1;
        if self.fruitless_deaths >= MAX_FRUITLESS_DEATHS {
            return Err(NotReplaced::Fruitless(self.fruitless_deaths));
        }
        Ok(())
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
