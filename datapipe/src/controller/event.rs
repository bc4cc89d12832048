//! What happens to a pipe's processes, told as it happens.

use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;

/// Something that happened to a process of a pipe. Prints as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A process was started, the first of its instance or a replacement.
    Started {
        /// The stage.
        stage: String,
        /// Which instance, counted from 0; the first if the process runs several.
        instance: u32,
        /// The process.
        process: u32,
    },
    /// A process attached to an unbound stage.
    Attached {
        /// The stage.
        stage: String,
        /// The process.
        process: u32,
    },
    /// A process died before it had said how its work ended.
    Died {
        /// The stage.
        stage: String,
        /// Which instance, counted from 0; the first if the process ran several.
        instance: u32,
        /// The process.
        process: u32,
        /// What the kernel says of its end, if it was a child of the controller.
        status: Option<ExitStatus>,
        /// Whether there is a replacement; otherwise the pipe stops.
        replaced: bool,
    },
    /// A process said something for people to read.
    StageMessage {
        /// The stage.
        stage: String,
        /// Which instance, counted from 0; the first if the process runs several.
        instance: u32,
        /// What it said. May hold any characters.
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
                write!(f, "{stage}/{instance}: process {process} started")
            }
            Self::Attached { stage, process } => write!(f, "{stage}: process {process} attached"),
            Self::Died {
                stage,
                instance,
                process,
                status,
                replaced,
            } => {
                write!(f, "{stage}/{instance}: process {process} died")?;
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
                write!(f, "{stage}/{instance}: {}", text.escape_debug())
            }
        }
    }
}

/// Who is told.
#[derive(Clone, Default)]
pub(super) struct Listener(Option<Arc<Call>>);

type Call = dyn Fn(&Event) + Send + Sync;

impl Listener {
    pub(super) fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
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
            "nobody"
        })
    }
}
