//! A process that is to be, and one that is.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::error::NotReplaced;
use crate::host::ARGUMENT;
use crate::host::launch_request::{Job, LaunchRequest, control_pair};
use crate::memory::{Process, Segment};
use crate::stage::{MessageHandler, Placement, Settings, StageKind};

use super::Id;

/// A process that runs an instance of a stage, or all of them together.
#[derive(Debug)]
pub(crate) struct Post {
    /// The first instance.
    pub(super) id: Id,
    pub(super) instances: u32,
    pub(super) stage_name: String,
    pub(super) origin: Origin,
    pub(super) order: LaunchRequest,
    pub(super) irreplaceable: Option<NotReplaced>,
    pub(super) notes: Option<MessageHandler>,
}

/// Where its process comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// From this program, or this one once more if there is none.
    Program(Option<PathBuf>),
    /// From somebody else, within this time.
    Unbound(Duration),
}

/// Where in the chain a stage stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    First,
    Between,
    Last,
}

impl Post {
    /// The processes of a stage; none if it does not run in processes.
    pub(crate) fn all_of(
        settings: &Settings,
        work: StageKind,
        stage: u32,
        standing: Standing,
        terminate_at_limit: bool,
    ) -> Vec<Self> {
        let origin = match &settings.placement {
            Placement::Process(program) => Origin::Program(program.clone()),
            Placement::Unbound(patience) => Origin::Unbound(*patience),
            Placement::Thread | Placement::Inline => return Vec::new(),
        };
        let is_bound = matches!(origin, Origin::Program(_));
        let confinement = settings.confinement.clone();
        let job = settings.module.clone().map(|module| Job {
            kind: work,
            module,
            confinement,
        });
        let job = job.filter(|_| is_bound);
        let irreplaceable = if is_bound {
            irreplaceable(settings, work, standing)
        } else {
            Some(NotReplaced::Attached)
        };
        let instances = if settings.together {
            settings.instances
        } else {
            1
        };
        let firsts = (0..settings.instances).step_by(instances.max(1) as usize);
        let post = |instance| Self {
            id: Id { stage, instance },
            instances,
            stage_name: settings.name.clone(),
            origin: origin.clone(),
            order: LaunchRequest {
                stage,
                instance,
                instances,
                terminate_at_limit,
                job: job.clone(),
            },
            irreplaceable,
            notes: settings.message_handler.clone(),
        };
        firsts.map(post).collect()
    }

    /// The instances that it runs.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        let Id { stage, instance } = self.id;
        (instance..instance + self.instances).map(move |instance| Id { stage, instance })
    }

    /// The seat and the order of one that is to attach.
    pub(crate) fn unbound(&self) -> Option<(Id, LaunchRequest)> {
        matches!(self.origin, Origin::Unbound(_)).then(|| (self.id, self.order.clone()))
    }

    /// Starts the program with its order. `None` if somebody else is to do that.
    pub(super) fn start(&self, segment: &Segment) -> io::Result<Option<Alive>> {
        let Origin::Program(program) = &self.origin else {
            return Ok(None);
        };
        let (control, theirs) = control_pair()?;
        self.order.send(&control, segment)?;
        let mut command = match program {
            Some(program) => Command::new(program),
            None => own_program(),
        };
        // For whoever lists processes.
        let label = format!("{}/{}", self.stage_name, self.id.instance);
        // Of its own group: a terminal's interrupt is for the controller, which then stops the pipe
        // in order.
        command
            .arg(ARGUMENT)
            .arg(label)
            .stdin(Stdio::from(theirs))
            .process_group(0);
        let mut child = command.spawn()?;
        match Process::watch(child.id()) {
            Ok(process) => Ok(Some(Alive {
                child: Some(child),
                process,
                control,
                hung_up: false,
            })),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }
}

/// Why a process that is killed cannot be replaced, if so.
fn irreplaceable(settings: &Settings, work: StageKind, standing: Standing) -> Option<NotReplaced> {
    match (standing, work) {
        (Standing::First, _) => Some(NotReplaced::Head),
        (Standing::Last, _) => Some(NotReplaced::Tail),
        _ if settings.together && settings.instances > 1 => Some(NotReplaced::Together),
        // A loop may remember what it likes.
        (Standing::Between, StageKind::Loop) => Some(NotReplaced::Stateful),
        (Standing::Between, _) => settings.stateful.then_some(NotReplaced::Stateful),
    }
}

/// This program once more, the same file even if another has taken its place since.
fn own_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    command
}

/// A process that works. One that the controller started does not outlive this.
#[derive(Debug)]
pub(super) struct Alive {
    /// Nothing if somebody else started it.
    pub(super) child: Option<Child>,
    pub(super) process: Process,
    pub(super) control: OwnedFd,
    /// It has said its last.
    pub(super) hung_up: bool,
}

impl Alive {
    /// What the kernel says of the end of a process that has died.
    pub(super) fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.as_mut().map(Child::wait).transpose()
    }

    /// Whether it is stopped, by SIGSTOP say, and does not run until somebody lets it.
    pub(super) fn is_stopped(&self) -> bool {
        let stat = std::fs::read(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        // Behind the name, which may hold anything, but is not followed by another parenthesis.
        let state = stat
            .iter()
            .rposition(|&byte| byte == b')')
            .and_then(|end| stat.get(end + 2));
        state == Some(&b'T')
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // By its descriptor: if the application waits for all children, or ignores their
            // deaths, the number may be another's by now. Both do nothing to one that is dead.
            let _ = self.process.kill();
            let _ = child.wait();
        }
    }
}
