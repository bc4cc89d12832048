//! The settings of a stage: name, instances, placement, and how a process finds the stage's code.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::mirror::Mirrors;
use super::notice::NoticeSource;

/// Everything known of a stage without its code.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) instances: u32,
    pub(crate) placement: Placement,
    /// Inputs that an instance holds at most.
    pub(crate) hold_in: u32,
    /// Buffers that an instance allocates before it sends any.
    pub(crate) hold_out: u32,
    /// Reason why the stage can have one instance only, if so, and what to do about it.
    pub(crate) single: Option<&'static str>,
    /// An instance keeps state from earlier blocks.
    pub(crate) stateful: bool,
    /// All instances run in one process, if they run in processes.
    pub(crate) together: bool,
    /// Module that makes the stage in another process, if there is one.
    pub(crate) module: Option<Module>,
    /// Reason why there is no module, if known, and what to do about it.
    pub(crate) local: Option<Cow<'static, str>>,
    /// Paths that the stage's processes may open; `None` if they are not confined.
    pub(crate) confinement: Option<Confinement>,
    pub(crate) message_handler: Option<MessageHandler>,
    pub(crate) notices: Option<NoticeSource>,
    /// Longest time for which a process may work on one block.
    pub(crate) work_limit: Option<Duration>,
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
            message_handler: None,
            notices: None,
            work_limit: None,
        }
    }
}

/// A host's module: its name, and what it makes the stage from.
#[derive(Clone)]
pub(crate) struct Module {
    pub(crate) name: String,
    /// May contain a key.
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

/// Files that a stage's process may open: [`Stage::confined`](super::Stage::confined). Descriptors
/// that are passed to the process are not affected.
///
/// ```
/// use datapipe::prelude::*;
/// use datapipe::stage::Confinement;
/// use std::path::PathBuf;
///
/// let spool = PathBuf::from("/var/spool/backup");
/// let tail = TailStage::from(StreamTail::new(std::io::sink()))
///     .in_processes()
///     .confined(Confinement::new().write([spool]));
/// # let _ = tail;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    pub(crate) read: Vec<PathBuf>,
    pub(crate) write: Vec<PathBuf>,
}

impl Confinement {
    /// A confinement in which a process may open nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also allows reading files at or beneath `paths`.
    #[must_use]
    pub fn read(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.read.extend(paths);
        self
    }

    /// Also allows reading and writing files at or beneath `paths`.
    #[must_use]
    pub fn write(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.write.extend(paths);
        self
    }
}

/// Receiver, in the controller, of the data of each message of the stage's processes.
#[derive(Clone)]
pub(crate) enum MessageHandler {
    /// The caller's function.
    Function(Arc<HandlerFn>),
    /// The reports of the stage.
    Mirrors(Mirrors),
}

type HandlerFn = dyn Fn(&[u8]) + Send + Sync;

impl MessageHandler {
    /// Handles the data of a message from the process of an instance.
    pub(crate) fn handle(&self, instance: u32, data: &[u8]) {
        match self {
            Self::Function(function) => function(data),
            Self::Mirrors(mirrors) => mirrors.receive(instance, data),
        }
    }
}

impl fmt::Debug for MessageHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(_) => f.write_str("Function"),
            Self::Mirrors(mirrors) => mirrors.fmt(f),
        }
    }
}

/// Placement of the instances of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Each on its own thread.
    #[default]
    Thread,
    /// In turn with all other inline stages of the pipe, on one thread.
    Inline,
    /// Each in its own process, which runs this program unless another one is given.
    Process(Option<PathBuf>),
    /// In a process that the controller does not start, and that attaches within this time.
    Unbound(Duration),
}

/// Kind of work that a stage does, for a program that describes a stage without having its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StageKind {
    /// A first stage that is called for each block: [`Stage::head`](super::Stage::head).
    Fill = 1,
    /// One block from one block, out of place: [`Stage::transform`](super::Stage::transform).
    Transform = 2,
    /// Changes a block in place: [`Stage::in_place`](super::Stage::in_place).
    InPlace = 3,
    /// Reads a block without changing its data: [`Stage::analyze`](super::Stage::analyze).
    Analyze = 4,
    /// A last stage that is called for each block: [`Stage::tail`](super::Stage::tail).
    Write = 5,
    /// A loop over its port, in any role.
    Loop = 6,
}

impl StageKind {
    /// Decodes the byte that a launch request has for it.
    pub(crate) fn decode(byte: u8) -> Option<Self> {
        let all = [
            Self::Fill,
            Self::Transform,
            Self::InPlace,
            Self::Analyze,
            Self::Write,
            Self::Loop,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}
