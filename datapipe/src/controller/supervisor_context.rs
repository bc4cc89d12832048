//! Parts of a pipe that the threads beside the stages work with.

use std::time::Duration;

use super::event::{Event, Listener};
use super::processes::AttachPoint;
use super::trace::PipeSpan;
use crate::error::Error;
use crate::memory::{InstanceId, Segment};

/// Parts of the pipe that the supervisor of processes, and the start of threads, work with.
#[derive(Debug)]
pub(super) struct SupervisorContext<'s> {
    pub(super) segment: &'s Segment,
    pub(super) attach_point: &'s AttachPoint,
    pub(super) listener: &'s Listener,
    pub(super) span: &'s PipeSpan,
    /// Longest time for which a process may be stopped.
    pub(super) stopped_limit: Duration,
}

impl SupervisorContext<'_> {
    /// Reports the start of an instance on a thread of this process.
    pub(super) fn announce(&self, id: InstanceId) {
        self.listener.notify(|| Event::ThreadStarted {
            stage: self.segment.stage_name(id.stage()),
            instance: id,
        });
    }

    /// Reports an instance that has no thread, and whose work the others of its stage do.
    pub(super) fn report_left_out(&self, id: InstanceId, error: &Error) {
        self.listener.notify(|| Event::NotStarted {
            stage: self.segment.stage_name(id.stage()),
            instance: id,
            error: error.to_string(),
        });
    }
}
