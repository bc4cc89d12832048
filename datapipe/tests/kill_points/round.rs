//! One pipe, what happens to one of its processes, and whether the pipe got over it.

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

/// No pipe of these takes longer, unless it hangs.
const HANGS: Duration = Duration::from_secs(60);

/// How a process gets into trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It kills itself at the point.
    Kill,
    /// It stops itself there, we look at what it holds, and kill it.
    Stop,
    /// It stops itself there, we look, and let it go on.
    Resume,
    /// Whichever process it is, we kill it after so many microseconds: the pass is the time.
    Whenever,
}

const DEEDS: [(Deed, &str); 4] = [
    (Deed::Kill, "kill"),
    (Deed::Stop, "stop"),
    (Deed::Resume, "resume"),
    (Deed::Whenever, "whenever"),
];

/// What is to happen in one pipe.
#[derive(Clone)]
pub(crate) struct Round {
    pub(crate) chain: &'static Chain,
    pub(crate) stage: &'static Victim,
    pub(crate) instance: u32,
    pub(crate) deed: Deed,
    /// At which pass of which point it happens to the first process of the instance, to its
    /// replacement, and so on.
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
    /// Reads what [`Round`] displays.
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

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Processes that were killed.
    pub(crate) killed: u32,
    /// Processes that stopped, and went on.
    pub(crate) resumed: u32,
    /// Processes that were found stopped exactly where they were to stop.
    pub(crate) looked_at: u32,
    /// Whether the pipe failed, and said so.
    pub(crate) failed: bool,
    /// Blocks that reached the tail.
    pub(crate) blocks: u64,
}

impl Round {
    /// Runs the pipe, and panics if anything is wrong with what comes of it.
    pub(crate) fn run(&self) -> Outcome {
        let before = belongings();
        let seen = Arc::new(Seen::default());
        let signal = if self.deed == Deed::Kill {
            "kill"
        } else {
            "stop"
        };
        let at_points = self.points.iter().filter(|_| self.deed != Deed::Whenever);
        let texts = at_points.map(|(label, pass)| format!("{label} {pass} {signal}"));
        let orders = Orders::lay_down(format!("{}.{}", self.stage.name, self.instance), texts);
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
                    .take_while(|&nth| self.look(&pipe, &orders, nth))
                    .count() as u32;
            }
            Deed::Whenever => sent = self.strike(),
        }
        self.wait_for_end(&pipe);
        let result = pipe.wait();
        let reached = orders.carried_out();
        let killed = sent
            + if self.deed == Deed::Resume {
                0
            } else {
                reached
            };
        let failed = match result {
            Ok(_) => self.check_whole(&segment, &seen, killed),
            Err(Error::Stage(failure)) => self.check_failure(&failure, killed),
            Err(error) => panic!("{self}: {error}"),
        };
        for instance in Status::of(&segment)
            .stages
            .iter()
            .flat_map(|stage| &stage.instances)
        {
            assert_eq!(instance.held, 0, "{self}: a buffer is lost");
        }
        segment
            .audit()
            .unwrap_or_else(|finding| panic!("{self}: {finding}"));
        drop((segment, orders));
        wait_until(&format!("nothing is left of {self}"), || {
            belongings() == before
        });
        assert_eq!(temporary_files(), 0, "{self}: a temporary file is left");
        let resumed = if self.deed == Deed::Resume {
            reached
        } else {
            0
        };
        Outcome {
            killed,
            resumed,
            looked_at,
            failed,
            blocks: seen.blocks(),
        }
    }

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
            (NotReplaced::DeadlyBlock(number), None) => killed >= 2 && number < BLOCKS,
            (NotReplaced::Fruitless(deaths), None) => killed >= deaths,
            _ => false,
        };
        assert!(right, "{self}: {killed} were killed, and {failure}");
        true
    }

    /// Waits until the process with the `nth` order has stopped, looks at it, and kills it or lets
    /// it go on.
    fn look(&self, pipe: &Pipe, orders: &Orders, nth: u32) -> bool {
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
        // While it stands there, everybody else comes to a state in which nothing contradicts
        // anything.
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
        assert_eq!(state(process), Some('T'), "{self}: it stands still");
        if self.deed == Deed::Stop {
            Process::watch(process).unwrap().kill().unwrap();
        } else {
            let pid = i32::try_from(process).ok().and_then(Pid::from_raw).unwrap();
            kill_process(pid, Signal::CONT).unwrap();
        }
        true
    }

    /// Buffers that the first process of an instance holds at the point. It holds an input from
    /// where it claims it, an output likewise, and neither from where the ledger says that it was
    /// sent or freed.
    fn held_at_the_point(&self) -> std::ops::RangeInclusive<u32> {
        let most = self.stage.works_with;
        if self.stage.irreplaceable == Some(NotReplaced::Together) {
            return 0..=most; // it may be another of its threads that came there
        }
        match self.points[0].0.as_str() {
            "take.intent" => 0..=most - 1,
            // Who comes too late to claim a buffer empties its slot, and moves on, all the same.
            "take.claimed" | "take.emptied" | "take.moved" => 0..=most,
            "number.stored" | "send.numbered" | "send.bound" => 1..=most,
            "alloc.taken" => most..=most,
            "receive.numbered" | "receive.counted" | "free.bound" => 1..=1,
            "put.filled" | "put.moved" | "send.sent" | "send.notified" | "send.counted" => {
                0..=most - 1
            }
            "wake.moved" | "wait.marked" | "wait.noted" | "wait.woken" => 0..=most - 1,
            _ => 0..=0,
        }
    }

    /// Kills some process of the pipe at some time.
    fn strike(&self) -> u32 {
        std::thread::sleep(Duration::from_micros(self.points[0].1));
        let children = children();
        if children.is_empty() {
            return 0;
        }
        let victim = children[Random::new(self.points[0].1).below(children.len() as u64) as usize];
        // It may have ended meanwhile.
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

/// T for a process that was stopped; nothing for one that is gone.
pub(crate) fn state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}
