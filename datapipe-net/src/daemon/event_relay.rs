//! From the events of a pipe's controller to those of the protocol, and to the log.

use std::sync::Arc;

use datapipe::controller::Event;
use parking_lot::Mutex;

use super::log::Kind;
use super::pipe_table::KnownPipe;
use super::records::ProblemList;
use super::state::DaemonState;
use crate::config::User;
use crate::limits::{MAX_EXPLANATION, MAX_WAITING_EVENTS};
use crate::protocol::{EventKind, PipeEvent, PipeProblem, truncated};

/// Place of an event in the log. Its line is of this kind, unless the user causes many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InLog {
    /// A line if it is a death or a replacement.
    IfImportant,
    Line(Kind),
}

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
    /// Name and label of the pipe, once the name is known.
    pipe: Option<(String, String)>,
    /// Events from before that. At most [`MAX_WAITING_EVENTS`] are kept.
    early: Vec<(PipeEvent, InLog)>,
    /// True once a process has died after the request to stop the pipe.
    stopping: bool,
    /// Instances whose process died and is being replaced.
    replaced: Vec<(Option<String>, Option<u32>)>,
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
        let in_log = match event {
            Event::NotStarted { .. }
            | Event::Stalled { .. }
            | Event::StillWaiting { .. }
            | Event::OverLimit { .. } => InLog::Line(Kind::Warnings),
            Event::ErrorOutput { .. } => InLog::Line(Kind::StandardError),
            _ => InLog::IfImportant,
        };
        self.record(event);
        if !is_implied {
            self.publish(pipe_event(event), in_log);
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
            Event::Died { .. } if self.is_being_stopped() => {
                self.progress.lock().stopping = true;
            }
            Event::Died { replaced, .. } => self.state.metrics.count_death(*replaced),
            _ => {}
        }
    }

    /// True if a user or the daemon has requested the pipe to stop. Its controller then kills the
    /// processes that do not end by themselves.
    fn is_being_stopped(&self) -> bool {
        let pipe = self.progress.lock().pipe.clone();
        let Some((name, _)) = pipe else { return false };
        match self.state.pipes.find(&name, self.owner) {
            Ok(KnownPipe::Live(live)) => !live.stop_cause().is_empty(),
            _ => false,
        }
    }

    /// Publishes a message that a module sent for programs.
    pub(super) fn send_data(&self, stage: &str, data: &[u8]) {
        let event = PipeEvent {
            stage: Some(stage.to_owned()),
            note: Some(data.to_vec()),
            ..PipeEvent::new(EventKind::NOTE, "")
        };
        self.publish(event, InLog::IfImportant);
    }

    /// Publishes an event, and logs it.
    fn publish(&self, event: PipeEvent, in_log: InLog) {
        let mut progress = self.progress.lock();
        match &progress.pipe {
            Some((pipe, _)) => {
                let pipe = pipe.clone();
                let event = PipeEvent { pipe, ..event };
                self.forward(&mut progress, event, in_log);
            }
            None if progress.early.len() < MAX_WAITING_EVENTS => {
                progress.early.push((event, in_log));
            }
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
        progress.pipe = Some((pipe.to_owned(), label.to_owned()));
        let initiated = (initiated, InLog::IfImportant);
        for (event, in_log) in std::iter::once(initiated).chain(early) {
            let pipe = pipe.to_owned();
            let event = PipeEvent { pipe, ..event };
            self.forward(&mut progress, event, in_log);
        }
    }

    /// Logs an event that an administrator wants to know, and publishes it.
    fn forward(&self, progress: &mut RelayProgress, event: PipeEvent, in_log: InLog) {
        let what = progress.log_text(&event, in_log);
        if let (Some(what), Some((pipe, label))) = (what, &progress.pipe) {
            let kind = match in_log {
                InLog::Line(kind) => kind,
                InLog::IfImportant => Kind::Deaths,
            };
            self.state.log_limited(kind, self.owner, || {
                format!("{}: {what}", pipe_in_log(pipe, label, self.owner))
            });
        }
        self.state.subscribers.publish(self.owner, event);
    }
}

impl RelayProgress {
    /// Text of the log for a death, a replacement, a line of standard error, or a warning, such as
    /// a process that is killed because it works for too long; `None` for all other events.
    fn log_text(&mut self, event: &PipeEvent, in_log: InLog) -> Option<String> {
        let instance = || {
            let stage = event.stage.as_deref().unwrap_or_default();
            format!("{stage}/{}", event.instance.unwrap_or_default())
        };
        let process = event.process.unwrap_or_default();
        let seat = (event.stage.clone(), event.instance);
        match event.kind {
            EventKind::DIED => {
                let is_replaced = event.replaced == Some(true);
                if is_replaced && !self.replaced.contains(&seat) {
                    self.replaced.push(seat);
                }
                let status = event.text.as_deref().unwrap_or("exit status unknown");
                let then = if is_replaced {
                    ": it is replaced"
                } else if self.stopping {
                    " while the pipe stopped"
                } else {
                    ": it is not replaced, and the pipe stops"
                };
                Some(format!(
                    "{}: process {process} died ({status}){then}",
                    instance()
                ))
            }
            EventKind::STARTED if self.replaced.contains(&seat) => {
                self.replaced.retain(|other| *other != seat);
                Some(format!(
                    "{}: process {process} is the replacement",
                    instance()
                ))
            }
            EventKind::OTHER if in_log != InLog::IfImportant => event.text.clone(),
            _ => None,
        }
    }
}

/// A pipe in the log: its name, which is unique, its label, and its owner.
pub(super) fn pipe_in_log(name: &str, label: &str, owner: User) -> String {
    format!("{name} {} of user {owner}", quoted(label))
}

/// A label between quotation marks, in which it cannot imitate the end of the label and the name of
/// another user.
pub(super) fn quoted(label: &str) -> String {
    format!("\"{}\"", label.replace('\\', r"\\").replace('"', r#"\""#))
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
