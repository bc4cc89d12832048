//! Admission of processes that the controller did not start: they attach to an unbound head or
//! tail.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use crate::host::attach_socket;
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
    /// The other end of the socket belongs to another user.
    OtherUser {
        /// Numeric id of the user to whom the other end belongs.
        user: u32,
        /// Numeric id of the user of this process.
        own: u32,
    },
    /// The socket failed, or the process at its other end did not ask for a seat as it should.
    Socket(io::Error),
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
            Self::OtherUser { user, own } => write!(
                f,
                "the socket is connected to a process of user {user}, but this process is of user \
                 {own}: decide whether that user may attach, and call Pipe::admit"
            ),
            Self::Socket(error) => write!(
                f,
                "the process at the other end of the socket got no seat: {error}"
            ),
            Self::System(error) => write!(f, "cannot make the control connection: {error}"),
        }
    }
}

impl std::error::Error for AdmitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket(error) | Self::System(error) => Some(error),
            Self::Bound(_)
            | Self::Taken(_)
            | Self::NotAnEnd(_)
            | Self::Ended
            | Self::OtherUser { .. } => None,
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

/// Interval at which a wait for a process looks at the pipe.
const WAIT_SLICE: Duration = Duration::from_millis(100);

impl AttachState {
    /// Returns the position of the free seat in `role`.
    fn free_seat(&self, role: Role, segment: &Segment) -> Result<usize, AdmitError> {
        let stage = match role {
            Role::Head => StageId::HEAD,
            Role::Tail => segment.shape().tail(),
            Role::Middle => return Err(AdmitError::NotAnEnd(role)),
        };
        if self.closed || segment.is_stopped() {
            return Err(AdmitError::Ended);
        }
        let position = self.free.iter().position(|(id, _)| id.stage() == stage);
        position.ok_or_else(|| {
            if self.taken.iter().any(|id| id.stage() == stage) {
                AdmitError::Taken(role)
            } else {
                AdmitError::Bound(role)
            }
        })
    }
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

    /// Gives the seat in `role` to the process that asks for it at the other end of `socket`, and
    /// waits for that. Returns the process's end of the control connection.
    pub(super) fn admit_over(
        &self,
        role: Role,
        socket: &UnixStream,
        segment: &Segment,
    ) -> Result<OwnedFd, AdmitError> {
        let user = socket_peercred(socket).map_err(|error| AdmitError::Socket(error.into()))?;
        let (user, own) = (user.uid.as_raw(), geteuid().as_raw());
        if user != own {
            return Err(AdmitError::OtherUser { user, own });
        }
        let timeout = socket.read_timeout().map_err(AdmitError::Socket)?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // In each round, so that the wait ends with the pipe, and with the seat.
            self.state.lock().free_seat(role, segment)?;
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let slice = rest.map_or(WAIT_SLICE, |rest| rest.min(WAIT_SLICE));
            let request = attach_socket::receive_request(socket, slice);
            if let Some(process) = request.map_err(AdmitError::Socket)? {
                return self.admit(role, process, segment);
            }
            if rest == Some(Duration::ZERO) {
                return Err(AdmitError::Socket(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    /// Gives the seat in `role` to a process. Returns the process's end of the control connection.
    pub(super) fn admit(
        &self,
        role: Role,
        process: Process,
        segment: &Segment,
    ) -> Result<OwnedFd, AdmitError> {
        let mut state = self.state.lock();
        let position = state.free_seat(role, segment)?;
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
