//! The metrics of this moment.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::SystemTime;

use super::metrics_text::{Form, Kind, MetricsText};
use crate::daemon::state::DaemonState;
use crate::limits::{MAX_METRIC_LABELS, MAX_METRIC_LABELS_PER_USER};
use crate::protocol::{CloseReason, PipeState, RefusalCode};

/// Time of the start of the daemon, in milliseconds since 1970.
static START: LazyLock<u64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
});

/// Records that the daemon starts now.
pub(in crate::daemon) fn record_start() {
    LazyLock::force(&START);
}

/// Returns the text of the metrics.
pub(in crate::daemon) fn metrics(state: &DaemonState, form: Form) -> String {
    let mut text = MetricsText::new(form);
    text.metric(
        "build_info",
        Kind::Gauge,
        "Version of the daemon; always 1.",
    )
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.metric("start_time_seconds", Kind::Gauge, "Start of the daemon.")
        .time(&[], *START);
    add_pipes(&mut text, state);
    add_requests(&mut text, state);
    add_last_successes(&mut text, state);
    text.finish()
}

fn add_pipes(text: &mut MetricsText, state: &DaemonState) {
    let (counts, sums) = (state.metrics.now(), state.pipes.sums());
    text.metric("pipes_started", Kind::Counter, "Pipes that were started.")
        .sample(&[], counts.started);
    let mut ended = text.metric("pipes", Kind::Counter, "Pipes that have ended, by outcome.");
    for outcome in [
        PipeState::ENDED,
        PipeState::INCOMPLETE,
        PipeState::FAILED,
        PipeState::STOPPED,
    ] {
        let name = outcome.name().unwrap_or_default();
        ended.sample(&[("outcome", name)], counts.ended(outcome));
    }
    let mut live = text.metric("live_pipes", Kind::Gauge, "Pipes that live, by state.");
    for state in [PipeState::RUNNING, PipeState::WAITING, PipeState::STOPPING] {
        let count = sums.live.iter().filter(|entry| entry.state == state);
        let name = state.name().unwrap_or_default();
        live.sample(&[("state", name)], count.count() as u64);
    }
    text.metric("data_bytes", Kind::Counter, "Bytes of data of all pipes.")
        .sample(&[], state.metrics.bytes(sums.bytes));
    text.metric(
        "problems",
        Kind::Counter,
        "Problems that the modules of ended pipes have counted.",
    )
    .sample(&[], counts.problems);
    text.metric(
        "buffer_memory_bytes",
        Kind::Gauge,
        "Shared memory of pipes that live, and of ended ones that a process still has.",
    )
    .sample(&[], state.accounts.memory());
    let limit = state.config().limits.memory;
    text.metric(
        "buffer_memory_limit_bytes",
        Kind::Gauge,
        "Shared memory that all pipes may have.",
    )
    .sample(&[], limit);
    text.metric(
        "process_deaths",
        Kind::Counter,
        "Processes of pipes that died before their work had ended.",
    )
    .sample(&[], counts.deaths);
    text.metric(
        "process_replacements",
        Kind::Counter,
        "Processes that died and were replaced.",
    )
    .sample(&[], counts.replacements);
}

fn add_requests(text: &mut MetricsText, state: &DaemonState) {
    let counts = state.metrics.now();
    text.metric("connections", Kind::Gauge, "Open connections.")
        .sample(&[], counts.connections);
    let mut closed = text.metric(
        "closed_connections",
        Kind::Counter,
        "Connections that were refused, by reason.",
    );
    for (reason, name) in [
        (CloseReason::VERSION, "version"),
        (CloseReason::BUSY, "busy"),
        (CloseReason::ACCESS, "access"),
        (CloseReason::NO_HELLO, "no hello"),
        (CloseReason::TOO_SLOW, "too slow"),
    ] {
        closed.sample(&[("reason", name)], counts.closed(reason));
    }
    let mut refused = text.metric(
        "refused_requests",
        Kind::Counter,
        "Requests that were refused, by reason.",
    );
    for code in (0..=u16::from(u8::MAX)).map(RefusalCode) {
        if let Some(name) = code.name() {
            refused.sample(&[("reason", name)], counts.refusals(code));
        }
    }
    text.metric(
        "history_unwritten_pipes",
        Kind::Counter,
        "Ended pipes that could not be written to the history's file when they ended.",
    )
    .sample(&[], state.history.unwritten());
    text.metric(
        "metrics_file_failures",
        Kind::Counter,
        "Failures to write the file of the metrics.",
    )
    .sample(&[], counts.metrics_failures);
}

/// Adds the last success of each label. Users choose the labels, so their number is bounded, in all
/// and for each user.
fn add_last_successes(text: &mut MetricsText, state: &DaemonState) {
    let mut latest: BTreeMap<(u32, String), u64> = BTreeMap::new();
    state.history.records().for_each(|pipe| {
        if pipe.state == PipeState::ENDED {
            latest.insert((pipe.owner, pipe.label.clone()), pipe.ended());
        }
    });
    let mut latest: Vec<_> = latest.into_iter().collect();
    latest.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    let mut metric = text.metric(
        "last_success_timestamp_seconds",
        Kind::Gauge,
        "End of the last pipe with this label that ended without problems.",
    );
    let (mut all, mut per_user) = (0, BTreeMap::<u32, usize>::new());
    for ((user, label), ended) in latest {
        let own = per_user.entry(user).or_default();
        if all >= MAX_METRIC_LABELS || *own >= MAX_METRIC_LABELS_PER_USER {
            continue;
        }
        *own += 1;
        all += 1;
        let user = user.to_string();
        metric.time(&[("uid", &user), ("label", &label)], ended);
    }
}
