//! Watches a pipe from launch to end: who ended, who failed, and whether anything moves.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};

use crate::error::{
    Corruption, Deadlock, Error, StageError, StageFailure, WaitingInstance, WaitingStage, WaitsFor,
};
use crate::memory::Segment;
use crate::pool::{Activity, AuditFinding, tally};
use crate::stage::Settings;

use super::builder::{AtLimit, PipeBuilder};
use super::cancel::Canceller;
use super::door::Door;
use super::event::Listener;
use super::launch::{Crew, Exit, Id};
use super::plan::Plan;
use super::processes::Household;
use super::status::{Report, Status};

/// How often the controller looks whether anything moves. Only then is there anything to compare.
const TICK: Duration = Duration::from_millis(250);

/// A pipe that is planned, has its memory and its instances, and has not been started.
pub(super) struct Prepared<'a> {
    pub(super) plan: Plan,
    pub(super) segment: Segment,
    pub(super) canceller: Canceller,
    pub(super) door: Arc<Door>,
    crew: Crew<'a>,
    listener: Listener,
    stopped_limit: Duration,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(builder: PipeBuilder<'a>) -> Result<Self, Error> {
        let plan = Plan::of(&builder)?;
        let names: Vec<&str> = plan
            .stages
            .iter()
            .map(|stage| stage.name.as_str())
            .collect();
        let segment = Segment::create(
            &plan.name,
            plan.shape.clone(),
            &names,
            builder.backing,
            builder.huge_pages,
        )?;
        let terminate = builder.at_limit == AtLimit::Terminate;
        let (Some(head), Some(tail)) = (builder.head, builder.tail) else {
            unreachable!("the plan has refused a pipe without head or tail");
        };
        let crew = Crew::new(head, builder.middles, tail, &segment, terminate)
            .map_err(|(id, error)| Error::Stage(failure_of(&plan, id, error)))?;
        let door = Door::new(crew.unbound()).map_err(|source| Error::System {
            what: "cannot make the door of the pipe",
            source,
        })?;
        let (listener, stopped_limit) = (builder.listener, builder.stopped_limit);
        let (canceller, door) = (builder.canceller, Arc::new(door));
        Ok(Self {
            plan,
            segment,
            canceller,
            door,
            crew,
            listener,
            stopped_limit,
        })
    }

    /// Runs the pipe to its end.
    pub(super) fn supervise(self) -> Result<Report, Error> {
        let Self {
            plan,
            segment,
            canceller,
            door,
            crew,
            listener,
            stopped_limit,
        } = self;
        let _armed = canceller.arm(&segment);
        let household = Household {
            segment: &segment,
            door: &door,
            listener: &listener,
            stopped_limit,
        };
        let (sender, exits) = unbounded();
        let mut watch = Watch::new(&segment, &plan, &canceller);
        thread::scope(|scope| {
            let started = crew.start(scope, &household, &sender);
            // Instances that were not started will not end either: the channel then runs dry.
            drop(sender);
            if let Err(error) = started {
                watch.fail(error);
            }
            watch.listen(&exits);
        });
        watch.outcome()
    }
}

struct Watch<'s> {
    segment: &'s Segment,
    plan: &'s Plan,
    canceller: &'s Canceller,
    /// What went wrong first.
    failure: Option<Error>,
    ended_well: HashSet<(u32, u32)>,
    ended: usize,
    instances: usize,
    /// Where every buffer was at the last tick, and what was wrong with that.
    position: Option<u64>,
    finding: Option<AuditFinding>,
    /// When each instance fell asleep, if at the last tick all of them slept.
    asleep: Option<Vec<u64>>,
}

impl<'s> Watch<'s> {
    fn new(segment: &'s Segment, plan: &'s Plan, canceller: &'s Canceller) -> Self {
        Self {
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

    fn listen(&mut self, exits: &Receiver<Exit>) {
        while self.ended < self.instances {
            match exits.recv_timeout(TICK) {
                Ok(exit) => self.note(exit),
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn note(
        &mut self,
        Exit {
            id,
            result,
            after_stop,
        }: Exit,
    ) {
        self.ended += 1;
        let Err(error) = result else {
            self.ended_well.insert((id.stage, id.instance));
            return;
        };
        if let Some(stuck) = error.waiting() {
            self.fail_stuck(id.stage, stuck);
            return;
        }
        if after_stop {
            return; // it ended because it was told to, however it puts that
        }
        let error = match error.corrupt() {
            Some(corrupt) => Error::Corrupt(corrupt.clone()),
            None => Error::Stage(failure_of(self.plan, id, error)),
        };
        self.fail(error);
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
        self.segment.stop();
    }

    /// One more instance waits for what nobody will give it.
    fn fail_stuck(&mut self, stage: u32, stuck: WaitingInstance) {
        let Settings {
            name,
            hold_in,
            hold_out,
            ..
        } = &self.plan.stages[stage as usize];
        let waiting = WaitingStage {
            position: stage,
            stage: name.clone(),
            instances: 1,
            waits_for: stuck.waits_for,
            inputs: stuck.inputs,
            outputs: stuck.outputs,
            holds_in: *hold_in,
            holds_out: *hold_out,
            keeps_more: stuck.keeps_more(*hold_in, *hold_out),
        };
        if self.failure.is_none() {
            self.fail(Error::Deadlock(Deadlock::default()));
        }
        if let Some(Error::Deadlock(standstill)) = &mut self.failure {
            standstill.add(waiting);
        }
    }

    fn is_stopping(&self) -> bool {
        self.failure.is_some() || self.canceller.is_cancelled()
    }

    /// Nobody has ended for a while. That is most likely a long job; it may be shared words that
    /// somebody has written to.
    fn tick(&mut self) {
        if self.is_stopping() {
            self.segment.stop(); // again, in case somebody has overwritten it
        }
        let position = self.segment.position();
        if self.position.replace(position) != Some(position) {
            self.finding = None;
            self.asleep = None;
            return;
        }
        let asleep = self.segment.asleep();
        if self.all_wait_for_ever(asleep.as_deref()) {
            // All sleep, so what does not fit together now is not just on its way.
            match self.segment.audit() {
                Ok(()) => self.fail_where_all_wait(),
                Err(finding) => self.fail(Error::Corrupt(finding.into())),
            }
        }
        self.asleep = asleep;
        // Nothing moves. A lost wake-up or a lost mark is mended here; a contradiction that stays
        // is the end.
        for &(stage, instance) in &self.ended_well {
            self.segment.mark_done(stage, instance);
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

    /// Whether everybody has looked again since the last tick woke them, and gone back to sleep,
    /// while nothing moved: nobody is left who could wake them.
    fn all_wait_for_ever(&self, asleep: Option<&[u64]>) -> bool {
        let (Some(before), Some(now)) = (&self.asleep, asleep) else {
            return false;
        };
        let looked_again = before
            .iter()
            .zip(now)
            .all(|(before, now)| *now == 0 || before != now);
        looked_again && now.iter().any(|&since| since > 0) && !self.is_stopping()
    }

    /// Writes down who waits for what, while they still do: the first failure stops them.
    fn fail_where_all_wait(&mut self) {
        let (tables, shape) = (self.segment.tables(), self.segment.shape());
        let tally = tally(tables);
        let all = (0..shape.stage_count()).flat_map(|stage| {
            shape
                .instances_of(stage)
                .filter_map(move |id| match Activity::of(tables, id) {
                    Activity::WaitingForBuffer => Some((stage, id, WaitsFor::Buffer)),
                    Activity::WaitingForInput => Some((stage, id, WaitsFor::Input)),
                    _ => None,
                })
        });
        let all: Vec<_> = all
            .map(|(stage, id, waits_for)| (stage, WaitingInstance::of(&tally, id, waits_for)))
            .collect();
        all.into_iter()
            .for_each(|(stage, stuck)| self.fail_stuck(stage, stuck));
    }

    fn outcome(self) -> Result<Report, Error> {
        if let Some(failure) = self.failure {
            return Err(match failure {
                // Admission has seen to it that this does not come from the stages.
                Error::Deadlock(Deadlock { waiting }) if !waiting.iter().any(|w| w.keeps_more) => {
                    let what = "every stage of the pipe waits for another, and none keeps more than it says";
                    Error::Corrupt(Corruption::new(what))
                }
                failure => failure,
            });
        }
        if self.ended_well.len() < self.instances {
            return Err(Error::Cancelled);
        }
        // Everybody says that all went well. So every buffer must have come home.
        self.segment
            .audit()
            .map_err(|finding| Error::Corrupt(finding.into()))?;
        let (free, all) = (self.segment.free_buffers(), self.plan.shape.buffers());
        if free != all {
            let what = format!("only {free} of {all} buffers are free at the end of the stream");
            return Err(Error::Corrupt(Corruption::new(what)));
        }
        Ok(Report::new(self.plan, Status::of(self.segment)))
    }
}

fn failure_of(plan: &Plan, Id { stage, instance }: Id, error: StageError) -> StageFailure {
    let settings = &plan.stages[stage as usize];
    StageFailure {
        stage: settings.name.clone(),
        instance,
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

    /// What becomes of a pipe whose two instances end like that, in this order. They are told as
    /// the inline runner tells them: tail first, and the first stops the pipe.
    fn outcome_of(told: &[(u32, WaitingInstance)]) -> Error {
        let builder = PipeBuilder::new()
            .head(StreamHead::new(&[][..]))
            .tail(StreamTail::new(Vec::new()));
        let plan = Plan::of(&builder).unwrap();
        let (shape, no) = (plan.shape.clone(), HugePages::No);
        let segment = Segment::create(&plan.name, shape, &[], Backing::Anonymous, no).unwrap();
        let canceller = Canceller::new();
        let mut watch = Watch::new(&segment, &plan, &canceller);
        for &(stage, stuck) in told {
            let (result, after_stop) = (Err(StageError::deadlock(stuck)), segment.is_stopped());
            watch.note(Exit {
                id: Id { stage, instance: 0 },
                result,
                after_stop,
            });
        }
        assert!(segment.is_stopped());
        watch.outcome().unwrap_err()
    }

    #[test]
    fn instances_that_ended_because_nobody_could_go_on_make_one_standstill() {
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
        let told: Vec<_> = waiting
            .iter()
            .map(|w| (w.position, w.instances, w.keeps_more))
            .collect();
        assert_eq!(told, [(0, 2, true), (1, 1, false)]);
    }

    #[test]
    fn a_standstill_for_which_no_stage_is_to_blame_is_corruption() {
        let stuck = |waits_for, inputs| WaitingInstance {
            waits_for,
            inputs,
            outputs: 0,
        };
        let error = outcome_of(&[
            (1, stuck(WaitsFor::Input, 0)),
            (0, stuck(WaitsFor::Buffer, 0)),
        ]);
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
        let error = outcome_of(&[
            (1, stuck(WaitsFor::Input, 1)),
            (0, stuck(WaitsFor::Buffer, 0)),
        ]);
        assert!(matches!(error, Error::Deadlock(_)), "{error}");
    }

    #[test]
    fn what_a_stage_may_keep_depends_on_what_it_waits_for() {
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
