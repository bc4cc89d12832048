//! What becomes of each request.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use datapipe::controller::{AdmitError, Event};
use datapipe::memory::Process;
use datapipe::{Error, Pipe};
use parking_lot::Mutex;

use super::build;
use super::connection::Connection;
use super::pipes::Found;
use super::{Shared, explain};
use crate::config::User;
use crate::limits::{MAX_EXPLANATION, MAX_WAITING_EVENTS};
use crate::protocol::{
    EventKind, Initiate, PipeEvent, PipeState, Refusal, RefusalCode, Reply, Request, Role, cut,
};

/// A reply, and what comes along with it.
type Answered = Result<(Reply, Option<OwnedFd>), Refusal>;

impl Connection {
    pub(super) fn answer(&mut self, number: u32, request: Request) -> Answered {
        let user = self.peer.user;
        match request {
            Request::Initiate(initiate) => self.initiate(&initiate),
            Request::Extend => {
                let why = "a pipe over several machines is reserved for a later version";
                Err(Refusal::new(RefusalCode::RESERVED, why))
            }
            Request::Identify { pipe, role } => self.identify(&pipe, role),
            Request::Stop { pipe } => {
                self.stop(&pipe)?;
                Ok((Reply::Stopping, None))
            }
            Request::Status { pipe } => {
                let status = match self.shared.pipes.find(&pipe, user)? {
                    Found::Live(live) => live.status(),
                    Found::Over(status) => (*status).clone(),
                };
                Ok((Reply::Status(status), None))
            }
            Request::List => Ok((Reply::List(self.shared.pipes.list(user)), None)),
            Request::Subscribe { pipe } => {
                self.subscribe(number, pipe)?;
                Ok((Reply::Subscribed, None))
            }
        }
    }

    fn initiate(&self, initiate: &Initiate) -> Answered {
        let (shared, user) = (&self.shared, self.peer.user);
        let started = self.start(initiate);
        match &started {
            Ok((name, _)) => shared.log(&format!("{name}: started for user {user}")),
            Err(refusal) => {
                let label = &initiate.label;
                shared.log(&format!(
                    "refused a pipe \"{label}\" of user {user}: {}",
                    refusal.text
                ));
            }
        }
        let (pipe, control) = started?;
        Ok((
            Reply::Initiated {
                pipe,
                control: control.is_some(),
            },
            control,
        ))
    }

    fn start(&self, initiate: &Initiate) -> Result<(String, Option<OwnedFd>), Refusal> {
        let (shared, user) = (&self.shared, self.peer.user);
        let config = shared.config();
        let tap = Arc::new(Tap {
            shared: Arc::clone(shared),
            owner: user,
            state: Mutex::default(),
        });
        let (listener, notes) = (Arc::clone(&tap), Arc::clone(&tap));
        let note = move |stage: &str, data: &[u8]| {
            let (stage, note) = (Some(stage.to_owned()), Some(data.to_vec()));
            notes.tell(PipeEvent {
                stage,
                note,
                ..PipeEvent::new(EventKind::NOTE, "")
            });
        };
        let builder = build::pipe(&config, user, initiate, &(Arc::new(note) as _))?;
        let builder = builder.on_event(move |event| listener.tell(told(event)));
        let memory = builder
            .plan()
            .map_err(|error| refused(&error))?
            .pool_bytes();
        let reservation = shared.pipes.reserve(memory, &config.limits)?;
        let pipe = builder.start().map_err(|error| refused(&error))?;
        let name = pipe.name().to_string();
        // One that cannot take its seat does not get its pipe either: dropping that stops it.
        let control = initiate
            .seat
            .role()
            .map(|role| self.admit(&pipe, role))
            .transpose()?;
        let live = reservation.fill(pipe, initiate, user);
        tap.open(&name, &initiate.label);
        shared.watch_over(live)?;
        Ok((name, control))
    }

    fn identify(&self, name: &str, role: Role) -> Answered {
        let live = match self.shared.pipes.find(name, self.peer.user)? {
            Found::Live(live) => live,
            Found::Over(_) => return Err(over(name)),
        };
        let control = live
            .with_pipe(|pipe| self.admit(pipe, role))
            .unwrap_or_else(|| Err(over(name)))?;
        self.shared.log(&format!(
            "{name}: process {} has its {role}",
            self.peer.process
        ));
        Ok((Reply::Identified, Some(control)))
    }

    /// Gives this client's process a seat.
    fn admit(&self, pipe: &Pipe, role: Role) -> Result<OwnedFd, Refusal> {
        let role = match role {
            Role::Head => datapipe::controller::Role::Head,
            Role::Tail => datapipe::controller::Role::Tail,
            Role::NetworkAgent => {
                let why =
                    "a network agent never attaches by itself: it belongs to its machine's daemon";
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

    /// The process that has connected, and no other that was given its id.
    fn process(&self) -> Result<Process, Refusal> {
        let system = |error: &dyn std::fmt::Display| {
            let id = self.peer.process;
            Refusal::new(
                RefusalCode::SYSTEM,
                format!("the process {id}, which has connected: {error}"),
            )
        };
        let descriptor = self
            .peer
            .descriptor(self.channel.as_fd())
            .map_err(|error| system(&error))?;
        Process::of_descriptor(descriptor).map_err(|error| system(&error))
    }

    fn stop(&self, name: &str) -> Result<(), Refusal> {
        let (shared, user) = (&self.shared, self.peer.user);
        match shared.pipes.find(name, user)? {
            Found::Live(live) => {
                shared.log(&format!("{name}: stopped by user {user}"));
                let state = Some(PipeState::STOPPING);
                let event = PipeEvent {
                    state,
                    ..PipeEvent::new(EventKind::STOPPING, name)
                };
                // Before it can be over.
                shared.subscribers.tell(live.owner(), event);
                live.stop();
                Ok(())
            }
            Found::Over(_) => Err(over(name)),
        }
    }

    fn subscribe(&mut self, number: u32, pipe: Option<String>) -> Result<(), Refusal> {
        if self.subscription.is_some() {
            let why = "a connection has one subscription: make another connection";
            return Err(Refusal::new(RefusalCode::LIMIT, why));
        }
        let user = self.peer.user;
        let queue = self.shared.subscribers.add(user, pipe.clone());
        let queue = queue.map_err(|error| Refusal::new(RefusalCode::SYSTEM, error.to_string()))?;
        // Only now: so its end is either known here, or will be told.
        if let Some(name) = pipe
            && let Found::Over(_) = self.shared.pipes.find(&name, user)?
        {
            return Err(over(&name));
        }
        self.subscription = Some((number, queue));
        Ok(())
    }
}

fn over(name: &str) -> Refusal {
    Refusal::new(RefusalCode::OVER, format!("the pipe {name} is over"))
}

fn refused(error: &Error) -> Refusal {
    let code = match error {
        Error::Refused { .. } => RefusalCode::IMPOSSIBLE,
        _ => RefusalCode::SYSTEM,
    };
    Refusal::new(code, explain(error))
}

/// Tells the subscribers what a pipe's controller tells. That begins before the pipe's name is
/// known.
struct Tap {
    shared: Arc<Shared>,
    owner: User,
    state: Mutex<TapState>,
}

#[derive(Default)]
struct TapState {
    pipe: Option<String>,
    early: Vec<PipeEvent>,
}

impl Tap {
    fn tell(&self, event: PipeEvent) {
        let mut state = self.state.lock();
        match &state.pipe {
            Some(pipe) => self.shared.subscribers.tell(
                self.owner,
                PipeEvent {
                    pipe: pipe.clone(),
                    ..event
                },
            ),
            None if state.early.len() < MAX_WAITING_EVENTS => state.early.push(event),
            None => {}
        }
    }

    fn open(&self, pipe: &str, label: &str) {
        let mut state = self.state.lock();
        let text = Some(label.to_owned());
        let initiated = PipeEvent {
            text,
            ..PipeEvent::new(EventKind::INITIATED, "")
        };
        let early = std::mem::take(&mut state.early);
        for event in std::iter::once(initiated).chain(early) {
            self.shared.subscribers.tell(
                self.owner,
                PipeEvent {
                    pipe: pipe.to_owned(),
                    ..event
                },
            );
        }
        state.pipe = Some(pipe.to_owned());
    }
}

/// What the controller says, but for the pipe's name.
fn told(event: &Event) -> PipeEvent {
    let new = |kind, stage: &str| PipeEvent {
        stage: Some(stage.to_owned()),
        ..PipeEvent::new(kind, "")
    };
    match event {
        Event::Started {
            stage,
            instance,
            process,
        } => PipeEvent {
            instance: Some(*instance),
            process: Some(*process),
            ..new(EventKind::STARTED, stage)
        },
        Event::Attached { stage, process } => PipeEvent {
            process: Some(*process),
            ..new(EventKind::ATTACHED, stage)
        },
        Event::Died {
            stage,
            instance,
            process,
            status,
            replaced,
        } => PipeEvent {
            instance: Some(*instance),
            process: Some(*process),
            replaced: Some(*replaced),
            text: status.map(|status| status.to_string()),
            ..new(EventKind::DIED, stage)
        },
        Event::StageMessage {
            stage,
            instance,
            text,
        } => PipeEvent {
            instance: Some(*instance),
            text: Some(cut(text, MAX_EXPLANATION).to_owned()),
            ..new(EventKind::NOTE, stage)
        },
        other => PipeEvent {
            text: Some(other.to_string()),
            ..PipeEvent::new(EventKind::OTHER, "")
        },
    }
}

/// How often a pipe that does nothing wakes the thread that waits for its end.
pub(super) const LONG: Duration = Duration::from_secs(3600);
