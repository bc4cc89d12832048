//! One pipe and its processes: killed, reclaimed, replaced.

use std::error::Error;
use std::ops::RangeInclusive;
use std::thread::sleep;
use std::time::{Duration, Instant};

use datapipe::memory::{Backing, Dead, HugePages, PipeName, Process, Segment, StageId};
use datapipe::pool::{Inputs, PortError, Reclaimed, Seat};
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitStatus};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::books::{Books, Progress, Shared};
use crate::campaign::Tally;
use crate::chain::{Plan, head, middle, tail};
use crate::process::{about, die_after, die_at, fork, one_processor, pid, points, reap, state};
use crate::random::Random;
use crate::{Outcome, ensure};

/// Number of kills in one round.
const KILLS_OF_A_ROUND: RangeInclusive<u64> = 5..=20;
/// Time limit for a pipe to continue or to end after the last kill. A pipe that takes longer is
/// wedged.
const WEDGED: Duration = Duration::from_secs(60);

/// One pipe, its processes and its books.
pub(crate) struct Round {
    pub(crate) plan: Plan,
    name: PipeName,
    pub(crate) segment: Segment,
    pub(crate) books: Shared<Books>,
    pub(crate) seats: Vec<Chair>,
    random: Random,
    pub(crate) tally: Tally,
    /// Allowed processors before all processes moved to one of them.
    processor: Option<CpuSet>,
    /// Number of inputs that replacements of tails inherited: that many blocks may be recorded
    /// twice.
    pub(crate) may_repeat: u64,
    /// True if the pipe stops: dead processes are not replaced.
    stopping: bool,
    events: Vec<String>,
}

/// One instance and its current process.
pub(crate) struct Chair {
    pub(crate) stage: u32,
    pub(crate) instance: u32,
    /// `None` after it has ended by itself, or was not replaced.
    process: Option<Process>,
    /// Proof of death of its last process.
    dead: Option<Dead>,
    /// True if it dies of its own timer or at a point, unless it is killed before.
    doomed: bool,
    /// The point at which it dies, if it is one.
    at: Option<&'static str>,
}

impl Round {
    pub(crate) fn new(plan: Plan, backing: Backing, mut random: Random) -> Outcome<Self> {
        let name = PipeName::new();
        let segment = Segment::create(&name, plan.shape.clone(), &[], backing, HugePages::No)?;
        let stages = (0..).zip(plan.shape.stages());
        let seats = stages.flat_map(|(stage, shape)| {
            (0..shape.instances).map(move |instance| Chair {
                stage,
                instance,
                process: None,
                dead: None,
                doomed: false,
                at: None,
            })
        });
        let (seats, books) = (seats.collect(), Shared::new()?);
        let processor = random.one_in(2).then(one_processor).transpose()?;
        let (tally, events) = (Tally::default(), Vec::new());
        let mut round = Self {
            plan,
            name,
            segment,
            books,
            seats,
            random,
            tally,
            processor,
            may_repeat: 0,
            stopping: false,
            events,
        };
        (0..round.seats.len()).try_for_each(|seat| round.fork(seat, true))?;
        Ok(round)
    }

    /// Kills processes while blocks flow and while the stream ends, and waits for the end.
    pub(crate) fn until_ended(&mut self) -> Outcome {
        let kills = self.tally.kills + self.random.within(KILLS_OF_A_ROUND);
        let last = self.random.below(3);
        while self.tally.kills < kills && self.is_alive() {
            self.wait_a_little();
            if self.tally.kills + last >= kills {
                self.books.come_to_an_end();
            }
            self.strike()?;
            if self.random.one_in(2) {
                self.wait_for_blocks()?;
            }
        }
        self.books.come_to_an_end();
        self.wait_for_all()?;
        self.check_books(true)?;
        self.check_segment()
    }

    /// Kills processes, and then stops the pipe: the others end by themselves or are killed, too.
    pub(crate) fn until_stopped(&mut self) -> Outcome {
        for _ in 0..self.random.within(2..=6) {
            self.wait_a_little();
            self.strike()?;
        }
        self.wait_a_little();
        self.stopping = true;
        if self.random.one_in(2) {
            self.segment.stop();
            self.strike()?;
            self.wait_for_all()?;
            // A process that noticed the stop before it took its inherited input still holds it.
            (0..self.seats.len()).try_for_each(|seat| self.reclaim(seat).map(drop))?;
        } else {
            let first = self.victims(1);
            self.kill(&first)?;
            self.wait_a_little();
            let rest = self.victims(self.seats.len());
            self.kill(&rest)?;
        }
        self.tally.stopped += 1;
        self.check_books(false)?;
        self.check_nothing_held()
    }

    /// Kills processes, reclaims what they held, and starts their replacements.
    fn strike(&mut self) -> Outcome {
        let victims = match self.random.below(32) {
            0 => self.victims(self.seats.len()),
            1 | 2 => self.victims(2),
            3..=10 => self.victims(1),
            _ => self.doomed()?,
        };
        self.kill(&victims)
    }

    fn kill(&mut self, victims: &[usize]) -> Outcome {
        let stop_first = self.random.one_in(8);
        if stop_first {
            victims.iter().try_for_each(|&victim| self.stop(victim))?;
            // Meanwhile the others run out of blocks, or wait for blocks that the stopped ones
            // hold.
            self.wait_a_little();
        }
        let mut before_us = Vec::new();
        for &victim in victims {
            let process = self.process(victim);
            before_us.push(process.wait(Duration::ZERO)?.is_some());
            process.kill()?;
        }
        let mut killed = Vec::new();
        for &victim in victims {
            killed.push(self.await_death(victim)?);
        }
        for ((&victim, before_us), killed) in victims.iter().zip(before_us).zip(killed) {
            if killed {
                if before_us {
                    self.tally.by_itself(self.seats[victim].at);
                }
                self.tally.stopped_first += u64::from(stop_first && !before_us);
                self.tally.together += u64::from(victims.len() > 1);
                self.replace(victim, true)?;
            }
        }
        Ok(())
    }

    /// Reclaims what a killed process held, and starts its replacement.
    fn replace(&mut self, seat: usize, may_be_doomed: bool) -> Outcome {
        let reclaimed = self.reclaim(seat)?;
        let Chair {
            stage, instance, ..
        } = self.seats[seat];
        if stage == 0 {
            self.books.heads[instance as usize].settle(reclaimed.loans)?;
        } else if stage == self.plan.tail() {
            self.may_repeat += u64::from(reclaimed.inherited);
        }
        self.tally.victim(reclaimed, self.stopping);
        if !self.stopping {
            if self.random.one_in(4) {
                self.wait_a_little();
            }
            self.fork(seat, may_be_doomed)?;
        }
        Ok(())
    }

    /// Stops a process, which is not a death.
    fn stop(&mut self, victim: usize) -> Outcome {
        let process = self.process(victim);
        let pid = pid(process);
        rustix::process::kill_process(pid, Signal::STOP)?;
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::Pid(pid), options)?;
        if status.is_some_and(|status| status.stopped()) {
            ensure!(
                process.wait(Duration::ZERO)?.is_none(),
                "a stopped process counts as dead"
            );
        }
        Ok(())
    }

    /// Waits for the death of a process that was killed. Returns true if the kill ended it, false
    /// if it had ended by itself.
    fn await_death(&mut self, victim: usize) -> Outcome<bool> {
        let process = self.seats[victim]
            .process
            .take()
            .ok_or("the seat is empty")?;
        let dead = process
            .wait(WEDGED)?
            .ok_or("a killed process does not die")?;
        self.seats[victim].dead = Some(dead);
        let status = reap(pid(&process))?;
        if status.terminating_signal() == Some(Signal::KILL.as_raw()) {
            return Ok(true);
        }
        self.check_status(victim, status)?;
        Ok(false)
    }

    pub(crate) fn reclaim(&mut self, victim: usize) -> Outcome<Reclaimed> {
        let Chair {
            stage,
            instance,
            ref dead,
            ..
        } = self.seats[victim];
        let dead = dead.as_ref().ok_or("no process of the seat died")?;
        let inputs = if self.stopping {
            Inputs::Release
        } else {
            Inputs::Inherit
        };
        let id = StageId::new(stage).instance(instance);
        let reclaimed = self.segment.reclaim(id, dead, inputs)?;
        self.events.push(format!(
            "stage {stage} instance {instance} died: {reclaimed:?}"
        ));
        // A process here holds at most one input and one output, and may be sending one of the two.
        let Reclaimed {
            inherited,
            released,
            loans,
            finished,
            ..
        } = reclaimed;
        let possible =
            inherited + released <= 1 && loans <= 1 && finished <= 1 && reclaimed.held() <= 2;
        ensure!(possible, "no process can hold that many buffers");
        Ok(reclaimed)
    }

    fn fork(&mut self, seat: usize, may_be_doomed: bool) -> Outcome {
        let Chair {
            stage, instance, ..
        } = self.seats[seat];
        let doomed = may_be_doomed && !self.random.one_in(4);
        let life = Duration::from_nanos(1 + self.random.below(3_000_000));
        let at = if doomed && !self.random.one_in(4) {
            self.some_point()
        } else {
            None
        };
        let process = fork(|| {
            match at {
                Some((label, passes)) => die_at(label, passes),
                None if doomed => die_after(life)?,
                None => {}
            }
            self.take_seat(stage, instance)
                .map_err(|story| format!("stage {stage} instance {instance}: {story}").into())
        })?;
        self.seats[seat].process = Some(process);
        self.seats[seat].doomed = doomed;
        self.seats[seat].at = at.map(|(label, _)| label);
        Ok(())
    }

    /// Chooses a point at which a process dies, and the pass.
    fn some_point(&mut self) -> Option<(&'static str, u64)> {
        let points = points();
        let label = *points.get(self.random.below(points.len().max(1) as u64) as usize)?;
        let once = ["seat.", "finish.", "leave."]
            .iter()
            .any(|begin| label.starts_with(begin));
        Some((label, if once { 1 } else { self.random.within(1..=24) }))
    }

    /// Runs a child process to the end of the stream.
    fn take_seat(&self, stage: u32, instance: u32) -> Outcome {
        // The parent's mapping stayed with the parent.
        let segment = match self.segment.descriptor() {
            Some(descriptor) => Segment::attach(descriptor.try_clone_to_owned()?)?,
            None => Segment::attach_named(&self.name)?,
        };
        let (plan, books, me) = (&self.plan, &*self.books, instance as usize);
        let seat = Seat::new(&segment, StageId::new(stage).instance(instance));
        let result = match stage {
            0 => head(seat.head()?, plan, books, me),
            _ if stage == plan.tail() => tail(seat.tail()?, plan, books, me),
            _ => middle(seat.middle()?, plan, stage),
        };
        match result {
            Err(end) if end.downcast_ref() == Some(&PortError::Stopped) => Ok(()),
            other => other,
        }
    }

    /// Waits, without killing, until blocks have passed from head to tail.
    ///
    /// This finds a replacement that cannot continue, and a wake-up that was lost with its sender.
    /// After the next death it would be too late: the reclaim wakes all participants.
    fn wait_for_blocks(&mut self) -> Outcome {
        let deadline = Instant::now() + WEDGED;
        let enough = self.books.arrived() + 2 * u64::from(self.plan.shape.buffers());
        while !self.books.is_ending() && self.books.arrived() < enough {
            (0..self.seats.len()).try_for_each(|seat| self.look_after(seat, Duration::ZERO))?;
            if self.seats.iter().any(|chair| chair.process.is_none()) {
                return Ok(()); // the books are full and the stream ends
            }
            ensure!(
                Instant::now() < deadline,
                "WEDGED: no block arrives any more"
            );
            sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Waits until all processes have ended by themselves.
    fn wait_for_all(&mut self) -> Outcome {
        let deadline = Instant::now() + WEDGED;
        while self.is_alive() {
            for seat in 0..self.seats.len() {
                self.look_after(seat, Duration::from_millis(2))?;
            }
            ensure!(Instant::now() < deadline, "WEDGED: the stream does not end");
        }
        Ok(())
    }

    /// Watches a seat for `timeout`. Its process may succeed, or die of its timer and be replaced.
    fn look_after(&mut self, seat: usize, timeout: Duration) -> Outcome {
        let Some(process) = &self.seats[seat].process else {
            return Ok(());
        };
        if process.wait(timeout)?.is_some() && self.await_death(seat)? {
            ensure!(
                self.seats[seat].doomed,
                "a process died without a kill of ours"
            );
            self.tally.by_itself(self.seats[seat].at);
            self.replace(seat, false)?;
        }
        Ok(())
    }

    fn check_status(&self, seat: usize, status: WaitStatus) -> Outcome {
        let Chair {
            stage, instance, ..
        } = self.seats[seat];
        ensure!(
            status.exit_status() == Some(0),
            "stage {stage} instance {instance} ended by itself: {status:?}"
        );
        Ok(())
    }

    fn victims(&mut self, count: usize) -> Vec<usize> {
        let mut living: Vec<_> = (0..self.seats.len())
            .filter(|&seat| self.seats[seat].process.is_some())
            .collect();
        for i in 0..living.len() {
            let other = self.random.within(i as u64..=living.len() as u64 - 1);
            living.swap(i, other as usize);
        }
        // On a shared processor, a process that could run was interrupted in the middle of its
        // work.
        if self.random.one_in(2) {
            living.sort_by_key(|&seat| state(self.process(seat)) != 'R');
        }
        living.truncate(count);
        living
    }

    /// Waits for the timer of a doomed process, and returns those that died of theirs. After a
    /// while it returns any process.
    fn doomed(&mut self) -> Outcome<Vec<usize>> {
        let deadline = Instant::now() + Duration::from_millis(25);
        while Instant::now() < deadline {
            let mut dead = Vec::new();
            for (seat, chair) in self
                .seats
                .iter()
                .enumerate()
                .filter(|(_, chair)| chair.doomed)
            {
                let Some(process) = &chair.process else {
                    continue;
                };
                if process.wait(Duration::ZERO)?.is_some() {
                    dead.push(seat);
                }
            }
            if !dead.is_empty() {
                return Ok(dead);
            }
            sleep(Duration::from_micros(100));
        }
        Ok(self.victims(1))
    }

    fn process(&self, seat: usize) -> &Process {
        self.seats[seat]
            .process
            .as_ref()
            .expect("only living processes are chosen")
    }

    fn is_alive(&self) -> bool {
        self.seats.iter().any(|seat| seat.process.is_some())
    }

    /// Lets the others run: not at all, for some steps, or until they run out of blocks.
    fn wait_a_little(&mut self) {
        match self.random.below(8) {
            0 => {}
            1..=3 => {
                let time = Duration::from_nanos(self.random.below(200_000));
                if self.processor.is_some() {
                    sleep(time)
                } else {
                    spin(time)
                }
            }
            _ => sleep(Duration::from_micros(self.random.below(3_000))),
        }
    }

    /// Describes a failure and the state of the pipe, while the processes still exist.
    pub(crate) fn story(&self, what: &dyn Error) -> String {
        let audit = self
            .segment
            .audit()
            .map_or_else(|finding| finding.to_string(), |()| "no finding".into());
        let (free, buffers) = (self.segment.free_buffers(), self.plan.shape.buffers());
        let mut story = format!(
            "{what}\n  {:?}\n  audit: {audit}; {free} of {buffers} free",
            self.plan
        );
        let sent: Vec<_> = self.books.heads.iter().map(Progress::sent).collect();
        story += &format!("\n  sent {sent:?}, arrived {}", self.books.arrived());
        for Chair {
            stage,
            instance,
            process,
            ..
        } in &self.seats
        {
            let Some(process) = process else { continue };
            let (state, call) = (state(process), about(process, "syscall"));
            story += &format!(
                "\n  stage {stage} instance {instance}: state {state}, system call {call}"
            );
        }
        for event in self.events.iter().rev().take(12).rev() {
            story += &format!("\n  {event}");
        }
        story
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        for process in self.seats.iter_mut().filter_map(|seat| seat.process.take()) {
            let _ = process.kill();
            let _ = reap(pid(&process));
        }
        if let Some(everywhere) = &self.processor {
            let _ = sched_setaffinity(None, everywhere);
        }
    }
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}
