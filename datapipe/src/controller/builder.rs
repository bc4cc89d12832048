//! The caller's description of a pipe, and its start.

use std::time::Duration;

use crate::error::Error;
use crate::limits::MAX_NAME;
use crate::memory::{Backing, Direction, HugePages};
use crate::pool::AtLimit;
use crate::stage::{IntoHead, IntoMiddle, IntoTail, MiddleStage, Stage, StageKind, TailStage};
use crate::wire::codec::truncate;

use super::cancel::Canceller;
use super::description::Description;
use super::event::{Event, Listener};
use super::pipe::Pipe;
use super::plan::Plan;
use super::report::Report;
use super::supervise::PreparedPipe;

/// End of the name of the stage that is added after one that makes several blocks from one.
const SQUEEZE: &str = " squeeze";

/// Describes a pipe, and starts it. Made by [`Pipe::builder`].
///
/// A pipe needs a head and a tail. Everything else has a default: the number and size of the
/// buffers, threads for the stages, anonymous memory. [`run`](Self::run) runs the pipe to its end,
/// [`start`](Self::start) runs it in the background, and [`plan`](Self::plan) only checks it.
///
/// ```
/// use datapipe::prelude::*;
///
/// let data = vec![7; 1 << 20];
/// let mut compressed = Vec::new();
/// let report = Pipe::builder()
///     .label("compress")
///     .head(StreamHead::new(&data[..]))
///     .stage(zstd(3).instances(2))
///     .tail(StreamTail::new(&mut compressed))
///     .buffers(8)
///     .buffer_size(64 << 10)
///     .run()?;
/// assert_eq!(report.bytes_in(), 1 << 20);
/// assert!(compressed.len() < 4096);
/// # Ok::<(), datapipe::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a pipe does nothing until it is run or started"]
pub struct PipeBuilder<'a> {
    description: Description<'a>,
}

impl<'a> PipeBuilder<'a> {
    pub(super) fn new() -> Self {
        Self {
            description: Description::new(),
        }
    }

    /// Sets the label of the pipe, which messages show. It need not be unique, unlike the pipe's
    /// name: [`Plan::name`].
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.description.label = label.into();
        self
    }

    /// Sets the first stage.
    ///
    /// A stage whose name is taken by another stage of the pipe gets a number after its name, here
    /// and in [`stage`](Self::stage) and [`tail`](Self::tail), so that messages and status tell
    /// them apart: the second `zstd` is `zstd 2`. [`Stage::named`](crate::stage::Stage::named)
    /// gives it a better name.
    ///
    /// The stages of a pipe may borrow: the pipe lives no longer than the first of their borrows
    /// ends, and a stage that borrows nothing goes with all others.
    pub fn head<'b, 'c>(self, head: impl IntoHead<'b>) -> PipeBuilder<'c>
    where
        'a: 'c,
        'b: 'c,
    {
        let mut pipe = self.shorten();
        pipe.description.head = None; // its name is free again
        let mut head = head.into_head().shorten();
        head.settings.name = pipe.description.unique_name(head.settings.name);
        pipe.description.head = Some(head);
        pipe
    }

    /// Adds a stage after those added so far.
    pub fn stage<'b, 'c>(self, stage: impl IntoMiddle<'b>) -> PipeBuilder<'c>
    where
        'a: 'c,
        'b: 'c,
    {
        let mut pipe = self.shorten();
        pipe.add(stage.into_middle().shorten());
        pipe
    }

    /// Adds stages after those added so far, in their order: those of a list, or one that is
    /// optional.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// # let compress = true;
    /// let zstd = compress.then(|| zstd(3).instances(2)); // Option<MiddleStage>
    /// let plan = Pipe::builder()
    ///     .head(StreamHead::new(&b"some data"[..]))
    ///     .stages(zstd)
    ///     .stages([analyze(), analyze().named("once more")])
    ///     .tail(StreamTail::new(std::io::sink()))
    ///     .plan()?;
    /// assert_eq!(
    ///     plan.to_string(),
    ///     "pipe  stream-head > zstd x2 > analyze > once more > stream-tail"
    /// );
    /// # Ok::<(), datapipe::Error>(())
    /// ```
    pub fn stages<'b, 'c>(
        self,
        stages: impl IntoIterator<Item = MiddleStage<'b>>,
    ) -> PipeBuilder<'c>
    where
        'a: 'c,
        'b: 'c,
    {
        let mut pipe = self.shorten();
        for stage in stages {
            pipe.add(stage.shorten());
        }
        pipe
    }

    fn add(&mut self, mut stage: MiddleStage<'a>) {
        stage.settings.name = self.description.unique_name(stage.settings.name);
        let (name, kind) = (stage.settings.name.clone(), stage.kind());
        self.description.middles.push(stage);
        if kind == StageKind::FlatMap {
            let name = truncate(&name, MAX_NAME - SQUEEZE.len()).to_owned() + SQUEEZE;
            self.add(MiddleStage::squeeze(name));
        }
    }

    /// Returns the arguments of the module of the head, if it reads an archive.
    #[cfg(feature = "processes")]
    pub(crate) fn archive_head_arguments(&self) -> Option<&[u8]> {
        let head = &self.description.head.as_ref()?.settings;
        let module = head.module.as_ref().filter(|_| head.reads_archive());
        module.map(|module| module.arguments.as_slice())
    }

    /// Returns the module names of the stages between head and tail, in order.
    #[cfg(feature = "processes")]
    pub(crate) fn middle_modules(&self) -> impl Iterator<Item = Option<&str>> {
        let middles = self.description.middles.iter();
        let modules = middles.map(|stage| stage.settings.module.as_ref());
        modules.map(|module| module.map(|module| module.name.as_str()))
    }

    /// True if a stage checks the blocks of an archive.
    #[cfg(feature = "processes")]
    pub(crate) fn checks_archive(&self) -> bool {
        let mut middles = self.description.middles();
        middles.any(|stage| stage.settings.checks_archive)
    }

    /// Adds a stage after the first `n` between head and tail.
    #[cfg(feature = "processes")]
    pub(crate) fn stage_at(mut self, n: usize, mut stage: MiddleStage<'a>) -> Self {
        stage.settings.name = self.description.unique_name(stage.settings.name);
        self.description.middles.insert(n, stage);
        self
    }

    /// Returns the same pipe, for stages that borrow what lives shorter than the present ones.
    pub(crate) fn shorten<'c>(self) -> PipeBuilder<'c>
    where
        'a: 'c,
    {
        PipeBuilder {
            description: self.description.shorten(),
        }
    }

    /// Replaces each stage between head and tail that was added so far by what `map` makes of it,
    /// except those that the library added.
    pub(crate) fn map_middles(
        mut self,
        map: impl FnMut(MiddleStage<'a>) -> MiddleStage<'a>,
    ) -> Self {
        let middles = std::mem::take(&mut self.description.middles);
        self.description.middles = map_unless_fixed(middles, map);
        self
    }

    /// Sets the last stage, in place of an earlier one or of an [`archive`](Self::archive).
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// // A pipe that borrows nothing takes a tail that does.
    /// let pipe: PipeBuilder<'static> = Pipe::builder()
    ///     .head(StreamHead::new(&b"some data"[..]))
    ///     .stage(zstd(3))
    ///     .stage(decompress());
    /// let mut copy = Vec::new();
    /// pipe.tail(StreamTail::new(&mut copy)).run()?;
    /// assert_eq!(copy, b"some data");
    /// # Ok::<(), datapipe::Error>(())
    /// ```
    ///
    /// A pipe cannot outlive what a stage borrows:
    ///
    /// ```compile_fail,E0597
    /// # use datapipe::prelude::*;
    /// let pipe = {
    ///     let mut copy = Vec::new();
    ///     Pipe::builder()
    ///         .head(StreamHead::new(&b"some data"[..]))
    ///         .tail(StreamTail::new(&mut copy)) // `copy` does not live long enough
    /// };
    /// pipe.run()?;
    /// # Ok::<(), datapipe::Error>(())
    /// ```
    pub fn tail<'b, 'c>(self, tail: impl IntoTail<'b>) -> PipeBuilder<'c>
    where
        'a: 'c,
        'b: 'c,
    {
        self.shorten().tail_after([], tail.into_tail().shorten())
    }

    /// Sets the last stage, and stages that belong to it: they come after all others between head
    /// and tail, also after those that are added later.
    pub(crate) fn tail_after(
        mut self,
        before: impl IntoIterator<Item = MiddleStage<'a>>,
        mut tail: TailStage<'a>,
    ) -> Self {
        // The names of what is replaced are free again.
        self.description.tail = None;
        self.description.before_tail.clear();
        for mut stage in before {
            stage.settings.name = self.description.unique_name(stage.settings.name);
            self.description.before_tail.push(stage);
        }
        tail.settings.name = self.description.unique_name(tail.settings.name);
        self.description.tail = Some(tail);
        self
    }

    /// Runs all stages that were added so far in processes: [`Stage::in_processes`].
    #[cfg(feature = "processes")]
    pub fn in_processes(mut self) -> Self {
        let Description { head, tail, .. } = &mut self.description;
        *head = head.take().map(Stage::in_processes);
        *tail = tail.take().map(Stage::in_processes);
        let before_tail = std::mem::take(&mut self.description.before_tail);
        self.description.before_tail = map_unless_fixed(before_tail, Stage::in_processes);
        self.map_middles(Stage::in_processes)
    }

    /// Sets the number of buffers in the pool, 1 to [`MAX_BUFFERS`](crate::limits::MAX_BUFFERS).
    /// Without this, the pool has as many as the stages work well with.
    pub fn buffers(mut self, n: u32) -> Self {
        self.description.buffers = Some(n);
        self
    }

    /// Sets the payload of each buffer, in bytes, instead of 4 MiB:
    /// [`MIN_BUFFER_SIZE`](crate::limits::MIN_BUFFER_SIZE) to
    /// [`MAX_BUFFER_SIZE`](crate::limits::MAX_BUFFER_SIZE).
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.description.buffer_size = bytes;
        self
    }

    /// Reserves `bytes` before the payload of each buffer, instead of 4 KiB.
    pub fn headroom(mut self, bytes: u32) -> Self {
        self.description.headroom = bytes;
        self
    }

    /// Reserves `bytes` after the payload of each buffer, instead of 4 KiB.
    pub fn tailroom(mut self, bytes: u32) -> Self {
        self.description.tailroom = bytes;
        self
    }

    /// Sets the policy for an instance that asks for a buffer when its quota is used up.
    pub fn at_limit(mut self, policy: AtLimit) -> Self {
        self.description.at_limit = policy;
        self
    }

    /// Sets the source of the shared memory.
    pub fn backing(mut self, backing: Backing) -> Self {
        self.description.backing = backing;
        self
    }

    /// Sets the use of huge pages for the shared memory.
    pub fn huge_pages(mut self, huge_pages: HugePages) -> Self {
        self.description.huge_pages = huge_pages;
        self
    }

    /// Sets the direction of the data, which the status shows and the throughput depends on.
    /// Archiving is the default.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.description.direction = direction;
        self
    }

    /// Sets a function that is called with each event of the pipe, as it happens. The controller's
    /// thread and the one that supervises the processes call it, perhaps at the same time, so it
    /// should return soon. If it panics, the pipe stops, and [`run`](Self::run) or [`Pipe::wait`]
    /// panics too.
    ///
    /// If all stages of the pipe run inline, the events come when it has ended.
    ///
    /// ```
    /// use datapipe::Event;
    /// use datapipe::prelude::*;
    ///
    /// let (sender, events) = std::sync::mpsc::channel();
    /// Pipe::builder()
    ///     .head(StreamHead::new(&b"some data"[..]))
    ///     .tail(StreamTail::new(std::io::sink()))
    ///     .on_event(move |event| {
    ///         let _ = sender.send(event.clone());
    ///     })
    ///     .run()?;
    /// let ended = events.iter().filter(|event| matches!(event, Event::Ended { .. }));
    /// assert_eq!(ended.count(), 2);
    /// # Ok::<(), datapipe::Error>(())
    /// ```
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.description.listener = Listener::new(listener);
        self
    }

    /// Sets the longest time for which a process of a stage may be stopped (by SIGSTOP, say),
    /// instead of 5 seconds: it may hold what all others wait for. A process that the controller
    /// started is then killed. One that attached is left alone, but the pipe stops.
    pub fn stopped_limit(mut self, limit: Duration) -> Self {
        self.description.stopped_limit = limit;
        self
    }

    /// Sets the time on one block, instead of 10 seconds, after which [`Event::Stalled`] is
    /// reported for an instance. Checked four times a second.
    pub fn stall_after(mut self, time: Duration) -> Self {
        self.description.stall_after = time;
        self
    }

    /// Returns a handle that stops the pipe from another thread, also before it has started.
    pub fn canceller(&self) -> Canceller {
        self.description.canceller.clone()
    }

    /// Checks the description and computes its numbers. Allocates and starts nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the pipe could not work, with the reason.
    pub fn plan(&self) -> Result<Plan, Error> {
        Plan::of(&self.description)
    }

    /// Runs the pipe to its end, on this thread and those that it starts. All of these have ended
    /// when it returns.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] before anything is made; [`Error::Stage`] with the stage that failed
    /// first; [`Error::Cancelled`] if a [`Canceller`] stopped it. However the pipe ends, every
    /// buffer, thread and mapping is released.
    ///
    /// # Panics
    ///
    /// If the function given to [`on_event`](Self::on_event) panics.
    pub fn run(self) -> Result<Report, Error> {
        PreparedPipe::new(self.description)?.run()
    }
}

/// Replaces each stage by what `map` makes of it, except those that the library added.
fn map_unless_fixed<'a>(
    stages: Vec<MiddleStage<'a>>,
    mut map: impl FnMut(MiddleStage<'a>) -> MiddleStage<'a>,
) -> Vec<MiddleStage<'a>> {
    let map = |stage: MiddleStage<'a>| match stage.settings.is_fixed {
        true => stage,
        false => map(stage),
    };
    stages.into_iter().map(map).collect()
}

impl PipeBuilder<'static> {
    /// Starts the pipe in the background. Its stages must borrow nothing:
    ///
    /// ```compile_fail,E0597
    /// # use datapipe::prelude::*;
    /// let mut copy = Vec::new();
    /// let pipe = Pipe::builder()
    ///     .head(StreamHead::new(&b"some data"[..]))
    ///     .tail(StreamTail::new(&mut copy)) // `copy` must live as long as the program
    ///     .start()?;
    /// pipe.wait()?;
    /// # Ok::<(), datapipe::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), for failures before the stages work; [`Pipe::wait`] returns the
    /// later ones.
    pub fn start(self) -> Result<Pipe, Error> {
        Pipe::start(PreparedPipe::new(self.description)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::error::StageError;
    use crate::pool::Block;
    use crate::stage::{FlatMap, Outputs, Placement, Settings, StreamHead, StreamTail, sequence};

    fn pipe() -> PipeBuilder<'static> {
        PipeBuilder::new()
            .tail(StreamTail::new(Vec::new()))
            .head(StreamHead::new(&[][..]))
    }

    #[test]
    fn stage_with_a_taken_name_gets_a_number() {
        let number = || sequence(0);
        let plan = pipe()
            .stage(number())
            .stage(number().named("sequence 3"))
            .stage(number())
            .stage(number());
        let plan = plan.stage(sequence(0).named("stream-tail")).plan().unwrap();
        assert_eq!(
            plan.to_string(),
            "pipe  stream-head > sequence > sequence 3 > sequence 2 > sequence 4 > stream-tail 2 \
             > stream-tail"
        );
    }

    #[test]
    fn stage_name_of_maximum_length_is_cut_for_its_number() {
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
    fn squeeze_stays_in_the_controller() {
        struct Nothing;
        impl FlatMap for Nothing {
            fn flat_map(&mut self, _: &Block, _: &mut Outputs<'_>) -> Result<(), StageError> {
                Ok(())
            }
        }
        let stage = || Stage::flat_map("split", 2, |_| Nothing);
        let pipe = pipe()
            .stage(stage())
            .stage(stage().named("é".repeat(MAX_NAME / 2)));
        let pipe = pipe.in_processes().map_middles(|stage| stage.instances(3));
        let of = |middle: &MiddleStage<'_>| {
            let Settings {
                instances,
                placement,
                ..
            } = &middle.settings;
            (*instances, *placement == Placement::Thread)
        };
        let middles: Vec<_> = pipe.description.middles.iter().map(of).collect();
        assert_eq!(middles, [(3, false), (1, true), (3, false), (1, true)]);
        let names = pipe.description.middles.iter();
        let names: Vec<_> = names.map(|middle| middle.settings.name.as_str()).collect();
        let cut = "é".repeat((MAX_NAME - SQUEEZE.len()) / 2) + SQUEEZE;
        assert_eq!((names[1], names[3]), ("split squeeze", cut.as_str()));
    }

    #[test]
    fn stage_that_replaces_another_keeps_its_name() {
        let plan = pipe()
            .head(StreamHead::new(&[][..]))
            .tail(StreamTail::new(Vec::new()))
            .plan()
            .unwrap();
        assert_eq!(plan.to_string(), "pipe  stream-head > stream-tail");
    }
}
