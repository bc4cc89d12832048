//! One pipe, an incident in one of its processes, and the check of the outcome.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datapipe::memory::{Backing, Process, Segment};
use datapipe::prelude::*;
use datapipe::testkit::Random;
use datapipe::{NotReplaced, StageFailure};
use rustix::process::{Pid, Signal, kill_process};

use crate::chains::{CHAINS, Chain, Victim};
use crate::orders::{Orders, temporary_files};
use crate::stages::{BLOCKS, Seen};
use crate::watch::{belongings, children, wait_until};

/// Time after which a pipe counts as hanging.
const HANGS: Duration = Duration::from_secs(60);

/// Incident that happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It kills itself at the point.
    Kill,
    /// It stops itself there; the test inspects what it holds, and kills it.
    Stop,
    /// It stops itself there; the test inspects it, and continues it.
    Resume,
    /// The test kills any process of the pipe after some microseconds: the pass is the time.
    Whenever,
}

const DEEDS: [(Deed, &str); 4] = [
    (Deed::Kill, "kill"),
    (Deed::Stop, "stop"),
    (Deed::Resume, "resume"),
    (Deed::Whenever, "whenever"),
];

/// Plan of one pipe and its incidents.
#[derive(Clone)]
pub(crate) struct Round {
    pub(crate) chain: &'static Chain,
    pub(crate) stage: &'static Victim,
    pub(crate) instance: u32,
    pub(crate) deed: Deed,
    /// Point and pass of the incident in the first process of the instance, in its replacement, and
    /// so on.
    pub(crate) points: Vec<(String, u64)>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            chain,
            stage,
            instance,
            deed,
            points,
        } = self;
        let deed = DEEDS
            .iter()
            .find(|(this, _)| this == deed)
            .map_or("", |(_, name)| name);
        write!(f, "{} {}.{instance} {deed}", chain.name, stage.name)?;
        points
            .iter()
            .try_for_each(|(label, pass)| write!(f, " {label}:{pass}"))
    }
}

impl Round {
    /// Parses the text that [`Round`] displays.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (chain, seat, deed) = (words.next()?, words.next()?, words.next()?);
        let (stage, instance) = seat.split_once('.')?;
        let chain = CHAINS.iter().find(|this| this.name == chain)?;
        let point = |word: &str| {
            let (label, pass) = word.split_once(':')?;
            Some((label.to_owned(), pass.parse().ok()?))
        };
        Some(Self {
            chain,
            stage: chain.victim(stage)?,
            instance: instance.parse().ok()?,
            deed: DEEDS.iter().find(|(_, name)| *name == deed)?.0,
            points: words
                .map(point)
                .collect::<Option<Vec<_>>>()
                .filter(|points| !points.is_empty())?,
        })
    }
}

/// Outcome of a round.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Processes that were killed.
    pub(crate) killed: u32,
    /// Processes that stopped, and continued.
    pub(crate) resumed: u32,
    /// Processes that were found stopped exactly at their point.
    pub(crate) looked_at: u32,
    /// True if the pipe failed and named the death.
    pub(crate) failed: bool,
    /// Blocks that reached the tail.
    pub(crate) blocks: u64,
}

impl Round {
    /// Runs the pipe and its incidents, and checks the result and what is left.
    pub(crate) fn run(&self) -> Outcome {
        let before = belongings();
        let seen = Arc::new(Seen::default());
        let orders = self.give_orders();
        let backing = if self.points[0].1.is_multiple_of(2) {
            Backing::Named
        } else {
            Backing::Anonymous
        };
        let pipe = self.chain.pipe(&seen, backing).start().unwrap();
        let segment = pipe.segment().clone();
        let (mut looked_at, mut sent) = (0, 0);
        match self.deed {
            Deed::Kill => {}
            Deed::Stop | Deed::Resume => {
                let nths = 1..=self.points.len() as u32;
                looked_at = nths
                    .take_while(|&nth| self.inspect(&pipe, &orders, nth))
                    .count() as u32;
            }
            Deed::Whenever => sent = self.strike(),
        }
        self.wait_for_end(&pipe);
        let result = pipe.wait();
        let reached = orders.carried_out();
        let (killed, resumed) = if self.deed == Deed::Resume {
            (sent, reached)
        } else {
            (sent + reached, 0)
        };
        let failed = match result {
            Ok(_) => self.check_whole(&segment, &seen, killed),
            Err(Error::Stage(failure)) => self.check_failure(&failure, killed),
            Err(error) => panic!("{self}: {error}"),
        };
        self.check_nothing_held(&segment);
        drop((segment, orders));
        wait_until(&format!("nothing is left of {self}"), || {
            belongings() == before
        });
        assert_eq!(temporary_files(), 0, "{self}: a temporary file is left");
        Outcome {
            killed,
            resumed,
            looked_at,
            failed,
            blocks: seen.blocks(),
        }
    }

    /// Gives the processes their orders: one for each point, none if they are killed at any time.
    fn give_orders(&self) -> Orders {
        let signal = if self.deed == Deed::Kill {
            "kill"
        } else {
            "stop"
        };
        let at_points = self.points.iter().filter(|_| self.deed != Deed::Whenever);
        let texts = at_points.map(|(label, pass)| format!("{label} {pass} {signal}"));
        Orders::give(format!("{}.{}", self.stage.name, self.instance), texts)
    }

    /// Asserts that no instance holds a buffer, and that the audit agrees.
    fn check_nothing_held(&self, segment: &Segment) {
        for instance in Status::of(segment)
            .stages
            .iter()
            .flat_map(|stage| &stage.instances)
        {
            assert_eq!(instance.held, 0, "{self}: a buffer is lost");
        }
        segment
            .audit()
            .unwrap_or_else(|finding| panic!("{self}: {finding}"));
    }

    /// Checks a result: it must be complete. Returns false, because the pipe did not fail.
    fn check_whole(&self, segment: &Segment, seen: &Seen, killed: u32) -> bool {
        let expected = (0..BLOCKS)
            .filter(|&number| !(self.chain.dropped)(number))
            .count() as u64;
        assert_eq!(
            (seen.blocks(), seen.end()),
            (expected, true),
            "{self}: a result, but not whole"
        );
        assert_eq!(
            segment.free_buffers(),
            segment.shape().buffers(),
            "{self}: a buffer is lost"
        );
        assert!(
            killed == 0 || self.stage.irreplaceable.is_none(),
            "{self}: a process died that nothing can replace"
        );
        false
    }

    /// Checks an error: it must name the stage and a death that is not replaced. Returns true,
    /// because the pipe failed.
    fn check_failure(&self, failure: &StageFailure, killed: u32) -> bool {
        let Some(death) = failure.error.death() else {
            panic!("{self}: {failure}")
        };
        assert_eq!(failure.stage, self.stage.name, "{self}: {failure}");
        assert!(
            failure.to_string().contains(&death.process.to_string()),
            "{self}: {failure}"
        );
        let right = match (death.reason, self.stage.irreplaceable) {
            (reason, Some(expected)) => reason == expected && killed == 1,
            (NotReplaced::PoisonBlock(number), None) => killed >= 2 && number < BLOCKS,
            (NotReplaced::Fruitless(deaths), None) => killed >= deaths,
            _ => false,
        };
        assert!(right, "{self}: {killed} were killed, and {failure}");
        true
    }

    /// Waits until the process with the `nth` order has stopped, inspects it, and kills or
    /// continues it. Returns false if the pipe ended before.
    fn inspect(&self, pipe: &Pipe, orders: &Orders, nth: u32) -> bool {
        let start = Instant::now();
        let process = loop {
            if let Some(process) = orders.reached(nth) {
                break process;
            }
            if pipe.status_every(Duration::from_micros(500)).is_none() {
                return false;
            }
            assert!(start.elapsed() < HANGS, "{self}: hangs\n{}", pipe.status());
        };
        wait_until(&format!("{self}: it has stopped"), || {
            state(process) == Some('T')
        });
        // While it is stopped, all other participants come to rest, and the audit must agree.
        wait_until(&format!("{self}: the audit agrees"), || {
            pipe.segment().audit().is_ok()
        });
        let status = pipe.status();
        let stage = status
            .stages
            .iter()
            .find(|stage| stage.name == self.stage.name)
            .unwrap();
        let held = stage.instances[self.instance as usize].held;
        let right = self.held_at_the_point();
        assert!(
            nth > 1 || right.contains(&held),
            "{self}: it holds {held} buffers, not {right:?}\n{status}"
        );
        assert_eq!(state(process), Some('T'), "{self}: it is still stopped");
        if self.deed == Deed::Stop {
            Process::watch(process).unwrap().kill().unwrap();
        } else {
            let pid = i32::try_from(process).ok().and_then(Pid::from_raw).unwrap();
            kill_process(pid, Signal::CONT).unwrap();
        }
        true
    }

    /// Number of buffers that the first process of an instance holds at the point. It holds an
    /// input or an output from the point where it claims it to the point where the ledger records
    /// that it was sent or freed.
    fn held_at_the_point(&self) -> std::ops::RangeInclusive<u32> {
        let most = self.stage.works_with;
        if self.stage.irreplaceable == Some(NotReplaced::Together) {
            return 0..=most; // another of its threads may have come there
        }
        match self.points[0].0.as_str() {
            "take.intent" => 0..=most - 1,
            // A participant that comes too late to claim a buffer still empties its slot and moves
            // on.
            "take.claimed" | "take.emptied" | "take.moved" => 0..=most,
            "number.stored" | "send.numbered" | "send.bound" => 1..=most,
            "alloc.taken" => most..=most,
            "receive.numbered" | "receive.counted" | "free.bound" => 1..=1,
            "pass.emptied" | "pass.notified" => 1..=1, // the input
            "put.filled" | "put.moved" | "send.sent" | "send.notified" | "send.counted" => {
                0..=most - 1
            }
            "wake.moved" | "wait.marked" | "wait.noted" | "wait.woken" => 0..=most - 1,
            _ => 0..=0,
        }
    }

    /// Kills a process of the pipe after the time of the round. Returns the number of kills.
    fn strike(&self) -> u32 {
        std::thread::sleep(Duration::from_micros(self.points[0].1));
        let children = children();
        if children.is_empty() {
            return 0;
        }
        let victim = children[Random::new(self.points[0].1).below(children.len() as u64) as usize];
        // The process may have ended meanwhile.
        Process::watch(victim)
            .is_ok_and(|process| process.kill().is_ok())
            .into()
    }

    fn wait_for_end(&self, pipe: &Pipe) {
        let start = Instant::now();
        while let Some(status) = pipe.status_every(Duration::from_millis(500)) {
            let hangs = start.elapsed() >= HANGS;
            assert!(
                !hangs,
                "{self}: hangs\n{status}\n{:?}",
                pipe.segment().audit()
            );
        }
    }
}

/// Returns the state letter of a process, `T` if it is stopped, or nothing if it is gone.
pub(crate) fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}
