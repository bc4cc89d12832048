//! Where processes come in that the controller did not start: they attach to an unbound head or
//! tail.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use super::launch::Id;
use crate::host::launch_request::{LaunchRequest, control_pair};
use crate::memory::{Process, Segment};

/// As what a process attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// As the first stage, which allocates and sends.
    Head,
    /// As the last stage, which receives and frees.
    Tail,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Tail => "tail",
        })
    }
}

/// Why a process cannot attach.
#[derive(Debug)]
#[non_exhaustive]
pub enum AdmitError {
    /// The pipe has a stage of its own there.
    Bound(Role),
    /// Another process has attached there.
    Taken(Role),
    /// The pipe has ended, or is about to.
    Ended,
    /// The control connection could not be made.
    System(io::Error),
}

impl fmt::Display for AdmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(role) => write!(f, "the pipe's {role} is bound: nobody can attach to it"),
            Self::Taken(role) => {
                write!(f, "another process has attached to the pipe as its {role}")
            }
            Self::Ended => f.write_str("the pipe has ended"),
            Self::System(error) => write!(f, "cannot make the control connection: {error}"),
        }
    }
}

impl std::error::Error for AdmitError {}

/// A process that has come in.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) id: Id,
    pub(super) process: Process,
    pub(super) control: OwnedFd,
}

/// The unbound seats of a pipe, and who has come for them.
#[derive(Debug)]
pub(super) struct Door {
    state: Mutex<State>,
    /// Becomes readable with an arrival.
    bell: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<(Id, LaunchRequest)>,
    taken: Vec<Id>,
    arrivals: Vec<Arrival>,
    closed: bool,
}

impl Door {
    pub(super) fn new(free: Vec<(Id, LaunchRequest)>) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            state: Mutex::new(State {
                free,
                ..State::default()
            }),
            bell,
        })
    }

    /// Gives the seat in `role` to a process. What is returned is its end of the control
    /// connection.
    pub(super) fn admit(
        &self,
        role: Role,
        process: Process,
        segment: &Segment,
    ) -> Result<OwnedFd, AdmitError> {
        let stage = match role {
            Role::Head => 0,
            Role::Tail => segment.shape().stage_count() - 1,
        };
        let mut state = self.state.lock();
        if state.closed || segment.is_stopped() {
            return Err(AdmitError::Ended);
        }
        let Some(at) = state.free.iter().position(|(id, _)| id.stage == stage) else {
            let taken = state.taken.iter().any(|id| id.stage == stage);
            return Err(if taken {
                AdmitError::Taken(role)
            } else {
                AdmitError::Bound(role)
            });
        };
        let (control, theirs) = control_pair().map_err(AdmitError::System)?;
        state.free[at]
            .1
            .send(&control, segment)
            .map_err(AdmitError::System)?;
        let (id, _) = state.free.swap_remove(at);
        state.taken.push(id);
        state.arrivals.push(Arrival {
            id,
            process,
            control,
        });
        // Eight bytes fit into a counter that is read with each arrival.
        let _ = rustix::io::write(&self.bell, &1u64.to_le_bytes());
        Ok(theirs)
    }

    /// Who has come since the last call.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        std::mem::take(&mut self.state.lock().arrivals)
    }

    /// Nobody can come for this seat any more. Returns who just has.
    pub(super) fn withdraw(&self, id: Id) -> Vec<Arrival> {
        let mut state = self.state.lock();
        state.free.retain(|(free, _)| *free != id);
        std::mem::take(&mut state.arrivals)
    }

    /// Nobody can come in any more.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.arrivals.clear();
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
