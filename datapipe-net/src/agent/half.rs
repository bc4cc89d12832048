//! State that the threads of a half share: the machine of `link`, the blocks that are lent, and the
//! sockets. A method call of the machine is one event under the lock, and its actions are carried
//! out before the lock is released.

use std::collections::BTreeSet;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datapipe::pool::Bell;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::link::{
    Action, ConnectError, ConnectionId, LinkError, Receiver, Sender, Violation, Work,
};
use crate::socket::Stop;

/// The events that the machines of both halves have in common.
pub(super) trait Machine: Send {
    fn take_actions(&mut self) -> Vec<Action>;
    fn connected(&mut self, now: u64, index: u16) -> Result<ConnectionId, ConnectError>;
    fn received(&mut self, now: u64, id: ConnectionId);
    fn malformed(&mut self, now: u64, id: ConnectionId, violation: Violation);
    fn lost(&mut self, now: u64, id: ConnectionId, why: &str);
    fn gone(&mut self, now: u64, id: ConnectionId);
    fn retire(&mut self, id: ConnectionId);
    fn work(&mut self, now: u64, id: ConnectionId) -> Option<Work>;
    fn tick(&mut self, now: u64);
    fn timeout(&self) -> u64;
}

macro_rules! machine {
    ($type:ty) => {
        impl Machine for $type {
            fn take_actions(&mut self) -> Vec<Action> {
                self.take_actions()
            }
            fn connected(&mut self, now: u64, index: u16) -> Result<ConnectionId, ConnectError> {
                self.connected(now, index)
            }
            fn received(&mut self, now: u64, id: ConnectionId) {
                self.received(now, id);
            }
            fn malformed(&mut self, now: u64, id: ConnectionId, violation: Violation) {
                self.malformed(now, id, violation);
            }
            fn lost(&mut self, now: u64, id: ConnectionId, why: &str) {
                self.lost(now, id, why);
            }
            fn gone(&mut self, now: u64, id: ConnectionId) {
                self.gone(now, id);
            }
            fn retire(&mut self, id: ConnectionId) {
                self.retire(id);
            }
            fn work(&mut self, now: u64, id: ConnectionId) -> Option<Work> {
                self.work(now, id)
            }
            fn tick(&mut self, now: u64) {
                self.tick(now);
            }
            fn timeout(&self) -> u64 {
                self.timeout()
            }
        }
    };
}
machine!(Sender);
machine!(Receiver);

/// A half of a link, shared by its threads.
pub(super) struct Half<M, S> {
    state: Mutex<State<M, S>>,
    /// Notified when a thread other than the parent has something to look at.
    changed: Condvar,
    /// Rung when the parent has.
    pub(super) bell: Bell,
    /// Given at the end: it ends dials, handshakes and the wait of the acceptor.
    pub(super) halt: Stop,
    start: Instant,
}

pub(super) struct State<M, S> {
    pub(super) machine: M,
    /// Blocks or rooms that are lent.
    pub(super) store: S,
    /// Blocks below this number may be freed.
    pub(super) free_below: u64,
    /// Outcome of the link, after its end.
    pub(super) over: Option<Result<(), LinkError>>,
    /// Sockets of open connections.
    open: Vec<(ConnectionId, Arc<TcpStream>)>,
    /// Time at which each index is to be dialled, if it is.
    dials: Vec<Option<u64>>,
    resumed: BTreeSet<ConnectionId>,
    /// Time for which the parent has set its clock.
    planned: u64,
}

impl<M: Machine, S> Half<M, S> {
    /// Makes a half with the machine that `make` returns, from the time of its beginning on.
    pub(super) fn new(
        connections: usize,
        store: S,
        make: impl FnOnce(u64) -> M,
    ) -> io::Result<Self> {
        let half = Self {
            state: Mutex::new(State {
                machine: make(0),
                store,
                free_below: 0,
                over: None,
                open: Vec::new(),
                dials: vec![None; connections],
                resumed: BTreeSet::new(),
                planned: 0,
            }),
            changed: Condvar::new(),
            bell: Bell::new(),
            halt: Stop::new()?,
            start: Instant::now(),
        };
        half.event(|_, _| ());
        Ok(half)
    }

    /// Time since the half was made, in nanoseconds: 584 years fit.
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn instant(&self, time: u64) -> Option<Instant> {
        self.start.checked_add(Duration::from_nanos(time))
    }

    /// Runs an event with the time, and carries out what the machine asks for.
    pub(super) fn event<T>(&self, event: impl FnOnce(&mut State<M, S>, u64) -> T) -> T {
        let mut state = self.state.lock();
        let result = event(&mut state, self.now());
        self.settle(&mut state);
        result
    }

    fn settle(&self, state: &mut State<M, S>) {
        let mut has_news = false;
        for action in state.machine.take_actions() {
            has_news = true;
            match action {
                Action::Free { below } => state.free_below = below,
                Action::Close { connection, .. } => state.shut(connection),
                Action::Dial { index, not_before } => {
                    if let Some(dial) = state.dials.get_mut(usize::from(index)) {
                        *dial = Some(not_before);
                    }
                }
                Action::Resume(connection) => {
                    state.resumed.insert(connection);
                }
                Action::Over(outcome) => {
                    state.over.get_or_insert(outcome);
                    self.halt.stop();
                }
                Action::Wake => {}
            }
        }
        if has_news {
            self.changed.notify_all();
        }
        // Otherwise the parent would sleep over a time that has been set since.
        if has_news || state.machine.timeout() < state.planned {
            self.bell.ring();
        }
    }

    /// Ends the threads of a parent that ends early. Does nothing after the link's own end.
    pub(super) fn abandon(&self, reason: impl FnOnce() -> LinkError) {
        let mut state = self.state.lock();
        state.over.get_or_insert_with(|| Err(reason()));
        for (_, socket) in std::mem::take(&mut state.open) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.halt.stop();
        self.changed.notify_all();
    }

    /// Adds a connection. `None` if the machine does not take it.
    pub(super) fn connect(&self, index: u16, socket: &Arc<TcpStream>) -> Option<ConnectionId> {
        self.event(|state, now| {
            let id = state.machine.connected(now, index).ok()?;
            state.open.push((id, Arc::clone(socket)));
            state.over.is_none().then_some(id)
        })
    }

    /// Waits for work of a writer, which has done its work before.
    pub(super) fn work(&self, id: ConnectionId) -> Work {
        let mut state = self.state.lock();
        loop {
            let work = state.machine.work(self.now(), id);
            self.settle(&mut state);
            match work {
                _ if state.over.is_some() => return Work::Leave,
                Some(work) => return work,
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Waits until a reader may give its frame again; false if its connection was closed.
    pub(super) fn await_resume(&self, id: ConnectionId) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.resumed.remove(&id) {
                return true;
            }
            if !state.is_open(id) {
                return false;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits until a time has come; false if the connection was closed before.
    pub(super) fn await_time(&self, id: ConnectionId, time: u64) -> bool {
        let mut state = self.state.lock();
        while state.is_open(id) {
            if self.now() >= time {
                return true;
            }
            self.wait(&mut state, time);
        }
        false
    }

    /// Waits until an index is to be dialled; false if the link is over.
    pub(super) fn await_dial(&self, index: u16) -> bool {
        let mut state = self.state.lock();
        while state.over.is_none() {
            let dial = &mut state.dials[usize::from(index)];
            let time = dial.unwrap_or(u64::MAX);
            if self.now() >= time {
                *dial = None;
                return true;
            }
            self.wait(&mut state, time);
        }
        false
    }

    /// Waits for the end of the link, which its parent does not wait for any more.
    pub(super) fn await_over(&self) {
        let mut state = self.state.lock();
        while state.over.is_none() {
            state.machine.tick(self.now());
            self.settle(&mut state);
            if state.over.is_none() {
                let time = state.machine.timeout();
                self.wait(&mut state, time);
            }
        }
    }

    fn wait(&self, state: &mut MutexGuard<'_, State<M, S>>, time: u64) {
        match self.instant(time) {
            Some(time) => {
                self.changed.wait_until(state, time);
            }
            None => self.changed.wait(state),
        }
    }

    /// Time of the machine's next tick, for which the parent sets its clock.
    pub(super) fn plan(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        state.planned = state.machine.timeout();
        self.instant(state.planned)
    }
}

impl<M: Machine, S> State<M, S> {
    pub(super) fn is_open(&self, id: ConnectionId) -> bool {
        self.open.iter().any(|(open, _)| *open == id)
    }

    /// Shuts the socket of a connection, which ends the calls of its reader and writer.
    pub(super) fn shut(&mut self, id: ConnectionId) {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == id) {
            // An error means that the connection has ended by itself.
            let _ = self.open.swap_remove(at).1.shutdown(Shutdown::Both);
        }
        self.resumed.remove(&id);
    }
}
