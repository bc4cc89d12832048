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
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::ptr::NonNull;
use std::rc::Rc;
use std::thread;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, Yielder};

use crate::memory::atomic::{Ordering, set_hook};
use crate::memory::tables::Tables;
use crate::memory::{Number, ParticipantId, QueueId, Shape, StageId, StageShape, TableIndex};
use crate::queue::Put;

use super::audit::{audit, free_buffers};
use super::loans::Loans;
use super::participant::{Alloc, Held, Participant, fill_reserve};
use super::port_core::inheritance;
use super::reclaim::{Inputs, Reclaimed, reclaim};

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

struct Actor {
    coroutine: Option<Coroutine<(), (), ()>>,
    steps: u32,
}

impl Actor {
    fn new(body: impl FnOnce() + 'static) -> Self {
        let stack = DefaultStack::new(64 << 10).expect("a small stack");
        let coroutine = Coroutine::with_stack(stack, move |step: &Step, ()| {
            RUNNING.set(Some(NonNull::from(step)));
            body();
            RUNNING.set(None);
        });
        Self {
            coroutine: Some(coroutine),
            steps: 0,
        }
    }

    /// Runs up to the next atomic operation. Returns whether there is more to come.
    fn step(&mut self) -> bool {
        let Some(coroutine) = &mut self.coroutine else {
            return false;
        };
        self.steps += 1;
        let done = coroutine.resume(()).as_return().is_some();
        RUNNING.set(None);
        if done {
            self.coroutine = None;
        }
        !done
    }

    /// SIGKILL: nothing of it runs any more. (What unwinds here holds no block.)
    fn kill(&mut self) {
        set_hook(None);
        self.coroutine = None;
        set_hook(Some(pause));
    }

    fn is_done(&self) -> bool {
        self.coroutine.is_none()
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
    tables: Rc<Tables>,
    world: Rc<World>,
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
    fn new(stages: &[StageShape], buffers: u32, random: u64) -> Self {
        let stages = stages.iter().copied();
        let shape = Shape::builder(buffers, 512).stages(stages).build();
        let tables = Rc::new(Tables::on_heap(shape.unwrap()));
        fill_reserve(&tables);
        let world = Rc::new(World::default());
        let mut run = Self {
            tables,
            world,
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
        let (tables, world) = (Rc::clone(&self.tables), Rc::clone(&self.world));
        let stage = tables.shape.stage_of(id).unwrap();
        if stage == StageId::HEAD {
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
        let tables = Rc::clone(&self.tables);
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

fn topologies() -> Vec<(&'static str, Vec<StageShape>, u32)> {
    let end = |instances, share| StageShape::new(instances).share(share);
    let middle = |instances, share| end(instances, share).numbered();
    vec![
        (
            "head > middle x2 > tail",
            vec![end(1, 2), middle(2, 2), end(1, 0)],
            4,
        ),
        (
            "head x2 > middle > tail",
            vec![end(2, 2), middle(1, 1), end(1, 0)],
            3,
        ),
        (
            "head > middle > middle x2 > tail x2",
            vec![end(1, 1), middle(1, 1), middle(2, 2), end(2, 0)],
            4,
        ),
        (
            "head > flat map x2, up to 3 > squeeze > tail",
            vec![end(1, 2), middle(2, 2).parts(3), end(1, 0), end(1, 0)],
            4,
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
        for (name, stages, buffers) in &topologies {
            let people: u32 = stages.iter().map(|stage| stage.instances).sum();
            for victim in (0..people).map(ParticipantId::new) {
                let explore = move || explore(name, stages, *buffers, victim);
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
fn explore(name: &str, stages: &[StageShape], buffers: u32, victim: ParticipantId) -> u64 {
    set_hook(Some(pause));
    let people: u32 = stages.iter().map(|stage| stage.instances).sum();
    let mut runs = 0u64;
    for cut in 0.. {
        let mut reached = false;
        for case in 0..16 * prefixes() {
            let seed = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(runs + 1) | 1;
            let mut run = Run::new(stages, buffers, seed);
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
                let others: Vec<_> = (0..people as usize)
                    .filter(|&p| p != victim.as_index())
                    .collect();
                for _ in 0..x {
                    run.actors[others[0]].step();
                }
                for _ in 0..y {
                    run.actors[others[1]].step();
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
        let (name, stages, buffers) = topologies().swap_remove((round % 4) as usize);
        let start = seed;
        let mut run = Run::new(&stages, buffers, xorshift(&mut seed));
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
