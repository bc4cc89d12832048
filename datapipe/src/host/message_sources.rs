//! Sources of the messages that a process sends about its work.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::message::{self, StageMessage};
use crate::error::StageError;
use crate::stage::mirror::{ChangeHook, Mirrors, ReportKind};
use crate::stage::runner::thread::catch_panic;

/// A function that returns the messages that are new since its last call.
type Source = Box<dyn FnMut() -> Vec<StageMessage> + Send>;

/// Sends a stage's pending messages to the controller on demand. Made by
/// [`StageArgs::add_message_source`](super::StageArgs::add_message_source).
#[derive(Clone, Debug)]
pub struct Notifier(MessageSources);

impl Notifier {
    pub(super) fn new(
        sources: &MessageSources,
        source: impl FnMut() -> Vec<StageMessage> + Send + 'static,
    ) -> Self {
        sources.sources.lock().push(Box::new(source));
        Self(sources.clone())
    }

    /// Polls all sources now. When this returns, their messages have left this process, and the
    /// controller receives them however the process ends. A source must not call it.
    ///
    /// # Errors
    ///
    /// If a source panicked. Return the error from the stage: it is the stage's.
    pub fn send_pending(&self) -> Result<(), StageError> {
        self.0.send_pending()
    }
}

/// The sources of a process's messages, and the connection to its controller. Clones share them.
#[derive(Clone)]
pub(super) struct MessageSources {
    sources: Arc<Mutex<Vec<Source>>>,
    /// Kinds of the reports that are sent.
    reports: Arc<Mutex<Vec<ReportKind>>>,
    control: Arc<OwnedFd>,
}

impl MessageSources {
    /// No sources yet.
    pub(super) fn new(control: OwnedFd) -> Self {
        Self {
            sources: Arc::default(),
            reports: Arc::default(),
            control: Arc::new(control),
        }
    }

    /// Sends from now on what changes in the reports, except in those of a kind that has been added
    /// before: a module may have added the reports of its stage.
    pub(super) fn add_reports(&self, reports: &Mirrors) {
        let sources = self.clone();
        let hook = ChangeHook::new(move || {
            // A panic of another source is reported by that source's call.
            let _ = sources.send_pending();
        });
        for (kind, mut packets) in reports.sources(&hook) {
            let mut added = self.reports.lock();
            if !added.contains(&kind) {
                added.push(kind);
                let source = move || packets().into_iter().map(StageMessage::report).collect();
                self.sources.lock().push(Box::new(source));
            }
        }
    }

    /// Polls all sources, and sends their messages. If a source panics, returns that as an error
    /// and removes all sources.
    pub(super) fn send_pending(&self) -> Result<(), StageError> {
        // Sent under the lock, so that messages of two callers keep their order.
        let mut sources = self.sources.lock();
        let sent = catch_panic(|| {
            let messages = sources.iter_mut().flat_map(|source| source());
            messages.for_each(|message| message::send_message(&self.control, &message));
            Ok(())
        });
        if sent.is_err() {
            sources.clear();
        }
        sent
    }

    /// Reports the failure of an instance, for a reason of the process.
    pub(super) fn send_failure(&self, error: StageError) {
        message::send_result(&self.control, 0, &Err(error));
    }
}

impl fmt::Debug for MessageSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageSources")
    }
}
