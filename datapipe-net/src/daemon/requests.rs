//! The work of each request, apart from subscriptions, which belong to the connection.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use datapipe::controller::AdmitError;
use datapipe::memory::Process;
use datapipe::{Error, Pipe, Role};

use super::event_relay::EventRelay;
use super::pipe_description::describe;
use super::pipe_table::KnownPipe;
use super::state::DaemonState;
use super::supervision::supervise;
use crate::protocol::{
    AttachRole, EventKind, Initiate, PipeEvent, PipeState, Refusal, RefusalCode, Reply,
};
use crate::socket::Peer;

/// Reply with the descriptor that accompanies it, or a refusal.
pub(super) type ReplyResult = Result<(Reply, Option<OwnedFd>), Refusal>;

/// Client whose request is served.
pub(super) struct Requester<'c> {
    state: &'c Arc<DaemonState>,
    peer: Peer,
    /// Socket of the connection, from which the client's process is known.
    socket: BorrowedFd<'c>,
}

impl<'c> Requester<'c> {
    pub(super) fn new(state: &'c Arc<DaemonState>, peer: Peer, socket: BorrowedFd<'c>) -> Self {
        Self {
            state,
            peer,
            socket,
        }
    }

    /// Starts a pipe, and logs it.
    pub(super) fn initiate(&self, request: &Initiate) -> ReplyResult {
        let user = self.peer.user;
        let started = self.start(request);
        self.state.log(&match &started {
            Ok((name, _)) => format!("{name}: started for user {user}"),
            Err(refusal) => format!(
                "refused a pipe \"{}\" of user {user}: {}",
                request.label, refusal.text
            ),
        });
        let (pipe, control) = started?;
        let reply = Reply::Initiated {
            pipe,
            control: control.is_some(),
        };
        Ok((reply, control))
    }

    /// Starts a pipe. Returns its name, and the control connection if the client takes part.
    ///
    /// The order of the steps matters. The room is reserved before the pipe starts, so that the
    /// limits hold at every moment. The client gets its seat before others can find the pipe; if it
    /// does not get it, dropping the pipe stops it. The relay opens before the pipe is supervised,
    /// so that the event of the end is the last one.
    fn start(&self, request: &Initiate) -> Result<(String, Option<OwnedFd>), Refusal> {
        let (state, user) = (self.state, self.peer.user);
        let config = state.config();
        let relay = Arc::new(EventRelay::new(Arc::clone(state), user));
        let data = Arc::clone(&relay);
        let on_data = Arc::new(move |stage: &str, bytes: &[u8]| data.send_data(stage, bytes));
        let builder = describe(
            &config,
            &state.temporary,
            self.peer,
            request,
            &(on_data as _),
        )?;
        let events = Arc::clone(&relay);
        let builder = builder.on_event(move |event| events.send(event));
        let plan = builder.plan().map_err(|error| refusal_of(&error))?;
        let reservation = state.pipes.reserve(plan.pool_bytes(), &config.limits)?;
        let pipe = builder.start().map_err(|error| refusal_of(&error))?;
        let name = pipe.name().to_string();
        let role = request.participation.role();
        let control = role.map(|role| self.admit(&pipe, role)).transpose()?;
        let live = reservation.commit(pipe, request, user);
        relay.open(&name, &request.label);
        supervise(state, live)?;
        Ok((name, control))
    }

    /// Gives the client's process an unbound seat of a pipe.
    pub(super) fn identify(&self, name: &str, role: AttachRole) -> ReplyResult {
        let KnownPipe::Live(live) = self.state.pipes.find(name, self.peer.user)? else {
            return Err(pipe_has_ended(name));
        };
        let admitted = live.with_pipe(|pipe| self.admit(pipe, role));
        let control = admitted.unwrap_or_else(|| Err(pipe_has_ended(name)))?;
        let process = self.peer.process;
        self.state
            .log(&format!("{name}: process {process} attached as {role}"));
        Ok((Reply::Identified, Some(control)))
    }

    fn admit(&self, pipe: &Pipe, role: AttachRole) -> Result<OwnedFd, Refusal> {
        let role = match role {
            AttachRole::Head => Role::Head,
            AttachRole::Tail => Role::Tail,
            AttachRole::NetworkAgent => {
                let why = "a network agent never attaches by itself: it belongs to the daemon of \
                           its machine";
                return Err(Refusal::new(RefusalCode::NETWORK_AGENT, why));
            }
        };
        pipe.admit(role, self.process()?).map_err(|error| {
            let code = match error {
                AdmitError::Bound(_) => RefusalCode::BOUND,
                AdmitError::Taken(_) => RefusalCode::TAKEN,
                AdmitError::Ended => RefusalCode::OVER,
                _ => RefusalCode::SYSTEM,
            };
            Refusal::new(code, error.to_string())
        })
    }

    /// Returns the process that connected, even if its id has been reused since.
    fn process(&self) -> Result<Process, Refusal> {
        let failed = |error: &dyn fmt::Display| {
            let id = self.peer.process;
            let why = format!("cannot open the process {id}, which connected: {error}");
            Refusal::new(RefusalCode::SYSTEM, why)
        };
        let descriptor = self.peer.descriptor(self.socket);
        let descriptor = descriptor.map_err(|error| failed(&error))?;
        Process::of_descriptor(descriptor).map_err(|error| failed(&error))
    }

    /// Begins to stop a pipe.
    pub(super) fn stop(&self, name: &str) -> ReplyResult {
        let (state, user) = (self.state, self.peer.user);
        let KnownPipe::Live(live) = state.pipes.find(name, user)? else {
            return Err(pipe_has_ended(name));
        };
        state.log(&format!("{name}: stopped by user {user}"));
        let event = PipeEvent {
            state: Some(PipeState::STOPPING),
            ..PipeEvent::new(EventKind::STOPPING, name)
        };
        // Published first, so that it precedes the event of the end.
        state.subscribers.publish(live.owner(), event);
        live.stop();
        Ok((Reply::Stopping, None))
    }

    pub(super) fn status(&self, name: &str) -> ReplyResult {
        let status = match self.state.pipes.find(name, self.peer.user)? {
            KnownPipe::Live(live) => live.status(),
            KnownPipe::Ended(status) => (*status).clone(),
        };
        Ok((Reply::Status(status), None))
    }

    pub(super) fn list(&self) -> Reply {
        Reply::List(self.state.pipes.list(self.peer.user))
    }
}

/// Refusal of a request that needs a live pipe.
pub(super) fn pipe_has_ended(name: &str) -> Refusal {
    Refusal::new(RefusalCode::OVER, format!("the pipe {name} has ended"))
}

/// Refusal of a pipe that the library cannot start.
fn refusal_of(error: &Error) -> Refusal {
    let code = match error {
        Error::Refused { .. } => RefusalCode::IMPOSSIBLE,
        _ => RefusalCode::SYSTEM,
    };
    Refusal::new(code, error.to_string())
}
