//! Events of a pipe's processes, and the caller's function that receives them as they happen.

use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;

use crate::memory::InstanceId;

/// An event in the life of a process of a pipe. Prints as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A process was started, the first of its instance or a replacement.
    Started {
        /// Name of the stage.
        stage: String,
        /// The instance; the first one if the process runs several.
        instance: InstanceId,
        /// Process id.
        process: u32,
    },
    /// A process attached to an unbound stage.
    Attached {
        /// Name of the stage.
        stage: String,
        /// Process id.
        process: u32,
    },
    /// A process died before it had reported how its work ended.
    Died {
        /// Name of the stage.
        stage: String,
        /// The instance; the first one if the process ran several.
        instance: InstanceId,
        /// Process id.
        process: u32,
        /// Exit status from the kernel, if the process was a child of the controller.
        status: Option<ExitStatus>,
        /// True if another process replaces it; otherwise the pipe stops.
        replaced: bool,
    },
    /// A process sent a message for people to read.
    StageMessage {
        /// Name of the stage.
        stage: String,
        /// The instance; the first one if the process runs several.
        instance: InstanceId,
        /// Text of the message. May contain any characters.
        text: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started {
                stage,
                instance,
                process,
            } => {
                write!(f, "{stage}/{}: process {process} started", instance.index())
            }
            Self::Attached { stage, process } => write!(f, "{stage}: process {process} attached"),
            Self::Died {
                stage,
                instance,
                process,
                status,
                replaced,
            } => {
                write!(f, "{stage}/{}: process {process} died", instance.index())?;
                if let Some(status) = status {
                    write!(f, " ({status})")?;
                }
                f.write_str(if *replaced { " and is replaced" } else { "" })
            }
            Self::StageMessage {
                stage,
                instance,
                text,
            } => {
                write!(f, "{stage}/{}: {}", instance.index(), text.escape_debug())
            }
        }
    }
}

/// The caller's function for events, if there is one.
#[derive(Clone, Default)]
pub(super) struct Listener(Option<Arc<Callback>>);

type Callback = dyn Fn(&Event) + Send + Sync;

impl Listener {
    pub(super) fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    /// Calls the function with an event, which is made only if there is a function.
    pub(super) fn notify(&self, event: impl FnOnce() -> Event) {
        if let Some(listener) = &self.0 {
            listener(&event());
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "a listener"
        } else {
            "no listener"
        })
    }
}
