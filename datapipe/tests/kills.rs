//! Real processes, real SIGKILL, at instants that nobody chose: the pipe goes on, and nothing is lost.
//!
//! ```text
//!   head(s) > middle(s) > ... > tail(s)        each instance a process of its own
//!      ^          ^                ^
//!      +----------+--- killed -----+           wait for the death, reclaim, fork a replacement; again and again
//! ```
//!
//! After each round every block has arrived exactly once, in order and unchanged, every buffer is on the free list,
//! every credit is back, and no process, descriptor or name is left.
//!
//! `DATAPIPE_KILLS=n` kills n processes instead of 300; `DATAPIPE_SEED=n` makes the choices of an earlier run again.
//! The kernel's scheduling is not ours to repeat, so the same seed kills the same seats, but not at the same steps.
//!
//! The harness is our own, because a child may only be forked from a process with one thread.

#![allow(unsafe_code, reason = "forks, and maps a page that the forked processes share")]
#![allow(
    clippy::disallowed_types,
    reason = "the books are kept in words of the test's own, outside of the segment"
)]

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fmt;
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, Write as _};
use std::mem::take;
use std::ops::{Deref, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use datapipe::memory::{Backing, Dead, HugePages, PipeName, Process, Segment, Shape, StageShape};
use datapipe::pool::{
    Block, BlockInfo, Blocked, HeadPort, Inputs, MiddlePort, PortError, Reclaimed, Seat, TailPort,
};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

macro_rules! ensure {
    ($condition:expr, $($story:tt)+) => {
        if !$condition {
            return Err(format!($($story)+).into());
        }
    };
}

/// Kills of one run, unless `DATAPIPE_KILLS` says otherwise.
const KILLS: u64 = 300;
/// Kills of one round.
const KILLS_OF_A_ROUND: RangeInclusive<u64> = 5..=20;
/// How long a pipe in which nothing more is killed may take to get on, or to end, before it counts as wedged.
const WEDGED: Duration = Duration::from_secs(60);
/// Sleep of the instances that wait with a timeout.
const NAP: Duration = Duration::from_micros(500);

fn main() -> ExitCode {
    match Asked::of(std::env::args().skip(1)) {
        Asked::List { ours } => {
            if ours {
                println!("kills: test");
            }
            ExitCode::SUCCESS
        }
        Asked::Nothing => {
            println!("\nrunning 0 tests\n\n{}", last_line("ok", [0, 0, 1], Duration::ZERO));
            ExitCode::SUCCESS
        }
        Asked::Run => run(),
    }
}

fn run() -> ExitCode {
    println!("\nrunning 1 test");
    let start = Instant::now();
    let mut campaign = Campaign::new();
    println!("kills: {} to come, DATAPIPE_SEED={}", campaign.target, campaign.seed);
    let result = campaign.run();
    let took = start.elapsed();
    println!("kills: {}", campaign.tally);
    match result {
        Ok(()) => {
            println!("test kills ... ok\n\n{}", last_line("ok", [1, 0, 0], took));
            ExitCode::SUCCESS
        }
        Err(story) => {
            println!("kills: {story}");
            println!("test kills ... FAILED\n\n{}", last_line("FAILED", [0, 1, 0], took));
            ExitCode::from(101)
        }
    }
}

/// The line that every test binary ends with.
fn last_line(verdict: &str, [passed, failed, filtered]: [u32; 3], took: Duration) -> String {
    format!(
        "test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out; \
         finished in {:.2}s\n",
        took.as_secs_f64()
    )
}

/// What whoever called the test binary wants.
enum Asked {
    /// The names of the tests that match.
    List { ours: bool },
    /// Some other test.
    Nothing,
    /// This one.
    Run,
}

impl Asked {
    /// Reads the arguments that every test binary takes, and ignores those that change nothing here.
    fn of(mut arguments: impl Iterator<Item = String>) -> Self {
        let (mut list, mut exact, mut ignored) = (false, false, false);
        let (mut filters, mut skips) = (Vec::new(), Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => list = true,
                "--exact" => exact = true,
                "--ignored" => ignored = true,
                "--skip" => skips.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "--shuffle-seed" | "-Z" => {
                    arguments.next();
                }
                option if option.starts_with('-') => {}
                _ => filters.push(argument),
            }
        }
        let matches =
            |filter: &String| if exact { filter == "kills" } else { "kills".contains(filter.as_str()) };
        let ours =
            !ignored && (filters.is_empty() || filters.iter().any(matches)) && !skips.iter().any(matches);
        match (list, ours) {
            (true, ours) => Self::List { ours },
            (false, true) => Self::Run,
            (false, false) => Self::Nothing,
        }
    }
}

/// Rounds, until enough processes were killed.
struct Campaign {
    target: u64,
    seed: u64,
    tally: Tally,
}

impl Campaign {
    fn new() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("DATAPIPE_SEED").unwrap_or_else(|| RandomState::new().hash_one(0u8));
        Self { target: number("DATAPIPE_KILLS").unwrap_or(KILLS), seed, tally: Tally::default() }
    }

    fn run(&mut self) -> Outcome {
        while self.tally.kills < self.target {
            let number = self.tally.rounds;
            let random = Random(mix(self.seed ^ mix(number)) | 1);
            let descriptors = open_descriptors()?;
            self.round(number, random)
                .map_err(|story| format!("seed {}, round {number}: {story}", self.seed))?;
            let left = open_descriptors()?;
            ensure!(
                left == descriptors,
                "round {number} left {left} descriptors open instead of {descriptors}"
            );
            let names = names_left()?;
            ensure!(names.is_empty(), "round {number} left {names:?} in /dev/shm");
        }
        Ok(())
    }

    fn round(&mut self, number: u64, mut random: Random) -> Outcome {
        let plan = Plan::draw(&mut random);
        let backing = if number % 4 == 1 { Backing::Named } else { Backing::Anonymous };
        let mut round = Round::new(plan, backing, random)?;
        round.tally = take(&mut self.tally);
        let result = if number % 8 == 3 { round.until_stopped() } else { round.until_ended() };
        self.tally = take(&mut round.tally);
        result.map_err(|story| round.story(&*story))?;
        self.tally.rounds += 1;
        self.tally.named += u64::from(backing == Backing::Named);
        Ok(())
    }
}

/// What was counted.
#[derive(Default)]
struct Tally {
    rounds: u64,
    named: u64,
    /// Rounds in which the pipe was given up after a kill.
    stopped: u64,
    kills: u64,
    /// Victims that were stopped before they were killed.
    stopped_first: u64,
    /// Victims that died of a timer of their own, in the middle of their work.
    by_timer: u64,
    /// Victims that died together with others, before anything was reclaimed.
    together: u64,
    /// Victims that held nothing.
    nothing: u64,
    inherited: u64,
    answered: u64,
    released: u64,
    loans: u64,
    finished: u64,
    /// Blocks that the heads sent.
    blocks: u64,
    /// Blocks that a tail got again, because its predecessor died before it freed them.
    again: u64,
}

impl Tally {
    fn victim(&mut self, reclaimed: Reclaimed, stopping: bool) {
        let Reclaimed { inherited, released, loans, finished, .. } = reclaimed;
        self.kills += 1;
        self.nothing += u64::from(reclaimed.held() == 0);
        self.inherited += u64::from(inherited);
        self.loans += u64::from(loans);
        self.finished += u64::from(finished);
        *(if stopping { &mut self.released } else { &mut self.answered }) += u64::from(released);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.inherited + self.answered + self.released + self.loans + self.finished;
        writeln!(
            f,
            "{} processes killed in {} rounds ({} with a named segment, {} given up after a kill)",
            self.kills, self.rounds, self.named, self.stopped
        )?;
        let Self { stopped_first, by_timer, together, .. } = self;
        write!(
            f,
            "  {stopped_first} were stopped first, {by_timer} were killed by a timer while they worked, "
        )?;
        writeln!(f, "{together} died together with others")?;
        writeln!(f, "  they held {held} buffers, and {} of them held nothing:", self.nothing)?;
        writeln!(f, "    {:>6} inputs inherited", self.inherited)?;
        writeln!(f, "    {:>6} inputs released, because their answer was on its way", self.answered)?;
        writeln!(f, "    {:>6} inputs released, because the pipe stopped", self.released)?;
        writeln!(f, "    {:>6} loans freed", self.loans)?;
        writeln!(f, "    {:>6} sends finished", self.finished)?;
        write!(f, "  {} blocks sent, {} of them seen again by a second tail", self.blocks, self.again)
    }
}

/// One pipe, its processes, and the books.
struct Round {
    plan: Plan,
    name: PipeName,
    segment: Segment,
    books: Shared<Books>,
    seats: Vec<Chair>,
    random: Random,
    tally: Tally,
    /// All run on one processor, and this is where they were allowed to before.
    processor: Option<CpuSet>,
    /// Inputs that the replacements of tails inherited: so many blocks may have been written down twice.
    may_repeat: u64,
    /// The pipe stops: the dead are not replaced.
    stopping: bool,
    events: Vec<String>,
}

/// One instance, and the process that is it at present.
struct Chair {
    stage: u32,
    instance: u32,
    /// `None` once it has ended by itself, or was not replaced.
    process: Option<Process>,
    /// That the last process before it is dead.
    dead: Option<Dead>,
    /// It dies of its own timer, unless it is killed before.
    doomed: bool,
}

impl Round {
    fn new(plan: Plan, backing: Backing, mut random: Random) -> Outcome<Self> {
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

    /// Kills while blocks flow and while the stream ends, and lets it end.
    fn until_ended(&mut self) -> Outcome {
        let kills = self.tally.kills + self.random.within(KILLS_OF_A_ROUND);
        let last = self.random.below(3);
        while self.tally.kills < kills && self.is_alive() {
            self.wait_a_little();
            if self.tally.kills + last >= kills {
                self.books.end.store(1, Ordering::Release);
            }
            self.strike()?;
            if self.random.one_in(2) {
                self.wait_for_blocks()?;
            }
        }
        self.books.end.store(1, Ordering::Release);
        self.wait_for_all()?;
        self.check_books(true)?;
        self.check_segment()
    }

    /// Kills, and stops the pipe after that: the others end by themselves, or are killed too.
    fn until_stopped(&mut self) -> Outcome {
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
            // One that noticed the stop before it had taken up what it inherited leaves that behind.
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

    /// Kills one or more, reclaims what they held, and seats their replacements.
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
            // Meanwhile the others run dry, or up against what the stopped ones hold.
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
            killed.push(self.bury(victim)?);
        }
        for ((&victim, before_us), killed) in victims.iter().zip(before_us).zip(killed) {
            if killed {
                self.tally.by_timer += u64::from(before_us);
                self.tally.stopped_first += u64::from(stop_first && !before_us);
                self.tally.together += u64::from(victims.len() > 1);
                self.replace(victim, true)?;
            }
        }
        Ok(())
    }

    /// Reclaims what a killed one held, and seats its replacement.
    fn replace(&mut self, seat: usize, may_be_doomed: bool) -> Outcome {
        let reclaimed = self.reclaim(seat)?;
        let Chair { stage, instance, .. } = self.seats[seat];
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
            ensure!(process.wait(Duration::ZERO)?.is_none(), "a stopped process counts as dead");
        }
        Ok(())
    }

    /// Waits for the death of a process that was killed. Returns whether that was a kill, and not its end.
    fn bury(&mut self, victim: usize) -> Outcome<bool> {
        let process = self.seats[victim].process.take().ok_or("nobody sits there")?;
        let dead = process.wait(WEDGED)?.ok_or("a killed process does not die")?;
        self.seats[victim].dead = Some(dead);
        let status = reap(pid(&process))?;
        if status.terminating_signal() == Some(Signal::KILL.as_raw()) {
            return Ok(true);
        }
        self.check_status(victim, status)?;
        Ok(false)
    }

    fn reclaim(&mut self, victim: usize) -> Outcome<Reclaimed> {
        let Chair { stage, instance, ref dead, .. } = self.seats[victim];
        let dead = dead.as_ref().ok_or("nobody died there")?;
        let inputs = if self.stopping { Inputs::Release } else { Inputs::Inherit };
        let reclaimed = self.segment.reclaim(stage, instance, dead, inputs)?;
        self.events.push(format!("stage {stage} instance {instance} died: {reclaimed:?}"));
        // Nobody here has more than one input, one output, and one of the two on its way.
        let Reclaimed { inherited, released, loans, finished, .. } = reclaimed;
        let possible = inherited + released <= 1 && loans <= 1 && finished <= 1 && reclaimed.held() <= 2;
        ensure!(possible, "nobody can hold so much");
        Ok(reclaimed)
    }

    fn fork(&mut self, seat: usize, may_be_doomed: bool) -> Outcome {
        let Chair { stage, instance, .. } = self.seats[seat];
        let doomed = may_be_doomed && !self.random.one_in(4);
        let life = Duration::from_nanos(1 + self.random.below(3_000_000));
        let process = fork(|| {
            if doomed {
                die_after(life)?;
            }
            self.take_seat(stage, instance)
                .map_err(|story| format!("stage {stage} instance {instance}: {story}").into())
        })?;
        self.seats[seat].process = Some(process);
        self.seats[seat].doomed = doomed;
        Ok(())
    }

    /// What a child does, up to the end of the stream.
    fn take_seat(&self, stage: u32, instance: u32) -> Outcome {
        // The parent's mapping stayed with the parent.
        let segment = match self.segment.descriptor() {
            Some(descriptor) => Segment::attach(descriptor.try_clone_to_owned()?)?,
            None => Segment::attach_named(&self.name)?,
        };
        let (plan, books, me) = (&self.plan, &*self.books, instance as usize);
        let seat = Seat::new(&segment, stage, instance);
        let result = match stage {
            0 => head(seat.head(), plan, books, me),
            _ if stage == plan.tail() => tail(seat.tail(), plan, books, me),
            _ => middle(seat.middle(), plan, stage),
        };
        match result {
            Err(end) if end.downcast_ref() == Some(&PortError::Stopped) => Ok(()),
            other => other,
        }
    }

    /// Waits until blocks have gone all the way from head to tail, with nobody being killed.
    ///
    /// A replacement that cannot get on, or a wake-up that was lost with its sender, shows here: what is reclaimed
    /// after the next death wakes everybody.
    fn wait_for_blocks(&mut self) -> Outcome {
        let deadline = Instant::now() + WEDGED;
        let enough = self.books.arrived() + 2 * u64::from(self.plan.shape.buffers());
        while self.books.end.load(Ordering::Acquire) == 0 && self.books.arrived() < enough {
            (0..self.seats.len()).try_for_each(|seat| self.look_after(seat, Duration::ZERO))?;
            if self.seats.iter().any(|chair| chair.process.is_none()) {
                return Ok(()); // the books are full, and the stream ends
            }
            ensure!(Instant::now() < deadline, "WEDGED: no block arrives any more");
            sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Waits until all have ended by themselves.
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

    /// Watches a seat for `timeout`. Whoever sits there may end well, or die of its timer and be replaced.
    fn look_after(&mut self, seat: usize, timeout: Duration) -> Outcome {
        let Some(process) = &self.seats[seat].process else { return Ok(()) };
        if process.wait(timeout)?.is_some() && self.bury(seat)? {
            ensure!(self.seats[seat].doomed, "somebody else kills our processes");
            self.tally.by_timer += 1;
            self.replace(seat, false)?;
        }
        Ok(())
    }

    fn check_status(&self, seat: usize, status: WaitStatus) -> Outcome {
        let Chair { stage, instance, .. } = self.seats[seat];
        ensure!(
            status.exit_status() == Some(0),
            "stage {stage} instance {instance} ended by itself: {status:?}"
        );
        Ok(())
    }

    /// Compares what the heads sent with what the tails got. `whole`: the stream came to its end.
    fn check_books(&mut self, whole: bool) -> Outcome {
        let heads: Vec<_> = self.books.heads.iter().map(Progress::sent).collect();
        let sent: u64 = heads.iter().sum();
        let mut next = vec![0; heads.len()];
        let in_reach = (sent + 4096).min(self.books.seen.len() as u64);
        let mut gap = None;
        for (number, seen) in (0..in_reach).zip(&self.books.seen) {
            let tag = seen.load(Ordering::Acquire);
            if tag == UNSEEN {
                gap = gap.or(Some(number));
                continue;
            }
            ensure!(number < sent, "number {number} arrived, but only {sent} were sent");
            // With several tails one may be ahead of another when the pipe stops.
            let excused = !whole && self.plan.tails() > 1;
            ensure!(gap.is_none() || excused, "LOST: number {number} arrived, but not {gap:?}");
            let (head, index) = of_id(tag - FIRST_ID);
            let next = next.get_mut(head).ok_or("there is no such head")?;
            let in_order = index == *next || gap.is_some() && index > *next;
            ensure!(in_order, "number {number} is block {index} of head {head}, not {next}");
            *next = index + 1;
        }
        if whole {
            ensure!(gap.unwrap_or(sent) == sent, "LOST: {sent} were sent, number {gap:?} did not arrive");
        }
        let again: u64 = self.books.tails.iter().map(|tail| tail.again.load(Ordering::Acquire)).sum();
        ensure!(again <= self.may_repeat, "{again} blocks came twice, {} were inherited", self.may_repeat);
        self.tally.blocks += sent;
        self.tally.again += again;
        Ok(())
    }

    /// The stream has ended: every buffer must be free, and every credit back.
    fn check_segment(&mut self) -> Outcome {
        self.check_nothing_held()?;
        self.take_every_credit()?;
        self.segment.audit().map_err(|finding| finding.to_string())?;
        let (free, buffers) = (self.segment.free_buffers(), self.plan.shape.buffers());
        ensure!(free == buffers, "LOST: {free} of {buffers} buffers are free");
        Ok(())
    }

    /// Everybody is dead or has ended: every buffer must be free, or wait in a queue.
    fn check_nothing_held(&mut self) -> Outcome {
        let none = rustix::process::wait(WaitOptions::NOHANG);
        ensure!(matches!(none, Err(rustix::io::Errno::CHILD)), "there is a child left: {none:?}");
        for seat in 0..self.seats.len() {
            let left = self.reclaim(seat)?;
            ensure!(left.held() == 0, "LOST: still held after all was reclaimed: {left:?}");
        }
        // Whoever was killed at work counts as working. A seat that is taken and left has ended: nobody is excused.
        for &Chair { stage, instance, .. } in &self.seats {
            let seat = Seat::new(&self.segment, stage, instance);
            match stage {
                0 => drop(seat.head()),
                _ if stage == self.plan.tail() => drop(seat.tail()),
                _ => drop(seat.middle()),
            }
        }
        self.segment.audit().map_err(|finding| finding.to_string().into())
    }

    /// Takes every seat, allocates what its quota allows, and no more, and gives it back.
    fn take_every_credit(&self) -> Outcome {
        let mut blocks = Vec::new();
        for Chair { stage, instance, .. } in self.seats.iter().filter(|chair| chair.stage != self.plan.tail())
        {
            let seat = Seat::new(&self.segment, *stage, *instance);
            let try_alloc: Box<dyn Fn() -> _> = if *stage == 0 {
                let port = seat.head();
                Box::new(move || port.try_alloc())
            } else {
                let port = seat.middle();
                Box::new(move || port.try_alloc())
            };
            let quota = self.plan.shape.quota(self.plan.shape.instances_of(*stage).start + instance);
            for loan in 0..quota {
                let got = try_alloc()?;
                let lost = |why| {
                    format!("LOST: {why:?} at loan {loan} of {quota}, stage {stage} instance {instance}")
                };
                blocks.push(got.map_err(lost)?);
            }
            let more = try_alloc()?.err();
            ensure!(
                more == Some(Blocked::AtLimit),
                "stage {stage} instance {instance} has no limit: {more:?}"
            );
        }
        let (free, buffers) = (self.segment.free_buffers(), self.plan.shape.buffers());
        let loans = blocks.len() as u32;
        ensure!(free + loans == buffers, "LOST: {free} buffers free and {loans} on loan of {buffers}");
        Ok(())
    }

    fn victims(&mut self, count: usize) -> Vec<usize> {
        let mut living: Vec<_> =
            (0..self.seats.len()).filter(|&seat| self.seats[seat].process.is_some()).collect();
        for i in 0..living.len() {
            let other = self.random.within(i as u64..=living.len() as u64 - 1);
            living.swap(i, other as usize);
        }
        // Of those that share a processor with us, one that could run was stopped in the middle of something.
        if self.random.one_in(2) {
            living.sort_by_key(|&seat| state(self.process(seat)) != 'R');
        }
        living.truncate(count);
        living
    }

    /// Waits for the timer of a doomed one, and returns those that died of theirs; after a while, anyone.
    fn doomed(&mut self) -> Outcome<Vec<usize>> {
        let deadline = Instant::now() + Duration::from_millis(25);
        while Instant::now() < deadline {
            let mut dead = Vec::new();
            for (seat, chair) in self.seats.iter().enumerate().filter(|(_, chair)| chair.doomed) {
                let Some(process) = &chair.process else { continue };
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
        self.seats[seat].process.as_ref().expect("only the living are chosen")
    }

    fn is_alive(&self) -> bool {
        self.seats.iter().any(|seat| seat.process.is_some())
    }

    /// Lets the others run: not at all, for some steps, or long enough to run dry.
    fn wait_a_little(&mut self) {
        match self.random.below(8) {
            0 => {}
            1..=3 => {
                let time = Duration::from_nanos(self.random.below(200_000));
                if self.processor.is_some() { sleep(time) } else { spin(time) }
            }
            _ => sleep(Duration::from_micros(self.random.below(3_000))),
        }
    }

    /// What went wrong, and all that is known about it. Read before the processes are gone.
    fn story(&self, what: &dyn Error) -> String {
        let audit = self.segment.audit().map_or_else(|finding| finding.to_string(), |()| "no finding".into());
        let (free, buffers) = (self.segment.free_buffers(), self.plan.shape.buffers());
        let mut story = format!("{what}\n  {:?}\n  audit: {audit}; {free} of {buffers} free", self.plan);
        let sent: Vec<_> = self.books.heads.iter().map(Progress::sent).collect();
        story += &format!("\n  sent {sent:?}, arrived {}", self.books.arrived());
        for Chair { stage, instance, process, .. } in &self.seats {
            let Some(process) = process else { continue };
            let (state, call) = (state(process), about(process, "syscall"));
            story += &format!("\n  stage {stage} instance {instance}: state {state}, system call {call}");
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

/// What the processes do, the same before and after a death.
#[derive(Debug)]
struct Plan {
    shape: Shape,
    /// Whether the instances wait with a timeout, again and again, instead of without.
    timeouts: bool,
    /// Longest ordinary block, in words of 8 bytes.
    most_words: u64,
}

/// What a middle stage does with a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Copy,
    Forward,
    Discard,
}

/// Instances of each stage, head first.
const CHAINS: [&[u32]; 6] = [&[1, 2, 1], &[2, 2, 1], &[1, 1, 2, 1], &[3, 2, 1], &[2, 2, 3, 1], &[1, 1, 2, 2]];

impl Plan {
    fn draw(random: &mut Random) -> Self {
        let chain = CHAINS[random.below(CHAINS.len() as u64) as usize];
        let last = chain.len() - 1;
        // Scarce buffers make the instances wait for each other. With many, and little to do for each, more of the
        // time is spent between two steps of a hand-over.
        let roomy = random.one_in(2);
        let mut share = |instances, more| instances * if roomy { 8 } else { 1 } + random.below(more) as u32;
        let stages: Vec<_> = (0..)
            .zip(chain)
            .map(|(stage, &instances)| match stage {
                0 => StageShape::new(instances, share(instances, 3)),
                _ if stage == last => StageShape::new(instances, 0),
                _ => StageShape::new(instances, share(instances, 2)).numbered(),
            })
            .collect();
        let shares: u32 = stages.iter().map(|stage| stage.share).sum();
        let size = 512 << random.below(4);
        let room = random.below(2) as u32 * 64;
        let shape = Shape::new(shares + random.below(2) as u32, size, room, room, &stages);
        let most_words = if roomy { 4 } else { 32 };
        Self { shape: shape.expect("a legal shape"), most_words, timeouts: random.one_in(4) }
    }

    fn tail(&self) -> u32 {
        self.shape.stage_count() - 1
    }

    fn tails(&self) -> u32 {
        self.shape.stages()[self.tail() as usize].instances
    }

    fn deed(&self, stage: u32, id: u64) -> Deed {
        match mix(id ^ mix(stage.into())) % 16 {
            0 => Deed::Discard,
            1 => Deed::Forward,
            _ => Deed::Copy,
        }
    }

    fn is_discarded(&self, id: u64) -> bool {
        (1..self.tail()).any(|stage| self.deed(stage, id) == Deed::Discard)
    }

    /// Length of a block, in words of 8 bytes. A few fill their buffer.
    fn words(&self, id: u64) -> u64 {
        let full = u64::from(self.shape.buffer_size() / 8);
        if mix(id).is_multiple_of(32) { full } else { 1 + mix(id) % self.most_words }
    }

    /// The payload of a block when it arrives at the input of `stage`.
    fn word(&self, stage: u32, id: u64, at: u64) -> u64 {
        let sent = mix(id).wrapping_add(at);
        let copied = (1..stage).filter(|&stage| self.deed(stage, id) == Deed::Copy);
        copied.fold(sent, |word, stage| transform(stage, word))
    }
}

fn id_of(head: usize, index: u64) -> u64 {
    (head as u64) << 32 | index
}

fn of_id(id: u64) -> (usize, u64) {
    ((id >> 32) as usize, id & 0xffff_ffff)
}

/// Doing it twice, not at all, or in another order of the stages, gives something else.
fn transform(stage: u32, word: u64) -> u64 {
    word.rotate_left(9) ^ mix(stage.into())
}

fn head(port: HeadPort, plan: &Plan, books: &Books, me: usize) -> Outcome {
    let limit = books.seen.len() as u64 / u64::from(plan.shape.stages()[0].instances);
    let progress = &books.heads[me];
    loop {
        let index = progress.sent();
        if index == limit || books.end.load(Ordering::Acquire) != 0 {
            return Ok(port.finish()?);
        }
        let mut block = match plan.timeouts {
            true => patiently(|| port.alloc_timeout(NAP))?,
            false => port.alloc()?,
        };
        let id = id_of(me, index);
        let words = plan.words(id);
        let bytes = block.grow(words as usize * 8)?;
        for (at, word) in (0..).zip(bytes.chunks_exact_mut(8)) {
            word.copy_from_slice(&plan.word(1, id, at).to_le_bytes());
        }
        let mut info = BlockInfo::default();
        info.user[0] = id;
        info.offset = index;
        block.set_info(info);
        progress.begin_send();
        port.send(block)?;
        progress.end_send();
    }
}

fn middle(port: MiddlePort, plan: &Plan, stage: u32) -> Outcome {
    let mut last = None;
    loop {
        let input = match plan.timeouts {
            true => patiently(|| Ok(port.receive_timeout(NAP)?.ok()))?,
            false => port.receive()?,
        };
        let Some(input) = input else { return Ok(port.finish()?) };
        let before = last.replace(input.number());
        ensure!(before < last, "number {last:?} comes behind {before:?}");
        if input.is_vacant() {
            port.forward(input)?;
            continue;
        }
        match plan.deed(stage, input.info().user[0]) {
            Deed::Discard => port.discard(input)?,
            Deed::Forward => port.forward(input)?,
            Deed::Copy => {
                let mut output = match plan.timeouts {
                    true => patiently(|| port.alloc_timeout(NAP))?,
                    false => port.alloc()?,
                };
                let (from, to) = (input.bytes(), output.grow(input.len())?);
                for (from, to) in from.chunks_exact(8).zip(to.chunks_exact_mut(8)) {
                    let word = transform(stage, u64::from_le_bytes(from.try_into()?));
                    to.copy_from_slice(&word.to_le_bytes());
                }
                output.set_info(input.info());
                port.send(output, &input)?;
            }
        }
    }
}

fn tail(port: TailPort, plan: &Plan, books: &Books, me: usize) -> Outcome {
    let mut last = None;
    loop {
        let input = match plan.timeouts {
            true => patiently(|| Ok(port.receive_timeout(NAP)?.ok()))?,
            false => port.receive()?,
        };
        let Some(input) = input else { return Ok(port.finish()?) };
        let number = input.number();
        let before = last.replace(number);
        ensure!(before < last, "number {number} comes behind {before:?}");
        let tag = FIRST_ID + identify(plan, books, &input)?;
        let seen = |number: u64| usize::try_from(number).ok().and_then(|number| books.seen.get(number));
        let place = seen(number).ok_or_else(|| format!("number {number} is beyond all that was sent"))?;
        let TailBook { arrived, again } = &books.tails[me];
        match place.load(Ordering::Acquire) {
            UNSEEN => {
                let gap = plan.tails() == 1
                    && number
                        .checked_sub(1)
                        .and_then(seen)
                        .is_some_and(|before| before.load(Ordering::Acquire) == UNSEEN);
                ensure!(!gap, "number {number} comes before the one before it");
                place.store(tag, Ordering::Release);
                arrived.store(arrived.load(Ordering::Acquire) + 1, Ordering::Release);
            }
            // A predecessor wrote it down, and died before it freed it.
            seen if seen == tag => again.store(again.load(Ordering::Acquire) + 1, Ordering::Release),
            seen => return Err(format!("number {number} was {seen:#x}, and is {tag:#x} now").into()),
        }
    }
}

/// The block's identity, if its content is what it should be.
fn identify(plan: &Plan, books: &Books, input: &Block) -> Outcome<u64> {
    let info = input.info();
    let id = info.user[0];
    let (head, index) = of_id(id);
    let progress = books.heads.get(head).ok_or_else(|| format!("no head sent {id:#x}"))?;
    ensure!(index == info.offset && index <= progress.sent(), "no head has sent {id:#x} so far");
    ensure!(plan.is_discarded(id) == input.is_vacant(), "{id:#x} should be discarded, or should not");
    let (have, want) = (input.len() as u64, if input.is_vacant() { 0 } else { plan.words(id) * 8 });
    ensure!(have == want, "{id:#x} has {have} bytes instead of {want}");
    for (at, word) in (0..).zip(input.bytes().chunks_exact(8)) {
        let (word, want) = (u64::from_le_bytes(word.try_into()?), plan.word(plan.tail(), id, at));
        ensure!(word == want, "{id:#x} is CORRUPT: word {at} is {word:#x} instead of {want:#x}");
    }
    Ok(id)
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Waits in many small steps.
fn patiently<T>(mut attempt: impl FnMut() -> Result<Option<T>, PortError>) -> Result<T, PortError> {
    loop {
        if let Some(got) = attempt()? {
            return Ok(got);
        }
    }
}

/// What the processes write down outside of the segment, so that it survives them.
#[repr(C)]
struct Books {
    /// 1: the heads come to their end.
    end: AtomicU64,
    heads: [Progress; 4],
    tails: [TailBook; 2],
    /// What arrived, by number.
    seen: [AtomicU64; 1 << 18],
}

const UNSEEN: u64 = 0;
const FIRST_ID: u64 = 1;

impl Books {
    fn arrived(&self) -> u64 {
        self.tails.iter().map(|tail| tail.arrived.load(Ordering::Acquire)).sum()
    }
}

/// Written by one tail alone.
#[repr(C)]
struct TailBook {
    arrived: AtomicU64,
    again: AtomicU64,
}

/// Twice the number of blocks that a head has sent, plus 1 while it sends one more. Written by that head, and by the
/// parent after its death.
#[repr(C)]
struct Progress(AtomicU64);

impl Progress {
    fn sent(&self) -> u64 {
        self.0.load(Ordering::Acquire) / 2
    }

    fn begin_send(&self) {
        self.0.store(self.sent() * 2 + 1, Ordering::Release);
    }

    fn end_send(&self) {
        self.0.store(self.sent() * 2 + 2, Ordering::Release);
    }

    /// The head died. If it was about to send, what it held says whether it had: it never has two blocks at once.
    fn settle(&self, loans: u32) -> Outcome {
        if self.0.load(Ordering::Acquire).is_multiple_of(2) {
            return Ok(());
        }
        match loans {
            0 => self.end_send(),
            1 => self.0.store(self.sent() * 2, Ordering::Release),
            _ => return Err(format!("a head held {loans} loans").into()),
        }
        Ok(())
    }
}

/// A `T` of zeros in memory of its own, that forked processes share.
struct Shared<T>(NonNull<T>);

impl Shared<Books> {
    fn new() -> io::Result<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel chooses the address, so nothing that is mapped is replaced.
        let address = unsafe { mmap_anonymous(ptr::null_mut(), size_of::<Books>(), access, flags) }?;
        NonNull::new(address.cast()).map(Self).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is page-aligned, as long as a `T`, and lives as long as `self`; `Books` are the only
        // `T` there is, made of atomic words for which zeros are valid, and only ever shared.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: it is our own mapping, and nobody borrows from it any more.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), size_of::<T>()) };
    }
}

/// Runs `body` in a process of its own.
fn fork(body: impl FnOnce() -> Outcome) -> Outcome<Process> {
    let parent = rustix::process::getpid();
    // SAFETY: this process has one thread, so whatever the child finds locked or half done, nobody was at it.
    let id = unsafe { libc::fork() };
    if id == 0 {
        let code = in_child(parent, body);
        // SAFETY: leaves at once: what was copied from the parent is neither dropped nor flushed a second time.
        unsafe { libc::_exit(code) }
    }
    let id = u32::try_from(id).map_err(|_| io::Error::last_os_error())?;
    // It cannot be gone: a child stays until we wait for it.
    Ok(Process::watch(id)?)
}

/// The clock that counts the time in which the calling process runs its own instructions, and not the kernel's: the
/// number that clock_getcpuclockid(3) would give it.
const USER_TIME: libc::clockid_t = !0 << 3 | 1;

/// Kills this process once it has worked for that long: so it dies at work, between two of its instructions.
fn die_after(life: Duration) -> io::Result<()> {
    // SAFETY: it is plain data, for which zeros are valid.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    let mut timer = ptr::null_mut();
    // SAFETY: both pointers are to variables that live as long as the call.
    let created = unsafe { libc::timer_create(USER_TIME, &raw mut event, &raw mut timer) };
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let at = libc::timespec { tv_sec: 0, tv_nsec: life.subsec_nanos().into() };
    let once = libc::itimerspec { it_interval: never, it_value: at };
    // SAFETY: the timer was just made, and the old setting is not asked for.
    if created == 0 && unsafe { libc::timer_settime(timer, 0, &raw const once, ptr::null_mut()) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

fn in_child(parent: Pid, body: impl FnOnce() -> Outcome) -> i32 {
    // However this test ends, its processes end with it.
    let follows = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if follows.is_err() || rustix::process::getppid() != Some(parent) {
        return 1;
    }
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(story)) => {
            let _ = writeln!(io::stderr(), "kills: process {}: {story}", std::process::id());
            1
        }
        Err(_) => 101,
    }
}

fn pid(process: &Process) -> Pid {
    i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("the id of a process")
}

/// How the kernel describes a process.
fn about(process: &Process, file: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/{file}", process.id())).unwrap_or_default();
    text.trim().into()
}

/// R for one that runs or could, S for one that sleeps, T for one that was stopped, Z for one that is dead.
fn state(process: &Process) -> char {
    about(process, "stat").rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
}

fn reap(pid: Pid) -> Outcome<WaitStatus> {
    let (_, status) =
        rustix::process::waitpid(Some(pid), WaitOptions::empty())?.ok_or("nobody to wait for")?;
    Ok(status)
}

/// Runs this process, and all that it forks, on one processor. Returns where it was allowed to run before.
fn one_processor() -> io::Result<CpuSet> {
    let everywhere = sched_getaffinity(None)?;
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here)?;
    Ok(everywhere)
}

fn open_descriptors() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// Named segments of this process. Other tests may have some of their own.
fn names_left() -> io::Result<Vec<String>> {
    let ours = format!(".{}.", std::process::id());
    let names = fs::read_dir("/dev/shm")?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: io::Result<Vec<String>> = names.collect();
    Ok(names?.into_iter().filter(|name| name.starts_with("datapipe-") && name.contains(&ours)).collect())
}

/// Choices that a seed gives again: Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Scatters the bits of a number: the last step of splitmix64.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
