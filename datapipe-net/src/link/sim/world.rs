//! Both machines, their parents, pools, head and tail, and the order of events.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::super::connections::{Action, LinkSettings, Work};
use super::super::frame::{DataHead, Frame, INFO_LEN, StopCode, StopReason};
use super::super::receiver::{Reading, Receiver};
use super::super::sender::Sender;
use super::super::violation::LinkError;
use super::super::wrong::Wrong;
use super::network::{Arrival, Wire, data_of, lie};
use super::plan::{Fault, MS, Plan, SECOND, Side, US};
use super::random::Random;

/// Time without progress after which a run hangs.
const HANG: u64 = 400 * SECOND;
/// Events after which a run is taken for one that turns in a circle.
const MOST_EVENTS: u64 = 300_000;
/// Bytes that the data of a block may have.
const MOST: u32 = 64;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
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
    /// A run that does not come to an end because a peer lies is stopped.
    GiveUp,
}

/// How a run ended.
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
    random: Random,
    plan: Plan,
    wrong: Wrong,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    wires: Vec<Wire>,
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    incarnations: [u64; 2],
    endings: [Option<Result<(), LinkError>>; 2],
    parents: [bool; 2],
    lying: bool,
    /// Pool of the sending half: free buffers, blocks in its parent's queue, numbers of blocks that
    /// the parent has taken and freed.
    free_a: u64,
    queued: u64,
    made: u64,
    taken: u64,
    freed: u64,
    /// Pool of the receiving half: free buffers, blocks in the tail's queue, blocks that it keeps.
    free_b: u64,
    downstream: VecDeque<u64>,
    kept: u64,
    sent_on: u64,
    output: u64,
    complete: bool,
    starved: bool,
    /// Cuts: until when each path carries nothing to A, and to B.
    cuts: Vec<[u64; 2]>,
    moved_at: u64,
    lost: u64,
    held_up: u64,
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

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    fn soon(&mut self, most: u64, event: Event) {
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
            "{count} events, {} s: {} of {} blocks made, {} taken, {} freed, {} sent on, {} written",
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
        // The sender's success means that everything was sent on there, unless the receiver lies.
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
        let mut settings = LinkSettings::new(self.plan.paths.len() as u16, *incarnation);
        settings.seed = self.random.word();
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

    fn wake_parent(&mut self, side: Side) {
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

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Cut {
                paths,
                to_a,
                to_b,
                until,
            } => self.cut(paths, to_a, to_b, until),
            Fault::Break { paths } => {
                for wire in 0..self.wires.len() {
                    if paths & (1 << self.wires[wire].path) != 0 {
                        self.break_wire(wire);
                    }
                }
            }
            Fault::Kill(side) => self.kill(side),
            Fault::Stop(side) => {
                let reason = StopReason::new(StopCode::CANCELLED, "the run is stopped");
                let ending = Some(Err(LinkError::StoppedHere(reason.clone())));
                match (side, &mut self.sender, &mut self.receiver) {
                    (Side::A, Some(sender), _) => sender.stop(self.now, reason),
                    (Side::B, _, Some(receiver)) => receiver.stop(self.now, reason),
                    // Its parent is dead and is not replaced.
                    _ if self.endings[side as usize].is_none() => {
                        self.endings[side as usize] = ending;
                    }
                    _ => {}
                }
            }
            Fault::Lie(_) => self.lying = true,
            Fault::Retire { path, side } => {
                for wire in &mut self.wires {
                    match (
                        wire.end(side).id,
                        side,
                        &mut self.sender,
                        &mut self.receiver,
                    ) {
                        (Some(id), Side::A, Some(sender), _) if wire.path == usize::from(path) => {
                            sender.retire(id);
                        }
                        (Some(id), Side::B, _, Some(receiver))
                            if wire.path == usize::from(path) =>
                        {
                            receiver.retire(id);
                        }
                        _ => {}
                    }
                }
            }
            Fault::Rate(rate) => {
                if let Some(receiver) = &mut self.receiver {
                    receiver.set_rate(rate).expect("a rate within its range");
                }
            }
        }
    }

    /// Cuts paths: everything under way is lost from some byte on, and no side notices.
    fn cut(&mut self, paths: u64, to_a: bool, to_b: bool, until: u64) {
        for path in (0..self.cuts.len()).filter(|path| paths & (1 << path) != 0) {
            for (at, cut) in [to_a, to_b].into_iter().enumerate() {
                if cut {
                    self.cuts[path][at] = self.cuts[path][at].max(until);
                }
            }
            for wire in 0..self.wires.len() {
                if self.wires[wire].path == path {
                    for (side, cut) in [(Side::A, to_a), (Side::B, to_b)] {
                        if cut {
                            self.lose_bytes(wire, side);
                            self.wires[wire].end(side).deaf = true;
                        }
                    }
                }
            }
        }
    }

    /// Loses bytes under way to an end, from some byte on.
    fn lose_bytes(&mut self, wire: usize, to: Side) {
        let random = &mut self.random;
        let end = self.wires[wire].end(to);
        end.coming
            .truncate(random.below(end.coming.len() as u64 + 1) as usize);
        if let Some((_, Arrival::Bytes(bytes))) = end.coming.back_mut() {
            bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        }
    }

    /// Breaks a connection. Each side notices it soon, late or never.
    fn break_wire(&mut self, wire: usize) {
        for to in [Side::A, Side::B] {
            self.lose_bytes(wire, to);
            let notice = match self.random.below(3) {
                0 => Some(self.random.below(50 * MS)),
                1 => Some(self.random.below(8 * SECOND)),
                _ => None,
            };
            if let Some(after) = notice {
                self.send(wire, to, self.now + after, Arrival::Reset);
            }
            self.wires[wire].end(to).deaf = true;
        }
    }

    /// Kills a half's parent. Its sockets are closed, and buffers that it had not sent on are free.
    fn kill(&mut self, killed: Side) {
        let alive = match killed {
            Side::A => self.sender.take().is_some(),
            Side::B => match self.receiver.take() {
                Some(receiver) => {
                    self.free_b += receiver.held();
                    true
                }
                None => false,
            },
        };
        if !alive {
            return;
        }
        for wire in 0..self.wires.len() {
            let end = self.wires[wire].end(killed);
            if end.open {
                self.shut(wire, killed, true);
            }
            let end = self.wires[wire].end(killed);
            end.id = None;
            end.open = false;
        }
        let after = self.now + self.random.below(3 * SECOND);
        self.at(
            after,
            Event::Restart {
                a: killed == Side::A,
            },
        );
    }

    /// Is the path carrying to a side now?
    fn carries(&self, path: usize, to: Side) -> bool {
        self.cuts[path][to as usize] <= self.now
    }

    fn dial(&mut self, index: u16, incarnation: u64) {
        if self.incarnations[0] != incarnation || self.sender.is_none() {
            return;
        }
        let path = usize::from(index);
        let both = self.carries(path, Side::A) && self.carries(path, Side::B);
        let Some(sender) = &mut self.sender else {
            return;
        };
        if !both {
            sender.unreachable(self.now + 5 * SECOND, index, "the dial timed out");
            return;
        }
        if self.endings[1].is_some() {
            sender.refused(self.now, "no such pipe");
            return;
        }
        if self.receiver.is_none() {
            sender.unreachable(self.now, index, "the half is being replaced");
            return;
        }
        if let Ok(id) = sender.connected(self.now, index) {
            let mut wire = Wire::new(path);
            wire.a.id = Some(id);
            self.wires.push(wire);
            let incarnation = self.incarnations[1];
            let event = Event::Accept {
                wire: self.wires.len() - 1,
                incarnation,
            };
            self.soon(2 * self.plan.paths[path].delay, event);
        }
    }

    fn accept(&mut self, wire: usize, incarnation: u64) {
        let index = self.wires[wire].path as u16;
        let id = match &mut self.receiver {
            Some(receiver) if self.incarnations[1] == incarnation => {
                receiver.connected(self.now, index).ok()
            }
            _ => None,
        };
        if id.is_none() {
            self.wires[wire].b.open = false;
            self.send(wire, Side::A, self.now + MS, Arrival::Reset);
        }
        self.wires[wire].b.id = id;
        self.arrive(wire, Side::B);
    }

    /// Sends an arrival to an end, unless it is lost on the way.
    fn send(&mut self, wire: usize, to: Side, at: u64, arrival: Arrival) {
        let carries = self.carries(self.wires[wire].path, to);
        let end = self.wires[wire].end(to);
        if !end.deaf && carries {
            let at = at.max(end.last());
            end.coming.push_back((at, arrival));
            self.at(
                at,
                Event::Arrive {
                    wire,
                    to_a: to == Side::A,
                },
            );
        }
    }

    /// Handles what has arrived at an end.
    fn arrive(&mut self, wire: usize, at: Side) {
        loop {
            let now = self.now;
            let end = self.wires[wire].end(at);
            if end.id.is_none() || !end.open || !end.reads || end.waits.is_some() {
                return;
            }
            let Some((_, arrival)) = end.coming.pop_front_if(|(time, _)| *time <= now) else {
                return;
            };
            match arrival {
                Arrival::Bytes(bytes) => self.read(wire, at, &bytes),
                Arrival::End => self.lose(wire, at, "the connection ended"),
                Arrival::Reset => self.lose(wire, at, "connection reset"),
            }
        }
    }

    fn lose(&mut self, wire: usize, at: Side, why: &str) {
        let Some(id) = self.wires[wire].end(at).id else {
            return;
        };
        match (at, &mut self.sender, &mut self.receiver) {
            (Side::A, Some(sender), _) => sender.lost(self.now, id, why),
            (Side::B, _, Some(receiver)) => receiver.lost(self.now, id, why),
            _ => {}
        }
    }

    /// Gives bytes to a reader.
    fn read(&mut self, wire: usize, at: Side, mut bytes: &[u8]) {
        let Some(id) = self.wires[wire].end(at).id else {
            return;
        };
        match (at, &mut self.sender, &mut self.receiver) {
            (Side::A, Some(sender), _) => sender.heard(self.now, id),
            (Side::B, _, Some(receiver)) => receiver.heard(self.now, id),
            _ => {}
        }
        loop {
            let end = self.wires[wire].end(at);
            if !end.open || !end.reads {
                return;
            }
            if end.waits.is_some() {
                if !bytes.is_empty() {
                    end.coming
                        .push_front((self.now, Arrival::Bytes(bytes.to_vec())));
                }
                return;
            }
            if let Some((_, _, missing, data)) = &mut end.data {
                let len = bytes.len().min(*missing);
                data.extend_from_slice(&bytes[..len]);
                *missing -= len;
                bytes = &bytes[len..];
                if *missing > 0 {
                    return;
                }
                self.filled(wire);
                continue;
            }
            match end.decoder.take(&mut bytes) {
                Ok(Some(frame)) => self.frame(wire, at, frame),
                Ok(None) => return,
                Err(violation) => panic!("frames are whole: {violation}"),
            }
        }
    }

    /// All data of a block have arrived.
    fn filled(&mut self, wire: usize) {
        let end = &mut self.wires[wire].b;
        let (reading, number, _, data) = end.data.take().expect("data arrive");
        if self.plan.liar != Some(Side::A) {
            assert_eq!(data, data_of(number), "the data of block {number}");
        }
        let (Some(id), Some(receiver)) = (end.id, &mut self.receiver) else {
            return;
        };
        if reading == Reading::Take {
            receiver.filled(self.now, id);
            self.moved_at = self.now;
            self.wake_parent(Side::B);
        }
    }

    fn frame(&mut self, wire: usize, at: Side, frame: Frame) {
        let end = self.wires[wire].end(at);
        let Some(id) = end.id else { return };
        if at == Side::A {
            if let Some(sender) = &mut self.sender {
                end.reads = sender.frame(self.now, id, frame);
            }
            self.leave_if_done(wire, at);
            return;
        }
        let Some(receiver) = &mut self.receiver else {
            return;
        };
        let reading = receiver.frame(self.now, id, &frame);
        match (reading, &frame) {
            (Reading::Take | Reading::Discard, Frame::Data(head)) => {
                let len = head.len as usize;
                end.data = Some((reading, head.number, len, Vec::new()));
                if len == 0 {
                    self.filled(wire);
                }
            }
            (Reading::Wait(_), _) => end.waits = Some(frame),
            (Reading::Leave, _) => {
                end.reads = false;
                self.leave_if_done(wire, at);
            }
            _ => {}
        }
    }

    /// Ends one side of a connection when its reader and writer have left.
    fn leave_if_done(&mut self, wire: usize, at: Side) {
        let end = self.wires[wire].end(at);
        let done = !end.open || !end.reads && !end.writes;
        if done && end.id.is_some() && !std::mem::replace(&mut end.leaving, true) {
            let event = Event::Gone {
                wire,
                at_a: at == Side::A,
            };
            self.soon(5 * MS, event);
        }
    }

    fn gone(&mut self, wire: usize, at: Side) {
        if self.wires[wire].end(at).open {
            self.shut(wire, at, false);
        }
        let Some(id) = self.wires[wire].end(at).id.take() else {
            return;
        };
        match (at, &mut self.sender, &mut self.receiver) {
            (Side::A, Some(sender), _) => sender.gone(self.now, id),
            (Side::B, _, Some(receiver)) => receiver.gone(self.now, id),
            _ => {}
        }
    }

    /// Closes one end's socket. The other end learns of it, unless it is lost.
    fn shut(&mut self, wire: usize, at: Side, abrupt: bool) {
        let end = self.wires[wire].end(at);
        end.open = false;
        end.coming.clear();
        let delay = self.plan.paths[self.wires[wire].path].delay;
        if abrupt && self.random.once_in(3) {
            self.lose_bytes(wire, at.other());
            self.send(wire, at.other(), self.now + delay, Arrival::Reset);
        } else {
            self.send(wire, at.other(), self.now + delay, Arrival::End);
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

    /// Gives an idle writer work. True if there was any.
    fn offer_work(&mut self, wire: usize, by: Side) -> bool {
        let now = self.now;
        let end = self.wires[wire].end(by);
        let Some(id) = end.id.filter(|_| !end.busy && end.writes) else {
            return false;
        };
        end.writing = None;
        let work = match (by, &mut self.sender, &mut self.receiver) {
            (Side::A, Some(sender), _) => sender.work(now, id),
            (Side::B, _, Some(receiver)) => receiver.work(now, id),
            _ => None,
        };
        match work {
            None => return false,
            Some(Work::Leave) => {
                end.writes = false;
                self.leave_if_done(wire, by);
            }
            Some(Work::Shut) => self.send(wire, by.other(), now, Arrival::End),
            Some(Work::Frame(frame)) => self.write_frame(wire, by, frame, &[]),
            Some(Work::Data { number }) => {
                end.writing = Some(number);
                let data = data_of(number);
                let head = DataHead {
                    number,
                    vacant: data.is_empty(),
                    info: (number % 3 == 0).then_some([number as u8; INFO_LEN]),
                    len: data.len() as u32,
                };
                self.write_frame(wire, by, Frame::Data(head), &data);
            }
        }
        true
    }

    /// Writes a frame in pieces, each at its time.
    fn write_frame(&mut self, wire: usize, by: Side, mut frame: Frame, data: &[u8]) {
        if self.lying && self.plan.liar == Some(by) && self.random.once_in(4) {
            let word = self.random.word();
            if !lie(word, &mut frame) {
                return;
            }
        }
        let path = self.plan.paths[self.wires[wire].path];
        let is_block = matches!(frame, Frame::Data(_));
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes.extend_from_slice(data);
        let time = if is_block {
            path.block_time
        } else {
            path.block_time / 1000 + US
        };
        let pieces = if is_block {
            self.random.within(2, 4)
        } else {
            self.random.within(1, 2)
        };
        let (mut from, mut leaves) = (0, self.now);
        for piece in 1..=pieces {
            let most = (bytes.len() - from) as u64;
            let len = if piece == pieces {
                most
            } else {
                self.random.below(most + 1)
            };
            let next = from + len as usize;
            leaves += time / pieces;
            let jitter = self.random.below(path.jitter + 1);
            let arrival = Arrival::Bytes(bytes[from..next].to_vec());
            self.send(wire, by.other(), leaves + path.delay + jitter, arrival);
            from = next;
        }
        self.wires[wire].end(by).busy = true;
        // A connection that carries nothing takes what its socket buffer holds, or blocks its writer.
        let blocked = self.wires[wire].end(by.other()).deaf && self.random.once_in(2);
        if !blocked {
            self.at(
                leaves,
                Event::Written {
                    wire,
                    by_a: by == Side::A,
                },
            );
        }
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
