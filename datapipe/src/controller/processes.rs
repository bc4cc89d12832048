//! Instances that are processes: started, watched through the kernel, replaced when they are killed.
//!
//! ```text
//!   start -> alive -> dead --+-- it reported -----------------------> exit, as a thread's
//!     ^                      +-- killed by a signal, replaceable -+
//!     |                      +-- else: stop the pipe, release ----|-> exit, with the death
//!     +---------- what it held is reclaimed, inputs kept ---------+
//! ```
//!
//! All on one thread, which lives until the last of them is dead: the kernel kills the children of a thread that ends.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::error::{Death, NotReplaced, StageError};
use crate::host::{ARGUMENT, control};
use crate::limits::MAX_FRUITLESS_DEATHS;
use crate::memory::{Dead, Process, Segment};
use crate::pool::{Inputs, PortError};
use crate::stage::{MiddleStage, Placement};

use super::launch::{Exit, Id};

/// How often the thread looks whether the pipe stops.
const TICK: Duration = Duration::from_millis(250);
/// How long a process may take to end once the pipe stops. What it works on is of no use to anybody any more.
const GRACE: Duration = Duration::from_secs(2);

/// An instance that is to run in a process.
#[derive(Debug)]
pub(super) struct Post {
    id: Id,
    /// For whoever lists processes.
    label: String,
    /// This program if there is none.
    program: Option<PathBuf>,
    order: control::Order,
    irreplaceable: Option<NotReplaced>,
}

impl Post {
    /// Instance `id` of `stage`, if that runs in processes.
    pub(super) fn of(stage: &MiddleStage<'_>, id: Id, terminate_at_limit: bool) -> Option<Self> {
        let Placement::Process(program) = &stage.settings.placement else { return None };
        let order = control::Order {
            stage: id.stage,
            instance: id.instance,
            terminate_at_limit,
            kind: stage.kind(),
            module: stage.settings.module.clone()?,
        };
        Some(Self {
            id,
            label: format!("{}/{}", stage.settings.name, id.instance),
            program: program.clone(),
            order,
            irreplaceable: stage.irreplaceable(),
        })
    }

    fn start(&self, segment: &Segment) -> io::Result<Alive> {
        let descriptor =
            segment.descriptor().ok_or_else(|| io::Error::other("the segment has no descriptor"))?;
        let (control, theirs) = control::pair()?;
        control::give(&control, &self.order, descriptor)?;
        let mut command = match &self.program {
            Some(program) => Command::new(program),
            None => own_program(),
        };
        // Of its own group: a terminal's interrupt is for the controller, which then stops the pipe in order.
        command.arg(ARGUMENT).arg(&self.label).stdin(Stdio::from(theirs)).process_group(0);
        let mut child = command.spawn()?;
        match Process::watch(child.id()) {
            Ok(process) => Ok(Alive { child, process, control }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
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

/// A process that runs an instance.
struct Alive {
    child: Child,
    process: Process,
    control: OwnedFd,
}

/// An instance, and its processes so far.
struct Seated {
    post: Post,
    alive: Alive,
    /// Blocks that the instance had taken up when a process of it died last.
    taken_up: u64,
    /// Deaths in a row without one taken up.
    fruitless: u32,
}

/// Runs the instances to their ends, each of which is sent to `exits`.
pub(super) fn run(posts: Vec<Post>, segment: &Segment, exits: Sender<Exit>) {
    let mut keeper = Keeper { segment, exits, seated: Vec::new(), deadly: HashSet::new(), stopped: None };
    for post in posts {
        match post.start(segment) {
            Ok(alive) => keeper.seated.push(Seated { post, alive, taken_up: 0, fruitless: 0 }),
            Err(error) => keeper.end(post.id, Err(not_started(&error)), None),
        }
    }
    while !keeper.seated.is_empty() {
        keeper.look();
    }
}

fn not_started(error: &io::Error) -> StageError {
    StageError::new(format!("cannot start its process: {error}"))
}

struct Keeper<'s> {
    segment: &'s Segment,
    exits: Sender<Exit>,
    seated: Vec<Seated>,
    /// Stages and numbers of the blocks at which an instance died.
    deadly: HashSet<(u32, u64)>,
    /// When the pipe was first seen to stop.
    stopped: Option<Instant>,
}

impl Keeper<'_> {
    /// Waits a while for deaths, and deals with those that there are.
    fn look(&mut self) {
        let processes = self.seated.iter().map(|seated| &seated.alive.process);
        if Process::wait_any(processes, TICK).is_err() {
            std::thread::sleep(TICK); // the kernel has no memory for it now; it is asked again for each, below
        }
        if self.segment.is_stopped() && self.stopped.get_or_insert_with(Instant::now).elapsed() >= GRACE {
            for seated in &self.seated {
                let _ = seated.alive.process.kill(); // a child of ours; one that has died meanwhile is no error
            }
        }
        let mut at = 0;
        while let Some(seated) = self.seated.get(at) {
            match seated.alive.process.wait(Duration::ZERO) {
                Ok(Some(dead)) => {
                    let seated = self.seated.swap_remove(at);
                    self.bury(seated, &dead);
                }
                Ok(None) | Err(_) => at += 1,
            }
        }
    }

    fn bury(&mut self, mut seated: Seated, dead: &Dead) {
        let id = seated.post.id;
        let report = control::told(&seated.alive.control);
        let status = match (seated.alive.child.wait(), report) {
            (_, Some(result)) => return self.end(id, result, Some(dead)),
            (Err(error), None) => {
                let error = StageError::new(format!("its process died, and nobody knows how: {error}"));
                return self.end(id, Err(error), Some(dead));
            }
            (Ok(status), None) => status,
        };
        if self.segment.is_stopped() {
            return self.end(id, Err(PortError::Stopped.into()), Some(dead));
        }
        if let Err(error) = self.replace(&mut seated, dead, status) {
            return self.end(id, Err(error), Some(dead));
        }
        self.seated.push(seated);
    }

    /// Seats a replacement, which inherits the inputs of the dead one, or says why there is none.
    fn replace(&mut self, seated: &mut Seated, dead: &Dead, status: ExitStatus) -> Result<(), StageError> {
        let died = |reason| Err(StageError::died(Death { process: dead.process(), status, reason }));
        if status.signal().is_none() {
            return died(NotReplaced::Exited);
        }
        if let Some(reason) = seated.post.irreplaceable {
            return died(reason);
        }
        let Id { stage, instance } = seated.post.id;
        self.segment.reclaim(stage, instance, dead, Inputs::Inherit).map_err(PortError::from)?;
        let taken_up = self.segment.taken_up(stage, instance);
        if taken_up == std::mem::replace(&mut seated.taken_up, taken_up) {
            // So whatever it was, it was not a block.
            seated.fruitless += 1;
            if seated.fruitless >= MAX_FRUITLESS_DEATHS {
                return died(NotReplaced::Fruitless(seated.fruitless));
            }
        } else {
            seated.fruitless = 0;
            let number = self.segment.inherited(stage, instance);
            if let Some(number) = number.filter(|&number| !self.deadly.insert((stage, number))) {
                return died(NotReplaced::DeadlyBlock(number));
            }
        }
        seated.alive = seated.post.start(self.segment).map_err(|error| not_started(&error))?;
        Ok(())
    }

    /// Tells the controller how an instance ended; if not well, stops the pipe and takes back what it held.
    fn end(&self, id: Id, result: Result<(), StageError>, dead: Option<&Dead>) {
        let after_stop = self.segment.is_stopped();
        if result.is_err() {
            self.segment.stop();
            if let Some(dead) = dead {
                // Why it ended comes first: that the segment is corrupt may be no more than a consequence.
                let _ = self.segment.reclaim(id.stage, id.instance, dead, Inputs::Release);
            }
        }
        // The controller listens until the last instance has ended.
        let _ = self.exits.send(Exit { id, result, after_stop });
    }
}
