//! Connections of a half, and the events that both halves handle alike: greetings, pings, silence,
//! farewells, and the end.

use std::error::Error;
use std::fmt;
use std::mem;

use super::frame::{Frame, StopReason};
use super::life::{LinkTimers, Pulse};
use super::violation::LinkError;
#[cfg(test)]
use super::wrong::Wrong;
use super::wrong::wrong;
use crate::limits::MAX_LINK_CONNECTIONS;

/// One connection of a half. No two connections of a half have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u64);

/// Settings of a half of a link.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LinkSettings {
    /// Number of connections, 1 to [`MAX_LINK_CONNECTIONS`].
    pub connections: u16,
    /// Incarnation of the half's parent: higher than those of the parents that it replaces.
    pub incarnation: u64,
    /// Seed of the times at which connections are dialled again: another for each half of any
    /// pipe, so that many connections that are lost together are not dialled together.
    pub seed: u64,
    /// Timers.
    pub timers: LinkTimers,
    #[cfg(test)]
    pub(super) wrong: Wrong,
}

impl LinkSettings {
    /// Makes settings with the default timers. The number of connections is brought into its range.
    pub fn new(connections: u16, incarnation: u64, seed: u64) -> Self {
        Self {
            connections: connections.clamp(1, MAX_LINK_CONNECTIONS),
            incarnation,
            seed,
            timers: LinkTimers::default(),
            #[cfg(test)]
            wrong: Wrong::Nothing,
        }
    }
}

/// Action that a machine asks for. The caller takes the actions after each call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Something changed: idle writers ask for work again, and the parent asks again whether there
    /// is a block to send on, or room for more.
    Wake,
    /// The sending half frees its blocks below the number.
    Free {
        /// The number.
        below: u64,
    },
    /// The socket is shut, so that its reader and writer leave.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// The reason, for the log.
        why: String,
    },
    /// The sending half dials.
    Dial {
        /// Index of the connection, from 0.
        index: u16,
        /// Time at which to dial, in nanoseconds.
        not_before: u64,
    },
    /// A reader that got [`Reading::Wait`](super::Reading::Wait) gives its block again.
    Resume(ConnectionId),
    /// The link is over. `Ok` if everything was handed over.
    Over(Result<(), LinkError>),
}

/// Work of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// Write a frame.
    Frame(Frame),
    /// Write a block, with its DATA frame.
    Data {
        /// Number of the block.
        number: u64,
    },
    /// Shut the sending direction, and ask again.
    Shut,
    /// Leave: the connection was closed, or has no more work.
    Leave,
}

/// Connection that a half does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The index is too large.
    Index {
        /// The index.
        index: u16,
        /// Number of connections.
        connections: u16,
    },
    /// Too many connections are open or about to be closed.
    Busy {
        /// Number of connections that are open or about to be closed.
        present: usize,
    },
    /// The link is over.
    Over,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { index, connections } => {
                write!(
                    f,
                    "connection {index} of a link of {connections} (counted from 0)"
                )
            }
            Self::Busy { present } => write!(
                f,
                "{present} connections of the link are open or being closed: try again later"
            ),
            Self::Over => write!(f, "the link is over"),
        }
    }
}

impl Error for ConnectError {}

/// A connection, with the part `own` that only one of the halves has.
#[derive(Clone, Debug)]
pub(super) struct Connection<T> {
    pub(super) id: ConnectionId,
    pub(super) index: u16,
    pub(super) pulse: Pulse,
    /// False after it was closed, until its reader and writer have left.
    pub(super) open: bool,
    /// True after the other half's greeting: the connection exists for the rule of waiting.
    pub(super) met: bool,
    /// True after the other half's BYE.
    pub(super) bye_received: bool,
    /// True if this half is to say BYE.
    pub(super) retiring: bool,
    pub(super) own: T,
    /// Time at which it was made.
    made_at: u64,
    /// Time at which this half shut its sending direction.
    shut_at: Option<u64>,
    greeted: bool,
    farewell: Farewell,
    /// True while its writer has no work.
    idle: bool,
}

impl<T> Connection<T> {
    /// Time at which it is to be given up, if nothing happens until then. A peer that sends single
    /// bytes instead of its greeting, or goes on after this half's last frame, does not delay it.
    fn give_up_at(&self, timers: &LinkTimers) -> u64 {
        let met = if self.met {
            u64::MAX
        } else {
            self.made_at.saturating_add(timers.silence)
        };
        let shut = self
            .shut_at
            .map_or(u64::MAX, |at| at.saturating_add(timers.wait));
        self.pulse.silent_at(timers).min(met).min(shut)
    }
}

/// End of the sending direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    None,
    /// The last frame was handed to the writer.
    Sent,
    Shut,
}

/// State of a half.
#[derive(Clone, Debug)]
enum Phase {
    Running,
    /// Each writer sends its last frame; then the half is over, with the outcome.
    Leaving {
        until: u64,
        stop: Option<StopReason>,
        outcome: Result<(), LinkError>,
    },
    Over,
}

/// Connections and phase of a half.
#[derive(Clone, Debug)]
pub(super) struct Connections<T> {
    pub(super) settings: LinkSettings,
    pub(super) all: Vec<Connection<T>>,
    actions: Vec<Action>,
    woken: bool,
    next_id: u64,
    phase: Phase,
    /// Time since which no connection is open and met.
    alone_since: Option<u64>,
    /// Reason of the last connection's end.
    last: String,
}

impl<T> Connections<T> {
    pub(super) fn new(now: u64, settings: LinkSettings) -> Self {
        Self {
            settings,
            all: Vec::new(),
            actions: Vec::new(),
            woken: false,
            next_id: 0,
            phase: Phase::Running,
            alone_since: Some(now),
            last: "none was made".to_owned(),
        }
    }

    /// Adds a connection.
    pub(super) fn add(&mut self, now: u64, index: u16, own: T) -> ConnectionId {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.all.push(Connection {
            id,
            index,
            pulse: Pulse::new(now),
            open: true,
            met: false,
            bye_received: false,
            retiring: false,
            own,
            made_at: now,
            shut_at: None,
            greeted: false,
            farewell: Farewell::None,
            idle: true,
        });
        id
    }

    /// The connection, if it is open.
    pub(super) fn open(&mut self, id: ConnectionId) -> Option<&mut Connection<T>> {
        self.all
            .iter_mut()
            .find(|connection| connection.id == id && connection.open)
    }

    /// Removes a connection whose reader and writer have left.
    pub(super) fn remove(&mut self, now: u64, id: ConnectionId) -> Option<Connection<T>> {
        let at = self.all.iter().position(|connection| connection.id == id)?;
        let connection = self.all.remove(at);
        self.note_alone(now);
        self.end_if_left(now);
        Some(connection)
    }

    /// Closes a connection if it is open. True if it was.
    pub(super) fn close(&mut self, now: u64, id: ConnectionId, why: &str) -> bool {
        let Some(connection) = self.open(id) else {
            return false;
        };
        connection.open = false;
        self.last = why.to_owned();
        self.actions.push(Action::Close {
            connection: id,
            why: why.to_owned(),
        });
        self.note_alone(now);
        true
    }

    /// Records the other half's greeting on a connection.
    pub(super) fn meet(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open(id) {
            connection.met = true;
            self.alone_since = None;
        }
    }

    fn note_alone(&mut self, now: u64) {
        let alone = !self
            .all
            .iter()
            .any(|connection| connection.open && connection.met);
        if alone && self.alone_since.is_none() {
            self.alone_since = Some(now);
        }
    }

    /// Records the reason for which a connection could not be made.
    pub(super) fn unreachable(&mut self, why: &str) {
        self.last = why.to_owned();
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Wakes writers and the parent, once until the actions are taken.
    pub(super) fn wake(&mut self) {
        self.woken = true;
    }

    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        if mem::take(&mut self.woken) {
            self.actions.push(Action::Wake);
        }
        mem::take(&mut self.actions)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Lets each writer send its last frame, a STOP or a BYE, before the half is over.
    pub(super) fn leave(
        &mut self,
        now: u64,
        stop: Option<StopReason>,
        outcome: Result<(), LinkError>,
    ) {
        if self.is_running() {
            let until = now.saturating_add(self.settings.timers.drain);
            self.phase = Phase::Leaving {
                until,
                stop,
                outcome,
            };
            self.wake();
            self.end_if_left(now);
        }
    }

    /// Ends the half at once. While it leaves, an error replaces a success.
    pub(super) fn end(&mut self, now: u64, outcome: Result<(), LinkError>) {
        let outcome = match mem::replace(&mut self.phase, Phase::Over) {
            Phase::Over => return,
            Phase::Leaving {
                outcome: earlier @ Err(_),
                ..
            } => earlier,
            Phase::Leaving { .. } | Phase::Running => outcome,
        };
        let open: Vec<_> = self
            .all
            .iter()
            .filter(|one| one.open)
            .map(|one| one.id)
            .collect();
        for id in open {
            self.close(now, id, "the link is over");
        }
        self.wake();
        self.actions.push(Action::Over(outcome));
    }

    /// Ends a half that is leaving when it has no open connection or its time is up.
    fn end_if_left(&mut self, now: u64) {
        if let Phase::Leaving { until, outcome, .. } = &self.phase
            && (now >= *until || !self.all.iter().any(|connection| connection.open))
        {
            let outcome = outcome.clone();
            self.end(now, outcome);
        }
    }

    /// Work of a writer that both halves have. `None` if the half decides.
    pub(super) fn work(&mut self, now: u64, id: ConnectionId, greeting: &Frame) -> Option<Work> {
        let over = matches!(
            self.phase,
            Phase::Leaving {
                outcome: Ok(()),
                ..
            }
        );
        let leaving = !self.is_running();
        let stop = match &self.phase {
            Phase::Leaving { stop, .. } => stop.clone(),
            Phase::Running | Phase::Over => None,
        };
        let Some(connection) = self.open(id) else {
            return Some(Work::Leave);
        };
        if !mem::replace(&mut connection.idle, false) {
            connection.pulse.sent(now);
        }
        match connection.farewell {
            Farewell::Shut => return Some(Work::Leave),
            Farewell::Sent => {
                connection.farewell = Farewell::Shut;
                connection.shut_at = Some(now);
                return Some(Work::Shut);
            }
            Farewell::None => {}
        }
        if !mem::replace(&mut connection.greeted, true) {
            return Some(Work::Frame(greeting.clone()));
        }
        if leaving || connection.retiring || connection.bye_received {
            connection.farewell = Farewell::Sent;
            return Some(Work::Frame(stop.map_or(Frame::Bye { over }, Frame::Stop)));
        }
        let clock = connection.pulse.take_answer()?;
        Some(Work::Frame(Frame::Pong { clock }))
    }

    /// Work of a writer for which its half has none: a ping, or to be idle.
    pub(super) fn ping(&mut self, now: u64, id: ConnectionId) -> Option<Work> {
        let connection = self.open(id)?;
        let ping = connection.pulse.take_ping(now);
        connection.idle = ping.is_none();
        ping.map(|clock| Work::Frame(Frame::Ping { clock }))
    }

    /// Lets time pass: pings, and the end of a half that leaves or is alone for too long. Returns
    /// the connections that are silent for too long.
    pub(super) fn tick(&mut self, now: u64) -> Vec<ConnectionId> {
        let timers = self.settings.timers;
        let (mut silent, mut woken) = (Vec::new(), false);
        for connection in self.all.iter_mut().filter(|connection| connection.open) {
            if connection.give_up_at(&timers) <= now && !wrong!(self.settings, SilenceIgnored) {
                silent.push(connection.id);
            } else if connection.idle {
                woken |= connection.pulse.mark_ping(now, &timers);
            }
        }
        self.woken |= woken;
        self.end_if_left(now);
        silent
    }

    /// Time until which a running half waits for a connection, and the error after that.
    pub(super) fn alone_until(&self) -> Option<u64> {
        let since = self.alone_since.filter(|_| self.is_running())?;
        Some(since.saturating_add(self.settings.timers.wait))
    }

    /// Ends a half that has been alone for too long.
    pub(super) fn end_alone(&mut self, now: u64) {
        let seconds = self.settings.timers.wait / 1_000_000_000;
        let last = self.last.clone();
        self.end(now, Err(LinkError::Unreachable { seconds, last }));
    }

    /// Time of the next [`Connections::tick`]; `u64::MAX` if none is needed.
    pub(super) fn timeout(&self) -> u64 {
        let timers = self.settings.timers;
        let mut first = match &self.phase {
            Phase::Over => return u64::MAX,
            Phase::Leaving { until, .. } => *until,
            Phase::Running => u64::MAX,
        };
        for connection in self.all.iter().filter(|connection| connection.open) {
            if !wrong!(self.settings, SilenceIgnored) {
                first = first.min(connection.give_up_at(&timers));
            }
            if connection.idle {
                first = first.min(connection.pulse.ping_at(&timers).unwrap_or(u64::MAX));
            }
        }
        first
    }
}
