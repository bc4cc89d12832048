//! What a pipe is made of: the traits that a stage implements, the description it is started from,
//! and the stages that come with the library.
//!
//! ```text
//!             Head            Transform / InPlace / Analyze              Tail
//!   source -> fill  -> queue -> transform, once per instance -> queue -> write -> destination
//! ```
//!
//! A stage sees blocks and nothing else: numbers, order, waiting, and where it runs are the
//! runner's business, so the same code runs as a thread, as a process, or as a procedure called in
//! turn.
//!
//! # For callers
//!
//! A [`Stage`] describes one stage: a name, how many instances, where they run, and how to make
//! one. The stages that come with the library give you one ready-made ([`Zstd::level`],
//! [`decompress()`], [`analyze()`]); your own are made with [`Stage::transform`] and its siblings.
//! A value that implements [`Head`] or [`Tail`] is a stage of one instance all by itself.
//!
//! # For implementers
//!
//! | when | what is called | on which thread | may it block? | what ends the pipe |
//! |---|---|---|---|---|
//! | the pipe is launched, tail first | your factory, once per instance | the launching one | briefly | a panic |
//! | a block may be filled, or is there | `fill`, `transform`, `analyze`, `write` | the instance's own | yes; a stop waits for it | an error, a panic |
//! | the stream ended well | [`Tail::finish`] | the instance's own | yes | an error, a panic |
//! | always, last | `drop` | the instance's own | briefly | a panic |
//!
//! A call is never made twice for one block and never after an error. The one exception is a
//! process that is killed: its replacement, a new instance, gets the block at which that happened.
//! Blocks come in the order of the stream; a stage of several instances sees each block in exactly
//! one of them, and may finish them in any order.
//!
//! Does not read files, write media or know the format: those are stages too, and stand on this.

mod analyze; // what is this data
mod arguments; // what a module makes a stage from
mod compress; // zstd and deflate, and the way back
mod damage; // what a salvaging reader has met
mod error; // the errors of a stage and the death of its process
mod inspect; // somebody else's judgement of the data
mod ordering; // stages that number blocks, and put them back in order
mod placement; // where instances run, and how a process finds what it is to run
pub(crate) mod runner; // moves blocks between the pool and a stage
mod stream; // any Read, any Write

use std::fmt;

use crate::pool::{Block, BlockInfo, HeadPort, MiddlePort, TailPort};

pub(crate) use analyze::ANALYZE_MODULE;
pub use analyze::{analyze, classify};
pub use arguments::{Arguments, Fields};
pub(crate) use compress::{DECOMPRESS_MODULE, DEFLATE_MODULE, ZSTD_MODULE};
pub use compress::{Deflate, Zstd, decompress, decompress_salvaging};
pub(crate) use damage::SALVAGE;
pub use damage::{Damage, DamageLog};
pub(crate) use error::WaitingInstance;
pub use error::{Death, NotReplaced, StageError, WaitsFor};
pub use inspect::{Finding, Inspect, InspectionLog};
pub(crate) use ordering::{RESEQUENCE_MODULE, SEQUENCE_MODULE};
pub use ordering::{resequence, sequence};
pub use placement::StageKind;
pub(crate) use placement::{Confinement, Module, NotesHandler, Placement, Settings};
pub use stream::{BlockReader, BlockWriter, OpenFile, StreamHead, StreamTail};
pub(crate) use stream::{STREAM_HEAD_MODULE, STREAM_TAIL_MODULE};

/// Fills blocks: the first stage of a pipe.
///
/// # Examples
///
/// ```
/// use datapipe::prelude::*;
///
/// /// The numbers from 0 to `end`, eight bytes each.
/// struct Count { next: u64, end: u64 }
///
/// impl Head for Count {
///     fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
///         while self.next < self.end && block.spare().len() >= 8 {
///             block.put(&self.next.to_le_bytes())?;
///             self.next += 1;
///         }
///         Ok(if block.is_empty() { Fill::End } else { Fill::Block })
///     }
/// }
///
/// let report = Pipe::builder()
///     .head(Count { next: 0, end: 100_000 })
///     .tail(StreamTail::new(std::io::sink()))
///     .run()?;
/// assert_eq!(report.bytes_out(), 800_000);
/// # Ok::<(), datapipe::Error>(())
/// ```
pub trait Head: Send {
    /// What the stage is called where the pipe prints itself.
    fn name(&self) -> &str {
        "head"
    }

    /// Puts data into an empty block.
    ///
    /// # Errors
    ///
    /// An error stops the pipe; the block is not sent.
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError>;

    /// Adds to the description of the stage that this head becomes what a process needs to make it
    /// there: a [module](Stage::module), descriptors, a handler of notes. Without a module the
    /// stage runs in this process only.
    fn describe<'a>(&self, stage: HeadStage<'a>) -> HeadStage<'a> {
        stage
    }
}

/// What a head has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The block is to be sent, and there may be more.
    Block,
    /// There is no more, and the block is not to be sent.
    End,
}

/// Makes one block from one block, out of place.
pub trait Transform: Send {
    /// Reads `input`, and writes what becomes of it to `output`, which is empty. What the stages
    /// before said about the block has been copied to the output already.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError>;

    /// Told of a number whose block a stage before has dropped: for stages to which numbers mean
    /// something.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn missed(&mut self, number: u64) -> Result<(), StageError> {
        let _ = number;
        Ok(())
    }
}

/// Changes a block in place; in a process, a copy of it, so that one that is killed leaves the
/// block as it was.
pub trait InPlace: Send {
    /// Changes the data, its length, or what is said about it. Headroom and tailroom may be used.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError>;

    /// Told of a number whose block a stage before has dropped: for stages to which numbers mean
    /// something.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn missed(&mut self, number: u64) -> Result<(), StageError> {
        let _ = number;
        Ok(())
    }
}

/// Looks at a block without changing it.
pub trait Analyze: Send {
    /// Looks at the data, and writes down what it finds.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn analyze(&mut self, data: &[u8], info: &mut BlockInfo) -> Result<(), StageError>;
}

/// What is to be sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The output; for a stage that works in place, the block.
    Send,
    /// The input, as it came. The same as `Send` for a stage that works in place.
    SendInput,
    /// Nothing: the block ends here.
    Drop,
}

/// Writes blocks: the last stage of a pipe.
pub trait Tail: Send {
    /// What the stage is called where the pipe prints itself.
    fn name(&self) -> &str {
        "tail"
    }

    /// Writes one block.
    ///
    /// # Errors
    ///
    /// An error stops the pipe.
    fn write(&mut self, block: &Block) -> Result<(), StageError>;

    /// Called once for each instance, when all of them have written every block of a stream that
    /// ended well: the place to flush, sync and close. It is not called if the pipe was cancelled
    /// or has failed before, so what only this call writes is the mark of a whole stream.
    ///
    /// # Errors
    ///
    /// An error means that the job did not end well.
    fn finish(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    /// Adds to the description of the stage that this tail becomes what a process needs to make it
    /// there, as [`Head::describe`] does.
    fn describe<'a>(&self, stage: TailStage<'a>) -> TailStage<'a> {
        stage
    }
}

/// A stage of a pipe, before it is started.
///
/// `W` is the role: what kinds of work can stand there.
pub struct Stage<W> {
    pub(crate) settings: Settings,
    pub(crate) work: W,
}

/// A first stage.
pub type HeadStage<'a> = Stage<HeadWork<'a>>;
/// A stage between two queues.
pub type MiddleStage<'a> = Stage<MiddleWork<'a>>;
/// A last stage.
pub type TailStage<'a> = Stage<TailWork<'a>>;

/// Makes instance `n` of a stage.
pub(crate) type Factory<'a, T> = Box<dyn FnMut(u32) -> Box<T> + Send + 'a>;
/// A loop over a port. Taken by the one instance that runs it.
pub(crate) type PortLoop<'a, P> = Option<Box<dyn FnOnce(&P) -> Result<(), StageError> + Send + 'a>>;

/// What a first stage can do.
pub struct HeadWork<'a>(pub(crate) HeadKind<'a>);
/// What a stage between two queues can do.
pub struct MiddleWork<'a>(pub(crate) MiddleKind<'a>);
/// What a last stage can do.
pub struct TailWork<'a>(pub(crate) TailKind<'a>);

pub(crate) enum HeadKind<'a> {
    Fill(Factory<'a, dyn Head + 'a>),
    Port(PortLoop<'a, HeadPort>),
    /// Its code is elsewhere.
    Described(StageKind),
}

pub(crate) enum MiddleKind<'a> {
    Transform(Factory<'a, dyn Transform + 'a>),
    InPlace(Factory<'a, dyn InPlace + 'a>),
    Analyze(Factory<'a, dyn Analyze + 'a>),
    Port(PortLoop<'a, MiddlePort>),
    /// Its code is elsewhere.
    Described(StageKind),
}

pub(crate) enum TailKind<'a> {
    Write(Factory<'a, dyn Tail + 'a>),
    Port(PortLoop<'a, TailPort>),
    /// Its code is elsewhere.
    Described(StageKind),
}

impl<W> Stage<W> {
    fn with(name: impl Into<String>, hold_in: u32, hold_out: u32, work: W) -> Self {
        Self {
            settings: Settings::new(name.into(), hold_in, hold_out),
            work,
        }
    }

    fn single(mut self, why: &'static str) -> Self {
        self.settings.single = Some(why);
        self
    }

    /// Runs `n` instances of the stage, 1 to [`MAX_INSTANCES`](crate::limits::MAX_INSTANCES).
    #[must_use]
    pub fn instances(mut self, n: u32) -> Self {
        self.settings.instances = n;
        self
    }

    /// Calls the stage something else.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Says that an instance keeps up to `n` inputs before it sends or frees any. Only a loop over
    /// a port can, and one that keeps more than it says can bring the pipe to a standstill.
    #[must_use]
    pub fn holds_in(mut self, n: u32) -> Self {
        self.settings.hold_in = n.max(1);
        self
    }

    /// Says that an instance allocates up to `n` buffers before it sends any; 0 that it never
    /// allocates. Only for a loop over a port.
    #[must_use]
    pub fn holds_out(mut self, n: u32) -> Self {
        self.settings.hold_out = n;
        self
    }
}

impl<'a> Stage<HeadWork<'a>> {
    /// A first stage, each instance of which is made by `factory` from its number.
    pub fn head<H: Head + 'a>(
        name: impl Into<String>,
        mut factory: impl FnMut(u32) -> H + Send + 'a,
    ) -> Self {
        Self::with(
            name,
            0,
            1,
            HeadWork(HeadKind::Fill(Box::new(move |n| Box::new(factory(n))))),
        )
    }

    /// A first stage that is a loop over its port. Needs a thread, and has one instance.
    pub fn head_port(
        name: impl Into<String>,
        run: impl FnOnce(&HeadPort) -> Result<(), StageError> + Send + 'a,
    ) -> Self {
        Self::with(name, 0, 1, HeadWork(HeadKind::Port(Some(Box::new(run))))).single(LOOP)
    }
}

impl<'a> Stage<MiddleWork<'a>> {
    /// A stage that works out of place, each instance of which is made by `factory` from its
    /// number.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// struct Upper;
    ///
    /// impl Transform for Upper {
    ///     fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
    ///         output.put(&input.bytes().to_ascii_uppercase())?;
    ///         Ok(Verdict::Send)
    ///     }
    /// }
    ///
    /// let upper = Stage::transform("upper", |_| Upper).instances(2);
    /// # let _ = upper;
    /// ```
    pub fn transform<T: Transform + 'a>(
        name: impl Into<String>,
        mut factory: impl FnMut(u32) -> T + Send + 'a,
    ) -> Self {
        Self::with(
            name,
            1,
            1,
            MiddleWork(MiddleKind::Transform(Box::new(move |n| {
                Box::new(factory(n))
            }))),
        )
    }

    /// A stage that works in place, each instance of which is made by `factory` from its number.
    pub fn in_place<T: InPlace + 'a>(
        name: impl Into<String>,
        mut factory: impl FnMut(u32) -> T + Send + 'a,
    ) -> Self {
        Self::with(
            name,
            1,
            0,
            MiddleWork(MiddleKind::InPlace(Box::new(move |n| Box::new(factory(n))))),
        )
    }

    /// A stage that only looks, each instance of which is made by `factory` from its number.
    pub fn analyze<T: Analyze + 'a>(
        name: impl Into<String>,
        mut factory: impl FnMut(u32) -> T + Send + 'a,
    ) -> Self {
        Self::with(
            name,
            1,
            0,
            MiddleWork(MiddleKind::Analyze(Box::new(move |n| Box::new(factory(n))))),
        )
    }

    /// A stage that is a loop over its port, which it receives from to the end. It does not see
    /// what stages before it have dropped. One to many, many to one, whatever it likes. Needs a
    /// thread, and has one instance. Say with [`holds_in`](Stage::holds_in) and
    /// [`holds_out`](Stage::holds_out) what it keeps, if that is not one of each.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// // Sends every block twice.
    /// let twice = Stage::port("twice", |port| {
    ///     while let Some(input) = port.receive()? {
    ///         let mut copy = port.alloc()?;
    ///         copy.put(input.bytes())?;
    ///         port.send(copy, &input)?;
    ///         port.forward(input)?;
    ///     }
    ///     Ok(())
    /// });
    /// # let _ = twice;
    /// ```
    pub fn port(
        name: impl Into<String>,
        run: impl FnOnce(&MiddlePort) -> Result<(), StageError> + Send + 'a,
    ) -> Self {
        Self::with(
            name,
            1,
            1,
            MiddleWork(MiddleKind::Port(Some(Box::new(run)))),
        )
        .single(LOOP)
    }
}

impl Stage<MiddleWork<'_>> {
    /// Says that an instance remembers something of the blocks before. A replacement would not know
    /// it: so the pipe stops when a process of this stage is killed.
    #[must_use]
    pub fn stateful(mut self) -> Self {
        self.settings.stateful = true;
        self
    }
}

impl<'a> Stage<TailWork<'a>> {
    /// A last stage, each instance of which is made by `factory` from its number.
    pub fn tail<T: Tail + 'a>(
        name: impl Into<String>,
        mut factory: impl FnMut(u32) -> T + Send + 'a,
    ) -> Self {
        Self::with(
            name,
            1,
            0,
            TailWork(TailKind::Write(Box::new(move |n| Box::new(factory(n))))),
        )
    }

    /// A last stage that is a loop over its port, which it receives from to the end. Needs a
    /// thread, and has one instance.
    pub fn tail_port(
        name: impl Into<String>,
        run: impl FnOnce(&TailPort) -> Result<(), StageError> + Send + 'a,
    ) -> Self {
        Self::with(name, 1, 0, TailWork(TailKind::Port(Some(Box::new(run))))).single(LOOP)
    }
}

/// Why a loop over a port has one instance.
const LOOP: &str =
    "is a loop over its port; only stages that are called for each block can have several";
/// Why a stage made from a value has one instance.
const VALUE: &str = "was given as a value; give a function that makes each instance";

impl<'a, H: Head + 'a> From<H> for HeadStage<'a> {
    fn from(head: H) -> Self {
        let work = HeadWork(HeadKind::Described(StageKind::Fill)); // until the head has described itself
        let mut stage = head.describe(Self::with(head.name(), 0, 1, work).single(VALUE));
        let mut once = Some(Box::new(head) as Box<dyn Head + 'a>);
        let make: Factory<'a, dyn Head + 'a> =
            Box::new(move |_| once.take().expect("a value is one instance"));
        stage.work = HeadWork(HeadKind::Fill(make));
        stage
    }
}

impl<'a, T: Tail + 'a> From<T> for TailStage<'a> {
    fn from(tail: T) -> Self {
        let work = TailWork(TailKind::Described(StageKind::Write)); // as above
        let mut stage = tail.describe(Self::with(tail.name(), 1, 0, work).single(VALUE));
        let mut once = Some(Box::new(tail) as Box<dyn Tail + 'a>);
        let make: Factory<'a, dyn Tail + 'a> =
            Box::new(move |_| once.take().expect("a value is one instance"));
        stage.work = TailWork(TailKind::Write(make));
        stage
    }
}

impl<W> fmt::Debug for Stage<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

macro_rules! opaque_debug {
    ($($work:ident),*) => {$(
        impl fmt::Debug for $work<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($work))
            }
        }
    )*};
}
opaque_debug!(HeadWork, MiddleWork, TailWork);
