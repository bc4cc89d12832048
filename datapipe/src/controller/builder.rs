//! What the caller asks for.

use std::time::Duration;

use crate::error::Error;
use crate::limits::{DEFAULT_BUFFER_SIZE, DEFAULT_HEADROOM, DEFAULT_STOPPED_LIMIT, DEFAULT_TAILROOM};
use crate::memory::{Backing, Direction, HugePages};
use crate::stage::{HeadStage, MiddleStage, TailStage};

use super::cancel::Canceller;
use super::event::{Event, Listener};
use super::plan::Plan;
use super::running::Pipe;
use super::status::Report;
use super::supervise::Prepared;

/// Describes a pipe, and starts it. Made by [`Pipe::builder`].
#[derive(Debug)]
#[must_use = "a pipe does nothing until it is run or started"]
pub struct PipeBuilder<'a> {
    pub(super) label: String,
    pub(super) head: Option<HeadStage<'a>>,
    pub(super) middles: Vec<MiddleStage<'a>>,
    pub(super) tail: Option<TailStage<'a>>,
    pub(super) buffers: Option<u32>,
    pub(super) buffer_size: u32,
    pub(super) headroom: u32,
    pub(super) tailroom: u32,
    pub(super) at_limit: AtLimit,
    pub(super) backing: Backing,
    pub(super) huge_pages: HugePages,
    pub(super) direction: Direction,
    pub(super) canceller: Canceller,
    pub(super) listener: Listener,
    pub(super) stopped_limit: Duration,
}

/// What becomes of an instance that wants a buffer when its quota is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtLimit {
    /// It waits until one of its buffers has come back: the pipe runs at the speed of its slowest stage.
    #[default]
    Wait,
    /// It ends with an error, and the pipe with it: for sources that must not be kept waiting.
    Terminate,
}

impl<'a> PipeBuilder<'a> {
    pub(super) fn new() -> Self {
        Self {
            label: "pipe".to_owned(),
            head: None,
            middles: Vec::new(),
            tail: None,
            buffers: None,
            buffer_size: DEFAULT_BUFFER_SIZE,
            headroom: DEFAULT_HEADROOM,
            tailroom: DEFAULT_TAILROOM,
            at_limit: AtLimit::default(),
            backing: Backing::default(),
            huge_pages: HugePages::default(),
            direction: Direction::default(),
            canceller: Canceller::new(),
            listener: Listener::default(),
            stopped_limit: DEFAULT_STOPPED_LIMIT,
        }
    }

    /// Calls the pipe something, for messages. Its unique name is another thing: [`Plan::name`].
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Sets the first stage.
    pub fn head(mut self, head: impl Into<HeadStage<'a>>) -> Self {
        self.head = Some(head.into());
        self
    }

    /// Adds a stage behind those added so far.
    pub fn stage(mut self, stage: impl Into<MiddleStage<'a>>) -> Self {
        self.middles.push(stage.into());
        self
    }

    /// Sets the last stage.
    pub fn tail(mut self, tail: impl Into<TailStage<'a>>) -> Self {
        self.tail = Some(tail.into());
        self
    }

    /// Uses a pool of `n` buffers, 1 to [`MAX_BUFFERS`](crate::limits::MAX_BUFFERS), instead of as many as the
    /// stages work well with.
    pub fn buffers(mut self, n: u32) -> Self {
        self.buffers = Some(n);
        self
    }

    /// Uses buffers of `bytes` payload instead of 4 MiB: [`MIN_BUFFER_SIZE`](crate::limits::MIN_BUFFER_SIZE) to
    /// [`MAX_BUFFER_SIZE`](crate::limits::MAX_BUFFER_SIZE).
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.buffer_size = bytes;
        self
    }

    /// Reserves `headroom` bytes before and `tailroom` bytes behind the payload of each buffer, instead of 4 KiB.
    pub fn rooms(mut self, headroom: u32, tailroom: u32) -> Self {
        (self.headroom, self.tailroom) = (headroom, tailroom);
        self
    }

    /// Sets what becomes of an instance that wants a buffer when its quota is used up.
    pub fn at_limit(mut self, policy: AtLimit) -> Self {
        self.at_limit = policy;
        self
    }

    /// Sets where the shared memory comes from.
    pub fn backing(mut self, backing: Backing) -> Self {
        self.backing = backing;
        self
    }

    /// Sets whether the shared memory should have huge pages.
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// Says which way the data flows, for everybody who looks at the pipe: archiving, if nobody says otherwise.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Calls `listener` with what happens to the pipe's processes, as it happens. It is called on the thread that looks
    /// after them, and should return soon.
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listener = Listener::new(listener);
        self
    }

    /// Sets how long a process of a stage may be stopped (by SIGSTOP, say) until it is killed, instead of 5 seconds: it may
    /// hold what all others wait for. One that attached is left alone, but the pipe stops.
    pub fn stopped_limit(mut self, limit: Duration) -> Self {
        self.stopped_limit = limit;
        self
    }

    /// What stops the pipe from another thread, also before it has started.
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Checks the description and works out its numbers, without making anything.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the pipe could not work, with the reason.
    pub fn plan(&self) -> Result<Plan, Error> {
        Plan::of(self)
    }

    /// Runs the pipe to its end on this thread and those it starts, all of which have ended when it returns.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] before anything is made; [`Error::Stage`] with the stage that failed first;
    /// [`Error::Cancelled`] if a [`Canceller`] stopped it. However it ends, every buffer, thread and mapping is
    /// given back.
    pub fn run(self) -> Result<Report, Error> {
        Prepared::new(self)?.supervise()
    }
}

impl PipeBuilder<'static> {
    /// Starts the pipe in the background.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), for what goes wrong before the stages work; the rest comes from [`Pipe::wait`].
    pub fn start(self) -> Result<Pipe, Error> {
        Pipe::start(Prepared::new(self)?)
    }
}
