//! Sources of the messages that a process sends about its work.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::message::{self, StageMessage};
use crate::error::StageError;
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
    control: Arc<OwnedFd>,
}

impl MessageSources {
    /// No sources yet.
    pub(super) fn new(control: OwnedFd) -> Self {
        Self {
            sources: Arc::default(),
            control: Arc::new(control),
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
