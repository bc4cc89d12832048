//! The end of each pipe: a thread waits for it, records it, and publishes it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Builder;

use datapipe::{Error, Pipe};

use super::event_relay::pipe_in_log;
use super::lingering::LingeringMemory;
use super::live_pipe::{LivePipe, pipe_status};
use super::log::Kind;
use super::state::DaemonState;
use crate::limits::PIPE_WAKE_INTERVAL;
use crate::protocol::{EventKind, PipeEvent, PipeState, Refusal, RefusalCode};

/// Cause of the stop of a pipe that neither a client nor the daemon has requested.
const STOPPED_BY_PROCESS: &str = "by a process that has its memory";

/// Starts the thread that waits for the end of a pipe. If that fails, the pipe ends at once.
pub(super) fn supervise(state: &Arc<DaemonState>, live: Arc<LivePipe>) -> Result<(), Refusal> {
    let (shared, supervised) = (Arc::clone(state), Arc::clone(&live));
    let thread = Builder::new().name("pipe".to_owned()).spawn(move || {
        // The read lock is shared: other threads read the status of the pipe meanwhile.
        supervised.with_pipe(|pipe| while pipe.status_every(PIPE_WAKE_INTERVAL).is_some() {});
        end(&shared, &supervised, Ok(()));
    });
    thread.map(drop).map_err(|error| {
        let why = format!("cannot start the thread that waits for the pipe: {error}");
        end(state, &live, Err(why.clone()));
        Refusal::new(RefusalCode::SYSTEM, why)
    })
}

/// Ends a pipe: takes its controller out, determines the outcome, records it in the table, and
/// publishes it. `supervised` is the reason if no thread waited for the pipe; the pipe is then
/// stopped.
///
/// The order is part of the protocol. The table has the outcome before the event is published, so
/// that a client that receives the event finds it. The pipe counts as finished last, so that a
/// daemon that stops delivers the event.
fn end(state: &DaemonState, live: &Arc<LivePipe>, supervised: Result<(), String>) {
    let has_thread = supervised.is_ok();
    let pipe = live.take_pipe();
    let (segment, holders) = (
        pipe.as_ref().map(|pipe| pipe.segment().clone()),
        live.take_attached(),
    );
    let status = pipe.as_ref().map(Pipe::status);
    let mut entry = live.entry(None);
    entry.problems = pipe.as_ref().map_or(0, Pipe::problem_count);
    (entry.state, entry.explanation) = outcome(pipe, supervised, live.stop_cause());
    if entry.state == PipeState::INCOMPLETE {
        entry.explanation = describe_problems(entry.problems, &live.problems().newest());
    }
    let (name, outcome, text) = (live.name(), entry.state, entry.explanation.clone());
    let problems = entry.problems;
    state.log_limited(Kind::EndedPipes, live.owner(), || {
        let pipe_in_log = pipe_in_log(name, live.label(), live.owner());
        match &*text {
            "" => format!("{pipe_in_log}: {outcome}"),
            by if outcome == PipeState::STOPPED => format!("{pipe_in_log}: {outcome} {by}"),
            why => format!("{pipe_in_log}: {outcome}: {why}"),
        }
    });
    // What the pipe took is free before a client can see its end.
    let lingering = live
        .take_charge()
        .zip(segment)
        .filter(|(charge, _)| !holders.is_empty() || !charge.user().is_privileged())
        .and_then(|(charge, segment)| LingeringMemory::new(segment, holders, charge));
    let status = pipe_status(entry, status.as_ref());
    state.history.add(live.past(&status));
    state.metrics.count_end(outcome, problems);
    state.pipes.record_end(live, status);
    let event = PipeEvent {
        state: Some(outcome),
        text: Some(text).filter(|text| !text.is_empty()),
        problems: Some(problems).filter(|problems| *problems > 0),
        ..PipeEvent::new(EventKind::OVER, name)
    };
    state.subscribers.publish(live.owner(), event);
    state.pipes.finish();
    // Those for which no pipe waits.
    state.kept_processes(live.owner());
    // On the thread of the pipe, of which the charge allows one for each pipe.
    if let Some(lingering) = lingering.filter(|_| has_thread) {
        lingering.wait(state);
    }
}

/// Describes a pipe that is incomplete: the number of problems, and the last one.
fn describe_problems(count: u64, newest: &str) -> String {
    let noun = if count == 1 { "problem" } else { "problems" };
    match newest {
        "" => format!("{count} {noun}"),
        newest => format!("{count} {noun}, the last: {newest}"),
    }
}

/// Waits for the pipe, and returns its final state with the cause of a failure or a stop.
fn outcome(
    pipe: Option<Pipe>,
    supervised: Result<(), String>,
    stop_cause: String,
) -> (PipeState, String) {
    if let Err(why) = supervised {
        drop(pipe);
        return (PipeState::FAILED, why);
    }
    let Some(pipe) = pipe else {
        return (PipeState::ENDED, String::new());
    };
    // A panic of a controller is a fault of this program. It ends this pipe, and no other.
    match catch_unwind(AssertUnwindSafe(|| pipe.wait())) {
        Ok(Ok(report)) if report.is_complete() => (PipeState::ENDED, String::new()),
        Ok(Ok(_)) => (PipeState::INCOMPLETE, String::new()),
        // No client and no daemon: a process has written the word that stops the pipe.
        Ok(Err(Error::Cancelled)) if stop_cause.is_empty() => {
            (PipeState::STOPPED, STOPPED_BY_PROCESS.to_owned())
        }
        Ok(Err(Error::Cancelled)) => (PipeState::STOPPED, stop_cause),
        Ok(Err(error)) => (PipeState::FAILED, error.to_string()),
        Err(_) => (PipeState::FAILED, "its controller panicked".to_owned()),
    }
}
