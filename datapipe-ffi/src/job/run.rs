//! A pipe of a job, from its start to its end.

use std::time::Instant;

use datapipe::prelude::*;

use crate::cancel_slots::CANCEL_CHECKS;
use crate::failure::Failure;
use crate::log_sink::log;
use crate::status::{DP_LOG_INFO, DP_LOG_WARNING};

use super::hooks::{Hooks, Progress};

/// Runs a pipe. `done` adds the counts of its stages to the progress.
///
/// # Errors
///
/// As [`PipeBuilder::start`] and [`Pipe::wait`].
pub(super) fn run(
    builder: PipeBuilder<'static>,
    hooks: &mut Hooks,
    done: impl Fn(Progress) -> Progress,
) -> Result<Report, Failure> {
    hooks.check()?;
    let builder = builder.on_event(|event| log(DP_LOG_INFO, &event.to_string()));
    let pipe = builder.start()?;
    log(DP_LOG_INFO, &pipe.plan().to_string());
    if let Some(warning) = pipe.plan().budget().warning() {
        log(DP_LOG_WARNING, &warning);
    }
    let of = |status: &Status| {
        done(Progress {
            elapsed: status.elapsed,
            bytes_in: status.bytes_in(),
            bytes_out: status.bytes_out(),
            ..Progress::default()
        })
    };
    let pause = hooks.interval().min(CANCEL_CHECKS);
    let mut shown = Instant::now();
    while let Some(status) = pipe.status_every(pause) {
        if hooks.is_cancelled() {
            pipe.cancel();
        }
        if shown.elapsed() >= hooks.interval() {
            shown = Instant::now();
            if !hooks.show(of(&status)) {
                pipe.cancel();
            }
        }
    }
    // The job has ended: an answer of the function changes nothing.
    hooks.show(of(&pipe.status()));
    let report = pipe.wait()?;
    log(DP_LOG_INFO, &report.to_string());
    Ok(report)
}
