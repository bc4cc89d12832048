//! The settings of a stage: name, instances, placement, and how a process finds the stage's code.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::limits::DEFAULT_CHECKPOINT;

use super::builtin::STREAM_HEAD_MODULE;
use super::confinement::Confinement;
use super::mirror::Mirrors;
use super::notice::NoticeSource;
use super::process_rights::ProcessRights;

/// Name of the module that makes the tail of an archive. For a medium of the host's own, a colon
/// and the medium's name follow it.
pub(crate) const ARCHIVE_TAIL_MODULE: &str = "datapipe.archive-tail";
/// Name of the module that makes the head of an archive, with names of media as for the tail.
pub(crate) const ARCHIVE_HEAD_MODULE: &str = "datapipe.archive-head";

/// Name of the module that makes the head of a tree.
pub(crate) const TREE_HEAD_MODULE: &str = "datapipe.tree-head";

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
    /// Blocks that it makes from one at most.
    pub(crate) outputs: u32,
    /// Added by the library: it has one instance, and stays in the controller.
    pub(crate) is_fixed: bool,
    /// The stage is left out of a pipe whose other stages keep their blocks.
    pub(crate) is_for_drops: bool,
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
    /// True if that reason is a limit of this process or the machine.
    pub(crate) is_at_limit: bool,
    /// Paths that the stage's processes may open; `None` if they are not confined.
    pub(crate) confinement: Option<Confinement>,
    /// Rights of the stage's processes.
    pub(crate) rights: ProcessRights,
    pub(crate) message_handler: MessageHandler,
    /// The stage sends on each block that it receives, in order, and no other.
    pub(crate) keeps_blocks: bool,
    /// Number of blocks that the stage sends before those that it receives.
    pub(crate) sends_first: u64,
    /// Bytes of data after which this head makes a checkpoint, if it does so by itself; 0: never.
    pub(crate) checkpoint: Option<u64>,
    /// The archive whose blocks the stage seals or writes.
    pub(crate) archive: Option<[u8; 16]>,
    /// This tail writes an archive, which ends with a last block.
    pub(crate) writes_archive: bool,
    /// This head reads an archive, whose blocks must be checked.
    pub(crate) reads_archive: bool,
    /// The stage checks the blocks of an archive.
    pub(crate) checks_archive: bool,
    /// Each block of this head has entries of several objects of a tree.
    pub(crate) sends_tree: bool,
    /// The stage may take the content of a block away.
    pub(crate) rejects_blocks: bool,
    pub(crate) notices: Option<NoticeSource>,
    /// Longest time for which a process may work on one block.
    pub(crate) work_limit: Option<Duration>,
    /// Most private memory of a process, in bytes.
    pub(crate) memory_limit: Option<u64>,
}

impl Settings {
    pub(super) fn new(name: String, hold_in: u32, hold_out: u32) -> Self {
        Self {
            name,
            instances: 1,
            placement: Placement::default(),
            hold_in,
            hold_out,
            outputs: 1,
            is_fixed: false,
            is_for_drops: false,
            single: None,
            stateful: false,
            together: false,
            module: None,
            local: None,
            is_at_limit: false,
            confinement: None,
            rights: ProcessRights::default(),
            message_handler: MessageHandler::default(),
            keeps_blocks: false,
            sends_first: 0,
            checkpoint: None,
            archive: None,
            writes_archive: false,
            reads_archive: false,
            checks_archive: false,
            sends_tree: false,
            rejects_blocks: false,
            notices: None,
            work_limit: None,
            memory_limit: None,
        }
    }

    /// True if this tail waits for a last block: it writes an archive, or a module of that name
    /// makes it in a process.
    pub(crate) fn wants_last_block(&self) -> bool {
        self.writes_archive || self.has_module_on_medium(ARCHIVE_TAIL_MODULE)
    }

    /// Bytes of data after which this head makes a checkpoint, also if a module of the library
    /// makes the head in a process; `u64::MAX` if it makes them only when it decides to.
    pub(crate) fn checkpoint_every(&self) -> u64 {
        let default = self.has_head_module().then_some(DEFAULT_CHECKPOINT);
        self.checkpoint.or(default).unwrap_or(u64::MAX)
    }

    /// True if the module is one of the library's that make a head with checkpoints.
    pub(super) fn has_head_module(&self) -> bool {
        let module = self.module.as_ref().map(|module| module.name.as_str());
        matches!(module, Some(TREE_HEAD_MODULE | STREAM_HEAD_MODULE))
    }

    /// True if this head reads an archive, or a module of that name makes it in a process.
    pub(crate) fn reads_archive(&self) -> bool {
        self.reads_archive || self.has_module_on_medium(ARCHIVE_HEAD_MODULE)
    }

    /// True if the stage has this module, or the one for a medium of the host's own.
    fn has_module_on_medium(&self, module: &str) -> bool {
        let own = self.module.as_ref().map(|module| module.name.as_str());
        let rest = own.and_then(|name| name.strip_prefix(module));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }

    /// The reports of the stage, and the problems that its processes count.
    pub(crate) fn reports(&self) -> Mirrors {
        self.message_handler.reports.clone()
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

/// Receivers of what the stage's processes send about their work.
#[derive(Clone, Default)]
pub(crate) struct MessageHandler {
    /// The caller's function, for the data of messages.
    pub(super) function: Option<Arc<HandlerFn>>,
    /// The reports of the stage, which mirror those in the processes.
    pub(crate) reports: Mirrors,
}

pub(super) type HandlerFn = dyn Fn(&[u8]) + Send + Sync;

impl MessageHandler {
    /// Calls the caller's function, if there is one.
    pub(crate) fn call(&self, data: &[u8]) {
        if let Some(function) = &self.function {
            function(data);
        }
    }
}

impl fmt::Debug for MessageHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageHandler")
            .field("function", &self.function.is_some())
            .field("reports", &self.reports)
            .finish()
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
    /// Several blocks from one: [`Stage::flat_map`](super::Stage::flat_map).
    FlatMap = 7,
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
            Self::FlatMap,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}
