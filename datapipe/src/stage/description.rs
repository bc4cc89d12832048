//! The description of a stage: everything that a pipe has to know before the stage runs.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::StageError;
use crate::limits::DEFAULT_CHECKPOINT;
use crate::memory::InstanceId;
use crate::pool::{Codec, HeadPort, MiddlePort, TailPort};

use super::confinement::Confinement;
use super::mirror::Mirror;
use super::notice::{Notice, NoticeSource};
use super::settings::{Module, Placement, Settings, StageKind};
use super::traits::{Analyze, FlatMap, Head, InPlace, Tail, Transform};

/// A stage of a pipe, before it is started.
///
/// `W` is the stage's role (head, middle or tail): it determines which kinds of work the stage can
/// do.
///
/// The methods follow in this order: constructors for each role, settings for every role, stages
/// without code in this program. Three parts are elsewhere: the constructor [`Stage::inspect`] is
/// next to its trait, `replaceable.rs` has [`Stage::replaceable`], and `work.rs` the methods that
/// the controller and a host call (`kind`, `has_code`, `worker`).
pub struct Stage<W> {
    pub(crate) settings: Settings,
    pub(super) work: W,
}

/// A first stage.
pub type HeadStage<'a> = Stage<HeadWork<'a>>;
/// A stage between two queues.
pub type MiddleStage<'a> = Stage<MiddleWork<'a>>;
/// A last stage.
pub type TailStage<'a> = Stage<TailWork<'a>>;

/// Makes an instance of a stage.
pub(super) type Factory<'a, T> = Box<dyn FnMut(InstanceId) -> Box<T> + Send + 'a>;
/// A loop over a port. The one instance that runs it takes it out.
pub(super) type PortLoop<'a, P> = Option<Box<dyn FnOnce(&P) -> Result<(), StageError> + Send + 'a>>;

/// The work of a first stage.
pub struct HeadWork<'a>(pub(super) HeadKind<'a>);
/// The work of a stage between two queues.
pub struct MiddleWork<'a>(pub(super) MiddleKind<'a>);
/// The work of a last stage.
pub struct TailWork<'a>(pub(super) TailKind<'a>);

pub(super) enum HeadKind<'a> {
    Fill(Factory<'a, dyn Head + 'a>),
    Port(PortLoop<'a, HeadPort>),
    /// Another program has its code.
    Described(StageKind),
}

pub(super) enum MiddleKind<'a> {
    Transform(Factory<'a, dyn Transform + 'a>),
    InPlace(Factory<'a, dyn InPlace + 'a>),
    Analyze(Factory<'a, dyn Analyze + 'a>),
    FlatMap(Factory<'a, dyn FlatMap + 'a>),
    Port(PortLoop<'a, MiddlePort>),
    /// Another program has its code.
    Described(StageKind),
}

pub(super) enum TailKind<'a> {
    Write(Factory<'a, dyn Tail + 'a>),
    Port(PortLoop<'a, TailPort>),
    /// Another program has its code.
    Described(StageKind),
}

/// Reason why a loop over a port has one instance.
const LOOP: &str =
    "is a loop over its port; only stages that are called for each block can have several";
/// Reason why a stage made from a value has one instance.
const VALUE: &str = "was given as a value; give a function that makes each instance";
/// Reason why an unbound stage has one instance.
const UNBOUND: &str = "is one process that attaches";

impl<'a> Stage<HeadWork<'a>> {
    /// A first stage. `factory` makes each instance from its id.
    pub fn head<H: Head + 'a>(
        name: impl Into<String>,
        mut factory: impl FnMut(InstanceId) -> H + Send + 'a,
    ) -> Self {
        let work = HeadKind::Fill(Box::new(move |id| Box::new(factory(id))));
        Self::with(name, 0, 1, HeadWork(work))
    }

    /// A first stage that drives its port itself, in a loop. It needs a thread and has one
    /// instance. Its process is replaced when it is killed if it is declared
    /// [`replaceable`](Stage::replaceable).
    pub fn head_port(
        name: impl Into<String>,
        run: impl FnOnce(&HeadPort) -> Result<(), StageError> + Send + 'a,
    ) -> Self {
        Self::with(name, 0, 1, HeadWork(HeadKind::Port(Some(Box::new(run))))).single(LOOP)
    }

    /// Sets the bytes of data after which the head makes a checkpoint in its archive, 1 GiB by
    /// default; with 0 it makes none. A chunk of the archive ends with each checkpoint, and is on
    /// stable storage before the next one is written. A head with new data also makes one every
    /// 30 s.
    ///
    /// This is a setting of [`TreeHead`](crate::tree::TreeHead) and [`StreamHead`], also of a head
    /// that their [`module`](Self::module) makes, if the stage has the module already. A head that
    /// drives its port calls [`HeadPort::checkpoint`], and others make no checkpoints.
    ///
    /// [`StreamHead`]: crate::stage::StreamHead
    #[must_use]
    pub fn checkpoint_every(mut self, bytes: u64) -> Self {
        if self.settings.checkpoint.is_some() || self.settings.has_head_module() {
            self.settings.checkpoint = Some(bytes);
        }
        self
    }

    /// Declares that the head makes checkpoints by itself.
    pub(crate) fn makes_checkpoints(mut self) -> Self {
        self.settings.checkpoint = Some(DEFAULT_CHECKPOINT);
        self
    }
}

impl<'a> Stage<MiddleWork<'a>> {
    /// A stage that works out of place. `factory` makes each instance from its id.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// struct Upper;
    ///
    /// impl Transform for Upper {
    ///     fn transform(
    ///         &mut self,
    ///         input: &Block,
    ///         output: &mut Block,
    ///     ) -> Result<Verdict, StageError> {
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
        mut factory: impl FnMut(InstanceId) -> T + Send + 'a,
    ) -> Self {
        let work = MiddleKind::Transform(Box::new(move |id| Box::new(factory(id))));
        Self::with(name, 1, 1, MiddleWork(work))
    }

    /// A stage that works in place. `factory` makes each instance from its id.
    pub fn in_place<T: InPlace + 'a>(
        name: impl Into<String>,
        mut factory: impl FnMut(InstanceId) -> T + Send + 'a,
    ) -> Self {
        let work = MiddleKind::InPlace(Box::new(move |id| Box::new(factory(id))));
        Self::with(name, 1, 0, MiddleWork(work))
    }

    /// A stage that reads the data without changing it. `factory` makes each instance from its
    /// number.
    pub fn analyze<T: Analyze + 'a>(
        name: impl Into<String>,
        mut factory: impl FnMut(InstanceId) -> T + Send + 'a,
    ) -> Self {
        let work = MiddleKind::Analyze(Box::new(move |id| Box::new(factory(id))));
        Self::with(name, 1, 0, MiddleWork(work)).keep_blocks()
    }

    /// A stage that makes up to `most` blocks from one, 1 to
    /// [`MAX_FLAT_MAP_OUTPUTS`](crate::limits::MAX_FLAT_MAP_OUTPUTS). `factory` makes each instance
    /// from its id. With several instances, the outputs arrive in the order of the inputs all
    /// the same.
    ///
    /// An instance has one output at a time; it waits for the next one's buffer, and therefore
    /// cannot run inline. The pipe gets one more stage after this one, "NAME squeeze", which runs
    /// on a thread of the controller: it leaves out the outputs that were not made, and counts the
    /// numbers and the offsets of the blocks anew, so that an archive can follow. Control blocks
    /// ([`BlockInfo::is_control`](crate::pool::BlockInfo)) and blocks that have lost their content
    /// pass the stage.
    ///
    /// Each ring of the pipe's shared memory has `most` times as many slots of 8 bytes as without
    /// this stage, so `most` should be a bound and not a guess at infinity.
    ///
    /// ```
    /// use datapipe::prelude::*;
    ///
    /// /// Each line is sent twice, so that a block of lines needs two blocks.
    /// struct Double;
    ///
    /// impl FlatMap for Double {
    ///     fn flat_map(
    ///         &mut self,
    ///         input: &Block,
    ///         outputs: &mut Outputs<'_>,
    ///     ) -> Result<(), StageError> {
    ///         for line in input.bytes().split_inclusive(|&byte| byte == b'\n') {
    ///             outputs.put(line)?;
    ///             outputs.put(line)?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut copy = Vec::new();
    /// Pipe::builder()
    ///     .buffer_size(512) // 64 lines
    ///     .head(StreamHead::new(&b"my line\n".repeat(1000)[..]))
    ///     .stage(Stage::flat_map("double", 2, |_| Double).instances(2))
    ///     .tail(StreamTail::new(&mut copy))
    ///     .run()?;
    /// assert_eq!(copy, b"my line\n".repeat(2000));
    /// # Ok::<(), datapipe::Error>(())
    /// ```
    pub fn flat_map<T: FlatMap + 'a>(
        name: impl Into<String>,
        most: u32,
        mut factory: impl FnMut(InstanceId) -> T + Send + 'a,
    ) -> Self {
        let work = MiddleKind::FlatMap(Box::new(move |id| Box::new(factory(id))));
        let mut stage = Self::with(name, 1, 1, MiddleWork(work));
        stage.settings.outputs = most;
        stage
    }

    /// The stage after one that makes several blocks from one: it frees vacant blocks, as every
    /// loop, and sends the others with numbers without gaps and with their offsets in the stream
    /// that they make.
    pub(crate) fn squeeze(name: String) -> Self {
        let run = |port: &MiddlePort| {
            let mut offset = 0;
            while let Some(mut block) = port.receive()? {
                let mut info = block.info();
                info.offset = offset;
                let is_plain = info.codec == Codec::NONE;
                offset += if is_plain {
                    block.len() as u64
                } else {
                    info.plain_len.into()
                };
                block.set_info(info);
                port.forward(block)?;
            }
            Ok(())
        };
        Self::port(name, run).holds_out(0).fixed()
    }

    /// A stage that drives its port itself, in a loop: it may merge, split or reorder blocks. It
    /// must receive until the end of the stream. Unless it asks for them
    /// ([`MiddlePort::take_vacant_blocks`], [`MiddlePort::take_control_blocks`]), it does not see
    /// blocks that earlier stages have dropped, nor control blocks
    /// ([`BlockInfo::is_control`](crate::pool::BlockInfo)): those go on at once, and the last block
    /// of an archive after all that the loop has sent. It needs a thread and has one instance. If
    /// it holds more than one input or more than one buffer at a time, declare that with
    /// [`holds_in`](Stage::holds_in) and
    /// [`holds_out`](Stage::holds_out).
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
        let work = MiddleKind::Port(Some(Box::new(run)));
        Self::with(name, 1, 1, MiddleWork(work)).single(LOOP)
    }
}

impl<'a> Stage<TailWork<'a>> {
    /// A last stage. `factory` makes each instance from its id.
    pub fn tail<T: Tail + 'a>(
        name: impl Into<String>,
        mut factory: impl FnMut(InstanceId) -> T + Send + 'a,
    ) -> Self {
        let work = TailKind::Write(Box::new(move |id| Box::new(factory(id))));
        Self::with(name, 1, 0, TailWork(work))
    }

    /// A last stage that drives its port itself, in a loop that receives until the end of the
    /// stream. It needs a thread and has one instance. Its process is replaced when it is killed if
    /// it is declared [`replaceable`](Stage::replaceable).
    pub fn tail_port(
        name: impl Into<String>,
        run: impl FnOnce(&TailPort) -> Result<(), StageError> + Send + 'a,
    ) -> Self {
        Self::with(name, 1, 0, TailWork(TailKind::Port(Some(Box::new(run))))).single(LOOP)
    }
}

impl<'a, H: Head + 'a> From<H> for HeadStage<'a> {
    fn from(head: H) -> Self {
        // Until the head has described itself, its kind is enough.
        let work = HeadWork(HeadKind::Described(StageKind::Fill));
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

/// Settings of every role.
impl<W> Stage<W> {
    /// Runs `n` instances of the stage, 1 to [`MAX_INSTANCES`](crate::limits::MAX_INSTANCES).
    #[must_use]
    pub fn instances(mut self, n: u32) -> Self {
        self.settings.instances = n;
        self
    }

    /// Renames the stage.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Declares that an instance holds up to `n` inputs before it sends or frees any. Only a loop
    /// over a port can. A loop that holds more than it declares can deadlock the pipe.
    #[must_use]
    pub fn holds_in(mut self, n: u32) -> Self {
        self.settings.hold_in = n.max(1);
        self
    }

    /// Declares that an instance allocates up to `n` buffers before it sends any; 0 declares that
    /// it never allocates. Only for a loop over a port.
    #[must_use]
    pub fn holds_out(mut self, n: u32) -> Self {
        self.settings.hold_out = n;
        self
    }

    /// Runs the stage inline: in turn with all other inline stages of the pipe, on one thread. A
    /// pipe that has only inline stages starts no thread when it is
    /// [`run`](crate::PipeBuilder::run).
    #[must_use]
    pub fn inline(mut self) -> Self {
        self.settings.placement = Placement::Inline;
        self
    }

    /// Runs each instance in its own process. The process runs this program again, so its `main`
    /// has to call [`host::serve`](crate::host::serve) first. [Deaths](crate::host#deaths) says
    /// what happens to an instance that is killed.
    #[cfg(feature = "processes")]
    #[must_use]
    pub fn in_processes(mut self) -> Self {
        self.settings.placement = Placement::Process(None);
        self.settings.rights.program = None;
        self
    }

    /// As [`in_processes`](Self::in_processes), but the processes run `program`, whose `main` calls
    /// [`host::serve`](crate::host::serve): `datapipe-host`, which comes with the library, or one
    /// of your own.
    #[cfg(feature = "processes")]
    #[must_use]
    pub fn in_processes_of(mut self, program: impl Into<PathBuf>) -> Self {
        self.settings.placement = Placement::Process(Some(program.into()));
        self.settings.rights.program = None;
        self
    }

    /// Runs all instances in one process, a thread each, because they share state. A killed process
    /// is then not replaced.
    #[must_use]
    pub fn together(mut self) -> Self {
        self.settings.together = true;
        self
    }

    /// Names the module of a host that makes this stage from `arguments`, so that the stage can run
    /// in processes. The library's own stages name their modules themselves wherever bytes and
    /// descriptors can describe the stage.
    ///
    /// The name has at most [`MAX_MODULE_NAME`](crate::limits::MAX_MODULE_NAME) bytes, and the
    /// arguments [`MAX_MODULE_ARGUMENTS`](crate::limits::MAX_MODULE_ARGUMENTS).
    #[must_use]
    pub fn module(self, name: impl Into<String>, arguments: impl Into<Vec<u8>>) -> Self {
        self.module_with_descriptors(name, arguments, [])
    }

    /// As [`module`](Self::module), and passes descriptors to the module in addition to its
    /// arguments, so that the process can use open files that it could not open by name. At most
    /// [`MAX_MODULE_DESCRIPTORS`](crate::limits::MAX_MODULE_DESCRIPTORS).
    #[must_use]
    pub fn module_with_descriptors(
        self,
        name: impl Into<String>,
        arguments: impl Into<Vec<u8>>,
        descriptors: impl IntoIterator<Item = OwnedFd>,
    ) -> Self {
        let descriptors = descriptors.into_iter().map(Arc::new);
        self.module_with_shared_descriptors(name, arguments, descriptors)
    }

    /// As [`module_with_descriptors`](Self::module_with_descriptors), for descriptors that have
    /// other owners.
    pub(crate) fn module_with_shared_descriptors(
        mut self,
        name: impl Into<String>,
        arguments: impl Into<Vec<u8>>,
        descriptors: impl IntoIterator<Item = Arc<OwnedFd>>,
    ) -> Self {
        self.settings.module = Some(Module {
            name: name.into(),
            arguments: Zeroizing::new(arguments.into()),
            descriptors: descriptors.into_iter().collect(),
        });
        self
    }

    /// Declares that the stage sends on each block that it receives, in order, and no other.
    pub(crate) fn keep_blocks(mut self) -> Self {
        self.settings.keeps_blocks = true;
        self
    }

    /// Declares that the stage is left out of a pipe whose other stages keep their blocks.
    pub(crate) fn only_after_drops(mut self) -> Self {
        self.settings.is_for_drops = true;
        self
    }

    /// Declares that the library adds the stage: it stays in the controller, where no process can
    /// die with what it has counted.
    pub(crate) fn fixed(mut self) -> Self {
        self.settings.is_fixed = true;
        self
    }

    /// Records why no module can make this stage, and what to do about it.
    pub(crate) fn local(mut self, why: impl Into<Cow<'static, str>>) -> Self {
        self.settings.local = Some(why.into());
        self
    }

    /// Records that the stage has no module because of a limit of this process or the machine.
    pub(crate) fn local_at_limit(self, why: impl Into<Cow<'static, str>>) -> Self {
        let mut stage = self.local(why);
        stage.settings.is_at_limit = true;
        stage
    }

    /// Declares that the blocks of this head have the objects of a tree.
    pub(crate) fn sends_tree(mut self) -> Self {
        self.settings.sends_tree = true;
        self
    }

    /// Declares that the stage sends `n` blocks before those that it receives: the head's blocks
    /// have numbers from `n` on.
    pub(crate) fn sends_first(mut self, n: u64) -> Self {
        self.settings.sends_first = n;
        self
    }

    /// Declares that the stage seals or writes the blocks of this archive.
    pub(crate) fn of_archive(mut self, id: [u8; 16]) -> Self {
        self.settings.archive = Some(id);
        self
    }

    /// Declares that this tail writes an archive: the head sends it a last block.
    pub(crate) fn writes_archive(mut self) -> Self {
        self.settings.writes_archive = true;
        self
    }

    /// Declares that this head reads an archive: a stage of the pipe must check its blocks.
    pub(crate) fn reads_archive(mut self) -> Self {
        self.settings.reads_archive = true;
        self
    }

    /// Declares that the stage checks the blocks of an archive.
    pub(crate) fn checks_archive(mut self) -> Self {
        self.settings.checks_archive = true;
        self
    }

    /// Declares that the stage may take the content of a block away.
    pub(crate) fn rejects_blocks(mut self) -> Self {
        self.settings.rejects_blocks = true;
        self
    }

    /// Lets the kernel confine the stage's processes (Landlock) to the files that `confinement`
    /// allows. A kernel without this ability is an error of the stage, and so is a symbolic link in
    /// one of the paths: a caller who accepts paths from others must resolve them before allowing
    /// them, and afterwards no other process can swap a component for a link.
    #[must_use]
    pub fn confined(mut self, confinement: Confinement) -> Self {
        self.settings.confinement = Some(confinement);
        self
    }

    /// Calls `handler`, in the controller, with the data of each message that the stage's processes
    /// send about their work
    /// ([`StageArgs::add_message_source`](crate::host::StageArgs::add_message_source)). The call is
    /// made on the thread that supervises all processes of the pipe, and should return soon. A
    /// panic in it counts as a panic of the stage.
    ///
    /// The handler replaces an earlier one. The library's reports and logs do not pass through it:
    /// they reach the caller's copies in any case.
    #[must_use]
    pub fn on_message(mut self, handler: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        self.settings.message_handler.function = Some(Arc::new(handler));
        self
    }

    /// Sets the longest time for which an instance may work on one block. Only for stages in
    /// processes: a process that works for longer is killed, and its death is dealt with as [any
    /// other](crate::host#deaths). If it can be replaced, its replacement gets the block, and if
    /// that takes too long as well, the pipe stops with the number of the block. The controller
    /// checks four times a second, and reports [`Event::OverLimit`](crate::Event::OverLimit).
    /// Waiting for the pipe, or through a [`Stop`](crate::pool::Stop), is not work.
    ///
    /// A thread cannot be ended from outside, so a pipe with a limit for a stage on threads is
    /// refused.
    #[must_use]
    pub fn work_limit(mut self, limit: Duration) -> Self {
        self.settings.work_limit = Some(limit);
        self
    }

    /// Limits the memory that each process of the stage may have besides the pipe's, in bytes: its
    /// heap, the stacks of its threads, and its private mappings (`RLIMIT_DATA`). Only for stages
    /// in processes: a pipe with a limit for a stage on threads is refused.
    ///
    /// An allocation over the limit fails. Most programs then abort, and the death of the process
    /// is dealt with as [any other](crate::host#deaths). The limit holds from the moment at which
    /// the program runs, and is lower if the controller's own process may have less.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.settings.memory_limit = Some(bytes);
        self
    }

    /// Lets the controller report the notices of `source` as events of the pipe.
    #[must_use]
    pub(crate) fn notices(mut self, source: impl FnMut() -> Vec<Notice> + Send + 'static) -> Self {
        self.settings.notices = Some(NoticeSource::new(source));
        self
    }

    /// Names a report that the stage writes to. If the stage runs in processes, they send the
    /// changes of their reports, and the controller updates those of the stage that the caller
    /// described. A stage can have several reports, of different kinds.
    #[must_use]
    pub(crate) fn mirrored<M: Mirror>(mut self, report: &M) -> Self {
        let reports = std::mem::take(&mut self.settings.message_handler.reports);
        self.settings.message_handler.reports = reports.with(report);
        self
    }
}

impl Stage<MiddleWork<'_>> {
    /// Declares that an instance keeps state from earlier blocks. A replacement would not have that
    /// state, so the pipe stops when a process of this stage is killed.
    #[must_use]
    pub fn stateful(mut self) -> Self {
        self.settings.stateful = true;
        self
    }
}

#[cfg(feature = "processes")]
impl Stage<HeadWork<'static>> {
    /// A first stage whose code this program does not have: a module of another program makes it.
    /// Name both with [`module`](Self::module) and [`in_processes_of`](Self::in_processes_of).
    /// Returns `None` if no head does this kind of work.
    pub fn head_of_module(name: impl Into<String>, kind: StageKind) -> Option<Self> {
        let holds = match kind {
            StageKind::Fill | StageKind::Loop => (0, 1),
            _ => return None,
        };
        let work = HeadWork(HeadKind::Described(kind));
        Some(Self::described(name.into(), holds, kind, work))
    }

    /// A first stage whose place is taken by another process, which
    /// [attaches](crate::host::Attachment) within `patience`, fills the buffers that it allocates,
    /// and sends them. If it does not attach in time, the pipe stops.
    pub fn unbound_head(name: impl Into<String>, patience: Duration) -> Self {
        let work = HeadWork(HeadKind::Described(StageKind::Loop));
        Self::with(name, 0, 1, work)
            .single(UNBOUND)
            .unbound(patience)
    }
}

#[cfg(feature = "processes")]
impl Stage<MiddleWork<'static>> {
    /// A stage between two queues whose code this program does not have: a module of another
    /// program makes it. Name both with [`module`](Self::module) and
    /// [`in_processes_of`](Self::in_processes_of). Returns `None` if no such stage does this kind
    /// of work.
    pub fn middle_of_module(name: impl Into<String>, kind: StageKind) -> Option<Self> {
        let holds = match kind {
            StageKind::Transform | StageKind::Loop => (1, 1),
            StageKind::InPlace | StageKind::Analyze => (1, 0),
            _ => return None,
        };
        let work = MiddleWork(MiddleKind::Described(kind));
        Some(Self::described(name.into(), holds, kind, work))
    }
}

#[cfg(feature = "processes")]
impl Stage<MiddleWork<'static>> {
    /// A stage that makes up to `most` blocks from one, as [`flat_map`](Stage::flat_map), and whose
    /// code this program does not have: a module of another program makes it, with the same
    /// `most`. Name both with [`module`](Self::module) and
    /// [`in_processes_of`](Self::in_processes_of).
    pub fn flat_map_of_module(name: impl Into<String>, most: u32) -> Self {
        let kind = StageKind::FlatMap;
        let work = MiddleWork(MiddleKind::Described(kind));
        let mut stage = Self::described(name.into(), (1, 1), kind, work);
        stage.settings.outputs = most;
        stage
    }
}

#[cfg(feature = "processes")]
impl Stage<TailWork<'static>> {
    /// A last stage whose code this program does not have: a module of another program makes it.
    /// Name both with [`module`](Self::module) and [`in_processes_of`](Self::in_processes_of).
    /// Returns `None` if no tail does this kind of work.
    pub fn tail_of_module(name: impl Into<String>, kind: StageKind) -> Option<Self> {
        let holds = match kind {
            StageKind::Write | StageKind::Loop => (1, 0),
            _ => return None,
        };
        let work = TailWork(TailKind::Described(kind));
        Some(Self::described(name.into(), holds, kind, work))
    }

    /// A last stage whose place is taken by another process, which
    /// [attaches](crate::host::Attachment) within `patience`, receives until the end of the stream,
    /// and frees what it receives. If it does not attach in time, the pipe stops.
    pub fn unbound_tail(name: impl Into<String>, patience: Duration) -> Self {
        let work = TailWork(TailKind::Described(StageKind::Loop));
        Self::with(name, 1, 0, work)
            .single(UNBOUND)
            .unbound(patience)
    }
}

/// Steps that the constructors share.
impl<W> Stage<W> {
    fn with(name: impl Into<String>, hold_in: u32, hold_out: u32, work: W) -> Self {
        Self {
            settings: Settings::new(name.into(), hold_in, hold_out),
            work,
        }
    }

    pub(crate) fn single(mut self, why: &'static str) -> Self {
        self.settings.single = Some(why);
        self
    }

    fn unbound(mut self, patience: Duration) -> Self {
        self.settings.placement = Placement::Unbound(patience);
        self
    }

    /// A stage of which only the kind of work is known, with the inputs and buffers that it holds.
    fn described(name: String, (hold_in, hold_out): (u32, u32), kind: StageKind, work: W) -> Self {
        let stage = Self::with(name, hold_in, hold_out, work);
        if kind == StageKind::Loop {
            stage.single(LOOP)
        } else {
            stage
        }
    }
}

impl<W> fmt::Debug for Stage<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Implements `Debug` without showing the closures.
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

#[cfg(all(test, feature = "processes"))]
mod tests {
    use super::super::builtin::STREAM_HEAD_MODULE;
    use super::*;

    #[test]
    fn checkpoints_of_a_head_that_a_module_makes_are_set() {
        let head = |module: &str| {
            let head = Stage::head_of_module("head", StageKind::Fill).unwrap();
            head.module(module, "")
        };
        let every = |head: Stage<HeadWork<'_>>| head.settings.checkpoint_every();
        assert_eq!(every(head(STREAM_HEAD_MODULE)), DEFAULT_CHECKPOINT);
        for bytes in [0, 5] {
            let set = head(STREAM_HEAD_MODULE).checkpoint_every(bytes);
            assert_eq!(every(set), bytes);
        }
        assert_eq!(every(head("another").checkpoint_every(5)), u64::MAX);
    }
}
