//! Events of a running pipe, from what the controller sees at each tick.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::error::StageError;
use crate::memory::{InstanceId, Segment, TableIndex};
use crate::stage::{Notice, NoticeSource};

use super::event::{Event, Listener};
use super::plan::Plan;
use super::status::Status;
use super::work_watch::{WorkWatch, block_of};

/// Time after a stop at which the instances that have not ended are first reported.
const FIRST_REMINDER: Duration = Duration::from_secs(1);
/// Time between two such reports.
const REMINDER: Duration = Duration::from_secs(10);

/// Reports the events of a pipe, apart from those of its processes.
pub(super) struct Observer<'s> {
    segment: &'s Segment,
    plan: &'s Plan,
    listener: &'s Listener,
    watch: &'s WorkWatch,
    /// Sources of notices, each with the name of its stage.
    notices: Vec<(String, NoticeSource)>,
    stall_after: Duration,
    ended: HashSet<InstanceId>,
    /// Time at which the pipe was first seen to stop, and of the next report after that.
    stopping: Option<(Instant, Instant)>,
}

impl<'s> Observer<'s> {
    pub(super) fn new(
        segment: &'s Segment,
        plan: &'s Plan,
        listener: &'s Listener,
        watch: &'s WorkWatch,
        notices: Vec<(String, NoticeSource)>,
        stall_after: Duration,
    ) -> Self {
        Self {
            segment,
            plan,
            listener,
            watch,
            notices,
            stall_after,
            ended: HashSet::new(),
            stopping: None,
        }
    }

    /// Returns the present status of the pipe.
    pub(super) fn status(&self) -> Status {
        Status::of(self.segment).with(&self.plan.label, self.segment, self.watch)
    }

    fn name_of(&self, id: InstanceId) -> String {
        self.plan.stages[id.stage().as_index()].name.clone()
    }

    /// Reports the end of an instance.
    pub(super) fn on_exit(
        &mut self,
        id: InstanceId,
        result: &Result<(), StageError>,
        after_stop: bool,
    ) {
        self.ended.insert(id);
        self.listener.notify(|| {
            let (stage, instance) = (self.name_of(id), id);
            match result {
                Ok(()) => Event::Ended { stage, instance },
                Err(_) if after_stop => Event::Stopped { stage, instance },
                Err(error) => Event::Failed {
                    stage,
                    instance,
                    error: error.to_string(),
                },
            }
        });
    }

    /// Looks at all instances, and reports what has changed since the last tick.
    pub(super) fn tick(&mut self) {
        self.watch.look(self.segment);
        self.report_notices();
        if self.segment.is_stopped() {
            self.report_remaining();
        } else {
            self.report_stalls();
        }
    }

    /// Reports the notices of all stages.
    pub(super) fn report_notices(&self) {
        for (stage, source) in &self.notices {
            for notice in source.take() {
                self.listener.notify(|| match notice {
                    Notice::Volume(volume) => Event::Volume {
                        stage: stage.clone(),
                        volume,
                    },
                    Notice::Checkpoint { blocks, bytes } => Event::Checkpoint {
                        stage: stage.clone(),
                        blocks,
                        bytes,
                    },
                });
            }
        }
    }

    fn report_stalls(&self) {
        for (id, work) in self.watch.stalls(self.stall_after, self.segment) {
            self.listener.notify(|| Event::Stalled {
                stage: self.name_of(id),
                instance: id,
                block: work.block,
                time: work.time,
            });
        }
    }

    /// Reports the instances that go on although the pipe was stopped some time ago.
    fn report_remaining(&mut self) {
        let now = Instant::now();
        let (since, next) = *self.stopping.get_or_insert((now, now + FIRST_REMINDER));
        if now < next {
            return;
        }
        self.stopping = Some((since, now + REMINDER));
        let shape = self.segment.shape();
        let all = shape
            .participant_ids()
            .filter_map(|id| shape.instance_of(id));
        for id in all.filter(|id| !self.ended.contains(id)) {
            self.listener.notify(|| Event::StillWaiting {
                stage: self.name_of(id),
                instance: id,
                block: block_of(id, self.segment),
                time: since.elapsed(),
            });
        }
    }
}
