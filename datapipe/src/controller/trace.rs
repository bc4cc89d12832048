//! Spans and events of a pipe for the crate `tracing`; nothing without the feature of that name.
//!
//! ```text
//!   span "pipe" (label, name)          the controller and the supervisor of processes
//!     +-- span "stage" (stage)         each instance on a thread, with all that its stage records
//! ```
//!
//! A thread gets the subscriber of the thread that made the pipe, and not only the global one.

#[cfg(feature = "tracing")]
pub(super) use enabled::{PipeSpan, record};

/// Span of a pipe, or of one of its instances.
#[cfg(not(feature = "tracing"))]
#[derive(Clone, Debug)]
pub(super) struct PipeSpan;

#[cfg(not(feature = "tracing"))]
impl PipeSpan {
    pub(super) fn new(_label: &str, _name: &str) -> Self {
        Self
    }

    pub(super) fn stage(&self, _stage: &str) -> Self {
        Self
    }

    pub(super) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

#[cfg(feature = "tracing")]
mod enabled {
    use tracing::dispatcher::{self, Dispatch};
    use tracing::{Span, info, info_span, warn};

    use super::super::event::Event;

    /// Span of a pipe, or of one of its instances, with the subscriber that receives it.
    #[derive(Clone, Debug)]
    pub(in super::super) struct PipeSpan {
        dispatch: Dispatch,
        span: Span,
    }

    impl PipeSpan {
        pub(in super::super) fn new(label: &str, name: &str) -> Self {
            Self {
                dispatch: dispatcher::get_default(Clone::clone),
                span: info_span!("pipe", label, name),
            }
        }

        /// Makes the span of an instance.
        pub(in super::super) fn stage(&self, stage: &str) -> Self {
            let span = || info_span!(parent: &self.span, "stage", stage);
            Self {
                dispatch: self.dispatch.clone(),
                span: dispatcher::with_default(&self.dispatch, span),
            }
        }

        /// Runs `work` inside of the span.
        pub(in super::super) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
            dispatcher::with_default(&self.dispatch, || self.span.in_scope(work))
        }
    }

    /// Records an event of a pipe.
    pub(in super::super) fn record(event: &Event) {
        if event.is_warning() {
            warn!(target: "datapipe", "{event}");
        } else {
            info!(target: "datapipe", "{event}");
        }
    }
}
