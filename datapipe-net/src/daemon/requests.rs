//! The work of each request, apart from subscriptions, which belong to the connection.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use datapipe::controller::AdmitError;
use datapipe::memory::Process;
use datapipe::{Error, Pipe, Role};

use super::accounts::{Charge, Usage};
use super::event_relay::{EventRelay, pipe_in_log, quoted};
use super::lingering::Holder;
use super::live_pipe::LivePipe;
use super::log::Kind;
use super::pipe_description::describe;
use super::pipe_table::KnownPipe;
use super::records::{Form, metrics};
use super::state::DaemonState;
use super::supervision::supervise;
use crate::config::{Config, RunAs};
use crate::limits::MAX_HISTORY;
use crate::protocol::{
    AttachRole, EventKind, Initiate, PipeEvent, PipeProblems, PipeState, Refusal, RefusalCode,
    Reply, StageRequest,
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
        match &started {
            Ok((name, _)) => {
                self.state.log_limited(Kind::StartedPipes, user, || {
                    let stages: Vec<_> = request.stages.iter().map(stage_in_log).collect();
                    let pipe = pipe_in_log(name, &request.label, user);
                    format!("{pipe}: started with {}", stages.join(", "))
                });
            }
            Err(refusal) => self.state.log_limited(Kind::RefusedPipes, user, || {
                format!(
                    "refused a pipe {} of user {user}: {}",
                    quoted(&request.label),
                    refusal.text
                )
            }),
        }
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
        let charge = self.charge(request, plan.segment_bytes(), &config)?;
        let reservation = state.pipes.reserve()?;
        let pipe = builder.start().map_err(|error| refusal_of(&error))?;
        let name = pipe.name().to_string();
        let role = request.participation.role();
        let control = role.map(|role| self.admit(&pipe, role)).transpose()?;
        let problems = Arc::clone(relay.problems());
        let live = reservation.commit(pipe, request, charge, problems);
        if control.is_some() {
            self.note_attached(&live);
        }
        state.metrics.count_start();
        state.history.begin(live.started());
        relay.open(&name, &request.label);
        supervise(state, live)?;
        Ok((name, control))
    }

    /// Charges a pipe to the user. The charge is given back when nothing of the pipe is left.
    fn charge(&self, request: &Initiate, memory: u64, config: &Config) -> Result<Charge, Refusal> {
        let limits = &config.limits;
        if memory > limits.memory_per_pipe {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let (requested, most) = (mib(memory), mib(limits.memory_per_pipe));
            let why = format!(
                "the pipe would take {requested} MiB of shared memory; one may take {most} MiB: \
                 use fewer or smaller buffers"
            );
            return Err(Refusal::new(RefusalCode::LIMIT, why));
        }
        let bound = request.stages.iter().filter(|stage| stage.module.is_some());
        let processes = bound.map(|stage| u64::from(stage.instances.unwrap_or(1)));
        let usage = Usage::pipe(processes.sum(), memory);
        let user = self.peer.user;
        let left = match user.is_privileged() {
            true => Usage::default(),
            false => Usage::processes(self.state.kept_processes(user)),
        };
        let charge = (self.state.accounts).charge_besides(user, usage, left, limits);
        let charge = charge.map_err(|why| Refusal::new(RefusalCode::LIMIT, why))?;
        let names = request
            .stages
            .iter()
            .filter_map(|stage| stage.module.as_ref());
        let runners = names.filter_map(|name| match config.module(name)?.run_as {
            RunAs::User(user) => Some(user),
            RunAs::Requester => None,
        });
        Ok(charge.run_as(runners.collect()))
    }

    /// Records that the client's process is attached to a pipe. If it cannot be opened any more, it
    /// has died.
    fn note_attached(&self, live: &LivePipe) {
        if let Ok(process) = self.process() {
            live.note_attached(Holder::new(process));
        }
    }

    /// Gives the client's process an unbound seat of a pipe.
    pub(super) fn identify(&self, name: &str, role: AttachRole) -> ReplyResult {
        let KnownPipe::Live(live) = self.state.pipes.find(name, self.peer.user)? else {
            return Err(pipe_has_ended(name));
        };
        let admitted = live.with_pipe(|pipe| {
            let control = self.admit(pipe, role)?;
            // Before the end of the pipe can take it out.
            self.note_attached(&live);
            Ok(control)
        });
        let control = admitted.unwrap_or_else(|| Err(pipe_has_ended(name)))?;
        let (process, user) = (self.peer.process, self.peer.user);
        self.state.log_limited(Kind::AttachedProcesses, user, || {
            let pipe = pipe_in_log(name, live.label(), live.owner());
            format!("{pipe}: process {process} of user {user} attached as {role}")
        });
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
        let cause = format!("by user {user}");
        state.log_limited(Kind::StopRequests, user, || {
            let pipe = pipe_in_log(name, live.label(), live.owner());
            format!("{pipe}: is being stopped {cause}")
        });
        let event = PipeEvent {
            state: Some(PipeState::STOPPING),
            text: Some(cause.clone()),
            ..PipeEvent::new(EventKind::STOPPING, name)
        };
        // Published first, so that it precedes the event of the end.
        state.subscribers.publish(live.owner(), event);
        live.stop(cause);
        Ok((Reply::Stopping, None))
    }

    pub(super) fn status(&self, name: &str) -> ReplyResult {
        let status = match self.state.pipes.find(name, self.peer.user)? {
            KnownPipe::Live(live) => live.status(),
            KnownPipe::Ended(status, _) => (*status).clone(),
        };
        Ok((Reply::Status(status), None))
    }

    /// Returns the last problems of a pipe.
    pub(super) fn problems(&self, name: &str) -> ReplyResult {
        let pipe = self.state.pipes.find(name, self.peer.user)?;
        let (count, last) = match &pipe {
            KnownPipe::Live(live) => (live.entry(None).problems, live.problems().last()),
            KnownPipe::Ended(status, problems) => (status.entry.problems, problems.last()),
        };
        // A pipe that ends at this moment has problems before it has their number.
        let count = count.max(last.len() as u64);
        Ok((Reply::Problems(PipeProblems { count, last }), None))
    }

    /// Returns the last pipes that have ended.
    pub(super) fn history(&self, limit: Option<u32>) -> Reply {
        let limit = limit.map_or(MAX_HISTORY, |limit| limit as usize);
        Reply::History(self.state.history.last(self.peer.user, limit))
    }

    /// Returns the metrics, which cover the pipes of all users.
    pub(super) fn metrics(&self) -> ReplyResult {
        if !self.state.config().metrics.allows(self.peer.user) {
            let why = "the metrics are for root, the daemon's user and the metrics_users of the \
                       configuration";
            return Err(Refusal::new(RefusalCode::NOT_ALLOWED, why));
        }
        Ok((Reply::Metrics(metrics(self.state, Form::OpenMetrics)), None))
    }

    pub(super) fn list(&self) -> Reply {
        Reply::List(self.state.pipes.list(self.peer.user))
    }
}

/// A stage in the log: its module, or the seat that waits for a process.
fn stage_in_log(stage: &StageRequest) -> String {
    match &stage.module {
        Some(module) => module.clone(),
        None => "a seat for a process that attaches".to_owned(),
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
