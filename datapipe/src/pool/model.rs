//! The pool and the queues under the model checker: every order of a few threads, and what a weak
//! memory may do.
//!
//! ```text
//!   release code          step explorer                 here
//!   mapped, many threads  heap, one thread, coroutines  heap, loom's threads
//!   what really happens   killed at every step          stale loads, missing edges, lost wake-ups, deadlock
//! ```
//!
//! A buffer's payload is a cell that loom watches. An access that is not ordered after the one
//! before it fails the model, so a model that passes has shown that leases are exclusive both ways:
//! from writer to reader, and from whoever freed a buffer to whoever gets it next. A thread that
//! sleeps for ever is a deadlock, which loom reports.
//!
//! Each model bounds its preemptions, so that it ends; `LOOM_MAX_PREEMPTIONS` sets another bound
//! for all. Run them with `scripts/model-check`.
//!
//! Does not run ports and leases, which need a clock and a segment: [`Seat`] waits as they do, step
//! for step. Kills at a few chosen points only; the step explorer kills at all of them.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::thread::{self, JoinHandle};

use crate::memory::Corruption;
use crate::memory::atomic::Ordering;
use crate::memory::event::EventCount;
use crate::memory::tables::Tables;
use crate::memory::{QueueKind, Shape, StageShape};
use crate::queue::{Claim, Put, Slot};

use super::loans::Loans;
use super::participant::{Alloc, FREE_LIST, Held, Participant, fill_reserve};
use super::reclaim::{Inputs, Reclaimed, reclaim};
use super::word::{State, Word};

/// A pipe on the heap. Loom plays all threads on one, so they may share it by [`Rc`], whose count
/// costs no steps.
struct Pipe {
    tables: Tables,
    /// The data of each buffer.
    payload: Vec<UnsafeCell<u64>>,
}

impl Pipe {
    fn new(buffers: u32, stages: &[StageShape]) -> Rc<Self> {
        let tables = Tables::on_heap(Shape::new(buffers, 512, 0, 0, stages).unwrap());
        fill_reserve(&tables);
        Rc::new(Self {
            tables,
            payload: (0..buffers).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    /// The seat of participant `id`.
    fn seat(&self, id: u32) -> Seat<'_> {
        Seat {
            pipe: self,
            me: Participant {
                tables: &self.tables,
                id,
            },
        }
    }

    /// Runs `body` as participant `id`, on a thread of its own.
    fn spawn<T: 'static>(
        self: &Rc<Self>,
        id: u32,
        body: impl FnOnce(Seat<'_>) -> T + 'static,
    ) -> JoinHandle<T> {
        let pipe = Rc::clone(self);
        thread::spawn(move || body(pipe.seat(id)))
    }

    /// Ends every wait, as the controller does.
    fn stop(&self) {
        self.tables.header[0].stop.word.store(1, Ordering::Release);
        self.tables.wake_everybody();
    }

    fn is_stopped(&self) -> bool {
        self.tables.header[0].stop.word.load(Ordering::Relaxed) != 0
    }

    /// Every buffer lies on the free list or in the reserve, nobody has a loan, and no other queue
    /// holds anything.
    fn assert_home(&self) {
        let view = self.seat(0);
        for buffer in 0..self.tables.shape.buffers() {
            let word = view.word(buffer).unwrap();
            assert_eq!(
                word.state,
                State::Sent,
                "buffer {buffer} is in somebody's hands"
            );
            let home = [FREE_LIST, self.tables.shape.reserve()];
            let is_home = home
                .iter()
                .any(|&queue| view.ring(queue).holds(buffer, word.generation));
            assert!(
                is_home,
                "buffer {buffer} is neither on the free list nor in the reserve"
            );
        }
        for id in 0..self.tables.shape.participants() {
            assert_eq!(self.seat(id).loans(), 0, "participant {id} has a loan left");
        }
        for queue in 1..self.tables.shape.stage_count() {
            assert_eq!(view.ring(queue).depth(), 0, "queue {queue} is not empty");
        }
    }
}

/// A participant that waits, as a port does.
#[derive(Clone, Copy)]
struct Seat<'a> {
    pipe: &'a Pipe,
    me: Participant<'a>,
}

/// Why an attempt got nothing.
#[derive(Clone, Copy, PartialEq)]
enum Blocked {
    AtLimit,
    NoneFree,
    NoInput,
}

impl<'a> Deref for Seat<'a> {
    type Target = Participant<'a>;

    fn deref(&self) -> &Participant<'a> {
        &self.me
    }
}

impl<'a> Seat<'a> {
    /// Buffers outstanding.
    fn loans(&self) -> usize {
        Loans::of(self).count(self)
    }

    /// A buffer that holds `data`. Waits until there is one.
    fn fill(&self, data: u64) -> Held {
        let held = self.wait(|| self.try_alloc());
        self.write(held, data);
        held
    }

    /// Sends `data` to the first queue.
    fn send_new(&self, data: u64) {
        assert_eq!(self.send(self.fill(data), 1, 0).unwrap(), Put::Done);
    }

    /// The next block; `None` at the end. Waits until there is one.
    fn next(&self) -> Option<(Held, u64)> {
        self.wait(|| self.try_receive())
    }

    /// Receives a block and frees it; returns its number and its data.
    fn consume(&self) -> Option<(u64, u64)> {
        let (held, number) = self.next()?;
        let data = self.read(held);
        self.free(held).unwrap();
        Some((number, data))
    }

    /// Receives and frees to the end; returns each number and its data.
    fn drain(&self) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| self.consume()).collect()
    }

    fn done(&self) {
        self.finish(self.id);
    }

    fn try_alloc(&self) -> Result<Held, Blocked> {
        match self.alloc(&mut Loans::of(self)).unwrap() {
            Alloc::Got(held) => Ok(held),
            Alloc::AtLimit => Err(Blocked::AtLimit),
            Alloc::NoneFree => Err(Blocked::NoneFree),
        }
    }

    /// `Ok(None)` is the end of the stream.
    fn try_receive(&self) -> Result<Option<(Held, u64)>, Blocked> {
        let mut got = self.receive(self.input()).unwrap();
        if got.is_none() {
            if !self.feeders_done(self.input()) {
                return Err(Blocked::NoInput);
            }
            got = self.receive(self.input()).unwrap();
        }
        if got.is_none() {
            let (head, tail) = self.ring(self.input()).ends();
            assert!(tail <= head, "a number is missing at the end of the stream");
        }
        Ok(got)
    }

    /// What `attempt` gets, or `None` if the pipe was stopped before it.
    fn unless_stopped<T>(
        &self,
        attempt: impl FnOnce() -> Result<T, Blocked>,
    ) -> Result<Option<T>, Blocked> {
        if self.pipe.is_stopped() {
            Ok(None)
        } else {
            attempt().map(Some)
        }
    }

    /// As `PortCore::wait`, without its patience and its deadline.
    fn wait<T>(&self, mut attempt: impl FnMut() -> Result<T, Blocked>) -> T {
        let mut blocked = match attempt() {
            Ok(done) => return done,
            Err(blocked) => blocked,
        };
        loop {
            let event = self.event(blocked);
            let ticket = event.mark();
            match attempt() {
                Ok(done) => return done,
                Err(other) if other != blocked => blocked = other,
                Err(_) => event.sleep(ticket),
            }
        }
    }

    fn event(&self, blocked: Blocked) -> &'a EventCount {
        match blocked {
            Blocked::AtLimit => &self.tables.participants[self.id].credit.event,
            Blocked::NoneFree => self.ring(FREE_LIST).event(),
            Blocked::NoInput => self.ring(self.input()).event(),
        }
    }

    /// The queue that the participant's stage receives from.
    fn input(&self) -> u32 {
        self.tables.shape.stage_of(self.id).unwrap()
    }

    fn write(&self, held: Held, data: u64) {
        // SAFETY: the pointer is valid as long as the cell. The ledger says that nobody else has
        // the buffer, and loom fails the model if somebody does.
        self.pipe.payload[held.buffer as usize].with_mut(|payload| unsafe { *payload = data });
    }

    /// Reads a payload as one who might also write it.
    fn read(&self, held: Held) -> u64 {
        // SAFETY: as above.
        self.pipe.payload[held.buffer as usize].with_mut(|payload| unsafe { *payload })
    }
}

/// How far a participant got with what it died in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// It held the buffer.
    Held,
    /// The ledger says sent.
    Begun,
    /// The slot is filled, but the tail hint has not moved.
    Filled,
    /// All but the wake-up.
    Unwoken,
}

impl Seat<'_> {
    /// Takes the steps of a send up to `cut`; of a free, if `queue` is the free list.
    ///
    /// The thread that dies goes on as the controller: the operating system's word on a death
    /// orders what the dead one did before what the controller does, as the program does here.
    fn die_sending(&self, held: Held, queue: u32, number: u64, cut: Cut) {
        if cut == Cut::Held {
            return;
        }
        if queue != FREE_LIST {
            self.note_number(held, number);
        }
        let entry = &self.tables.buffers[held.buffer];
        entry.destination.store(queue, Ordering::Release);
        let word = self.word(held.buffer).unwrap();
        let sent = Word {
            state: State::Sent,
            ..word
        }
        .encode();
        let left =
            entry
                .word
                .compare_exchange(word.encode(), sent, Ordering::AcqRel, Ordering::Relaxed);
        assert!(left.is_ok(), "nobody else moves a buffer that is held");
        if cut == Cut::Begun {
            return;
        }
        let tail = &self.tables.queues[queue].tail.word;
        let place = match self.tables.shape.queue_kind(queue) {
            QueueKind::Plain => tail.load(Ordering::Acquire),
            QueueKind::Ordered => number,
        };
        let slots = self.tables.ring(queue);
        let empty = Slot::Empty {
            lap: self.ring(queue).lap(place),
        }
        .encode();
        let full = Slot::Full {
            buffer: held.buffer,
            generation: held.generation,
        }
        .encode();
        let slot = &slots[place as usize % slots.len()].word;
        let filled = slot.compare_exchange(empty, full, Ordering::AcqRel, Ordering::Relaxed);
        assert!(filled.is_ok(), "nobody else has anything to put");
        if cut == Cut::Unwoken {
            let _ = tail.compare_exchange(place, place + 1, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

/// A buffer that is freed when it is dropped, as a lease is.
struct Lease<'a>(Seat<'a>, Held);

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.0.free(self.1).unwrap();
    }
}

impl Seat<'_> {
    /// Unwinds with a buffer in its hands.
    fn panic_with(&self, held: Held) {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _lease = Lease(*self, held);
            resume_unwind(Box::new(())); // a panic without its message
        }));
        assert!(unwound.is_err());
    }
}

/// Explores `body` with up to `preemptions` preemptions, and says how many executions that took.
fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.max_branches = builder.max_branches.max(10_000);
    let bound = *builder.preemption_bound.get_or_insert(preemptions);
    let executions = Arc::new(Mutex::new(0u64));
    let count = Arc::clone(&executions);
    builder.check(move || {
        *count.lock().unwrap() += 1;
        body();
    });
    println!(
        "{} executions with up to {bound} preemptions",
        executions.lock().unwrap()
    );
}

fn end(instances: u32, share: u32) -> StageShape {
    StageShape::new(instances, share)
}

/// A head and a tail with one buffer between them.
fn one_buffer() -> Rc<Pipe> {
    Pipe::new(1, &[end(1, 1), end(1, 0)])
}

#[test]
fn hand_over() {
    explore(4, || {
        let pipe = one_buffer();
        let head = pipe.spawn(0, |head| {
            head.send_new(10);
            head.send_new(11);
        });
        let tail = pipe.seat(1);
        assert_eq!(tail.consume(), Some((0, 10)));
        assert_eq!(tail.consume(), Some((1, 11)));
        head.join().unwrap();
        pipe.assert_home();
    });
}

#[test]
fn hand_over_around_the_ring() {
    explore(2, || {
        let pipe = one_buffer();
        let head = pipe.spawn(0, |head| (10..14).for_each(|data| head.send_new(data)));
        let tail = pipe.seat(1);
        for number in 0..4 {
            assert_eq!(tail.consume(), Some((number, 10 + number)));
        }
        head.join().unwrap();
        pipe.assert_home();
    });
}

/// Two tails and a head that has sent `blocks` and finished.
fn two_takers(blocks: u64) {
    let pipe = Pipe::new(2, &[end(1, 2), end(2, 0)]);
    let head = pipe.seat(0);
    (10..10 + blocks).for_each(|data| head.send_new(data));
    head.done();
    let other = pipe.spawn(1, |tail| tail.drain());
    let mut got = pipe.seat(2).drain();
    got.extend(other.join().unwrap());
    got.sort_unstable();
    assert_eq!(
        got,
        (0..blocks)
            .map(|number| (number, 10 + number))
            .collect::<Vec<_>>()
    );
    pipe.assert_home();
}

#[test]
fn one_block_goes_to_one_of_two_takers() {
    explore(8, || two_takers(1));
}

#[test]
fn two_blocks_go_to_two_takers() {
    explore(3, || two_takers(2));
}

#[test]
fn two_takers_asleep() {
    explore(2, || {
        let pipe = Pipe::new(1, &[end(1, 1), end(2, 0)]);
        let one = pipe.spawn(1, |tail| tail.drain());
        let two = pipe.spawn(2, |tail| tail.drain());
        let head = pipe.seat(0);
        head.send_new(10);
        head.done();
        let got = [one.join().unwrap(), two.join().unwrap()].concat();
        assert_eq!(got, [(0, 10)]);
        pipe.assert_home();
    });
}

#[test]
fn a_taker_that_slept_a_lap() {
    explore(2, || {
        // Two slots: the third block lies where the first one lay.
        let pipe = Pipe::new(1, &[end(1, 1), end(2, 0)]);
        let sleeper = pipe.spawn(1, |tail| tail.drain());
        let (head, tail) = (pipe.seat(0), pipe.seat(2));
        let mut got = Vec::new();
        for data in 10..13 {
            head.send_new(data);
            if let Ok(Some((held, number))) = tail.try_receive() {
                got.push((number, tail.read(held)));
                tail.free(held).unwrap();
            }
        }
        head.done();
        got.extend(sleeper.join().unwrap());
        got.sort_unstable();
        assert_eq!(got, [(0, 10), (1, 11), (2, 12)]);
        pipe.assert_home();
    });
}

#[test]
fn two_senders() {
    explore(2, || {
        let pipe = Pipe::new(2, &[end(2, 2), end(1, 0)]);
        let heads = [0, 1].map(|id| {
            pipe.spawn(id, move |head| {
                head.send_new(10 + u64::from(id));
                head.done();
            })
        });
        let got = pipe.seat(2).drain();
        heads.into_iter().for_each(|head| head.join().unwrap());
        assert_eq!(
            got.iter().map(|&(number, _)| number).collect::<Vec<_>>(),
            [0, 1]
        );
        assert_eq!(
            got.iter().map(|&(_, data)| data).sum::<u64>(),
            10 + 11,
            "each block once"
        );
        pipe.assert_home();
    });
}

#[test]
fn ordered() {
    explore(2, || {
        let pipe = Pipe::new(2, &[end(1, 2), end(2, 0).numbered(), end(1, 0)]);
        let head = pipe.seat(0);
        head.send_new(10);
        head.send_new(11);
        head.done();
        let middles = [1, 2].map(|id| {
            pipe.spawn(id, |middle| {
                while let Some((input, number)) = middle.next() {
                    middle.write(input, middle.read(input) + 10);
                    assert_eq!(middle.send(input, 2, number).unwrap(), Put::Done);
                }
                middle.done();
            })
        });
        assert_eq!(pipe.seat(3).drain(), [(0, 20), (1, 21)]);
        middles
            .into_iter()
            .for_each(|middle| middle.join().unwrap());
        pipe.assert_home();
    });
}

#[test]
fn sleep_and_wake() {
    explore(8, || {
        let pipe = one_buffer();
        let head = pipe.spawn(0, |head| head.send_new(10));
        assert_eq!(pipe.seat(1).consume(), Some((0, 10)));
        head.join().unwrap();
        pipe.assert_home();
    });
}

#[test]
fn sleep_and_wake_at_the_quota() {
    explore(4, || {
        let pipe = one_buffer();
        pipe.seat(0).send_new(10);
        let tail = pipe.spawn(1, |tail| tail.consume());
        let head = pipe.seat(0);
        let held = head.fill(11);
        head.free(held).unwrap();
        assert_eq!(tail.join().unwrap(), Some((0, 10)));
        pipe.assert_home();
    });
}

#[test]
fn a_credit_comes_home_before_its_buffer() {
    explore(6, || {
        let pipe = Pipe::new(2, &[end(1, 2), end(1, 0)]);
        let head = pipe.seat(0);
        head.send_new(10);
        let tail = pipe.spawn(1, |tail| tail.consume());
        let other = head.fill(20);
        head.free(other).unwrap();
        // This may be the buffer that the tail is freeing. Then its loan is a new one, and stays.
        let held = head.fill(21);
        assert_eq!(tail.join().unwrap(), Some((0, 10)));
        assert_eq!(head.loans(), 1);
        head.free(held).unwrap();
        pipe.assert_home();
    });
}

#[test]
fn stop() {
    explore(3, || {
        let pipe = one_buffer();
        // The only buffer never comes home, and never arrives.
        let _lost = pipe.seat(0).fill(10);
        let head = pipe.spawn(0, |head| {
            head.wait(|| head.unless_stopped(|| head.try_alloc()))
        });
        let tail = pipe.spawn(1, |tail| {
            tail.wait(|| tail.unless_stopped(|| tail.try_receive()))
        });
        pipe.stop();
        assert_eq!(head.join().unwrap(), None);
        assert_eq!(tail.join().unwrap(), None);
    });
}

#[test]
fn stop_beside_a_sender() {
    explore(3, || {
        let pipe = one_buffer();
        let tail = pipe.spawn(1, |tail| {
            let next = || tail.wait(|| tail.unless_stopped(|| tail.try_receive()));
            let mut received = 0;
            while let Some(Some((held, number))) = next() {
                assert_eq!((number, tail.read(held)), (0, 10));
                tail.free(held).unwrap();
                received += 1;
            }
            received
        });
        let head = pipe.spawn(0, |head| head.send_new(10));
        pipe.stop();
        head.join().unwrap();
        // What was not received lies in the queue: a stop loses no buffer.
        if tail.join().unwrap() == 0 {
            assert_eq!(pipe.seat(1).consume(), Some((0, 10)));
        }
        pipe.assert_home();
    });
}

#[test]
fn end_of_stream() {
    explore(6, || {
        let pipe = one_buffer();
        let head = pipe.spawn(0, |head| {
            head.send_new(10);
            head.done();
        });
        assert_eq!(pipe.seat(1).drain(), [(0, 10)]);
        head.join().unwrap();
        pipe.assert_home();
    });
}

#[test]
fn reclaim_a_loan() {
    explore(3, || {
        let pipe = Pipe::new(2, &[end(2, 2), end(1, 0)]);
        pipe.seat(0).fill(10);
        let live = pipe.spawn(1, |head| {
            for data in 20..23 {
                let held = head.fill(data);
                head.free(held).unwrap();
            }
        });
        let report = reclaim(&pipe.tables, 0, Inputs::Release).unwrap();
        assert_eq!(
            report,
            Reclaimed {
                loans: 1,
                ..Reclaimed::default()
            }
        );
        live.join().unwrap();
        pipe.assert_home();
    });
}

#[test]
fn reclaim_a_send() {
    for (cut, finished) in [(Cut::Begun, 1), (Cut::Filled, 0), (Cut::Unwoken, 0)] {
        explore(3, move || {
            let pipe = one_buffer();
            let dead = pipe.seat(0);
            let held = dead.fill(10);
            let tail = pipe.spawn(1, |tail| tail.drain());
            dead.die_sending(held, 1, 0, cut);
            let report = reclaim(&pipe.tables, 0, Inputs::Release).unwrap();
            assert_eq!(
                report,
                Reclaimed {
                    finished,
                    ..Reclaimed::default()
                }
            );
            dead.done();
            assert_eq!(tail.join().unwrap(), [(0, 10)]);
            pipe.assert_home();
        });
    }
}

#[test]
fn reclaim_a_free() {
    let held = Reclaimed {
        released: 1,
        ..Reclaimed::default()
    };
    let begun = Reclaimed {
        finished: 1,
        ..Reclaimed::default()
    };
    let cuts = [
        (Cut::Held, held),
        (Cut::Begun, begun),
        (Cut::Filled, Reclaimed::default()),
        (Cut::Unwoken, Reclaimed::default()),
    ];
    for (cut, expected) in cuts {
        explore(5, move || {
            let pipe = one_buffer();
            pipe.seat(0).send_new(10);
            let dead = pipe.seat(1);
            let (held, _) = dead.next().unwrap();
            let head = pipe.spawn(0, |head| head.send_new(20));
            dead.die_sending(held, FREE_LIST, 0, cut);
            assert_eq!(reclaim(&pipe.tables, 1, Inputs::Release).unwrap(), expected);
            head.join().unwrap();
            assert_eq!(dead.consume(), Some((1, 20)), "what the replacement gets");
            pipe.assert_home();
        });
    }
}

#[test]
fn reclaim_a_take() {
    explore(4, || {
        let pipe = Pipe::new(2, &[end(1, 2), end(2, 0)]);
        let head = pipe.seat(0);
        head.send_new(10);
        head.send_new(11);
        head.done();
        let dead = pipe.seat(1);
        let live = pipe.spawn(2, |tail| tail.drain());
        // Dies when the buffer has changed hands, before the slot is emptied and the head moves.
        let taken = dead.ring(1).take::<()>(|buffer, generation, _| {
            let word = dead.word(buffer).unwrap();
            if word.state != State::Sent || word.generation != generation {
                return Ok(Claim::Lost);
            }
            let mine = word.taken_by(dead.id, word.allocator);
            let entry = &dead.tables.buffers[buffer].word;
            let won = entry.compare_exchange(
                word.encode(),
                mine.encode(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if won.is_ok() {
                Err(Corruption::new("dies here"))
            } else {
                Ok(Claim::Lost)
            }
        });
        let report = reclaim(&pipe.tables, 1, Inputs::Release).unwrap();
        assert_eq!(report.released, u32::from(taken.is_err()));
        let got = live.join().unwrap();
        assert_eq!(got.len() as u32 + report.released, 2, "each block once");
        assert!(got.iter().all(|&(number, data)| data == 10 + number));
        pipe.assert_home();
    });
}

#[test]
fn reclaim_an_answer() {
    let unsent = Reclaimed {
        loans: 1,
        inherited: 1,
        ..Reclaimed::default()
    };
    let begun = Reclaimed {
        finished: 1,
        released: 1,
        ..Reclaimed::default()
    };
    let sent = Reclaimed {
        released: 1,
        ..Reclaimed::default()
    };
    for (cut, expected) in [
        (Cut::Held, unsent),
        (Cut::Begun, begun),
        (Cut::Filled, sent),
        (Cut::Unwoken, sent),
    ] {
        explore(3, move || {
            let pipe = Pipe::new(2, &[end(1, 1), end(1, 1).numbered(), end(1, 0)]);
            pipe.seat(0).send_new(10);
            let middle = pipe.seat(1);
            let (input, number) = middle.next().unwrap();
            let output = middle.fill(20);
            let tail = pipe.spawn(2, |tail| tail.drain());
            middle.die_sending(output, 2, number, cut);
            assert_eq!(reclaim(&pipe.tables, 1, Inputs::Inherit).unwrap(), expected);
            if expected.inherited > 0 {
                // The replacement finds the input in the ledger, and answers it.
                assert_eq!((middle.number_of(input, 1), middle.read(input)), (0, 10));
                let output = middle.fill(20);
                assert_eq!(middle.send(output, 2, number).unwrap(), Put::Done);
                middle.free(input).unwrap();
            }
            middle.done();
            assert_eq!(tail.join().unwrap(), [(0, 20)], "one answer");
            pipe.assert_home();
        });
    }
}

#[test]
fn drop_a_loan() {
    explore(3, || {
        let pipe = Pipe::new(2, &[end(2, 2), end(1, 0)]);
        let panics = pipe.spawn(0, |head| {
            let held = head.fill(10);
            head.panic_with(held);
        });
        let head = pipe.seat(1);
        for data in 20..22 {
            let held = head.fill(data);
            head.free(held).unwrap();
        }
        panics.join().unwrap();
        pipe.assert_home();
    });
}

#[test]
fn drop_an_input() {
    explore(4, || {
        let pipe = one_buffer();
        pipe.seat(0).send_new(10);
        let panics = pipe.spawn(1, |tail| {
            let (held, _) = tail.next().unwrap();
            assert_eq!(tail.read(held), 10);
            tail.panic_with(held);
        });
        let head = pipe.seat(0);
        let held = head.fill(11);
        head.free(held).unwrap();
        panics.join().unwrap();
        pipe.assert_home();
    });
}
