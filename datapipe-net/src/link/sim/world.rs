//! Both machines, their parents, pools, head and tail, and the order of events.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::super::connections::{Action, LinkSettings};
use super::super::receiver::Receiver;
use super::super::sender::Sender;
use super::super::violation::LinkError;
use super::super::wrong::Wrong;
use super::network::Wire;
use super::plan::{Fault, MS, Plan, SECOND, Side, US};
use super::random::Random;

/// Time without progress after which a run hangs.
const HANG: u64 = 400 * SECOND;
/// Events after which a run is taken for one that turns in a circle.
const MOST_EVENTS: u64 = 300_000;
/// Bytes that the data of a block may have.
pub(super) const MOST: u32 = 64;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Fault(usize),
    Dial {
        index: u16,
        incarnation: u64,
    },
    Accept {
        wire: usize,
        incarnation: u64,
    },
    Arrive {
        wire: usize,
        to_a: bool,
    },
    Written {
        wire: usize,
        by_a: bool,
    },
    Gone {
        wire: usize,
        at_a: bool,
    },
    ParentA,
    ParentB,
    Head,
    Tail,
    Restart {
        a: bool,
    },
    /// A run that does not end because of a dishonest peer is stopped.
    GiveUp,
}

/// Outcome of a run on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) sender: Option<Result<(), LinkError>>,
    pub(super) receiver: Option<Result<(), LinkError>>,
    pub(super) output: u64,
    pub(super) events: u64,
    pub(super) lost: u64,
    pub(super) held_up: u64,
    /// True if the run had to end whole.
    pub(super) had_to: bool,
}

/// A failure of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wreck {
    Hang(String),
    Ending(String),
}

/// A run.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) plan: Plan,
    pub(super) wrong: Wrong,
    pub(super) now: u64,
    pub(super) events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pub(super) sequence: u64,
    pub(super) wires: Vec<Wire>,
    pub(super) sender: Option<Sender>,
    pub(super) receiver: Option<Receiver>,
    pub(super) incarnations: [u64; 2],
    pub(super) endings: [Option<Result<(), LinkError>>; 2],
    pub(super) parents: [bool; 2],
    pub(super) lying: bool,
    /// Pool of the sending half: free buffers, blocks in its parent's queue, numbers of blocks that
    /// the parent has taken and freed.
    pub(super) free_a: u64,
    pub(super) queued: u64,
    pub(super) made: u64,
    pub(super) taken: u64,
    pub(super) freed: u64,
    /// Pool of the receiving half: free buffers, blocks in the tail's queue, blocks that it keeps.
    pub(super) free_b: u64,
    pub(super) downstream: VecDeque<u64>,
    pub(super) kept: u64,
    pub(super) sent_on: u64,
    pub(super) output: u64,
    pub(super) complete: bool,
    pub(super) starved: bool,
    /// Cuts: until when each path carries nothing to A, and to B.
    pub(super) cuts: Vec<[u64; 2]>,
    pub(super) moved_at: u64,
    pub(super) lost: u64,
    pub(super) held_up: u64,
}

impl World {
    pub(super) fn new(seed: u64, wrong: Wrong) -> Self {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let plan = Plan::new(&mut random);
        Self::with_plan(random, plan, wrong)
    }

    pub(super) fn with_plan(random: Random, plan: Plan, wrong: Wrong) -> Self {
        let mut world = Self {
            random,
            wrong,
            now: 0,
            events: BinaryHeap::new(),
            sequence: 0,
            wires: Vec::new(),
            sender: None,
            receiver: None,
            incarnations: [0; 2],
            endings: [None, None],
            parents: [false; 2],
            lying: false,
            free_a: plan.pool_a,
            queued: 0,
            made: 0,
            taken: 0,
            freed: 0,
            free_b: plan.pool_b,
            downstream: VecDeque::new(),
            kept: 0,
            sent_on: 0,
            output: 0,
            complete: false,
            starved: false,
            cuts: vec![[0; 2]; plan.paths.len()],
            moved_at: 0,
            lost: 0,
            held_up: 0,
            plan,
        };
        for (at, _) in world.plan.faults.clone() {
            let index = world.events.len();
            world.at(at, Event::Fault(index));
        }
        world.at(0, Event::Restart { a: true });
        world.at(0, Event::Restart { a: false });
        world.at(0, Event::Head);
        world.at(0, Event::Tail);
        if world.plan.liar.is_some() {
            world.at(120 * SECOND, Event::GiveUp);
        }
        world
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    pub(super) fn soon(&mut self, most: u64, event: Event) {
        let time = self.now + self.random.below(most);
        self.at(time, event);
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Result<Ending, Wreck> {
        let mut count = 0;
        while self.endings.iter().any(Option::is_none) {
            let timers = [
                self.sender.as_ref().map_or(u64::MAX, Sender::timeout),
                self.receiver.as_ref().map_or(u64::MAX, Receiver::timeout),
            ];
            let timer = timers[0].min(timers[1]);
            let event = self.events.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            count += 1;
            let next = timer.min(event);
            if next == u64::MAX || next > self.moved_at + HANG || count > MOST_EVENTS {
                return Err(Wreck::Hang(self.describe(count)));
            }
            self.now = self.now.max(next);
            if timer < event {
                if timers[0] == timer
                    && let Some(sender) = &mut self.sender
                {
                    sender.tick(self.now);
                } else if let Some(receiver) = &mut self.receiver {
                    receiver.tick(self.now);
                }
            } else if let Some(Reverse((_, _, event))) = self.events.pop() {
                self.happen(event);
            }
            self.settle();
            self.check();
        }
        self.finish(count)
    }

    fn describe(&self, count: u64) -> String {
        format!(
            "{count} events, {} s: {} of {} blocks made, {} taken, {} freed, {} sent on, {} \
             written",
            self.now / SECOND,
            self.made,
            self.plan.blocks,
            self.taken,
            self.freed,
            self.sent_on,
            self.output
        )
    }

    /// Judges the end of a run: whole, or failed with a reason on both sides.
    fn finish(mut self, events: u64) -> Result<Ending, Wreck> {
        let [sender, receiver] = self.endings.clone();
        let ending = Ending {
            sender,
            receiver,
            output: self.output,
            events,
            lost: self.lost,
            held_up: self.held_up,
            had_to: !self.plan.may_fail,
        };
        // A sender that is replaced after the receiver has learned of its success asks over the
        // control connection how the pipe ended.
        let late =
            self.incarnations[0] > 1 && matches!(ending.sender, Some(Err(LinkError::Refused(_))));
        let whole = (ending.sender == Some(Ok(())) || late) && ending.receiver == Some(Ok(()));
        let describe = format!("{ending:?}, {}", self.describe(events));
        if !self.plan.may_fail && !whole {
            return Err(Wreck::Ending(describe));
        }
        let is_violation = |side: &Option<_>| matches!(side, Some(Err(LinkError::Violation(_))));
        if self.plan.liar.is_none()
            && (is_violation(&ending.sender) || is_violation(&ending.receiver))
        {
            return Err(Wreck::Ending(describe));
        }
        // A connection that is slower than others, and a tail or head that is, are not given up.
        let equal = self
            .plan
            .paths
            .iter()
            .all(|path| path.block_time <= 200 * MS);
        if self.plan.faults.is_empty() && equal && ending.lost > 0 {
            return Err(Wreck::Ending(describe));
        }
        // Success of the sender means that everything was sent on there, by an honest receiver.
        let complete = self.complete && self.sent_on == self.plan.blocks;
        if ending.sender == Some(Ok(())) && self.plan.liar != Some(Side::B) && !complete {
            return Err(Wreck::Ending(describe));
        }
        if ending.receiver == Some(Ok(())) && self.plan.liar != Some(Side::A) && !complete {
            return Err(Wreck::Ending(describe));
        }
        // The tail writes what it was given.
        while let Some(number) = self.downstream.pop_front() {
            self.write(number);
        }
        if self.output != self.sent_on {
            return Err(Wreck::Ending(describe));
        }
        Ok(ending)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Fault(index) => self.fault(self.plan.faults[index].1),
            Event::Dial { index, incarnation } => self.dial(index, incarnation),
            Event::Accept { wire, incarnation } => self.accept(wire, incarnation),
            Event::Arrive { wire, to_a: true } => self.arrive(wire, Side::A),
            Event::Arrive { wire, to_a: false } => self.arrive(wire, Side::B),
            Event::Written { wire, by_a } => {
                self.wires[wire].end(side(by_a)).busy = false;
            }
            Event::Gone { wire, at_a } => self.gone(wire, side(at_a)),
            Event::ParentA => self.parent_a(),
            Event::ParentB => self.parent_b(),
            Event::Head => {
                if self.made < self.plan.blocks && self.free_a > 0 {
                    self.free_a -= 1;
                    self.queued += 1;
                    self.made += 1;
                    self.moved_at = self.now;
                    self.wake_parent(Side::A);
                    let time = self.now + self.random.below(self.plan.head_time + US);
                    self.at(time, Event::Head);
                }
            }
            Event::Tail => {
                if let Some(number) = self.downstream.pop_front() {
                    self.write(number);
                    let time = self.now + self.random.below(self.plan.tail_time + US);
                    self.at(time, Event::Tail);
                }
            }
            Event::Restart { a: true } => self.start_a(),
            Event::Restart { a: false } => self.start_b(),
            Event::GiveUp => {
                self.fault(Fault::Stop(Side::A));
                self.fault(Fault::Stop(Side::B));
            }
        }
    }

    /// The tail writes a block, and frees what it keeps when it has enough.
    fn write(&mut self, number: u64) {
        assert_eq!(
            number, self.output,
            "the blocks are written once and in order"
        );
        self.output += 1;
        self.kept += 1;
        self.moved_at = self.now;
        if self.kept >= self.plan.gather || self.complete && self.downstream.is_empty() {
            self.free_b += std::mem::take(&mut self.kept);
            self.wake_parent(Side::B);
        }
    }

    fn settings(&mut self, side: Side) -> LinkSettings {
        let incarnation = &mut self.incarnations[side as usize];
        *incarnation += 1;
        let (connections, seed) = (self.plan.paths.len() as u16, self.random.word());
        let mut settings = LinkSettings::new(connections, *incarnation, seed);
        settings.wrong = self.wrong;
        settings
    }

    fn start_a(&mut self) {
        if self.endings[0].is_none() && self.sender.is_none() {
            let settings = self.settings(Side::A);
            self.sender = Some(Sender::new(self.now, settings, self.freed, self.taken));
            self.wake_parent(Side::A);
        }
    }

    fn start_b(&mut self) {
        if self.endings[1].is_none() && self.receiver.is_none() {
            let settings = self.settings(Side::B);
            self.receiver = Some(Receiver::new(
                self.now,
                settings,
                self.sent_on,
                self.complete,
                MOST,
            ));
            self.wake_parent(Side::B);
        }
    }

    pub(super) fn wake_parent(&mut self, side: Side) {
        if !std::mem::replace(&mut self.parents[side as usize], true) {
            let event = if side == Side::A {
                Event::ParentA
            } else {
                Event::ParentB
            };
            self.soon(self.plan.parent_time, event);
        }
    }

    /// The sending parent's loop: one step.
    fn parent_a(&mut self) {
        self.parents[0] = false;
        let Some(sender) = &mut self.sender else {
            return;
        };
        if self.queued > 0 && sender.wants() {
            assert_eq!(sender.block(), self.taken);
            self.queued -= 1;
            self.taken += 1;
            self.moved_at = self.now;
            self.wake_parent(Side::A);
        } else if self.queued == 0 && self.made == self.plan.blocks {
            sender.end(self.now);
        }
    }

    /// The receiving parent's loop: one step.
    fn parent_b(&mut self) {
        self.parents[1] = false;
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        if receiver.ready() {
            assert_eq!(receiver.next(), self.sent_on);
            self.downstream.push_back(self.sent_on);
            self.sent_on += 1;
            receiver.sent_on();
            receiver.saved(self.output);
            self.moved_at = self.now;
            self.soon(self.plan.tail_time + US, Event::Tail);
            self.wake_parent(Side::B);
        } else if receiver.is_complete() && !self.complete {
            self.complete = true;
            self.moved_at = self.now;
            if self.downstream.is_empty() {
                self.free_b += std::mem::take(&mut self.kept);
            }
            self.wake_parent(Side::B);
        } else if receiver.is_complete() {
            receiver.completed(self.now);
        } else if receiver.wants_buffer() {
            if self.free_b > 0 {
                self.free_b -= 1;
                receiver.stocked(std::mem::take(&mut self.starved));
                self.wake_parent(Side::B);
            } else {
                self.starved = true;
            }
        }
    }

    /// Carries out actions and gives writers work until nothing more is to be done.
    fn settle(&mut self) {
        loop {
            let from_a = self
                .sender
                .as_mut()
                .map(Sender::take_actions)
                .unwrap_or_default();
            let from_b = self
                .receiver
                .as_mut()
                .map(Receiver::take_actions)
                .unwrap_or_default();
            let mut changed = !from_a.is_empty() || !from_b.is_empty();
            for action in from_a {
                self.act(Side::A, action);
            }
            for action in from_b {
                self.act(Side::B, action);
            }
            for wire in 0..self.wires.len() {
                changed |= self.offer_work(wire, Side::A) | self.offer_work(wire, Side::B);
            }
            if !changed {
                return;
            }
        }
    }

    fn act(&mut self, side: Side, action: Action) {
        match action {
            Action::Wake => self.wake_parent(side),
            Action::Free { below } => self.free(below),
            Action::Dial { index, not_before } => {
                let incarnation = self.incarnations[0];
                self.at(not_before.max(self.now), Event::Dial { index, incarnation });
            }
            Action::Close { connection, why } => {
                self.lost += u64::from(!self.complete);
                self.held_up += u64::from(why.contains("held up"));
                let wires = 0..self.wires.len();
                for wire in wires {
                    let end = self.wires[wire].end(side);
                    if end.id == Some(connection) && end.open {
                        self.shut(wire, side, true);
                        self.leave_if_done(wire, side);
                    }
                }
            }
            Action::Resume(connection) => {
                for wire in 0..self.wires.len() {
                    let end = &mut self.wires[wire].b;
                    if end.id == Some(connection)
                        && let Some(frame) = end.waits.take()
                    {
                        self.frame(wire, Side::B, frame);
                        self.arrive(wire, Side::B);
                    }
                }
            }
            Action::Over(outcome) => self.over(side, outcome),
        }
    }

    /// A half is over: its parent frees what it holds and leaves.
    fn over(&mut self, side: Side, outcome: Result<(), LinkError>) {
        self.endings[side as usize] = Some(outcome);
        self.moved_at = self.now;
        if side == Side::A {
            self.sender = None;
        } else if let Some(receiver) = self.receiver.take() {
            self.free_b += receiver.held();
        }
        for wire in 0..self.wires.len() {
            if self.wires[wire].end(side).open {
                self.shut(wire, side, true);
            }
            self.wires[wire].end(side).id = None;
        }
    }

    fn free(&mut self, below: u64) {
        assert!(
            below > self.freed && below <= self.taken,
            "{below} of {} blocks",
            self.taken
        );
        if self.plan.liar != Some(Side::B) {
            assert!(
                below <= self.sent_on,
                "block {} is freed and was not sent on",
                below - 1
            );
        }
        self.free_a += below - self.freed;
        self.freed = below;
        self.soon(self.plan.head_time + US, Event::Head);
    }

    /// Checks everything that must hold after each event.
    fn check(&mut self) {
        if let Some(sender) = &self.sender {
            sender.check();
        }
        let held = self.receiver.as_ref().map_or(0, |receiver| {
            receiver.check();
            receiver.held()
        });
        let used = held + self.downstream.len() as u64 + self.kept;
        assert_eq!(
            self.free_b + used,
            self.plan.pool_b,
            "the pool of the receiving half"
        );
        let used = self.queued + self.taken - self.freed;
        assert_eq!(
            self.free_a + used,
            self.plan.pool_a,
            "the pool of the sending half"
        );
        // No block is freed while a writer reads it.
        for wire in self.wires.iter().filter(|wire| wire.a.id.is_some()) {
            let reads_free = wire.a.writing.is_some_and(|number| number < self.freed);
            assert!(
                !reads_free,
                "block {:?} is freed while a writer reads it",
                wire.a.writing
            );
        }
    }
}

fn side(a: bool) -> Side {
    if a { Side::A } else { Side::B }
}
