//! The four primitives with waiting, as one instance of one stage may use them.
//!
//! Three port types, one for each role, so that the compiler refuses what the role may not do: a
//! head allocates and sends, a tail receives and frees, everything between may do all four. Freeing
//! is dropping a [`Block`].
//!
//! A port belongs to one thread. Its waits end when the pipe stops, and never outlast their
//! timeout.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::memory::Corruption;
use crate::memory::atomic::{AtomicU64, Ordering, spin_loop};
use crate::memory::event::{EventCount, WaitKey};
use crate::memory::points::point;
use crate::memory::tables::{ParticipantEntry, Tables};
use crate::memory::{QueueKind, Segment};
use crate::queue::Put;

use super::lease::{Block, LeaseKind};
use super::loans::Loans;
use super::participant::{Activity, Alloc, FREE_LIST, Held, Participant};
use super::word::State;

/// A place in a pipe for one instance of one stage, not yet taken. Unlike the port it turns into,
/// it may move to the thread that will use it.
#[derive(Clone, Debug)]
pub struct Seat {
    segment: Segment,
    stage: u32,
    instance: u32,
    terminate_at_limit: bool,
}

/// Why an attempt that does not wait got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Blocked {
    /// The instance has as many buffers outstanding as its quota allows.
    AtLimit,
    /// The free list is empty for the moment.
    NoneFree,
    /// There is no input.
    NoInput,
}

/// Why a primitive did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortError {
    /// The pipe stops. Whoever gets this returns as soon as it can.
    Stopped,
    /// The instance has its whole quota outstanding, and the pipe's policy is to end it rather than
    /// to let it wait.
    AtLimit {
        /// Buffers that the instance may have outstanding.
        quota: u32,
    },
    /// The caller broke the rules of its port.
    Misuse(&'static str),
    /// Another port has the seat.
    SeatTaken {
        /// Stage of the seat.
        stage: u32,
        /// Instance of the stage.
        instance: u32,
        /// Process of that port, as the segment says.
        process: u32,
    },
    /// The words in shared memory contradict themselves.
    Corrupt(Corruption),
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the pipe was stopped"),
            Self::AtLimit { quota } => write!(
                f,
                "all {quota} buffers that this instance may have are outstanding, and the pipe's policy is to end it"
            ),
            Self::SeatTaken {
                stage,
                instance,
                process,
            } => {
                write!(
                    f,
                    "the seat of instance {instance} of stage {stage} is taken by process {process}"
                )
            }
            Self::Misuse(what) => write!(f, "the stage broke the rules of its port: {what}"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl std::error::Error for PortError {}

impl From<Corruption> for PortError {
    fn from(corrupt: Corruption) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl Seat {
    /// The seat of instance `instance` of stage `stage`.
    ///
    /// # Panics
    ///
    /// If there is no such instance.
    pub fn new(segment: &Segment, stage: u32, instance: u32) -> Self {
        let instances = segment.shape().stages()[stage as usize].instances;
        assert!(
            instance < instances,
            "stage {stage} has {instances} instances, no instance {instance}"
        );
        Self {
            segment: segment.clone(),
            stage,
            instance,
            terminate_at_limit: false,
        }
    }

    /// Ends the instance with [`PortError::AtLimit`] where it would otherwise wait for its own
    /// buffers to come back.
    #[must_use]
    pub fn terminate_at_limit(self, yes: bool) -> Self {
        Self {
            terminate_at_limit: yes,
            ..self
        }
    }

    /// Takes the seat as head.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`]: each has one port at a time, in all processes.
    ///
    /// # Panics
    ///
    /// If the stage is not the first.
    pub fn head(&self) -> Result<HeadPort, PortError> {
        assert_eq!(self.stage, 0, "the head is the first stage");
        Ok(HeadPort {
            core: PortCore::new(self)?,
        })
    }

    /// Takes the seat between head and tail.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`]: each has one port at a time, in all processes.
    ///
    /// # Panics
    ///
    /// If the stage is the first or the last.
    pub fn middle(&self) -> Result<MiddlePort, PortError> {
        assert!(
            self.stage > 0 && !self.is_last(),
            "a middle stage is neither first nor last"
        );
        Ok(MiddlePort {
            core: PortCore::new(self)?,
        })
    }

    /// Takes the seat as tail.
    ///
    /// # Errors
    ///
    /// [`PortError::SeatTaken`]: each has one port at a time, in all processes.
    ///
    /// # Panics
    ///
    /// If the stage is not the last.
    pub fn tail(&self) -> Result<TailPort, PortError> {
        assert!(self.is_last(), "the tail is the last stage");
        Ok(TailPort {
            core: PortCore::new(self)?,
        })
    }

    /// Whether the seat is a head's.
    pub(crate) fn is_head(&self) -> bool {
        self.stage == 0
    }

    fn is_last(&self) -> bool {
        self.stage + 1 == self.segment.shape().stage_count()
    }
}

/// The primitives of the first stage.
#[derive(Debug)]
pub struct HeadPort {
    core: Rc<PortCore>,
}

/// The primitives of a stage between two queues.
#[derive(Debug)]
pub struct MiddlePort {
    core: Rc<PortCore>,
}

/// The primitives of the last stage.
#[derive(Debug)]
pub struct TailPort {
    core: Rc<PortCore>,
}

macro_rules! allocating {
    () => {
        /// An empty buffer. Waits until this instance may have one.
        ///
        /// # Errors
        ///
        /// [`PortError::Stopped`] when the pipe stops; [`PortError::AtLimit`] if that is the pipe's
        /// policy.
        #[inline(always)]
        pub fn alloc(&self) -> Result<Block, PortError> {
            let held = self
                .core
                .wait(None, || self.core.try_loan())
                .map(no_deadline)?;
            Ok(Block::loan(&self.core, held))
        }

        /// As [`alloc`](Self::alloc), but gives up after `timeout` with `None`.
        ///
        /// # Errors
        ///
        /// As [`alloc`](Self::alloc).
        pub fn alloc_timeout(&self, timeout: Duration) -> Result<Option<Block>, PortError> {
            let held = self
                .core
                .wait(Instant::now().checked_add(timeout), || self.core.try_loan())?;
            Ok(held.map(|held| Block::loan(&self.core, held)))
        }

        /// An empty buffer, if this instance may have one at once.
        ///
        /// # Errors
        ///
        /// As [`alloc`](Self::alloc).
        #[inline(always)]
        pub fn try_alloc(&self) -> Result<Result<Block, Blocked>, PortError> {
            self.core.try_alloc()
        }
    };
}

macro_rules! receiving {
    () => {
        /// The next block, in order; `None` at the end of the stream. Waits until there is one.
        ///
        /// # Errors
        ///
        /// [`PortError::Stopped`] when the pipe stops.
        #[inline(always)]
        pub fn receive(&self) -> Result<Option<Block>, PortError> {
            self.core.receive(None).map(no_deadline)
        }

        /// As [`receive`](Self::receive), but gives up after `timeout` with [`Blocked::NoInput`].
        ///
        /// # Errors
        ///
        /// As [`receive`](Self::receive).
        pub fn receive_timeout(
            &self,
            timeout: Duration,
        ) -> Result<Result<Option<Block>, Blocked>, PortError> {
            let got = self.core.receive(Instant::now().checked_add(timeout))?;
            Ok(got.ok_or(Blocked::NoInput))
        }

        /// The next block, if there is one at once; `Ok(None)` at the end of the stream.
        ///
        /// # Errors
        ///
        /// As [`receive`](Self::receive).
        #[inline(always)]
        pub fn try_receive(&self) -> Result<Result<Option<Block>, Blocked>, PortError> {
            self.core.try_receive()
        }
    };
}

macro_rules! every_port {
    () => {
        /// Says that this instance has sent, or received, everything it ever will, and ends it
        /// well.
        ///
        /// A port that is dropped without this leaves the stream open: those behind it wait until
        /// the pipe stops.
        ///
        /// # Errors
        ///
        /// [`PortError::Misuse`] if a numbered stage leaves an input without an answer, if the
        /// input has not been received to its end, or if a
        /// [`BlockWriter`](crate::stage::BlockWriter) was dropped with data in it.
        pub fn finish(self) -> Result<(), PortError> {
            self.core.check_finished()?;
            self.core.participant().finish(self.core.id);
            Ok(())
        }

        pub(crate) fn core(&self) -> &Rc<PortCore> {
            &self.core
        }
    };
}

impl HeadPort {
    allocating!();
    every_port!();

    /// Hands a block on to the next stage.
    ///
    /// # Errors
    ///
    /// [`PortError::Stopped`] when the pipe stops; the block is freed.
    #[inline]
    pub fn send(&self, block: Block) -> Result<(), PortError> {
        self.core.send(block, 0)
    }
}

impl MiddlePort {
    allocating!();
    receiving!();
    every_port!();

    /// Hands `output` on to the next stage as the answer to `input`, whose number it gets. The
    /// input is freed when it is dropped.
    ///
    /// # Errors
    ///
    /// [`PortError::Stopped`] when the pipe stops; [`PortError::Misuse`] if the stage is numbered
    /// and has answered this input before. The output is freed.
    pub fn send(&self, output: Block, input: &Block) -> Result<(), PortError> {
        self.core.answer(input)?;
        self.core.send(output, input.number())
    }

    /// Hands an input on to the next stage as it is, or as it was changed in place.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn forward(&self, input: Block) -> Result<(), PortError> {
        self.core.answer(&input)?;
        let number = input.number();
        self.core.send(input, number)
    }

    /// Drops an input from the stream. Where numbers have to stay dense, it travels on without its
    /// content, and every stage behind passes it by.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn discard(&self, mut input: Block) -> Result<(), PortError> {
        if !self.core.numbered {
            return Ok(());
        }
        input.make_vacant();
        self.forward(input)
    }

    /// Hands on a block that answers no input: a stage that is not numbered may send what it likes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`PortError::Misuse`] if the stage is numbered.
    pub fn emit(&self, output: Block) -> Result<(), PortError> {
        if self.core.numbered {
            return Err(PortError::Misuse(
                "a numbered stage sends only answers to its inputs",
            ));
        }
        self.core.send(output, 0)
    }
}

impl TailPort {
    receiving!();
    every_port!();

    /// Says that this instance has received everything it ever will, and goes on.
    pub(crate) fn close(&self) -> Result<(), PortError> {
        self.core.check_finished()?;
        self.core.participant().finish(self.core.id);
        Ok(())
    }

    /// Whether every instance of the stage has said so.
    pub(crate) fn try_all_closed(&self) -> Result<Result<(), Blocked>, PortError> {
        self.core.check()?;
        let closed = self.core.participant().is_done(self.core.stage);
        Ok(if closed {
            Ok(())
        } else {
            Err(Blocked::NoInput)
        })
    }
}

/// What every role has in common.
#[derive(Debug)]
pub(crate) struct PortCore {
    pub(crate) tables: Arc<Tables>,
    id: u32,
    stage: u32,
    numbered: bool,
    terminate_at_limit: bool,
    /// What counts against the quota.
    loans: RefCell<Loans>,
    /// Inputs that a dead predecessor held, in the order of their numbers.
    inherited: RefCell<VecDeque<(Held, u64)>>,
    /// Inputs that were received and are neither answered nor gone.
    open: Cell<u32>,
    /// The highest number that was answered, and one more: a numbered stage answers in order.
    answered: Cell<u64>,
    /// A numbered stage let go of an input without answering it.
    unanswered: Cell<bool>,
    /// A writer that was to become blocks was dropped with data in it.
    unsent: Cell<bool>,
    /// Whether blocks that stages before have dropped are freed here, instead of handed on.
    skips_vacant: Cell<bool>,
    /// The stream was seen to have ended: true from the start for a head.
    drained: Cell<bool>,
}

/// Looks before a sleep, and the processor's own short pauses before each: about 10 us in all.
/// Waking a sleeper takes 8 to 50 us. Shorter pauses are worse, for a look takes the words from
/// under those who are to move them.
const LOOKS: u32 = 8;
const PAUSES: u32 = 64;

impl PortCore {
    fn new(seat: &Seat) -> Result<Rc<Self>, PortError> {
        let tables = Arc::clone(seat.segment.tables());
        let shape = &tables.shape;
        let id = shape.instances_of(seat.stage).start + seat.instance;
        // SYNC(seat-taken): one port for each seat, or two leases could be of one buffer.
        let owner = &tables.participants[id].owner;
        let taken = owner.compare_exchange(0, process_id(), Ordering::AcqRel, Ordering::Acquire);
        if let Err(process) = taken {
            let (stage, instance) = (seat.stage, seat.instance);
            return Err(PortError::SeatTaken {
                stage,
                instance,
                process,
            });
        }
        point!("seat.taken");
        let core = Self {
            id,
            stage: seat.stage,
            numbered: shape.is_numbered(seat.stage),
            terminate_at_limit: seat.terminate_at_limit,
            loans: RefCell::new(Loans::of(&Participant {
                tables: &tables,
                id,
            })),
            inherited: RefCell::new(inheritance(&tables, id)),
            open: Cell::new(0),
            answered: Cell::new(0),
            unanswered: Cell::new(false),
            skips_vacant: Cell::new(false),
            unsent: Cell::new(false),
            drained: Cell::new(seat.stage == 0),
            tables,
        };
        let entry = core.entry();
        entry.started.store(now(), Ordering::Relaxed);
        entry.ended.store(0, Ordering::Relaxed);
        point!("seat.started");
        core.set_activity(Activity::Working);
        point!("seat.working");
        Ok(Rc::new(core))
    }

    #[inline]
    pub(crate) fn participant(&self) -> Participant<'_> {
        Participant {
            tables: &self.tables,
            id: self.id,
        }
    }

    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.tables.header[0].stop.word.load(Ordering::Relaxed) != 0
    }

    #[inline(always)]
    pub(crate) fn try_alloc(self: &Rc<Self>) -> Result<Result<Block, Blocked>, PortError> {
        Ok(self.try_loan()?.map(|held| Block::loan(self, held)))
    }

    /// What an allocation gets, before it is a block: fewer words to move about.
    #[inline(always)]
    pub(crate) fn try_loan(&self) -> Result<Result<Held, Blocked>, PortError> {
        self.check()?;
        match self.participant().alloc(&mut self.loans.borrow_mut())? {
            Alloc::Got(held) => Ok(Ok(held)),
            Alloc::AtLimit => self.at_limit(),
            Alloc::NoneFree => Ok(Err(Blocked::NoneFree)),
        }
    }

    #[cold]
    fn at_limit<T>(&self) -> Result<Result<T, Blocked>, PortError> {
        match self.tables.shape.quota(self.id) {
            0 => Err(PortError::Misuse(
                "a stage that said that it never allocates wants a buffer",
            )),
            quota if self.terminate_at_limit => Err(PortError::AtLimit { quota }),
            _ => Ok(Err(Blocked::AtLimit)),
        }
    }

    /// The next block that somebody wants to see.
    pub(crate) fn try_receive(
        self: &Rc<Self>,
    ) -> Result<Result<Option<Block>, Blocked>, PortError> {
        loop {
            match self.try_input()? {
                Ok(Some((held, number))) => match self.accept(held, number)? {
                    block if self.passes_by(&block) => drop(block),
                    block => return Ok(Ok(Some(block))),
                },
                Ok(None) => return Ok(Ok(None)),
                Err(blocked) => return Ok(Err(blocked)),
            }
        }
    }

    /// As [`try_receive`](Self::try_receive), but waits. `None` after `deadline`.
    #[inline(always)]
    fn receive(
        self: &Rc<Self>,
        deadline: Option<Instant>,
    ) -> Result<Option<Option<Block>>, PortError> {
        loop {
            let Some(input) = self.wait(deadline, || self.try_input())? else {
                return Ok(None);
            };
            let Some((held, number)) = input else {
                return Ok(Some(None));
            };
            let block = self.accept(held, number)?;
            if !self.passes_by(&block) {
                return Ok(Some(Some(block)));
            }
        }
    }

    /// Frees blocks that stages before have dropped, from now on or no longer. Not for numbered
    /// stages, which owe an answer to each.
    pub(crate) fn skip_vacant(&self, skip: bool) {
        self.skips_vacant.set(skip && !self.numbered);
    }

    fn passes_by(&self, block: &Block) -> bool {
        self.skips_vacant.get() && block.is_vacant()
    }

    /// What a receive gets, before it is a block.
    #[inline(always)]
    fn try_input(&self) -> Result<Result<Option<(Held, u64)>, Blocked>, PortError> {
        self.check()?;
        let inherited = self.inherited.borrow_mut().pop_front();
        let queue = self.stage;
        let got = match inherited {
            Some(input) => Some(input),
            None => self.participant().receive(queue)?,
        };
        if got.is_some() {
            Ok(Ok(got))
        } else {
            self.no_input()
        }
    }

    /// Whether an empty queue is the end of the stream.
    #[cold]
    fn no_input(&self) -> Result<Result<Option<(Held, u64)>, Blocked>, PortError> {
        let queue = self.stage;
        if !self.participant().feeders_done(queue) {
            return Ok(Err(Blocked::NoInput));
        }
        // What they sent last may have come between the two looks.
        let got = self.participant().receive(queue)?;
        if got.is_some() {
            return Ok(Ok(got));
        }
        let (head, tail) = self.participant().ring(queue).ends();
        // Each number that the feeders took they have answered, and each answer was taken.
        let ordered = self.tables.shape.queue_kind(queue) == QueueKind::Ordered;
        let short = ordered && self.participant().ring(queue - 1).ends().0 != head;
        if tail > head || short {
            return Err(
                Corruption::new("a number is missing at the end of the stream")
                    .at_queue(queue)
                    .into(),
            );
        }
        self.drained.set(true);
        Ok(Ok(None))
    }

    #[inline(always)]
    fn accept(self: &Rc<Self>, held: Held, number: u64) -> Result<Block, PortError> {
        let block = Block::input(self, held, number)?;
        self.open.set(self.open.get() + 1);
        let counters = &self.entry().counters;
        add(&counters.blocks_in, u64::from(!block.is_vacant()));
        add(&counters.bytes_in, block.len() as u64);
        point!("receive.counted");
        Ok(block)
    }

    #[inline]
    pub(crate) fn send(&self, block: Block, number: u64) -> Result<(), PortError> {
        self.check()?;
        if !block.is_of(self) {
            return Err(PortError::Misuse(
                "a block belongs to the port that it came from",
            ));
        }
        if self.numbered && block.standing() == LeaseKind::Input {
            return Err(PortError::Misuse(
                "an input that was not answered cannot be another's answer",
            ));
        }
        let (vacant, len) = (block.is_vacant(), block.len() as u64);
        let put = self
            .participant()
            .send(block.release(), self.stage + 1, number)?;
        if put == Put::Duplicate {
            return Err(PortError::Misuse("a number was answered twice"));
        }
        let counters = &self.entry().counters;
        add(&counters.blocks_out, u64::from(!vacant));
        add(&counters.bytes_out, len);
        point!("send.counted");
        Ok(())
    }

    /// Notes that `input` is being answered.
    pub(crate) fn answer(&self, input: &Block) -> Result<(), PortError> {
        if !input.is_of(self) {
            return Err(PortError::Misuse(
                "a block belongs to the port that it came from",
            ));
        }
        match input.standing() {
            LeaseKind::Loan => Err(PortError::Misuse(
                "a block that was not received cannot be answered",
            )),
            LeaseKind::Answered if self.numbered => {
                Err(PortError::Misuse("an input was answered twice"))
            }
            LeaseKind::Answered => Ok(()),
            // The answer to a later number waits in its queue for the earlier one. An instance that
            // then waited for a buffer to answer the earlier one with would wait for ever.
            LeaseKind::Input if self.numbered && input.number() < self.answered.get() => Err(
                PortError::Misuse("a numbered stage answers its inputs in their order"),
            ),
            LeaseKind::Input => {
                input.set_answered();
                self.open.set(self.open.get() - 1);
                self.answered.set(input.number() + 1);
                Ok(())
            }
        }
    }

    /// A lease of ours was dropped.
    #[inline]
    pub(super) fn dropped(&self, held: Held, standing: LeaseKind) {
        // An error here means that the shared words are corrupt. A drop cannot say so: the next
        // primitive of anybody who meets the buffer does, or the controller's audit.
        let _ = self.participant().free(held);
        if standing == LeaseKind::Input {
            self.open.set(self.open.get() - 1);
            self.unanswered.set(self.numbered);
        }
    }

    /// Notes that data which was to be sent is lost.
    pub(crate) fn note_unsent(&self) {
        self.unsent.set(true);
    }

    fn check_finished(&self) -> Result<(), PortError> {
        if !self.drained.get() {
            return Err(PortError::Misuse(
                "the stage returned before the end of its input",
            ));
        }
        if self.unsent.get() {
            return Err(PortError::Misuse(
                "a writer was dropped before it had sent what was written to it",
            ));
        }
        if self.numbered && self.open.get() > 0 {
            return Err(PortError::Misuse(
                "a numbered stage ended with an input that it has not answered",
            ));
        }
        self.check_answered()
    }

    #[inline]
    fn check(&self) -> Result<(), PortError> {
        if self.is_stopped() {
            return Err(PortError::Stopped);
        }
        self.check_answered()
    }

    #[inline]
    fn check_answered(&self) -> Result<(), PortError> {
        if self.unanswered.get() {
            return Err(PortError::Misuse(
                "a numbered stage let go of an input without sending or discarding it",
            ));
        }
        Ok(())
    }

    /// Does what `attempt` does, again and again, until it gets something or `deadline` is over.
    ///
    /// `attempt` must itself notice a stop, as every `try_` primitive does.
    #[inline(always)]
    pub(crate) fn wait<T, E>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Result<Result<T, Blocked>, E>,
    ) -> Result<Option<T>, E> {
        match attempt()? {
            Ok(done) => Ok(Some(done)),
            Err(_) => self.wait_longer(deadline, attempt),
        }
    }

    /// The rest of a wait whose first attempt got nothing.
    #[cold]
    #[inline(never)]
    fn wait_longer<T, E>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Result<Result<T, Blocked>, E>,
    ) -> Result<Option<T>, E> {
        for _ in 0..LOOKS {
            (0..PAUSES).for_each(|_| spin_loop());
            if let Ok(done) = attempt()? {
                return Ok(Some(done));
            }
        }
        let mut blocked = match attempt()? {
            Ok(done) => return Ok(Some(done)),
            Err(blocked) => blocked,
        };
        loop {
            let (event, ticket) = self.mark(blocked);
            match attempt()? {
                Ok(done) => return Ok(Some(done)),
                Err(other) if other != blocked => blocked = other,
                Err(_) if deadline.is_some_and(|at| Instant::now() >= at) => return Ok(None),
                Err(_) => self.asleep(blocked, deadline.is_some(), || {
                    event.sleep(ticket, deadline)
                }),
            }
        }
    }

    /// Marks a sleeper on the event that ends `blocked`. The caller looks once more before it
    /// sleeps.
    pub(crate) fn mark(&self, blocked: Blocked) -> (&EventCount, WaitKey) {
        let event = match blocked {
            Blocked::AtLimit => &self.entry().credit.event,
            Blocked::NoneFree => self.participant().ring(FREE_LIST).event(),
            Blocked::NoInput => self.participant().ring(self.stage).event(),
        };
        (event, event.mark())
    }

    /// Runs `sleep`, and counts its time as time spent waiting. `timed`: it ends by itself.
    pub(crate) fn asleep(&self, blocked: Blocked, timed: bool, sleep: impl FnOnce()) {
        let (activity, counter) = match blocked {
            Blocked::AtLimit | Blocked::NoneFree => (
                Activity::WaitingForBuffer,
                &self.entry().counters.alloc_wait,
            ),
            Blocked::NoInput => (
                Activity::WaitingForInput,
                &self.entry().counters.receive_wait,
            ),
        };
        let start = now();
        self.entry().since.store(start, Ordering::Relaxed);
        activity.note(&self.tables, self.id, timed);
        point!("wait.noted");
        sleep();
        point!("wait.woken");
        add(counter, now().saturating_sub(start));
        self.set_activity(Activity::Working);
    }

    /// The participant whose seat this is.
    #[cfg(not(loom))]
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Counts time as time spent waiting for buffers, which somebody else did whom this instance
    /// waited for.
    #[cfg(not(loom))]
    pub(crate) fn count_wait(&self, time: Duration) {
        add(
            &self.entry().counters.alloc_wait,
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        );
    }

    fn set_activity(&self, activity: Activity) {
        activity.note(&self.tables, self.id, false);
    }

    #[inline]
    fn entry(&self) -> &ParticipantEntry {
        &self.tables.participants[self.id]
    }
}

impl Drop for PortCore {
    fn drop(&mut self) {
        self.entry().ended.store(now(), Ordering::Relaxed);
        point!("leave.timed");
        self.set_activity(Activity::Ended);
        point!("leave.ended");
        // SYNC(seat-taken): the last lease is gone, too, for each holds a count of us.
        self.entry().owner.store(0, Ordering::Release);
        point!("leave.left");
    }
}

/// The inputs that participant `id` already holds, in the order of their numbers: its predecessor
/// died with them.
pub(super) fn inheritance(tables: &Tables, id: u32) -> VecDeque<(Held, u64)> {
    let participant = Participant { tables, id };
    let mut inputs: Vec<_> = (0..tables.shape.buffers())
        .filter_map(|buffer| {
            let word = participant.word(buffer).ok()?;
            let held = Held {
                buffer,
                generation: word.generation,
            };
            let input = word.state == State::Held && word.who == id && word.allocator != id;
            input.then(|| (held, participant.number_of(held, id)))
        })
        .collect();
    inputs.sort_by_key(|&(_, number)| number);
    inputs.into()
}

/// The result of a wait that had no deadline.
#[inline]
fn no_deadline<T>(got: Option<T>) -> T {
    got.expect("a wait without a deadline ends with something, or with an error")
}

/// Adds to a counter that only the caller writes.
#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(amount),
        Ordering::Relaxed,
    );
}

fn process_id() -> u32 {
    rustix::process::getpid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}

/// The monotonic clock, the same for all processes of the machine, in nanoseconds.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
