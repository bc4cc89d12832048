//! A pipe on the heap, its seats, and the exploration of what they do.

use std::convert::Infallible;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::thread::{self, JoinHandle};

use crate::memory::atomic::Ordering;
use crate::memory::event_count::WaitKey;
use crate::memory::tables::Tables;
use crate::memory::{Number, ParticipantId, QueueId, Shape, StageId, StageShape, TableIndex};
use crate::pool::loans::Loans;
use crate::pool::participant::{Alloc, Held, Participant, fill_reserve};
use crate::pool::wait::{Blocked, Waiter, wait};
use crate::pool::word::State;
use crate::queue::Put;

/// A pipe on the heap. Loom plays all threads on one, so they may share it by [`Rc`], whose count
/// costs no steps.
pub(super) struct Pipe {
    pub(super) tables: Tables,
    /// The data of each buffer.
    payload: Vec<UnsafeCell<u64>>,
}

impl Pipe {
    pub(super) fn new(buffers: u32, stages: &[StageShape]) -> Rc<Self> {
        let stages = stages.iter().copied();
        let shape = Shape::builder(buffers, 512).stages(stages).build();
        let tables = Tables::on_heap(shape.unwrap());
        fill_reserve(&tables);
        Rc::new(Self {
            tables,
            payload: (0..buffers).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    /// The seat of participant `id`.
    pub(super) fn seat(&self, id: u32) -> Seat<'_> {
        Seat {
            pipe: self,
            me: Participant {
                tables: &self.tables,
                id: ParticipantId::new(id),
            },
        }
    }

    /// Runs `body` as participant `id`, on a thread of its own.
    pub(super) fn spawn<T: 'static>(
        self: &Rc<Self>,
        id: u32,
        body: impl FnOnce(Seat<'_>) -> T + 'static,
    ) -> JoinHandle<T> {
        let pipe = Rc::clone(self);
        thread::spawn(move || body(pipe.seat(id)))
    }

    /// Ends every wait, as the controller does.
    pub(super) fn stop(&self) {
        self.tables.header().stop.word.store(1, Ordering::Release);
        self.tables.wake_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.tables.header().stop.word.load(Ordering::Relaxed) != 0
    }

    /// Every buffer is on the free list or in the reserve, no participant has a loan, and no other
    /// queue holds anything.
    pub(super) fn assert_home(&self) {
        let view = self.seat(0);
        for buffer in self.tables.shape.buffer_ids() {
            let word = view.word(buffer).unwrap();
            assert_eq!(word.state, State::Sent, "buffer {buffer} is still held");
            let home = [QueueId::FREE_LIST, self.tables.shape.reserve()];
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
        for queue in self.tables.shape.stage_ids().skip(1).map(QueueId::input_of) {
            assert_eq!(view.ring(queue).depth(), 0, "queue {queue} is not empty");
        }
    }
}

/// A participant that waits, as a port does.
#[derive(Clone, Copy)]
pub(super) struct Seat<'a> {
    pipe: &'a Pipe,
    me: Participant<'a>,
}

impl Waiter for Seat<'_> {
    const LOOKS: u32 = 0;
    const PAUSES: u32 = 0;

    type Keys = WaitKey;

    fn mark(&self, blocked: Blocked) -> WaitKey {
        blocked.event(&self.me, self.stage()).prepare_wait()
    }

    fn is_over(&self) -> bool {
        false
    }

    fn sleep(&self, blocked: Blocked, key: WaitKey) {
        blocked.event(&self.me, self.stage()).sleep(key);
    }
}

impl<'a> Deref for Seat<'a> {
    type Target = Participant<'a>;

    fn deref(&self) -> &Participant<'a> {
        &self.me
    }
}

impl<'a> Seat<'a> {
    /// Buffers outstanding.
    pub(super) fn loans(&self) -> usize {
        Loans::of(self).count(self)
    }

    /// A buffer that holds `data`. Waits until there is one.
    pub(super) fn fill(&self, data: u64) -> Held {
        let held = self.wait(|| self.try_alloc());
        self.write(held, data);
        held
    }

    /// Sends `data` to the first queue.
    pub(super) fn send_new(&self, data: u64) {
        let (held, queue) = (self.fill(data), QueueId::output_of(StageId::HEAD));
        assert_eq!(self.send(held, queue, Number::FIRST).unwrap(), Put::Done);
    }

    /// The next block; `None` at the end. Waits until there is one.
    pub(super) fn next(&self) -> Option<(Held, Number)> {
        self.wait(|| self.try_receive())
    }

    /// Receives a block and frees it; returns its number and its data.
    pub(super) fn consume(&self) -> Option<(u64, u64)> {
        let (held, number) = self.next()?;
        let data = self.read(held);
        self.free(held).unwrap();
        Some((number.get(), data))
    }

    /// Receives and frees to the end; returns each number and its data.
    pub(super) fn drain(&self) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| self.consume()).collect()
    }

    pub(super) fn done(&self) {
        self.finish(self.id);
    }

    pub(super) fn try_alloc(&self) -> Result<Held, Blocked> {
        match self.alloc(&mut Loans::of(self)).unwrap() {
            Alloc::Got(held) => Ok(held),
            Alloc::AtLimit => Err(Blocked::AtLimit),
            Alloc::NoneFree => Err(Blocked::NoneFree),
        }
    }

    /// `Ok(None)` is the end of the stream.
    pub(super) fn try_receive(&self) -> Result<Option<(Held, Number)>, Blocked> {
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

    /// The result of `attempt`, or `None` if the pipe was stopped before it.
    pub(super) fn unless_stopped<T>(
        &self,
        attempt: impl FnOnce() -> Result<T, Blocked>,
    ) -> Result<Option<T>, Blocked> {
        if self.pipe.is_stopped() {
            Ok(None)
        } else {
            attempt().map(Some)
        }
    }

    /// Waits as a port does, in the same loop, without its patience and its deadline.
    pub(super) fn wait<T>(&self, mut attempt: impl FnMut() -> Result<T, Blocked>) -> T {
        let Ok(done) = wait(self, || Ok::<_, Infallible>(attempt()));
        done.expect("a wait without a deadline ends with something")
    }

    /// The participant's stage.
    fn stage(&self) -> StageId {
        self.tables.shape.stage_of(self.id).unwrap()
    }

    /// The queue that the participant's stage receives from.
    fn input(&self) -> QueueId {
        QueueId::input_of(self.stage())
    }

    pub(super) fn write(&self, held: Held, data: u64) {
        // SAFETY: the pointer is valid as long as the cell. The ledger says that no other one has
        // the buffer, and loom fails the model if one does.
        self.pipe.payload[held.buffer.as_index()].with_mut(|payload| unsafe { *payload = data });
    }

    /// Reads a payload as one who might also write it.
    pub(super) fn read(&self, held: Held) -> u64 {
        // SAFETY: as above.
        self.pipe.payload[held.buffer.as_index()].with_mut(|payload| unsafe { *payload })
    }
}

/// Explores `body` with up to `preemptions` preemptions, and prints the number of executions.
pub(super) fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
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

/// A stage of `instances` that together may have `share` buffers outstanding.
pub(super) fn end(instances: u32, share: u32) -> StageShape {
    StageShape::new(instances).share(share)
}

/// A head and a tail with one buffer between them.
pub(super) fn one_buffer() -> Rc<Pipe> {
    Pipe::new(1, &[end(1, 1), end(1, 0)])
}
