//! Admission of processes that the controller did not start: they attach to an unbound head or
//! tail.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use crate::host::launch_request::{LaunchRequest, control_pair};
use crate::memory::{InstanceId, Process, Segment, StageId};
use crate::stage::Role;

/// Reason for which a process cannot attach to a pipe.
#[derive(Debug)]
#[non_exhaustive]
pub enum AdmitError {
    /// The pipe's stage in this role is bound: the pipe runs it itself.
    Bound(Role),
    /// Another process has attached in this role.
    Taken(Role),
    /// The role is neither head nor tail.
    NotAnEnd(Role),
    /// The pipe has ended, or is about to.
    Ended,
    /// The control connection could not be made.
    System(io::Error),
}

impl fmt::Display for AdmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(role) => write!(
                f,
                "the pipe's {role} is bound: the pipe runs it, and no process can attach to it"
            ),
            Self::Taken(role) => {
                write!(f, "another process has attached to the pipe as its {role}")
            }
            Self::NotAnEnd(role) => write!(
                f,
                "cannot attach to a pipe's {role}: only the head or the tail can attach"
            ),
            Self::Ended => f.write_str("the pipe has ended"),
            Self::System(error) => write!(f, "cannot make the control connection: {error}"),
        }
    }
}

impl std::error::Error for AdmitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            Self::Bound(_) | Self::Taken(_) | Self::NotAnEnd(_) | Self::Ended => None,
        }
    }
}

/// A process that was admitted, with the controller's end of its control connection.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) id: InstanceId,
    pub(super) process: Process,
    pub(super) control: OwnedFd,
}

/// The unbound seats of a pipe, and the processes that were admitted to them.
#[derive(Debug)]
pub(super) struct AttachPoint {
    state: Mutex<AttachState>,
    /// An eventfd that becomes readable with an arrival.
    wakeup: OwnedFd,
}

#[derive(Debug, Default)]
struct AttachState {
    free: Vec<(InstanceId, LaunchRequest)>,
    taken: Vec<InstanceId>,
    arrivals: Vec<Arrival>,
    closed: bool,
}

impl AttachPoint {
    pub(super) fn new(free: Vec<(InstanceId, LaunchRequest)>) -> io::Result<Self> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            state: Mutex::new(AttachState {
                free,
                ..AttachState::default()
            }),
            wakeup,
        })
    }

    /// Gives the seat in `role` to a process. Returns the process's end of the control connection.
    pub(super) fn admit(
        &self,
        role: Role,
        process: Process,
        segment: &Segment,
    ) -> Result<OwnedFd, AdmitError> {
        let stage = match role {
            Role::Head => StageId::HEAD,
            Role::Tail => segment.shape().tail(),
            Role::Middle => return Err(AdmitError::NotAnEnd(role)),
        };
        let mut state = self.state.lock();
        if state.closed || segment.is_stopped() {
            return Err(AdmitError::Ended);
        }
        let Some(position) = state.free.iter().position(|(id, _)| id.stage() == stage) else {
            let is_taken = state.taken.iter().any(|id| id.stage() == stage);
            return Err(if is_taken {
                AdmitError::Taken(role)
            } else {
                AdmitError::Bound(role)
            });
        };
        let (control, theirs) = control_pair().map_err(AdmitError::System)?;
        state.free[position]
            .1
            .send(&control, segment)
            .map_err(AdmitError::System)?;
        let (id, _) = state.free.swap_remove(position);
        state.taken.push(id);
        state.arrivals.push(Arrival {
            id,
            process,
            control,
        });
        // Adds 1 to the eventfd's counter, which the supervisor resets with each batch of arrivals:
        // it cannot overflow.
        let _ = rustix::io::write(&self.wakeup, &1u64.to_le_bytes());
        Ok(theirs)
    }

    /// Returns the processes that were admitted since the last call.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        let _ = rustix::io::read(&self.wakeup, &mut [0; 8]);
        std::mem::take(&mut self.state.lock().arrivals)
    }

    /// Closes one seat. Returns the processes that were admitted since the last call of
    /// [`arrivals`](Self::arrivals), one of which may just have got this seat.
    pub(super) fn withdraw(&self, id: InstanceId) -> Vec<Arrival> {
        let mut state = self.state.lock();
        state.free.retain(|(free, _)| *free != id);
        std::mem::take(&mut state.arrivals)
    }

    /// Closes all seats: every later [`admit`](Self::admit) fails.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.arrivals.clear();
    }
}

impl AsFd for AttachPoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::memory::{Backing, HugePages, PipeName, Shape, StageShape};

    #[test]
    fn middle_role_is_refused() {
        let shape = Shape::builder(1, 512)
            .stages([StageShape::new(1).share(1), StageShape::new(1)])
            .build()
            .unwrap();
        let (name, backing) = (PipeName::new(), Backing::Anonymous);
        let segment = Segment::create(&name, shape, &[], backing, HugePages::No).unwrap();
        let process = Process::watch(std::process::id()).unwrap();
        let attach_point = AttachPoint::new(Vec::new()).unwrap();
        let refused = attach_point.admit(Role::Middle, process, &segment);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "cannot attach to a pipe's middle: only the head or the tail can attach"
        );
    }
}
