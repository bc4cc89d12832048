//! What the caller asks for.

use std::collections::HashSet;
use std::time::Duration;

use crate::error::Error;
use crate::limits::{
    DEFAULT_BUFFER_SIZE, DEFAULT_HEADROOM, DEFAULT_STOPPED_LIMIT, DEFAULT_TAILROOM, MAX_NAME,
};
use crate::memory::{Backing, Direction, HugePages};
use crate::stage::{HeadStage, MiddleStage, Stage, TailStage};
use crate::wire::codec::truncate;

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
    /// It waits until one of its buffers has come back: the pipe runs at the speed of its slowest
    /// stage.
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
    ///
    /// A stage that is called as one that the pipe has already gets a number behind its name, here
    /// and below, so that messages and status tell them apart: the second `zstd` is `zstd 2`.
    /// [`Stage::named`](crate::stage::Stage::named) calls it something better.
    pub fn head(mut self, head: impl Into<HeadStage<'a>>) -> Self {
        self.head = None;
        let mut head = head.into();
        head.settings.name = self.distinct(head.settings.name);
        self.head = Some(head);
        self
    }

    /// Adds a stage behind those added so far.
    pub fn stage(mut self, stage: impl Into<MiddleStage<'a>>) -> Self {
        let mut stage = stage.into();
        stage.settings.name = self.distinct(stage.settings.name);
        self.middles.push(stage);
        self
    }

    /// Sets the last stage.
    pub fn tail(mut self, tail: impl Into<TailStage<'a>>) -> Self {
        self.tail = None;
        let mut tail = tail.into();
        tail.settings.name = self.distinct(tail.settings.name);
        self.tail = Some(tail);
        self
    }

    /// Runs all stages that were added so far in processes: [`Stage::in_processes`].
    pub fn in_processes(mut self) -> Self {
        self.head = self.head.map(Stage::in_processes);
        self.middles = self.middles.into_iter().map(Stage::in_processes).collect();
        self.tail = self.tail.map(Stage::in_processes);
        self
    }

    /// Uses a pool of `n` buffers, 1 to [`MAX_BUFFERS`](crate::limits::MAX_BUFFERS), instead of as
    /// many as the stages work well with.
    pub fn buffers(mut self, n: u32) -> Self {
        self.buffers = Some(n);
        self
    }

    /// Uses buffers of `bytes` payload instead of 4 MiB:
    /// [`MIN_BUFFER_SIZE`](crate::limits::MIN_BUFFER_SIZE) to
    /// [`MAX_BUFFER_SIZE`](crate::limits::MAX_BUFFER_SIZE).
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.buffer_size = bytes;
        self
    }

    /// Reserves `headroom` bytes before and `tailroom` bytes behind the payload of each buffer,
    /// instead of 4 KiB.
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

    /// Says which way the data flows, for everybody who looks at the pipe: archiving, if nobody
    /// says otherwise.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// `name`, or what comes of it by a number if a stage is called that already.
    fn distinct(&self, name: String) -> String {
        let head = self.head.iter().map(|stage| &stage.settings.name);
        let middles = self.middles.iter().map(|stage| &stage.settings.name);
        let tail = self.tail.iter().map(|stage| &stage.settings.name);
        let taken: HashSet<&String> = head.chain(middles).chain(tail).collect();
        let numbered = (2..).map(|number| {
            let number = format!(" {number}");
            // A name that is as long as names may be stays so.
            truncate(&name, MAX_NAME - number.len()).to_owned() + &number
        });
        // There are more numbers than stages.
        std::iter::once(name.clone())
            .chain(numbered)
            .find(|name| !taken.contains(name))
            .unwrap_or(name)
    }

    /// Calls `listener` with what happens to the pipe's processes, as it happens. It is called on
    /// the thread that looks after them, and should return soon. If it panics, the pipe stops, and
    /// so does whoever waits for it, with a panic.
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listener = Listener::new(listener);
        self
    }

    /// Sets how long a process of a stage may be stopped (by SIGSTOP, say) until it is killed,
    /// instead of 5 seconds: it may hold what all others wait for. One that attached is left alone,
    /// but the pipe stops.
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

    /// Runs the pipe to its end on this thread and those it starts, all of which have ended when it
    /// returns.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] before anything is made; [`Error::Stage`] with the stage that failed
    /// first; [`Error::Cancelled`] if a [`Canceller`] stopped it. However it ends, every buffer,
    /// thread and mapping is given back.
    pub fn run(self) -> Result<Report, Error> {
        Prepared::new(self)?.supervise()
    }
}

impl PipeBuilder<'static> {
    /// Starts the pipe in the background.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), for what goes wrong before the stages work; the rest comes from
    /// [`Pipe::wait`].
    pub fn start(self) -> Result<Pipe, Error> {
        Pipe::start(Prepared::new(self)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::stage::{StreamHead, StreamTail, sequence};

    fn pipe() -> PipeBuilder<'static> {
        PipeBuilder::new()
            .tail(StreamTail::new(Vec::new()))
            .head(StreamHead::new(&[][..]))
    }

    #[test]
    fn stages_can_be_told_apart_by_their_names() {
        let number = || sequence(0);
        let plan = pipe()
            .stage(number())
            .stage(number().named("sequence 3"))
            .stage(number())
            .stage(number());
        let plan = plan.stage(sequence(0).named("stream-tail")).plan().unwrap();
        assert_eq!(
            plan.to_string(),
            "pipe  stream-head > sequence > sequence 3 > sequence 2 > sequence 4 > stream-tail 2 > stream-tail"
        );
    }

    #[test]
    fn the_longest_names_can_be_told_apart() {
        let long = "\u{e9}".repeat(MAX_NAME / 2);
        let pipe = pipe()
            .stage(sequence(0).named(&long))
            .stage(sequence(0).named(&long));
        let names: Vec<_> = pipe
            .plan()
            .unwrap()
            .stages
            .into_iter()
            .map(|stage| stage.name)
            .collect();
        assert_eq!(names[1], long);
        assert_eq!(names[2], format!("{} 2", "\u{e9}".repeat(MAX_NAME / 2 - 1)));
    }

    #[test]
    fn a_stage_that_is_set_again_keeps_its_name() {
        let plan = pipe()
            .head(StreamHead::new(&[][..]))
            .tail(StreamTail::new(Vec::new()))
            .plan()
            .unwrap();
        assert_eq!(plan.to_string(), "pipe  stream-head > stream-tail");
    }
}
