//! The caller's interest in a job: progress, problems and cancellation.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::cancel_slots::CancelToken;
use crate::failure::Failure;
use crate::status::DP_ERR_CANCELLED;

/// Progress of a job.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) elapsed: Duration,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Files that are done; 0 for a job without files.
    pub(crate) files: u64,
    /// Bytes of the medium that were read; 0 for a job that writes.
    pub(crate) read: u64,
    /// Bytes of the medium that are to be read; 0 if the number is not known.
    pub(crate) total: u64,
}

/// An object that is not in the archive, or not restored, as it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem<'a> {
    pub(crate) kind: i32,
    /// Path in the archive; empty if it is not known.
    pub(crate) path: &'a [u8],
    pub(crate) text: &'a str,
}

/// Receives problems, one at a time.
pub(crate) type ProblemSink = Box<dyn FnMut(Problem<'_>) + Send>;

/// Receives progress. Returns false to cancel the job.
type ProgressSink = Box<dyn FnMut(Progress) -> bool>;

/// The caller's functions and token.
pub(crate) struct Hooks {
    token: Option<CancelToken>,
    interval: Duration,
    progress: Option<ProgressSink>,
    problem: Option<Arc<Mutex<ProblemSink>>>,
}

impl Hooks {
    pub(crate) fn new(
        token: Option<CancelToken>,
        interval: Duration,
        progress: Option<ProgressSink>,
        problem: Option<ProblemSink>,
    ) -> Self {
        Self {
            token,
            interval,
            progress,
            problem: problem.map(|sink| Arc::new(Mutex::new(sink))),
        }
    }

    /// True if the token was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.token.is_some_and(CancelToken::is_cancelled)
    }

    /// Fails if the token was cancelled. For the steps before and between pipes.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.is_cancelled() {
            true => Err(Failure::new(DP_ERR_CANCELLED, "the job was cancelled")),
            false => Ok(()),
        }
    }

    /// Time between two calls of the progress function.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Shows progress. Returns false if the caller cancels the job.
    pub(super) fn show(&mut self, progress: Progress) -> bool {
        self.progress.as_mut().is_none_or(|show| show(progress))
    }

    /// Returns a function that reports problems from any thread.
    pub(super) fn reporter(&self) -> impl Fn(Problem<'_>) + Clone + Send + Sync + 'static {
        let sink = self.problem.clone();
        move |problem| {
            if let Some(sink) = &sink {
                sink.lock()(problem);
            }
        }
    }
}
