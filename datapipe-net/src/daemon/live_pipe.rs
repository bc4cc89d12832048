//! A pipe that has not ended, and its status.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use datapipe::pool::Activity as CoreActivity;
use datapipe::{Canceller, Direction, Pipe, Status};
use parking_lot::{Mutex, RwLock};

use super::accounts::Charge;
use super::lingering::Holder;
use super::records::ProblemList;
use crate::config::User;
use crate::limits::MAX_BRIEF;
use crate::protocol::{
    Activity, Initiate, InstanceStatus, PastPipe, PipeEntry, PipeState, PipeStatus, StageStatus,
    truncated,
};

/// Pipe that has not ended.
#[derive(Debug)]
pub(super) struct LivePipe {
    name: String,
    label: String,
    owner: User,
    direction: Direction,
    /// Charge of the pipe; `None` once it was taken by [`take_charge`](Self::take_charge).
    charge: Mutex<Option<Charge>>,
    /// Processes that were attached to the pipe.
    attached: Mutex<Vec<Holder>>,
    since: Instant,
    /// Time of the start on the clock of the machine, in milliseconds since 1970.
    started: u64,
    problems: Arc<ProblemList>,
    canceller: Canceller,
    /// Cause of its stop, once it is being stopped.
    stopping: Mutex<Option<String>>,
    /// Controller of the pipe; `None` once the pipe has ended.
    pipe: RwLock<Option<Pipe>>,
}

impl LivePipe {
    pub(super) fn new(
        pipe: Pipe,
        request: &Initiate,
        charge: Charge,
        problems: Arc<ProblemList>,
    ) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis();
        Self {
            name: pipe.name().to_string(),
            label: request.label.clone(),
            owner: charge.user(),
            direction: request.direction,
            charge: Mutex::new(Some(charge)),
            attached: Mutex::default(),
            since: Instant::now(),
            started: u64::try_from(now).unwrap_or(u64::MAX),
            problems,
            canceller: pipe.canceller(),
            stopping: Mutex::default(),
            pipe: RwLock::new(Some(pipe)),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn owner(&self) -> User {
        self.owner
    }

    /// Takes the charge of the pipe, to give it back when nothing of the pipe is left.
    pub(super) fn take_charge(&self) -> Option<Charge> {
        self.charge.lock().take()
    }

    /// Records a process that attached, so that its part in the pipe's memory is known.
    pub(super) fn note_attached(&self, holder: Holder) {
        self.attached.lock().push(holder);
    }

    /// Takes the processes that were attached.
    pub(super) fn take_attached(&self) -> Vec<Holder> {
        std::mem::take(&mut *self.attached.lock())
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The last problems of the pipe.
    pub(super) fn problems(&self) -> &Arc<ProblemList> {
        &self.problems
    }

    /// Record of the pipe for the history, from its last status.
    pub(super) fn past(&self, status: &PipeStatus) -> PastPipe {
        let entry = &status.entry;
        PastPipe {
            label: entry.label.clone(),
            direction: entry.direction,
            state: entry.state,
            started: self.started,
            duration: u64::try_from(entry.elapsed.as_millis()).unwrap_or(u64::MAX),
            bytes: status.bytes(),
            problems: entry.problems,
            cause: truncated(&entry.explanation, MAX_BRIEF).to_owned(),
            ..PastPipe::new(&*self.name, self.owner.0)
        }
    }

    /// Record of the pipe for the history, at its start.
    pub(super) fn started(&self) -> PastPipe {
        PastPipe {
            label: self.label.clone(),
            direction: self.direction,
            state: PipeState::RUNNING,
            started: self.started,
            ..PastPipe::new(&*self.name, self.owner.0)
        }
    }

    /// Begins to stop the pipe. `cause` says who stops it; the first cause stays.
    pub(super) fn stop(&self, cause: impl Into<String>) {
        self.stopping.lock().get_or_insert_with(|| cause.into());
        self.canceller.cancel();
    }

    /// Cause of its stop; empty if no client and no daemon has stopped it.
    pub(super) fn stop_cause(&self) -> String {
        self.stopping.lock().clone().unwrap_or_default()
    }

    /// Calls `function` with the pipe; `None` if the pipe has ended.
    pub(super) fn with_pipe<T>(&self, function: impl FnOnce(&Pipe) -> T) -> Option<T> {
        self.pipe.read().as_ref().map(function)
    }

    /// Takes the pipe out, after all calls of [`with_pipe`](Self::with_pipe) have returned.
    pub(super) fn take_pipe(&self) -> Option<Pipe> {
        self.pipe.write().take()
    }

    /// Present status of the pipe.
    pub(super) fn status(&self) -> PipeStatus {
        let status = self.with_pipe(Pipe::status);
        pipe_status(self.entry(status.as_ref()), status.as_ref())
    }

    /// Present entry of the pipe. `status` is its status, if it is known.
    pub(super) fn entry(&self, status: Option<&Status>) -> PipeEntry {
        let mut entry = PipeEntry::new(&*self.name, self.owner.0);
        entry.label.clone_from(&self.label);
        entry.direction = self.direction;
        entry.elapsed = self.since.elapsed();
        entry.problems = self.with_pipe(Pipe::problem_count).unwrap_or_default();
        let unattached = status.map(unattached_stages).unwrap_or_default();
        if let Some(cause) = &*self.stopping.lock() {
            entry.state = PipeState::STOPPING;
            entry.explanation.clone_from(cause);
        } else if !unattached.is_empty() {
            entry.state = PipeState::WAITING;
            let names = unattached.join("\" and \"");
            entry.explanation = format!("waits for a process to attach as \"{names}\"");
        }
        entry
    }
}

/// Names of the stages to which no process has attached yet.
fn unattached_stages(status: &Status) -> Vec<&str> {
    let is_unattached = |stage: &&datapipe::controller::StageStatus| {
        let mut instances = stage.instances.iter();
        instances.any(|instance| instance.activity == CoreActivity::Unattached)
    };
    let stages = status.stages.iter().filter(is_unattached);
    stages.map(|stage| &*stage.name).collect()
}

/// Converts a status of the library to one of the protocol.
pub(super) fn pipe_status(entry: PipeEntry, status: Option<&Status>) -> PipeStatus {
    let Some(status) = status else {
        return PipeStatus::without_stages(entry);
    };
    let stages = status.stages.iter().map(|stage| StageStatus {
        name: stage.name.clone(),
        queued: stage.queued,
        instances: stage.instances.iter().map(instance_status).collect(),
    });
    PipeStatus {
        entry,
        buffers: status.buffers,
        free: status.free,
        stages: stages.collect(),
    }
}

fn instance_status(instance: &datapipe::controller::InstanceStatus) -> InstanceStatus {
    InstanceStatus {
        // The protocol has the numbers of the segment, which docs/shared-memory.md fixes.
        activity: Activity(instance.activity as u8),
        blocks_in: instance.blocks_in,
        bytes_in: instance.bytes_in,
        blocks_out: instance.blocks_out,
        bytes_out: instance.bytes_out,
        held: instance.held,
        outstanding: instance.outstanding,
        waited_for_buffer: instance.waited_for_buffer,
        waited_for_input: instance.waited_for_input,
        working: instance.working,
        process: instance.process,
        processes: u32::try_from(instance.processes).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activities_have_the_numbers_of_the_segment() {
        for (core, number) in [
            (CoreActivity::Idle, Activity::IDLE),
            (CoreActivity::Working, Activity::WORKING),
            (CoreActivity::WaitingForBuffer, Activity::WAITING_FOR_BUFFER),
            (CoreActivity::WaitingForInput, Activity::WAITING_FOR_INPUT),
            (CoreActivity::Ended, Activity::ENDED),
            (CoreActivity::Unattached, Activity::UNATTACHED),
            (CoreActivity::WaitingOutside, Activity::WAITING_OUTSIDE),
        ] {
            assert_eq!(Activity(core as u8), number);
        }
    }
}
