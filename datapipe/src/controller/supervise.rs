//! Supervises a pipe from launch to end: who ended, who failed, and whether anything moves.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::error::{
    Corruption, Deadlock, Error, StageError, StageFailure, WaitingInstance, WaitingStage, WaitsFor,
};
use crate::memory::{InstanceId, Segment, StageId, TableIndex};
use crate::pool::{Activity, AuditFinding, tally};
use crate::stage::{NoticeSource, ProblemCount, Settings};

use super::cancel::Canceller;
use super::description::Description;
use super::event::Listener;
use super::instance::InstanceExit;
use super::launch::Instances;
use super::observer::Observer;
use super::plan::Plan;
use super::processes::AttachPoint;
use super::report::Report;
use super::supervisor_context::SupervisorContext;
use super::trace::PipeSpan;
use super::work_watch::WorkWatch;

/// Time without an exit after which the controller checks for progress. A tick compares the pipe
/// with what it was one tick before.
const TICK: Duration = Duration::from_millis(250);

/// A pipe that is planned, has its memory and its instances, and has not been started.
pub(super) struct PreparedPipe<'a> {
    pub(super) plan: Plan,
    pub(super) segment: Segment,
    pub(super) canceller: Canceller,
    pub(super) attach_point: Arc<AttachPoint>,
    instances: Instances<'a>,
    pub(super) watch: Arc<WorkWatch>,
    notices: Vec<StageNotices>,
    pub(super) problems: ProblemCount,
    listener: Listener,
    /// Made on the caller's thread, whose subscriber and span it takes over.
    span: PipeSpan,
    stopped_limit: Duration,
    stall_after: Duration,
}

/// Source of the notices of one stage, with its name.
type StageNotices = (String, NoticeSource);

impl<'a> PreparedPipe<'a> {
    pub(super) fn new(mut description: Description<'a>) -> Result<Self, Error> {
        let mut plan = Plan::of(&description)?;
        let names: Vec<&str> = plan
            .stages
            .iter()
            .map(|stage| stage.name.as_str())
            .collect();
        let segment = Segment::create(
            &plan.name,
            plan.shape.clone(),
            &names,
            description.backing,
            description.huge_pages,
        )?;
        if plan.sends_last_block {
            segment.want_last_block();
        }
        segment.begin_at(plan.first_block);
        segment.checkpoint_every(plan.checkpoint);
        if plan.wants_checksums {
            segment.want_checksums();
        }
        let middles = description.take_middles();
        let (Some(head), Some(tail)) = (description.head, description.tail) else {
            unreachable!("the plan has refused a pipe without head or tail");
        };
        let middle_settings = middles.iter().map(|middle| &middle.settings);
        let is_checked = middle_settings.clone().any(|stage| stage.checks_archive);
        let is_unchecked = head.settings.reads_archive() && !is_checked;
        let stages = [&head.settings, &tail.settings].into_iter();
        let stages = stages.chain(middle_settings);
        let problems =
            ProblemCount::new(stages.map(Settings::reports).collect()).unless_checked(is_unchecked);
        let instances = Instances::new(head, middles, tail, &segment, description.at_limit)
            .map_err(|(id, error)| Error::Stage(stage_failure(&plan, id, error)))?;
        let attach_point =
            AttachPoint::new(instances.unbound()).map_err(|source| Error::System {
                what: "cannot make the attach point of the pipe",
                source,
            })?;
        let notices = plan.stages.iter_mut().filter_map(|stage| {
            // The caller may keep the plan, and with it what a notice source holds.
            Some((stage.name.clone(), stage.notices.take()?))
        });
        Ok(Self {
            notices: notices.collect(),
            watch: Arc::new(WorkWatch::new(&segment)),
            span: PipeSpan::new(&plan.label, segment.name()),
            plan,
            segment,
            canceller: description.canceller,
            attach_point: Arc::new(attach_point),
            instances,
            problems,
            listener: description.listener,
            stopped_limit: description.stopped_limit,
            stall_after: description.stall_after,
        })
    }

    /// Runs the pipe to its end.
    pub(super) fn run(self) -> Result<Report, Error> {
        let span = self.span.clone();
        span.run(|| self.run_inside(&span))
    }

    fn run_inside(self, span: &PipeSpan) -> Result<Report, Error> {
        let Self {
            plan,
            segment,
            canceller,
            attach_point,
            instances,
            watch,
            notices,
            problems,
            listener,
            span: _,
            stopped_limit,
            stall_after,
        } = self;
        let _armed = canceller.arm(&segment);
        let context = SupervisorContext {
            segment: &segment,
            attach_point: &attach_point,
            listener: &listener,
            span,
            stopped_limit,
        };
        let (sender, exits) = unbounded();
        let observer = Observer::new(&segment, &plan, &listener, &watch, notices, stall_after);
        let mut monitor = Monitor::new(&segment, &plan, &canceller, observer);
        thread::scope(|scope| {
            let _stop_on_panic = StopOnPanic(&segment);
            let started = instances.start(scope, &context, &sender);
            // Instances that were not started will not end either: without this sender, the
            // channel disconnects when those that were started have ended.
            drop(sender);
            if let Err(error) = started {
                monitor.fail(error);
            }
            monitor.receive_exits(&exits);
        });
        let outcome = monitor.outcome(&problems);
        // A process that has attached may map the segment for as long as it likes. If the memory
        // cannot be returned now, it returns with the last mapping.
        if plan.has_unbound() {
            let _ = segment.discard_buffers();
        }
        outcome
    }
}

/// Stops the pipe if the controller panics, so that it does not wait for its threads for ever. The
/// caller's listener may panic.
struct StopOnPanic<'s>(&'s Segment);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

/// Follows a running pipe: receives the exits of its instances, and checks for progress in between.
///
/// While exits arrive, nothing else is checked. When none has arrived for a tick, the pipe is
/// compared with what it was at the last tick: the buffers, the marks of instances that have sent
/// everything, and the ends. If none has changed, one of three things is the case, and two ticks
/// without movement in a row tell which: an instance works for long, and all is well; all instances
/// sleep, and each waits for another ([`Error::Deadlock`]); or the shared words contradict each
/// other ([`Error::Corrupt`]).
struct Monitor<'s> {
    segment: &'s Segment,
    plan: &'s Plan,
    canceller: &'s Canceller,
    /// The first failure.
    failure: Option<Error>,
    /// Instances that ended well.
    ended_well: HashSet<InstanceId>,
    /// Number of instances that ended, well or not.
    ended: usize,
    instances: usize,
    /// Fingerprint of what moves, at the last tick.
    position: Option<u64>,
    /// Finding of the audit at the last tick.
    finding: Option<AuditFinding>,
    /// Time at which each instance fell asleep, if all of them slept at the last tick.
    asleep: Option<Vec<u64>>,
    observer: Observer<'s>,
}

impl<'s> Monitor<'s> {
    fn new(
        segment: &'s Segment,
        plan: &'s Plan,
        canceller: &'s Canceller,
        observer: Observer<'s>,
    ) -> Self {
        Self {
            observer,
            segment,
            plan,
            canceller,
            failure: None,
            ended_well: HashSet::new(),
            ended: 0,
            instances: plan.shape.participants() as usize,
            position: None,
            finding: None,
            asleep: None,
        }
    }

    /// Receives exits until the last instance has ended.
    fn receive_exits(&mut self, exits: &Receiver<InstanceExit>) {
        while self.ended < self.instances {
            match exits.recv_timeout(TICK) {
                Ok(exit) => self.record_exit(exit),
                Err(RecvTimeoutError::Timeout) => {
                    self.check_progress();
                    self.observer.tick();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.observer.report_notices();
    }

    fn record_exit(&mut self, exit: InstanceExit) {
        let InstanceExit {
            id,
            result,
            after_stop,
        } = exit;
        self.ended += 1;
        self.observer.on_exit(id, &result, after_stop);
        let Err(error) = result else {
            self.ended_well.insert(id);
            return;
        };
        if let Some(waiting) = error.waiting() {
            self.fail_in_deadlock(id.stage(), waiting);
            return;
        }
        if after_stop {
            return; // it ended because the pipe was stopped: its error is a consequence
        }
        let error = match error.corrupt() {
            Some(corruption) => Error::Corrupt(corruption.clone()),
            None => Error::Stage(stage_failure(self.plan, id, error)),
        };
        self.fail(error);
    }

    /// Stops the pipe. The first failure is kept: later ones are consequences.
    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
        self.segment.stop();
    }

    /// Adds an instance to the deadlock that the pipe fails with. If it has failed with something
    /// else, that is kept.
    fn fail_in_deadlock(&mut self, stage: StageId, waiting: WaitingInstance) {
        let Settings {
            name,
            hold_in,
            hold_out,
            ..
        } = &self.plan.stages[stage.as_index()];
        let waiting = WaitingStage {
            position: stage.get(),
            stage: name.clone(),
            instances: 1,
            waits_for: waiting.waits_for,
            inputs: waiting.inputs,
            outputs: waiting.outputs,
            holds_in: *hold_in,
            holds_out: *hold_out,
            keeps_more: waiting.keeps_more(*hold_in, *hold_out),
        };
        if self.failure.is_none() {
            self.fail(Error::Deadlock(Deadlock::default()));
        }
        if let Some(Error::Deadlock(deadlock)) = &mut self.failure {
            deadlock.add(waiting);
        }
    }

    fn is_stopping(&self) -> bool {
        self.failure.is_some() || self.canceller.is_cancelled()
    }

    /// Checks for progress, after a tick without an exit. The reason is most likely a long job, but
    /// it may be that a participant has overwritten shared words.
    ///
    /// Nothing is checked while something moves. Otherwise this mends what a participant may have
    /// lost, a wake-up or the mark of an instance that ended, and wakes all instances, so that each
    /// looks again. A finding of the audit counts only if the next tick has the same one: a single
    /// one may be of a hand-over in progress.
    ///
    /// The sleepers are not looked at in one moment, and any process, this one too, may be stopped
    /// between two looks, or the whole machine. So what moves is looked at before and after them:
    /// if it is the same at both ticks, then it was so during all looks, and an instance that has
    /// looked again has seen all there is.
    fn check_progress(&mut self) {
        if self.is_stopping() {
            self.segment.stop(); // again, in case a participant has overwritten it
        }
        let before = self.segment.movement_digest();
        let asleep = self.segment.asleep();
        let position = self.segment.movement_digest();
        if self.position.replace(position) != Some(position) || before != position {
            self.finding = None;
            self.asleep = None;
            return;
        }
        if self.is_deadlocked(asleep.as_deref()) {
            // All sleep, so a contradiction now is not a hand-over in progress.
            match self.segment.audit() {
                Ok(()) => self.fail_where_all_wait(),
                Err(finding) => self.fail(Error::Corrupt(finding.into())),
            }
        }
        self.asleep = asleep;
        for &instance in &self.ended_well {
            self.segment.mark_done(instance);
        }
        self.segment.tables().wake_all();
        let finding = self.segment.audit().err();
        if let (Some(finding), false) = (&finding, self.is_stopping())
            && self.finding.as_ref() == Some(finding)
        {
            self.fail(Error::Corrupt(finding.clone().into()));
        }
        self.finding = finding;
    }

    /// True if every instance has looked again since the last tick woke it, and gone back to sleep,
    /// while nothing moved: no instance is left that could wake another.
    ///
    /// An instance that has left its seat while its exit has not arrived may still fail the pipe
    /// with the reason: its process is stopped before it reports, or its stage takes long to drop.
    fn is_deadlocked(&self, asleep: Option<&[u64]>) -> bool {
        let (Some(before), Some(now)) = (&self.asleep, asleep) else {
            return false;
        };
        if now.iter().filter(|&&since| since == 0).count() > self.ended {
            return false;
        }
        let all_looked_again = before
            .iter()
            .zip(now)
            .all(|(before, now)| *now == 0 || before != now);
        all_looked_again && now.iter().any(|&since| since > 0) && !self.is_stopping()
    }

    /// Fails with what each instance waits for. All are read before the first is recorded, because
    /// that stops the pipe, and they wait no longer.
    fn fail_where_all_wait(&mut self) {
        let (tables, shape) = (self.segment.tables(), self.segment.shape());
        let tally = tally(tables);
        let mut all_waiting = Vec::new();
        for stage in shape.stage_ids() {
            for participant in shape.participants_of(stage) {
                let waits_for = match Activity::of(tables, participant) {
                    Activity::WaitingForBuffer => WaitsFor::Buffer,
                    Activity::WaitingForInput => WaitsFor::Input,
                    _ => continue,
                };
                all_waiting.push((stage, WaitingInstance::of(&tally, participant, waits_for)));
            }
        }
        for (stage, waiting) in all_waiting {
            self.fail_in_deadlock(stage, waiting);
        }
    }

    fn outcome(self, problems: &ProblemCount) -> Result<Report, Error> {
        match self.failure {
            // Admission makes sure that stages which keep no more than they declare cannot cause a
            // deadlock. So the shared words have.
            Some(Error::Deadlock(Deadlock { waiting }))
                if !waiting.iter().any(|stage| stage.keeps_more) =>
            {
                return Err(Error::Corrupt(Corruption::new(
                    "every stage of the pipe waits for another, \
                     and none holds more blocks than it declares",
                )));
            }
            Some(failure) => return Err(failure),
            None => {}
        }
        if self.ended_well.len() < self.instances {
            return Err(Error::Cancelled);
        }
        // Every instance has ended well. So every buffer must be free again.
        self.segment
            .audit()
            .map_err(|finding| Error::Corrupt(finding.into()))?;
        let (free, all) = (self.segment.free_buffers(), self.plan.shape.buffers());
        if free != all {
            let what = format!("only {free} of {all} buffers are free at the end of the stream");
            return Err(Error::Corrupt(Corruption::new(what)));
        }
        let (label, chain) = (self.plan.label.clone(), self.plan.to_string());
        let status = self.observer.status();
        Ok(Report::new(label, chain, status, problems.get()))
    }
}

fn stage_failure(plan: &Plan, id: InstanceId, error: StageError) -> StageFailure {
    let settings = &plan.stages[id.stage().as_index()];
    StageFailure {
        stage: settings.name.clone(),
        instance: id,
        instances: settings.instances,
        error,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::memory::{Backing, HugePages};
    use crate::stage::{StreamHead, StreamTail};

    /// Returns the error of a pipe whose instances end like that, in this order. The inline runner
    /// reports them so: tail first, and the first stops the pipe.
    fn outcome_of(exits: &[(u32, WaitingInstance)]) -> Error {
        let mut description = Description::new();
        description.head = Some(StreamHead::new(&[][..]).into());
        description.tail = Some(StreamTail::new(Vec::new()).into());
        let plan = Plan::of(&description).unwrap();
        let (shape, no) = (plan.shape.clone(), HugePages::No);
        let segment = Segment::create(&plan.name, shape, &[], Backing::Anonymous, no).unwrap();
        let canceller = Canceller::new();
        let (listener, watch) = (Listener::default(), WorkWatch::new(&segment));
        let never = Duration::MAX;
        let observer = Observer::new(&segment, &plan, &listener, &watch, Vec::new(), never);
        let mut monitor = Monitor::new(&segment, &plan, &canceller, observer);
        for &(stage, waiting) in exits {
            let (result, after_stop) = (Err(StageError::deadlock(waiting)), segment.is_stopped());
            monitor.record_exit(InstanceExit {
                id: StageId::new(stage).instance(0),
                result,
                after_stop,
            });
        }
        assert!(segment.is_stopped());
        monitor.outcome(&ProblemCount::default()).unwrap_err()
    }

    #[test]
    fn deadlock_lists_all_waiting_instances_by_stage() {
        let head = WaitingInstance {
            waits_for: WaitsFor::Buffer,
            inputs: 0,
            outputs: 2,
        };
        let tail = WaitingInstance {
            waits_for: WaitsFor::Input,
            inputs: 0,
            outputs: 0,
        };
        let error = outcome_of(&[
            (1, tail),
            (0, head),
            (0, WaitingInstance { outputs: 0, ..head }),
        ]);
        assert_eq!(
            error.to_string(),
            "every stage of the pipe waits for another: \
             \"stream-head\" x2 for a buffer with 2 outputs in hand, \"stream-tail\" for input; \
             \"stream-head\" keeps more than it says, holds_in 0 and holds_out 1"
        );
        let Error::Deadlock(Deadlock { waiting }) = error else {
            panic!("{error}")
        };
        let listed: Vec<_> = waiting
            .iter()
            .map(|w| (w.position, w.instances, w.keeps_more))
            .collect();
        assert_eq!(listed, [(0, 2, true), (1, 1, false)]);
    }

    #[test]
    fn deadlock_without_a_stage_that_keeps_more_is_corruption() {
        let waiting = |waits_for, inputs| WaitingInstance {
            waits_for,
            inputs,
            outputs: 0,
        };
        let error = outcome_of(&[
            (1, waiting(WaitsFor::Input, 0)),
            (0, waiting(WaitsFor::Buffer, 0)),
        ]);
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
        let error = outcome_of(&[
            (1, waiting(WaitsFor::Input, 1)),
            (0, waiting(WaitsFor::Buffer, 0)),
        ]);
        assert!(matches!(error, Error::Deadlock(_)), "{error}");
    }

    #[test]
    fn keeps_more_depends_on_what_the_instance_waits_for() {
        let keeps_more = |waits_for, inputs, outputs| {
            WaitingInstance {
                waits_for,
                inputs,
                outputs,
            }
            .keeps_more(3, 2)
        };
        for (waits_for, inputs, outputs) in [(WaitsFor::Input, 2, 2), (WaitsFor::Buffer, 3, 1)] {
            assert!(!keeps_more(waits_for, inputs, outputs));
            assert!(keeps_more(waits_for, inputs + 1, outputs));
            assert!(keeps_more(waits_for, inputs, outputs + 1));
        }
    }
}
