//! Specification of a process: the instances it runs, and how it is started.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::NotReplaced;
use crate::host::launch_request::{Job, LaunchRequest, control_pair};
use crate::host::{ARGUMENT, StopSignalsBlocked};
use crate::memory::{InstanceId, Process, Segment, StageId};
use crate::pool::AtLimit;
use crate::stage::{MessageHandler, Module, Placement, ProcessRights, Role, Settings, StageKind};

use super::error_output::ErrorOutput;
use super::identity::run_as;
use super::kept_arguments::KeptArguments;
use super::memory_limit::limit_memory;
use super::running_process::RunningProcess;

/// Specification of a process that runs one instance of a stage, or all of them together.
#[derive(Debug)]
pub(crate) struct ProcessSpec {
    /// The first instance.
    pub(super) id: InstanceId,
    pub(super) instances: u32,
    pub(super) stage_name: String,
    pub(super) source: ProcessSource,
    pub(super) rights: ProcessRights,
    /// Without the arguments of its module.
    request: LaunchRequest,
    arguments: Arc<KeptArguments>,
    /// Reason for which a process that is killed is not replaced; `None` if it is.
    pub(super) irreplaceable: Option<NotReplaced>,
    /// True if the process is a head or tail that is replaced.
    pub(super) is_replaceable_end: bool,
    pub(super) message_handler: MessageHandler,
    /// Longest time for which the process may work on one block.
    pub(super) work_limit: Option<Duration>,
    /// Most private memory of the process, in bytes.
    memory_limit: Option<u64>,
}

/// Source of a process.
#[derive(Clone, Debug)]
pub(super) enum ProcessSource {
    /// The controller starts this program; its own program again if there is none.
    Program(Option<PathBuf>),
    /// The caller starts the process, which attaches within this time.
    Unbound(Duration),
}

impl ProcessSpec {
    /// Returns the processes of a stage; none if it does not run in processes.
    ///
    /// A stage that runs together gets one process for all its instances, any other stage one
    /// process for each. Only a bound process gets a job: one that attaches knows what it runs.
    ///
    /// # Errors
    ///
    /// Those of the memory for the module's arguments.
    pub(crate) fn all_of(
        settings: &Settings,
        kind: StageKind,
        stage: StageId,
        role: Role,
        at_limit: AtLimit,
    ) -> io::Result<Vec<Self>> {
        let source = match &settings.placement {
            Placement::Process(program) => ProcessSource::Program(program.clone()),
            Placement::Unbound(patience) => ProcessSource::Unbound(*patience),
            Placement::Thread | Placement::Inline => return Ok(Vec::new()),
        };
        let is_bound = matches!(source, ProcessSource::Program(_));
        let module = settings.module.as_ref().filter(|_| is_bound);
        let arguments = module.map_or(&[][..], |module| &module.arguments);
        let arguments = Arc::new(KeptArguments::new(arguments)?);
        let job = module.map(|module| Job {
            kind,
            module: without_arguments(module),
            confinement: settings.confinement.clone(),
            restores_plainly: settings.rights.restores_plainly,
        });
        let irreplaceable = if is_bound {
            irreplaceable(settings, kind, role)
        } else {
            Some(NotReplaced::Attached)
        };
        let instances = if settings.together {
            settings.instances
        } else {
            1
        };
        let first_instances = (0..settings.instances).step_by(instances.max(1) as usize);
        let spec = |first| Self {
            id: stage.instance(first),
            instances,
            stage_name: settings.name.clone(),
            source: source.clone(),
            rights: settings.rights.clone(),
            request: LaunchRequest {
                first: stage.instance(first),
                instances,
                at_limit,
                job: job.clone(),
            },
            arguments: Arc::clone(&arguments),
            irreplaceable,
            is_replaceable_end: settings.is_replaceable,
            message_handler: settings.message_handler.clone(),
            work_limit: settings.work_limit,
            memory_limit: settings.memory_limit,
        };
        Ok(first_instances.map(spec).collect())
    }

    /// The instances that the process runs.
    pub(super) fn ids(&self) -> impl Iterator<Item = InstanceId> + use<> {
        let (stage, first) = (self.id.stage(), self.id.index());
        (first..first + self.instances).map(move |index| stage.instance(index))
    }

    /// True if the controller starts the process.
    pub(super) fn is_bound(&self) -> bool {
        matches!(self.source, ProcessSource::Program(_))
    }

    /// Returns the seat and the launch request of a process that is to attach.
    pub(crate) fn unbound(&self) -> Option<(InstanceId, LaunchRequest)> {
        (!self.is_bound()).then(|| (self.id, self.request.clone()))
    }

    /// Returns the launch request with the arguments of its module.
    fn whole_request(&self) -> io::Result<LaunchRequest> {
        let mut request = self.request.clone();
        if let Some(job) = &mut request.job {
            job.module.arguments = self.arguments.read()?;
        }
        Ok(request)
    }

    /// Starts the program with its launch request. Returns `None` if the controller does not start
    /// the process.
    ///
    /// The request waits in the connection that is the child's standard input before the child
    /// exists, so that no code has to run between fork and exec.
    pub(super) fn start(&self, segment: &Segment) -> io::Result<Option<RunningProcess>> {
        let ProcessSource::Program(program) = &self.source else {
            return Ok(None);
        };
        let (control, theirs) = control_pair()?;
        self.whole_request()?.send(&control, segment)?;
        let mut command = match (program, &self.rights.program) {
            (Some(path), Some(file)) => {
                let mut command = Command::new(file.path_of_descriptor()?);
                command.arg0(path);
                command
            }
            // A process of another user starts in another directory.
            (Some(path), None) if self.rights.user.is_some() && is_relative(path) => {
                Command::new(std::path::absolute(path)?)
            }
            (Some(path), None) => Command::new(path),
            (None, _) => own_program(),
        };
        let mut errors = None;
        if let Some(user) = &self.rights.user {
            let (output, end) = ErrorOutput::new()?;
            errors = Some(output);
            run_as(&mut command, user, end);
        }
        if let Some(bytes) = self.memory_limit {
            limit_memory(&mut command, bytes);
        }
        if let Some(directory) = &self.rights.temporary {
            command.env("TMPDIR", directory);
        }
        // For lists of processes.
        let label = format!("{}/{}", self.stage_name, self.id.index());
        command.arg(ARGUMENT).arg(label).stdin(Stdio::from(theirs));
        if self.rights.user.is_none() {
            // In a process group of its own: a terminal's interrupt is for the controller, which
            // then stops the pipe in order. A process of another user has a session of its own.
            command.process_group(0);
        }
        let blocked = StopSignalsBlocked::new()?;
        let spawned = command.spawn();
        drop(blocked);
        let mut child = spawned.map_err(|error| explain_spawn(program.as_deref(), error))?;
        match Process::watch(child.id()) {
            Ok(process) => {
                let mut running = RunningProcess::new(Some(child), process, control);
                running.errors = errors;
                Ok(Some(running))
            }
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }
}

/// Returns a module with empty arguments.
fn without_arguments(module: &Module) -> Module {
    Module {
        name: module.name.clone(),
        arguments: Zeroizing::default(),
        descriptors: module.descriptors.clone(),
    }
}

/// True if a path is found from the working directory, and not in PATH.
fn is_relative(path: &Path) -> bool {
    path.is_relative() && path.components().nth(1).is_some()
}

/// Returns the reason for which a process that is killed is not replaced, if there is one.
fn irreplaceable(settings: &Settings, kind: StageKind, role: Role) -> Option<NotReplaced> {
    match (role, kind) {
        (Role::Head | Role::Tail, StageKind::Loop) if settings.is_replaceable => None,
        (Role::Head, _) => Some(NotReplaced::Head),
        (Role::Tail, _) => Some(NotReplaced::Tail),
        _ if settings.together && settings.instances > 1 => Some(NotReplaced::Together),
        // A loop may remember anything of earlier blocks.
        (Role::Middle, StageKind::Loop) => Some(NotReplaced::Stateful),
        (Role::Middle, _) => settings.stateful.then_some(NotReplaced::Stateful),
    }
}

/// Adds the program and what to do to the error of a process that cannot be started. `program` is
/// `None` if it runs this program.
fn explain_spawn(program: Option<&Path>, error: io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::NotFound if program.is_none() && !Path::new("/proc/self/exe").exists() => {
            "/proc, which leads to the program, is not mounted: mount it, or run the stages on \
             threads"
        }
        io::ErrorKind::WouldBlock => {
            "this user may have no more processes and threads: raise the limit (ulimit -u), or use \
             fewer instances"
        }
        kind => match program {
            Some(program) => {
                return io::Error::new(kind, format!("{}: {error}", program.display()));
            }
            None => return error,
        },
    };
    io::Error::new(error.kind(), format!("{error}; {advice}"))
}

/// Returns a command that runs this program again: the same file, even if it has been replaced on
/// disk since.
fn own_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    command
}
