//! The step explorer: participants as coroutines that stop before every atomic operation, killed at
//! each of them.
//!
//! A run lets a head, middle stages and a tail move a few blocks over real tables on the heap. One
//! participant, the victim, is dropped after exactly `k` atomic operations, with a few steps of the
//! others in between; the controller reclaims what it held, itself interleaved with the survivors;
//! a replacement takes the seat; the run goes to its end. Then: every block arrived once and in
//! order, every buffer is on the free list.
//!
//! `DATAPIPE_EXPLORE=n` runs n random prefixes for each point instead of one.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::resume_unwind;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, Yielder};

use crate::memory::atomic::{Ordering, set_hook};
use crate::memory::tables::Tables;
use crate::memory::{Number, ParticipantId, QueueId, Shape, StageId, StageShape, TableIndex};
use crate::queue::Put;

use super::audit::{audit, free_buffers};
use super::lent::{Borrower, Lender};
use super::loans::Loans;
use super::participant::{Alloc, Held, Participant, fill_reserve};
use super::port_core::inheritance;
use super::reclaim::{Inputs, Reclaimed, reclaim};
use super::returns::LeaseKind;

type Step = Yielder<(), ()>;

thread_local! {
    static RUNNING: Cell<Option<NonNull<Step>>> = const { Cell::new(None) };
}

/// Suspends the running coroutine, if any: the hook that the atomics call.
#[allow(unsafe_code)]
fn pause() {
    if let Some(step) = RUNNING.get() {
        // SAFETY: set by the coroutine that runs on this very stack, to its own yielder, which
        // outlives its body; cleared before anything else runs.
        unsafe { step.as_ref() }.suspend(());
        RUNNING.set(Some(step));
    }
}

/// A participant: one process, of one thread or several.
struct Actor {
    threads: Vec<Coroutine<(), (), ()>>,
    steps: u32,
    /// Chooses the thread that has the next turn.
    turns: u64,
}

/// Work of a thread of a participant.
type Body = Box<dyn FnOnce()>;

impl Actor {
    fn new(body: impl FnOnce() + 'static) -> Self {
        Self::of_threads(vec![Box::new(body)])
    }

    fn of_threads(bodies: Vec<Body>) -> Self {
        let thread = |body: Body| {
            let stack = DefaultStack::new(64 << 10).expect("a small stack");
            Coroutine::with_stack(stack, move |step: &Step, ()| {
                RUNNING.set(Some(NonNull::from(step)));
                body();
                RUNNING.set(None);
            })
        };
        Self {
            threads: bodies.into_iter().map(thread).collect(),
            steps: 0,
            turns: 0x2545_f491_4f6c_dd1d,
        }
    }

    /// Runs one of the threads up to its next atomic operation. Returns whether there is more to
    /// come.
    fn step(&mut self) -> bool {
        let turn = match self.threads.len() {
            0 => return false,
            1 => 0,
            count => (xorshift(&mut self.turns) % count as u64) as usize,
        };
        self.steps += 1;
        let done = self.threads[turn].resume(()).as_return().is_some();
        RUNNING.set(None);
        if done {
            drop(self.threads.remove(turn));
        }
        !self.is_done()
    }

    /// SIGKILL: nothing of it runs any more. (What unwinds here holds no block, and a lease that
    /// it drops goes to a list in its own memory, which no thread reads any more.)
    fn kill(&mut self) {
        set_hook(None);
        self.threads.clear();
        set_hook(Some(pause));
    }

    fn is_done(&self) -> bool {
        self.threads.is_empty()
    }
}

/// Memory of the participants outside of shared memory.
#[derive(Default)]
struct World {
    /// Next block of each head, and the block whose send it was killed in, if so.
    next: RefCell<BTreeMap<ParticipantId, u64>>,
    unsure: RefCell<Vec<u64>>,
    /// Data that the tails received, by number.
    received: RefCell<BTreeMap<Number, u64>>,
}

struct Run {
    tables: Arc<Tables>,
    world: Rc<World>,
    /// Head and tail lend their blocks to another thread each.
    lends: bool,
    actors: Vec<Actor>,
    random: u64,
    trace: String,
}

/// Blocks that each head sends.
const BLOCKS: u64 = 3;

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

impl Run {
    fn new(pipe: &Topology, random: u64) -> Self {
        let (stages, buffers) = (pipe.stages.iter().copied(), pipe.buffers);
        let shape = Shape::builder(buffers, 512).stages(stages).build();
        let tables = Arc::new(Tables::on_heap(shape.unwrap()));
        fill_reserve(&tables);
        let world = Rc::new(World::default());
        let mut run = Self {
            tables,
            world,
            lends: pipe.lends,
            actors: Vec::new(),
            random,
            trace: String::new(),
        };
        for id in run.tables.shape.participant_ids() {
            let actor = run.actor(id);
            run.actors.push(actor);
        }
        run
    }

    fn actor(&self, id: ParticipantId) -> Actor {
        let (tables, world) = (Arc::clone(&self.tables), Rc::clone(&self.world));
        let stage = tables.shape.stage_of(id).unwrap();
        if stage == StageId::HEAD && self.lends {
            Actor::of_threads(lending_head(&tables, id))
        } else if stage == tables.shape.tail() && self.lends {
            Actor::of_threads(lending_tail(&tables, &world, id))
        } else if stage == StageId::HEAD {
            Actor::new(move || head(&tables, &world, id))
        } else if stage == tables.shape.tail() {
            Actor::new(move || tail(&tables, &world, id))
        } else if tables.shape.parts(stage) > 1 {
            Actor::new(move || flat_map(&tables, id, stage))
        } else if !tables.shape.is_numbered(stage) {
            Actor::new(move || squeeze(&tables, id, stage))
        } else {
            Actor::new(move || middle(&tables, id, stage))
        }
    }

    fn step_any(&mut self) {
        let count = self.actors.len() as u64;
        let who = (xorshift(&mut self.random) % count) as usize;
        self.actors[who].step();
    }

    fn kill_and_reclaim(&mut self, victim: ParticipantId) {
        self.actors[victim.as_index()].kill();
        let tables = Arc::clone(&self.tables);
        let report: Rc<Cell<Option<Reclaimed>>> = Rc::default();
        let result = Rc::clone(&report);
        let mut controller = Actor::new(move || {
            result.set(Some(
                reclaim(&tables, victim, Inputs::Inherit).expect("reclaimed"),
            ));
        });
        while controller.step() {
            if xorshift(&mut self.random).is_multiple_of(2) {
                self.step_any();
            }
        }
        assert!(report.get().is_some());
        self.actors[victim.as_index()] = self.actor(victim);
    }

    fn run_to_end(&mut self) {
        let mut steps = 0;
        while !self.actors.iter().all(Actor::is_done) {
            self.step_any();
            steps += 1;
            assert!(steps < 200_000, "wedged: {}", self.trace);
        }
    }

    fn check(&self) {
        set_hook(None);
        let trace = &self.trace;
        audit(&self.tables, false).unwrap_or_else(|finding| panic!("{finding}: {trace}"));
        assert_eq!(
            free_buffers(&self.tables),
            self.tables.shape.buffers(),
            "all buffers came home: {trace}"
        );
        let received = self.world.received.borrow();
        let numbers: Vec<_> = received.keys().map(|number| number.get()).collect();
        assert_eq!(
            numbers,
            (0..numbers.len() as u64).collect::<Vec<_>>(),
            "numbers are dense: {trace}"
        );
        let most = self.tables.shape.stage_ids();
        let most = most.map(|stage| self.tables.shape.parts(stage)).max();
        let outputs = |data| outputs_of(data, most.unwrap());
        for head in self.tables.shape.participants_of(StageId::HEAD) {
            let mut sent: Vec<_> = (0..BLOCKS)
                .map(|i| u64::from(head.get()) << 32 | i)
                .collect();
            let got: Vec<_> = received
                .values()
                .copied()
                .filter(|id| id >> 32 & 0xffff == u64::from(head.get()))
                .collect();
            let unsure = self.world.unsure.borrow();
            let arrived = |data: &u64| outputs(*data).iter().any(|id| got.contains(id));
            sent.retain(|data| arrived(data) || !unsure.contains(data));
            let expected: Vec<_> = sent.into_iter().flat_map(outputs).collect();
            assert_eq!(got, expected, "each block once and in order: {trace}");
        }
    }
}

/// Writes the data of a block, which is the first information word: only who may touch it, and
/// when, matters here.
fn write(tables: &Tables, held: Held, data: u64) {
    tables.buffers[held.buffer].info[0].store(data, Ordering::Relaxed);
}

fn read(tables: &Tables, held: Held) -> u64 {
    tables.buffers[held.buffer].info[0].load(Ordering::Relaxed)
}

fn alloc(me: &Participant<'_>, loans: &mut Loans) -> Held {
    loop {
        match me.alloc(loans).expect("no corruption") {
            Alloc::Got(held) => return held,
            Alloc::AtLimit | Alloc::NoneFree => pause(),
        }
    }
}

fn receive(me: &Participant<'_>, queue: QueueId) -> Option<(Held, Number)> {
    loop {
        if let Some(input) = me.receive(queue).expect("no corruption") {
            return Some(input);
        }
        if me.feeders_done(queue) {
            return me.receive(queue).expect("no corruption");
        }
        pause();
    }
}

fn head(tables: &Tables, world: &World, id: ParticipantId) {
    let me = Participant { tables, id };
    let mut loans = Loans::of(&me);
    let first_queue = QueueId::output_of(StageId::HEAD);
    let first = world.next.borrow().get(&id).copied().unwrap_or(0);
    for i in first..BLOCKS {
        let data = u64::from(id.get()) << 32 | i;
        let held = alloc(&me, &mut loans);
        write(tables, held, data);
        // From here on only the ledger knows whether the block was sent.
        world.next.borrow_mut().insert(id, i + 1);
        world.unsure.borrow_mut().push(data);
        me.send(held, first_queue, Number::FIRST)
            .expect("no corruption");
        world.unsure.borrow_mut().retain(|&other| other != data);
    }
    me.finish(id);
}

fn middle(tables: &Tables, id: ParticipantId, stage: StageId) {
    let me = Participant { tables, id };
    let mut loans = Loans::of(&me);
    let mut inherited = inheritance(tables, id);
    while let Some((input, number)) = inherited
        .pop_front()
        .or_else(|| receive(&me, QueueId::input_of(stage)))
    {
        let output = alloc(&me, &mut loans);
        write(tables, output, read(tables, input));
        let queue = QueueId::output_of(stage);
        let put = me.send(output, queue, number).expect("no corruption");
        assert_eq!(put, Put::Done, "one answer for each number");
        me.free(input).expect("no corruption");
    }
    me.finish(id);
}

/// The outputs for a block of a stage that makes up to `most` from one: each is the block's data
/// and the output's index.
fn outputs_of(data: u64, most: u32) -> Vec<u64> {
    if most == 1 {
        return vec![data];
    }
    let count = (data + 2) % u64::from(most + 1);
    (0..count).map(|part| part << 48 | data).collect()
}

/// Data of a block that answers an input without outputs.
const VACANT: u64 = u64::MAX;

/// Makes several blocks from one, or one that is vacant.
fn flat_map(tables: &Tables, id: ParticipantId, stage: StageId) {
    let me = Participant { tables, id };
    let (queue, parts) = (QueueId::output_of(stage), tables.shape.parts(stage));
    let mut loans = Loans::of(&me);
    let mut inherited = inheritance(tables, id);
    let last_inherited = inherited.back().map(|&(_, number)| number);
    while let Some((input, number)) = inherited
        .pop_front()
        .or_else(|| receive(&me, QueueId::input_of(stage)))
    {
        let mut outputs = outputs_of(read(tables, input), parts);
        if outputs.is_empty() {
            outputs.push(VACANT);
        }
        for (part, &data) in (0..).zip(&outputs) {
            let output = alloc(&me, &mut loans);
            write(tables, output, data);
            let put = me.send(output, queue, number.part(part, parts));
            let again = last_inherited.is_some_and(|last| number <= last);
            let put = put.expect("no corruption");
            assert!(put == Put::Done || again, "one answer for each part");
        }
        let rest = (outputs.len() as u32..parts).map(|part| number.part(part, parts));
        me.pass(queue, rest).expect("no corruption");
        me.free(input).expect("no corruption");
    }
    me.finish(id);
}

/// Forwards all blocks but vacant ones.
fn squeeze(tables: &Tables, id: ParticipantId, stage: StageId) {
    let me = Participant { tables, id };
    let mut inherited = inheritance(tables, id);
    while let Some((input, number)) = inherited
        .pop_front()
        .or_else(|| receive(&me, QueueId::input_of(stage)))
    {
        if read(tables, input) == VACANT {
            me.free(input).expect("no corruption");
        } else {
            let queue = QueueId::output_of(stage);
            me.send(input, queue, number).expect("no corruption");
        }
    }
    me.finish(id);
}

fn tail(tables: &Tables, world: &World, id: ParticipantId) {
    let me = Participant { tables, id };
    let queue = QueueId::input_of(tables.shape.tail());
    let mut inherited = inheritance(tables, id);
    while let Some((input, number)) = inherited.pop_front().or_else(|| receive(&me, queue)) {
        let data = read(tables, input);
        // A tail that was killed before it freed what it had written down gets it again.
        let before = world.received.borrow_mut().insert(number, data);
        assert!(
            before.is_none_or(|before| before == data),
            "number {number} was two blocks"
        );
        me.free(input).expect("no corruption");
    }
    me.finish(id);
    assert_ne!(queue, QueueId::FREE_LIST);
}

/// Leases that the two threads of a lending participant have for each other.
#[derive(Default)]
struct Desk {
    /// Leases for the other thread, with their numbers.
    lent: RefCell<VecDeque<(u64, Borrower)>>,
    /// Leases that it has done with.
    done: RefCell<BTreeMap<u64, Borrower>>,
    /// Numbers whose leases it has dropped.
    dropped: RefCell<Vec<u64>>,
    /// There will be no more leases.
    is_over: Cell<bool>,
}

impl Desk {
    /// The next lease for the other thread. Waits until there is one; `None` at the end.
    fn next(&self) -> Option<(u64, Borrower)> {
        loop {
            if let Some(lease) = self.lent.borrow_mut().pop_front() {
                return Some(lease);
            }
            if self.is_over.get() {
                return None;
            }
            pause();
        }
    }
}

/// Frees what the other thread has dropped, as a port does before each primitive. Returns the
/// number of leases that it still has.
fn collect(me: &Participant<'_>, lender: &Lender) -> u32 {
    let (returned, lent) = lender.returns().collect();
    for (held, _) in returned {
        me.free(held).expect("no corruption");
    }
    lent
}

/// Ends as a port does: when all leases are back.
fn finish_lender(me: &Participant<'_>, lender: &Lender, desk: &Desk) {
    desk.is_over.set(true);
    while collect(me, lender) > 0 {
        pause();
    }
    me.finish(me.id);
}

/// A head whose blocks another thread fills, some of them at the second attempt. It goes on after
/// the blocks that its predecessors have sent.
fn lending_head(tables: &Arc<Tables>, id: ParticipantId) -> Vec<Body> {
    let desk = Rc::new(Desk::default());
    let (agents, agents_tables) = (Rc::clone(&desk), Arc::clone(tables));
    let tables = Arc::clone(tables);
    let port = move || {
        let me = Participant {
            tables: &tables,
            id,
        };
        let lender = Arc::new(Lender::new(Arc::clone(&tables), id));
        let mut loans = Loans::of(&me);
        let queue = QueueId::output_of(StageId::HEAD);
        let mut next = me.count_put(queue).expect("no corruption").get();
        let mut unlent: BTreeSet<_> = (next..BLOCKS).collect();
        while next < BLOCKS {
            collect(&me, &lender);
            unlent.extend(desk.dropped.borrow_mut().drain(..));
            if let Some(number) = unlent.first().copied()
                && let Alloc::Got(held) = me.alloc(&mut loans).expect("no corruption")
            {
                let lease = Borrower::new(&lender, held, LeaseKind::Loan);
                desk.lent.borrow_mut().push_back((number, lease));
                unlent.remove(&number);
            }
            let filled = desk.done.borrow_mut().remove(&next);
            if let Some(mut lease) = filled {
                lease.settle();
                me.send(lease.held(), queue, Number::FIRST)
                    .expect("no corruption");
                next += 1;
                let sent = me.count_put(queue).expect("no corruption");
                assert_eq!(sent.get(), next, "the number of blocks sent is exact");
            }
            pause();
        }
        finish_lender(&me, &lender, &desk);
    };
    let agent = move || {
        let mut dropped = BTreeSet::new();
        while let Some((number, lease)) = agents.next() {
            if number % 2 == 1 && dropped.insert(number) {
                write(&agents_tables, lease.held(), u64::MAX);
                drop(lease);
                agents.dropped.borrow_mut().push(number);
            } else {
                let data = u64::from(id.get()) << 32 | number;
                write(&agents_tables, lease.held(), data);
                agents.done.borrow_mut().insert(number, lease);
            }
        }
    };
    vec![Box::new(port), Box::new(agent)]
}

/// A tail whose blocks another thread reads, which drops some of them and gives others back.
fn lending_tail(tables: &Arc<Tables>, world: &Rc<World>, id: ParticipantId) -> Vec<Body> {
    let desk = Rc::new(Desk::default());
    let (agents, agents_tables) = (Rc::clone(&desk), Arc::clone(tables));
    let (tables, world) = (Arc::clone(tables), Rc::clone(world));
    let port = move || {
        let me = Participant {
            tables: &tables,
            id,
        };
        let lender = Arc::new(Lender::new(Arc::clone(&tables), id));
        let queue = QueueId::input_of(tables.shape.tail());
        let mut inherited = inheritance(&tables, id);
        let taken = me.count_taken(queue).expect("no corruption");
        let are_counted = inherited.iter().all(|&(_, number)| number < taken);
        assert!(are_counted, "inherited blocks count as received");
        let mut is_ended = false;
        while !is_ended || !desk.lent.borrow().is_empty() || !desk.done.borrow().is_empty() {
            collect(&me, &lender);
            while let Some((_, mut lease)) = desk.done.borrow_mut().pop_first() {
                lease.settle();
                me.free(lease.held()).expect("no corruption");
            }
            let input = match inherited.pop_front() {
                Some(input) => Some(input),
                None => {
                    let was_last = me.feeders_done(queue);
                    let input = me.receive(queue).expect("no corruption");
                    is_ended = was_last && input.is_none();
                    if let Some((_, number)) = input {
                        let taken = me.count_taken(queue).expect("no corruption");
                        assert_eq!(taken, number.next(), "the number of blocks taken is exact");
                    }
                    input
                }
            };
            match input {
                Some((held, number)) => {
                    let lease = Borrower::new(&lender, held, LeaseKind::Input);
                    desk.lent.borrow_mut().push_back((number.get(), lease));
                }
                None => pause(),
            }
        }
        finish_lender(&me, &lender, &desk);
    };
    let agent = move || {
        while let Some((number, lease)) = agents.next() {
            let data = read(&agents_tables, lease.held());
            let key = Number::new(number);
            let before = world.received.borrow_mut().insert(key, data);
            assert!(before.is_none_or(|before| before == data));
            if number % 2 == 1 {
                agents.done.borrow_mut().insert(number, lease);
            }
        }
    };
    vec![Box::new(port), Box::new(agent)]
}

/// A pipe to explore.
struct Topology {
    name: &'static str,
    stages: Vec<StageShape>,
    buffers: u32,
    /// Head and tail lend their blocks to another thread each.
    lends: bool,
}

impl Topology {
    /// Number of participants.
    fn people(&self) -> u32 {
        self.stages.iter().map(|stage| stage.instances).sum()
    }
}

fn topologies() -> Vec<Topology> {
    let end = |instances, share| StageShape::new(instances).share(share);
    let middle = |instances, share| end(instances, share).numbered();
    let pipe = |name, buffers, stages| Topology {
        name,
        stages,
        buffers,
        lends: false,
    };
    let lending = |name, buffers, stages| Topology {
        lends: true,
        ..pipe(name, buffers, stages)
    };
    vec![
        pipe(
            "head > middle x2 > tail",
            4,
            vec![end(1, 2), middle(2, 2), end(1, 0)],
        ),
        pipe(
            "head x2 > middle > tail",
            3,
            vec![end(2, 2), middle(1, 1), end(1, 0)],
        ),
        pipe(
            "head > middle > middle x2 > tail x2",
            4,
            vec![end(1, 1), middle(1, 1), middle(2, 2), end(2, 0)],
        ),
        pipe(
            "head > flat map x2, up to 3 > squeeze > tail",
            4,
            vec![end(1, 2), middle(2, 2).parts(3), end(1, 0), end(1, 0)],
        ),
        lending("lending head > lending tail", 2, vec![end(1, 2), end(1, 0)]),
        lending(
            "lending head > middle > lending tail",
            3,
            vec![end(1, 2), middle(1, 1), end(1, 0)],
        ),
    ]
}

fn prefixes() -> u64 {
    std::env::var("DATAPIPE_EXPLORE")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1)
}

#[test]
fn every_step_of_every_participant_may_be_its_last() {
    let topologies = topologies();
    let runs: u64 = thread::scope(|scope| {
        let mut explorations = Vec::new();
        for pipe in &topologies {
            for victim in (0..pipe.people()).map(ParticipantId::new) {
                let explore = move || explore(pipe, victim);
                explorations.push(scope.spawn(explore));
            }
        }
        explorations
            .into_iter()
            .map(|exploration| {
                exploration
                    .join()
                    .unwrap_or_else(|panic| resume_unwind(panic))
            })
            .sum()
    });
    println!("{runs} runs, each cut at one step");
    assert!(runs > 10_000, "the explorer explored");
}

/// Cuts `victim` at each of its steps, with random steps of the others before and after. Returns
/// the number of runs. The hook and the coroutines are of this thread.
fn explore(pipe: &Topology, victim: ParticipantId) -> u64 {
    set_hook(Some(pause));
    let name = pipe.name;
    // A process of two threads that wait for each other takes many more steps.
    let cases = if pipe.lends { 2 } else { 16 };
    let mut runs = 0u64;
    for cut in 0.. {
        let mut reached = false;
        for case in 0..cases * prefixes() {
            let seed = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(runs + 1) | 1;
            let mut run = Run::new(pipe, seed);
            let (x, y) = (case % 4, case / 4 % 4);
            run.trace = format!(
                "{name}, victim {victim}, cut {cut}, then {x} and {y} steps, seed {seed:#x}"
            );
            while run.actors[victim.as_index()].steps < cut
                && !run.actors[victim.as_index()].is_done()
            {
                run.step_any();
            }
            if !run.actors[victim.as_index()].is_done() {
                reached = true;
                let others: Vec<_> = (0..pipe.people() as usize)
                    .filter(|&p| p != victim.as_index())
                    .collect();
                for _ in 0..x {
                    run.actors[others[0]].step();
                }
                for _ in 0..y {
                    run.actors[others[1 % others.len()]].step();
                }
                run.kill_and_reclaim(victim);
            }
            run.run_to_end();
            run.check();
            set_hook(Some(pause));
            runs += 1;
        }
        if !reached {
            break;
        }
    }
    set_hook(None);
    runs
}

#[test]
fn many_may_die_one_after_the_other() {
    set_hook(Some(pause));
    let mut seed = 0x1234_5678_9abc_def1;
    for round in 0..2_000 * prefixes() {
        let mut topologies = topologies();
        let which = round % topologies.len() as u64;
        let pipe = topologies.swap_remove(which as usize);
        let start = seed;
        let mut run = Run::new(&pipe, xorshift(&mut seed));
        let name = pipe.name;
        run.trace = format!("{name}, round {round}, seed {start:#x}");
        let kills = 1 + xorshift(&mut seed) % 6;
        for _ in 0..kills {
            for _ in 0..xorshift(&mut seed) % 200 {
                run.step_any();
            }
            let victim = xorshift(&mut seed) % run.actors.len() as u64;
            let victim = ParticipantId::new(victim as u32);
            if !run.actors[victim.as_index()].is_done() {
                run.kill_and_reclaim(victim);
            }
        }
        run.run_to_end();
        run.check();
        set_hook(Some(pause));
    }
    set_hook(None);
}
