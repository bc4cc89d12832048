//! Instances that are processes: started or admitted, watched through the kernel, replaced when
//! they are killed.
//!
//! ```text
//!   start -> alive -> dead --+-- it reported -----------------------> exit, as a thread's
//!     ^        ^             +-- killed by a signal, replaceable -+
//!     |        attached      +-- else: stop the pipe, release ----|-> exit, with the death
//!     +---------- what it held is reclaimed, inputs kept ---------+
//! ```
//!
//! All on one thread, which lives until the last of them is dead: what the kernel tells children of
//! their parent's death, it tells them when the thread ends that started them.

mod post; // a process that is to be, and one that is

use std::collections::HashSet;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Death, NotReplaced, StageError};
use crate::host::message::{self, Message, Received};
use crate::limits::MAX_FRUITLESS_DEATHS;
use crate::memory::{Dead, Segment};
use crate::pool::{Activity, Inputs, PortError};
use crate::stage::runner::thread::catch_panic;

use super::door::{Arrival, Door};
use super::event::{Event, Listener};
use super::launch::{Exit, Id};

use post::{Alive, Origin};
pub(super) use post::{Post, Standing};

/// How often the thread looks whether the pipe stops.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
/// How often it looks which processes are stopped.
const STOPPED_TICK: Duration = Duration::from_millis(250);
/// How long a process may take to end once the pipe stops. What it works on is of no use to anybody
/// any more.
const GRACE: Duration = Duration::from_secs(2);
/// How many packets of one process are read before others have their turn.
const PACKETS_AT_ONCE: usize = 64;

/// What the processes of a pipe have in common.
#[derive(Debug)]
pub(super) struct Household<'s> {
    pub(super) segment: &'s Segment,
    pub(super) door: &'s Door,
    pub(super) listener: &'s Listener,
    /// How long a process may be stopped.
    pub(super) stopped_limit: Duration,
}

/// An instance, or several that share a process, and its processes so far.
struct Seated {
    post: Post,
    /// Nothing as long as nobody has attached.
    alive: Option<Alive>,
    since: Instant,
    /// How each instance has ended, by what it said, and whether the pipe had been stopped by then.
    said: Vec<Option<(Result<(), StageError>, bool)>>,
    /// How many processes it has had.
    processes: u64,
    /// Blocks that the instance had taken up when a process of it died last.
    taken_up: u64,
    /// Deaths in a row without one taken up.
    fruitless: u32,
    /// For how long its process was seen stopped.
    stopped_for: Duration,
    /// When a process that somebody else started hung up without a word.
    left: Option<Instant>,
    /// When all its instances were heard to have ended.
    finished: Option<Instant>,
}

impl Seated {
    fn new(post: Post) -> Self {
        let said = post.ids().map(|_| None).collect();
        let (since, stopped_for) = (Instant::now(), Duration::ZERO);
        Self {
            post,
            alive: None,
            since,
            said,
            processes: 0,
            taken_up: 0,
            fruitless: 0,
            stopped_for,
            left: None,
            finished: None,
        }
    }

    /// Whether its process is started by the controller.
    fn is_bound(&self) -> bool {
        matches!(self.post.origin, Origin::Program(_))
    }

    fn has_said_all(&self) -> bool {
        self.said.iter().all(Option::is_some)
    }

    /// Takes note of how one of its instances ended, if that is the first time. A failure stops the
    /// pipe.
    fn said_by(&mut self, instance: usize, result: Result<(), StageError>, segment: &Segment) {
        let runs = self.said.len();
        let (instance, result) = if instance < runs {
            (instance, result)
        } else {
            let what = format!("its process said how instance {instance} ended, but runs {runs}");
            (0, Err(StageError::new(what)))
        };
        let Some(said @ None) = self.said.get_mut(instance) else {
            return;
        };
        let is_failure = result.is_err();
        *said = Some((result, segment.is_stopped()));
        if is_failure {
            segment.stop();
        }
    }
}

/// Runs the instances to their ends, each of which is sent to `exits`.
pub(super) fn run(posts: Vec<Post>, household: &Household<'_>, exits: Sender<Exit>) {
    let _leaving = Leaving(household);
    let (seated, deadly) = (Vec::new(), HashSet::new());
    let (stopped, looked) = (None, Instant::now());
    let mut keeper = Keeper {
        household,
        exits,
        seated,
        deadly,
        stopped,
        looked,
        room: Vec::new(),
    };
    for post in posts {
        let mut seated = Seated::new(post);
        match keeper.start(&mut seated) {
            Ok(()) => {
                keeper.announce(&seated);
                keeper.seated.push(seated);
            }
            Err(error) => keeper.end(seated, error, None),
        }
    }
    while !keeper.seated.is_empty() {
        keeper.look();
    }
}

/// However the thread ends, nobody waits for what it will not do any more: a listener of the
/// caller's may panic on it.
struct Leaving<'s>(&'s Household<'s>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.segment.stop();
        }
        self.0.door.close();
    }
}

struct Keeper<'s> {
    household: &'s Household<'s>,
    exits: Sender<Exit>,
    seated: Vec<Seated>,
    /// Stages and numbers of the blocks at which an instance died.
    deadly: HashSet<(u32, u64)>,
    /// When the pipe was first seen to stop.
    stopped: Option<Instant>,
    /// When it was last looked which processes are stopped.
    looked: Instant,
    /// For what processes say.
    room: Vec<u8>,
}

impl Keeper<'_> {
    /// Starts the process of a seat, or lets it wait for one.
    fn start(&self, seated: &mut Seated) -> Result<(), StageError> {
        let Id { stage, instance } = seated.post.id;
        let started = seated.post.start(self.household.segment);
        seated.alive = started
            .map_err(|error| StageError::new(format!("cannot start its process: {error}")))?;
        match &seated.alive {
            None => self
                .household
                .segment
                .note_activity(stage, instance, Activity::Unattached),
            Some(_) => self.count(seated),
        }
        Ok(())
    }

    /// Tells of a process that was started.
    fn announce(&self, seated: &Seated) {
        let Some(alive) = &seated.alive else { return };
        let (instance, process) = (seated.post.id.instance, alive.process.id());
        let stage = seated.post.stage_name.clone();
        self.household.listener.tell(|| Event::Started {
            stage,
            instance,
            process,
        });
    }

    /// Counts one more process of a seat, where everybody can see it.
    fn count(&self, seated: &mut Seated) {
        seated.processes += 1;
        for Id { stage, instance } in seated.post.ids() {
            self.household
                .segment
                .note_processes(stage, instance, seated.processes);
        }
    }

    /// Waits a while for something to happen, and deals with what has.
    fn look(&mut self) {
        if self.wait().is_err() {
            std::thread::sleep(Duration::from_millis(50)); // the kernel has no memory for it now
        }
        for arrival in self.household.door.arrivals() {
            self.seat(arrival);
        }
        let segment = self.household.segment;
        if segment.is_stopped() && self.stopped.get_or_insert_with(Instant::now).elapsed() >= GRACE
        {
            for child in self.seated.iter().filter(|seated| seated.is_bound()) {
                // A child of ours; one that has died meanwhile is no error.
                child
                    .alive
                    .iter()
                    .for_each(|alive| drop(alive.process.kill()));
            }
        }
        if self.looked.elapsed() >= STOPPED_TICK {
            self.looked = Instant::now();
            self.end_stopped();
        }
        for mut seated in std::mem::take(&mut self.seated) {
            self.hear(&mut seated, PACKETS_AT_ONCE, usize::MAX);
            if seated.is_bound() && seated.has_said_all() {
                // All that is left for it to do is to exit.
                let since = *seated.finished.get_or_insert_with(Instant::now);
                if since.elapsed() >= GRACE {
                    seated
                        .alive
                        .iter()
                        .for_each(|alive| drop(alive.process.kill())); // as above
                }
            }
            let died = seated
                .alive
                .as_ref()
                .and_then(|alive| alive.process.wait(Duration::ZERO).ok().flatten());
            match died {
                Some(dead) => self.bury(seated, &dead),
                None if seated.is_bound() => self.seated.push(seated),
                None => self.consider(seated),
            }
        }
    }

    /// Waits for deaths, for what is said, for arrivals, and no longer than a tick.
    fn wait(&self) -> io::Result<()> {
        let mut polled = vec![PollFd::new(self.household.door, PollFlags::IN)];
        for alive in self
            .seated
            .iter()
            .filter_map(|seated| seated.alive.as_ref())
        {
            polled.push(PollFd::new(&alive.process, PollFlags::IN));
            if !alive.hung_up {
                polled.push(PollFd::new(&alive.control, PollFlags::IN));
            }
        }
        match poll(&mut polled, Some(&TICK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Seats a process that has come in.
    fn seat(
        &mut self,
        Arrival {
            id,
            process,
            control,
        }: Arrival,
    ) {
        let Some(at) = self.seated.iter().position(|seated| seated.post.id == id) else {
            return;
        };
        let mut seated = self.seated.swap_remove(at);
        let (stage, number) = (seated.post.stage_name.clone(), process.id());
        seated.alive = Some(Alive {
            child: None,
            process,
            control,
            hung_up: false,
        });
        self.household.listener.tell(|| Event::Attached {
            stage,
            process: number,
        });
        self.count(&mut seated);
        self.seated.push(seated);
    }

    /// Takes note of what a process says, so many packets or bytes of it. A failure stops the pipe
    /// at once.
    fn hear(&mut self, seated: &mut Seated, packets: usize, mut bytes: usize) {
        for _ in 0..packets {
            let Some(alive) = seated
                .alive
                .as_mut()
                .filter(|alive| !alive.hung_up && bytes > 0)
            else {
                return;
            };
            let heard = message::recv(&alive.control, &mut self.room);
            if let Received::Message(_, len) = heard {
                bytes = bytes.saturating_sub(len);
            }
            match heard {
                Received::Nothing => return,
                Received::HungUp => {
                    alive.hung_up = true;
                    return;
                }
                Received::Message(Message::StageMessage(note), _) => {
                    if let Some(handler) =
                        seated.post.notes.as_ref().filter(|_| !note.data.is_empty())
                    {
                        let handled = catch_panic(|| {
                            (handler.0)(&note.data);
                            Ok(())
                        });
                        if handled.is_err() {
                            seated.said_by(0, handled, self.household.segment);
                        }
                    }
                    if !note.text.is_empty() {
                        let (stage, instance) =
                            (seated.post.stage_name.clone(), seated.post.id.instance);
                        self.household.listener.tell(|| Event::StageMessage {
                            stage,
                            instance,
                            text: note.text,
                        });
                    }
                }
                Received::Message(Message::Ended(instance, result), _) => {
                    seated.said_by(instance as usize, result, self.household.segment);
                }
            }
        }
    }

    /// Kills processes that have been stopped for too long. What becomes of them then is a death's
    /// business.
    fn end_stopped(&mut self) {
        for seated in &mut self.seated {
            let Some(alive) = seated.alive.as_ref().filter(|alive| alive.is_stopped()) else {
                seated.stopped_for = Duration::ZERO;
                continue;
            };
            // Counted in looks, and not by the clock: this process may have been stopped itself.
            seated.stopped_for += STOPPED_TICK;
            if seated.stopped_for <= self.household.stopped_limit {
                continue;
            }
            if seated.is_bound() {
                let _ = alive.process.kill(); // a child of ours
            } else if !self.household.segment.is_stopped() {
                // It is somebody else's, and may have more to do than this.
                seated.left.get_or_insert_with(Instant::now);
                self.household.segment.stop();
            }
        }
    }

    /// Whether to go on with a seat whose process somebody else starts, and has started or not.
    fn consider(&mut self, mut seated: Seated) {
        let is_stopped = self.household.segment.is_stopped();
        let Some(alive) = &seated.alive else {
            let Origin::Unbound(patience) = seated.post.origin else {
                return;
            };
            if !is_stopped && seated.since.elapsed() < patience {
                return self.seated.push(seated);
            }
            let arrived = self.household.door.withdraw(seated.post.id);
            if !arrived.is_empty() {
                self.seated.push(seated);
                return arrived.into_iter().for_each(|arrival| self.seat(arrival));
            }
            let error = if is_stopped {
                PortError::Stopped.into()
            } else {
                StageError::new(format!(
                    "nobody attached to it within {} s",
                    patience.as_secs_f64()
                ))
            };
            return self.end(seated, error, None);
        };
        if seated.has_said_all() {
            return self.end(seated, PortError::Stopped.into(), None);
        }
        if alive.hung_up && !is_stopped {
            // It may be about to die, or go on without us. Once the pipe stops, that is no more
            // than a consequence.
            seated.left.get_or_insert_with(Instant::now);
            self.household.segment.stop();
        }
        let process = alive.process.id();
        let waited_for = seated.left.or_else(|| self.stopped.filter(|_| is_stopped));
        if waited_for.is_some_and(|since| since.elapsed() >= GRACE) {
            let error = match seated.left {
                Some(_) if alive.hung_up => {
                    StageError::new(format!("process {process} left the pipe before its end"))
                }
                Some(_) => StageError::new(format!("process {process} was stopped for too long")),
                None => PortError::Stopped.into(),
            };
            return self.end(seated, error, None);
        }
        self.seated.push(seated);
    }

    fn bury(&mut self, mut seated: Seated, dead: &Dead) {
        // What it had said, and no more: another process may have its end of the connection, and go
        // on.
        let unheard = seated
            .alive
            .as_ref()
            .map_or(0, |alive| message::unread(&alive.control));
        self.hear(&mut seated, usize::MAX, unheard);
        let status = seated.alive.as_mut().map(Alive::status).transpose();
        let status = status.map(Option::flatten);
        if seated.has_said_all() {
            return self.end(seated, PortError::Stopped.into(), Some(dead));
        }
        let has_left = seated.left.is_some();
        let outcome = match &status {
            Err(error) => Err(StageError::new(format!(
                "its process died, and nobody knows how: {error}"
            ))),
            Ok(_) if self.household.segment.is_stopped() && !has_left => {
                Err(PortError::Stopped.into())
            }
            Ok(status) => self.replace(&mut seated, dead, *status),
        };
        let outcome = outcome.and_then(|()| self.start(&mut seated));
        let (id, replaced) = (seated.post.id, outcome.is_ok());
        self.household.listener.tell(|| Event::Died {
            stage: seated.post.stage_name.clone(),
            instance: id.instance,
            process: dead.process(),
            status: status.ok().flatten(),
            replaced,
        });
        match outcome {
            Ok(()) => {
                self.announce(&seated);
                self.seated.push(seated);
            }
            Err(error) => self.end(seated, error, Some(dead)),
        }
    }

    /// Makes room for a replacement, which inherits the inputs of the dead one, or says why there
    /// is none.
    fn replace(
        &mut self,
        seated: &mut Seated,
        dead: &Dead,
        status: Option<ExitStatus>,
    ) -> Result<(), StageError> {
        let died = |reason| {
            Err(StageError::died(Death {
                process: dead.process(),
                status,
                reason,
            }))
        };
        if status.is_some_and(|status| status.signal().is_none()) {
            return died(NotReplaced::Exited);
        }
        if let Some(reason) = seated.post.irreplaceable {
            return died(reason);
        }
        let Id { stage, instance } = seated.post.id;
        let segment = self.household.segment;
        segment
            .reclaim(stage, instance, dead, Inputs::Inherit)
            .map_err(PortError::from)?;
        let taken_up = segment.taken_up(stage, instance);
        if taken_up == std::mem::replace(&mut seated.taken_up, taken_up) {
            // So whatever it was, it was not a block.
            seated.fruitless += 1;
            if seated.fruitless >= MAX_FRUITLESS_DEATHS {
                return died(NotReplaced::Fruitless(seated.fruitless));
            }
        } else {
            seated.fruitless = 0;
            let number = segment.inherited(stage, instance);
            if let Some(number) = number.filter(|&number| !self.deadly.insert((stage, number))) {
                return died(NotReplaced::DeadlyBlock(number));
            }
        }
        (seated.stopped_for, seated.alive) = (Duration::ZERO, None);
        Ok(())
    }

    /// Tells the controller how the instances of a seat ended: as they said, or else with `error`,
    /// the first of them. If not well, stops the pipe and takes back what they held.
    fn end(&self, seated: Seated, error: StageError, dead: Option<&Dead>) {
        let segment = self.household.segment;
        let mut error = Some(error);
        for (id, said) in seated.post.ids().zip(seated.said) {
            // There is nobody to say so, or nobody who had to: whoever never took its seat is not
            // waited for.
            segment.note_activity(id.stage, id.instance, Activity::Ended);
            let (result, after_stop) = said.unwrap_or_else(|| {
                let error = error.take().unwrap_or_else(|| PortError::Stopped.into());
                // What happened to a process that left has stopped the pipe itself.
                let after_stop = segment.is_stopped() && seated.left.is_none();
                (Err(error), after_stop)
            });
            if result.is_err() {
                segment.stop();
                if let Some(dead) = dead {
                    // Why it ended comes first: that the segment is corrupt may be no more than a
                    // consequence.
                    let _ = segment.reclaim(id.stage, id.instance, dead, Inputs::Release);
                }
            }
            // The controller listens until the last instance has ended.
            let _ = self.exits.send(Exit {
                id,
                result,
                after_stop,
            });
        }
    }
}
