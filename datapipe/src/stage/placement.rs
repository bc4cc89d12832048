//! Where the instances of a stage run, and how a process finds what it is to run.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{HeadKind, HeadWork, LOOP, MiddleKind, MiddleWork, Stage, TailKind, TailWork};

/// What is known of a stage without running it.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) instances: u32,
    pub(crate) placement: Placement,
    pub(crate) hold_in: u32,
    pub(crate) hold_out: u32,
    /// Why the stage can have one instance only, if so, and what to do about it.
    pub(crate) single: Option<&'static str>,
    /// An instance remembers something of earlier blocks.
    pub(crate) stateful: bool,
    /// All instances run in one process, if they run in processes.
    pub(crate) together: bool,
    /// What makes the stage in another process, if anything does.
    pub(crate) module: Option<Module>,
    /// Why nothing does, if that is known, and what to do about it.
    pub(crate) local: Option<Cow<'static, str>>,
    /// What its processes may touch, if not everything.
    pub(crate) confinement: Option<Confinement>,
    pub(crate) notes: Option<NotesHandler>,
}

impl Settings {
    pub(super) fn new(name: String, hold_in: u32, hold_out: u32) -> Self {
        Self {
            name,
            instances: 1,
            placement: Placement::default(),
            hold_in,
            hold_out,
            single: None,
            stateful: false,
            together: false,
            module: None,
            local: None,
            confinement: None,
            notes: None,
        }
    }
}

/// How a process that is to run a stage finds it: the name of a module, and what that makes the
/// stage from.
#[derive(Clone)]
pub(crate) struct Module {
    pub(crate) name: String,
    /// There may be a key in them.
    pub(crate) arguments: Zeroizing<Vec<u8>>,
    pub(crate) descriptors: Vec<Arc<OwnedFd>>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            arguments,
            descriptors,
        } = self;
        write!(
            f,
            "Module({name:?}, {} bytes, {} descriptors)",
            arguments.len(),
            descriptors.len()
        )
    }
}

/// What a process may read, and what it may also write, each with everything beneath.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confinement {
    pub(crate) read: Vec<PathBuf>,
    pub(crate) write: Vec<PathBuf>,
}

/// Called in the controller with what a process of the stage says about its work.
#[derive(Clone)]
pub(crate) struct NotesHandler(pub(crate) Arc<Handler>);

type Handler = dyn Fn(&[u8]) + Send + Sync;

impl fmt::Debug for NotesHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotesHandler")
    }
}

/// Where the instances of a stage run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Each on a thread of its own.
    #[default]
    Thread,
    /// In turn with all other inline stages of the pipe, on one thread.
    Inline,
    /// Each in a process of its own: of this program if no other is given.
    Process(Option<PathBuf>),
    /// In a process that somebody else starts, and that attaches within this time.
    Unbound(Duration),
}

/// Which kind of work a stage does, for whoever describes one without having its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StageKind {
    /// A first stage that is called for each block: [`Stage::head`].
    Fill = 1,
    /// One block from one block, out of place: [`Stage::transform`].
    Transform = 2,
    /// Changes a block in place: [`Stage::in_place`].
    InPlace = 3,
    /// Looks at a block: [`Stage::analyze`](Stage::analyze).
    Analyze = 4,
    /// A last stage that is called for each block: [`Stage::tail`].
    Write = 5,
    /// A loop over its port, in any role.
    Loop = 6,
}

impl StageKind {
    /// As it stands in an order.
    pub(crate) fn decode(byte: u8) -> Option<Self> {
        let all = [
            Self::Fill,
            Self::Transform,
            Self::InPlace,
            Self::Analyze,
            Self::Write,
            Self::Loop,
        ];
        all.into_iter().find(|work| *work as u8 == byte)
    }
}

impl<W> Stage<W> {
    /// Runs the stage in turn with all other inline stages of the pipe, on one thread. A pipe that
    /// has only inline stages starts no thread at all when it is [`run`](crate::PipeBuilder::run).
    #[must_use]
    pub fn inline(mut self) -> Self {
        self.settings.placement = Placement::Inline;
        self
    }

    /// Runs each instance in a process of its own, which is this program once more: its `main` has
    /// to call [`host::serve`](crate::host::serve) first. What becomes of an instance that is
    /// killed is said [there](crate::host#deaths).
    #[must_use]
    pub fn in_processes(mut self) -> Self {
        self.settings.placement = Placement::Process(None);
        self
    }

    /// As [`in_processes`](Self::in_processes), but the processes run `program`, whose `main` calls
    /// [`host::serve`](crate::host::serve): `datapipe-host`, which comes with the library, or one
    /// of your own.
    #[must_use]
    pub fn in_processes_of(mut self, program: impl Into<PathBuf>) -> Self {
        self.settings.placement = Placement::Process(Some(program.into()));
        self
    }

    /// Says that the instances share something that does not cross from process to process: all of
    /// them then run in one, each on a thread. So none of them can be replaced.
    #[must_use]
    pub fn together(mut self) -> Self {
        self.settings.together = true;
        self
    }

    /// Says that the module `name` of a host makes this stage from `arguments`: then it can run in
    /// processes. What of the library's own can be told in bytes comes with its module.
    ///
    /// The name has at most [`MAX_MODULE_NAME`](crate::limits::MAX_MODULE_NAME) bytes, and the
    /// arguments [`MAX_MODULE_ARGUMENTS`](crate::limits::MAX_MODULE_ARGUMENTS).
    #[must_use]
    pub fn module(mut self, name: impl Into<String>, arguments: impl Into<Vec<u8>>) -> Self {
        let (name, arguments) = (name.into(), Zeroizing::new(arguments.into()));
        self.settings.module = Some(Module {
            name,
            arguments,
            descriptors: Vec::new(),
        });
        self
    }

    /// Gives the module a descriptor beside its arguments: an open file reaches a process that
    /// could not open it by its name. At most
    /// [`MAX_MODULE_DESCRIPTORS`](crate::limits::MAX_MODULE_DESCRIPTORS).
    ///
    /// # Panics
    ///
    /// If no module has been named.
    #[must_use]
    pub fn descriptor(self, descriptor: impl Into<OwnedFd>) -> Self {
        self.shared_descriptor(Arc::new(descriptor.into()))
    }

    /// As [`descriptor`](Self::descriptor), of one that somebody else uses too.
    pub(crate) fn shared_descriptor(mut self, descriptor: Arc<OwnedFd>) -> Self {
        let module = self
            .settings
            .module
            .as_mut()
            .expect("a module is named before it is given descriptors");
        module.descriptors.push(descriptor);
        self
    }

    /// Says why no module can make this stage, and what to do about it.
    pub(crate) fn local(mut self, why: impl Into<Cow<'static, str>>) -> Self {
        self.settings.local = Some(why.into());
        self
    }

    /// Lets the kernel confine the stage's processes (Landlock): they may read what lies at or
    /// beneath the paths `read`, read and write what lies at or beneath `write`, and open nothing
    /// else. Descriptors that they are given are not touched by it. A kernel that cannot is an
    /// error of the stage, and so is a symbolic link in one of the paths: who takes them from
    /// others has resolved them before allowing them, and nobody can exchange them since.
    #[must_use]
    pub fn confined(mut self, read: Vec<PathBuf>, write: Vec<PathBuf>) -> Self {
        self.settings.confinement = Some(Confinement { read, write });
        self
    }

    /// Calls `handler`, in the controller, with what the stage's processes say about their work
    /// ([`StageArgs::notes`](crate::host::StageArgs::notes)). It is called on the thread that looks after all
    /// processes of the pipe, and should return soon. A panic of it counts as one of the stage.
    #[must_use]
    pub fn notes(mut self, handler: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        self.settings.notes = Some(NotesHandler(Arc::new(handler)));
        self
    }

    fn unbound(mut self, patience: Duration) -> Self {
        self.settings.placement = Placement::Unbound(patience);
        self
    }

    /// A stage of which only the kind of work is known, with what it holds.
    fn described(name: String, (hold_in, hold_out): (u32, u32), work: StageKind, does: W) -> Self {
        let stage = Self::with(name, hold_in, hold_out, does);
        if work == StageKind::Loop {
            stage.single(LOOP)
        } else {
            stage
        }
    }
}

impl Stage<HeadWork<'static>> {
    /// A first stage whose code this program does not have: a module of another one makes it. Say
    /// which with [`module`](Self::module) and [`in_processes_of`](Self::in_processes_of). `None`
    /// if no head does this kind of work.
    pub fn head_of_module(name: impl Into<String>, work: StageKind) -> Option<Self> {
        let holds = match work {
            StageKind::Fill | StageKind::Loop => (0, 1),
            _ => return None,
        };
        Some(Self::described(
            name.into(),
            holds,
            work,
            HeadWork(HeadKind::Described(work)),
        ))
    }

    /// A first stage that another process becomes, which [attaches](crate::host::Attachment) within
    /// `patience`: fills what it allocates, and sends it. If it does not come in time, the pipe
    /// stops.
    pub fn unbound_head(name: impl Into<String>, patience: Duration) -> Self {
        let work = HeadWork(HeadKind::Described(StageKind::Loop));
        Self::with(name, 0, 1, work)
            .single(UNBOUND)
            .unbound(patience)
    }
}

impl Stage<MiddleWork<'static>> {
    /// A stage between two queues whose code this program does not have: a module of another one
    /// makes it. Say which with [`module`](Self::module) and
    /// [`in_processes_of`](Self::in_processes_of). `None` if no such stage does this kind of work.
    pub fn middle_of_module(name: impl Into<String>, work: StageKind) -> Option<Self> {
        let holds = match work {
            StageKind::Transform | StageKind::Loop => (1, 1),
            StageKind::InPlace | StageKind::Analyze => (1, 0),
            _ => return None,
        };
        Some(Self::described(
            name.into(),
            holds,
            work,
            MiddleWork(MiddleKind::Described(work)),
        ))
    }
}

impl Stage<TailWork<'static>> {
    /// A last stage whose code this program does not have: a module of another one makes it. Say
    /// which with [`module`](Self::module) and [`in_processes_of`](Self::in_processes_of). `None`
    /// if no tail does this kind of work.
    pub fn tail_of_module(name: impl Into<String>, work: StageKind) -> Option<Self> {
        let holds = match work {
            StageKind::Write | StageKind::Loop => (1, 0),
            _ => return None,
        };
        Some(Self::described(
            name.into(),
            holds,
            work,
            TailWork(TailKind::Described(work)),
        ))
    }

    /// A last stage that another process becomes, which [attaches](crate::host::Attachment) within
    /// `patience`: receives to the end, and frees. If it does not come in time, the pipe stops.
    pub fn unbound_tail(name: impl Into<String>, patience: Duration) -> Self {
        let work = TailWork(TailKind::Described(StageKind::Loop));
        Self::with(name, 1, 0, work)
            .single(UNBOUND)
            .unbound(patience)
    }
}

/// Why an unbound stage has one instance.
const UNBOUND: &str = "is one process that attaches";
