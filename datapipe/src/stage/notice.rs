//! Notices of a stage: news that the controller reports as events of the pipe.
//!
//! Notices are pulled, not pushed, as reports are: the controller asks each source at each tick,
//! and once after all instances have ended. A stage in a process has its source in the controller,
//! on the copy of its report.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// News of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It has begun the volume with this number.
    Volume(u32),
    /// This many blocks are on stable storage, with this many bytes before compression.
    Checkpoint { blocks: u64, bytes: u64 },
}

/// Source of a stage's notices.
#[derive(Clone)]
pub(crate) struct NoticeSource(Arc<Mutex<SourceFn>>);

type SourceFn = dyn FnMut() -> Vec<Notice> + Send;

impl NoticeSource {
    pub(crate) fn new(source: impl FnMut() -> Vec<Notice> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(source)))
    }

    /// Returns the notices since the last call.
    pub(crate) fn take(&self) -> Vec<Notice> {
        (self.0.lock())()
    }
}

impl fmt::Debug for NoticeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoticeSource")
    }
}
