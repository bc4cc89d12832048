//! From the events of a pipe's controller to those of the protocol.

use std::sync::Arc;

use datapipe::controller::Event;
use parking_lot::Mutex;

use super::problem_list::ProblemList;
use super::state::DaemonState;
use crate::config::User;
use crate::limits::{MAX_EXPLANATION, MAX_WAITING_EVENTS};
use crate::protocol::{EventKind, PipeEvent, PipeProblem, truncated};

/// Publishes the events of one pipe. The controller's first events come before the pipe's name is
/// known; the relay keeps them until then.
pub(super) struct EventRelay {
    state: Arc<DaemonState>,
    owner: User,
    problems: Arc<ProblemList>,
    progress: Mutex<RelayProgress>,
}

#[derive(Default)]
struct RelayProgress {
    /// Name of the pipe, once it is known.
    pipe: Option<String>,
    /// Events from before that. At most [`MAX_WAITING_EVENTS`] are kept.
    early: Vec<PipeEvent>,
}

impl EventRelay {
    pub(super) fn new(state: Arc<DaemonState>, owner: User) -> Self {
        Self {
            state,
            owner,
            problems: Arc::default(),
            progress: Mutex::default(),
        }
    }

    /// The last problems of the pipe.
    pub(super) fn problems(&self) -> &Arc<ProblemList> {
        &self.problems
    }

    /// Publishes an event of the controller, unless clients learn of it otherwise: they receive the
    /// starts of processes and the end of the pipe.
    pub(super) fn send(&self, event: &Event) {
        let is_implied = matches!(
            event,
            Event::ThreadStarted { .. }
                | Event::Ended { .. }
                | Event::Failed { .. }
                | Event::Stopped { .. }
        );
        self.record(event);
        if !is_implied {
            self.publish(pipe_event(event));
        }
    }

    /// Keeps a problem for clients that are not subscribed, and counts deaths.
    fn record(&self, event: &Event) {
        match event {
            Event::Problem {
                stage,
                instance,
                text,
            } => self
                .problems
                .add(PipeProblem::new(stage, instance.index(), text)),
            Event::Died { replaced, .. } => self.state.metrics.count_death(*replaced),
            _ => {}
        }
    }

    /// Publishes a message that a module sent for programs.
    pub(super) fn send_data(&self, stage: &str, data: &[u8]) {
        self.publish(PipeEvent {
            stage: Some(stage.to_owned()),
            note: Some(data.to_vec()),
            ..PipeEvent::new(EventKind::NOTE, "")
        });
    }

    fn publish(&self, event: PipeEvent) {
        let mut progress = self.progress.lock();
        match &progress.pipe {
            Some(pipe) => {
                let pipe = pipe.clone();
                let event = PipeEvent { pipe, ..event };
                self.state.subscribers.publish(self.owner, event);
            }
            None if progress.early.len() < MAX_WAITING_EVENTS => progress.early.push(event),
            None => {}
        }
    }

    /// Publishes the initiation of the pipe and the events that were kept.
    pub(super) fn open(&self, pipe: &str, label: &str) {
        let mut progress = self.progress.lock();
        let initiated = PipeEvent {
            text: Some(label.to_owned()),
            ..PipeEvent::new(EventKind::INITIATED, "")
        };
        let early = std::mem::take(&mut progress.early);
        for event in std::iter::once(initiated).chain(early) {
            let pipe = pipe.to_owned();
            let event = PipeEvent { pipe, ..event };
            self.state.subscribers.publish(self.owner, event);
        }
        progress.pipe = Some(pipe.to_owned());
    }
}

/// Converts an event of the controller; the name of the pipe is missing.
fn pipe_event(event: &Event) -> PipeEvent {
    let of_stage = |kind, stage: &str| PipeEvent {
        stage: Some(stage.to_owned()),
        ..PipeEvent::new(kind, "")
    };
    match event {
        Event::Started {
            stage,
            instance,
            process,
        } => PipeEvent {
            instance: Some(instance.index()),
            process: Some(*process),
            ..of_stage(EventKind::STARTED, stage)
        },
        Event::Attached { stage, process } => PipeEvent {
            process: Some(*process),
            ..of_stage(EventKind::ATTACHED, stage)
        },
        Event::Died {
            stage,
            instance,
            process,
            status,
            replaced,
        } => PipeEvent {
            instance: Some(instance.index()),
            process: Some(*process),
            replaced: Some(*replaced),
            text: status.map(|status| status.to_string()),
            ..of_stage(EventKind::DIED, stage)
        },
        Event::Problem {
            stage,
            instance,
            text,
        } => PipeEvent {
            instance: Some(instance.index()),
            text: Some(truncated(text, MAX_EXPLANATION).to_owned()),
            problems: Some(1),
            ..of_stage(EventKind::NOTE, stage)
        },
        Event::StageMessage {
            stage,
            instance,
            text,
        } => PipeEvent {
            instance: Some(instance.index()),
            text: Some(truncated(text, MAX_EXPLANATION).to_owned()),
            ..of_stage(EventKind::NOTE, stage)
        },
        other => PipeEvent {
            text: Some(other.to_string()),
            ..PipeEvent::new(EventKind::OTHER, "")
        },
    }
}
