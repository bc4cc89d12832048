//! The error for shared words that contradict each other.

use std::borrow::Cow;
use std::fmt;

use super::ids::{BufferId, QueueId};

/// The words in shared memory contradict themselves: some participant wrote where it should not
/// have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    what: Cow<'static, str>,
    queue: Option<QueueId>,
    buffer: Option<BufferId>,
}

impl Corruption {
    pub(crate) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            what: what.into(),
            queue: None,
            buffer: None,
        }
    }

    /// The contradiction, the queue and the buffer, for a report to another process.
    pub(crate) fn parts(&self) -> (&str, Option<QueueId>, Option<BufferId>) {
        (&self.what, self.queue, self.buffer)
    }

    pub(crate) fn at_queue(self, queue: QueueId) -> Self {
        Self {
            queue: Some(queue),
            ..self
        }
    }

    pub(crate) fn at_buffer(self, buffer: BufferId) -> Self {
        Self {
            buffer: Some(buffer),
            ..self
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the shared memory of the pipe is corrupt: {}", self.what)?;
        if let Some(queue) = self.queue {
            write!(f, " (queue {queue})")?;
        }
        if let Some(buffer) = self.buffer {
            write!(f, " (buffer {buffer})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Corruption {}
