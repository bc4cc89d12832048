//! Events of a pipe, and the caller's function that receives them as they happen.

use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::memory::InstanceId;
use crate::words::count_of;

use super::byte_count::ByteCount;

/// An event in the life of a pipe: of an instance of a stage, or of its process. Prints as a
/// sentence.
///
/// An instance on a thread has [`ThreadStarted`](Self::ThreadStarted), and then one of
/// [`Ended`](Self::Ended), [`Failed`](Self::Failed) and [`Stopped`](Self::Stopped). An instance in
/// a process has [`Started`](Self::Started) once for each process instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "event", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Event {
    /// An instance was started on a thread of this process: its own thread, or the one that all
    /// inline stages share.
    ThreadStarted {
        /// Name of the stage.
        stage: String,
        /// The instance.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
    },
    /// An instance was not started, because the system gave it no thread. The other instances of
    /// its stage do its work. [`Ended`](Self::Ended) follows.
    NotStarted {
        /// Name of the stage.
        stage: String,
        /// The instance.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
        /// Text of the system's error, and what to do.
        error: String,
    },
    /// An instance ended well: it has sent or written everything.
    Ended {
        /// Name of the stage.
        stage: String,
        /// The instance.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
    },
    /// An instance failed, and the pipe stops.
    Failed {
        /// Name of the stage.
        stage: String,
        /// The instance.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
        /// Text of its error.
        error: String,
    },
    /// An instance ended because the pipe was stopped.
    Stopped {
        /// Name of the stage.
        stage: String,
        /// The instance.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
    },
    /// A stage that writes or reads an archive has begun a volume.
    Volume {
        /// Name of the stage.
        stage: String,
        /// Number of the volume, from 1.
        volume: u32,
    },
    /// Everything that a tail has written so far is on stable storage, and stays readable if the
    /// pipe fails. After several checkpoints within a quarter of a second only the last is
    /// reported.
    Checkpoint {
        /// Name of the stage.
        stage: String,
        /// Number of blocks that are safe.
        blocks: u64,
        /// Bytes of these blocks before compression.
        bytes: u64,
    },
    /// An instance has worked on one block for longer than
    /// [`PipeBuilder::stall_after`](super::PipeBuilder::stall_after), and goes on. Reported once
    /// for each block.
    Stalled {
        /// Name of the stage.
        stage: String,
        /// The instance.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
        /// Number of the block, from 0, if it is known.
        block: Option<u64>,
        /// Time that it has worked on the block, at least.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::seconds"))]
        time: Duration,
    },
    /// The pipe was stopped some time ago, and an instance has not ended. On a thread that is a
    /// stage which does not return, and the pipe cannot end before it does. Reported after a second
    /// and then every ten seconds.
    StillWaiting {
        /// Name of the stage.
        stage: String,
        /// The instance.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
        /// Number of the block on which it works, from 0, if it is known.
        block: Option<u64>,
        /// Time since the pipe was stopped.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::seconds"))]
        time: Duration,
    },
    /// A process has worked on one block for longer than the stage's
    /// [`work_limit`](crate::stage::Stage::work_limit), and is killed. Its death follows as
    /// [`Died`](Self::Died).
    OverLimit {
        /// Name of the stage.
        stage: String,
        /// The instance.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
        /// Process id.
        process: u32,
        /// Number of the block, from 0, if it is known.
        block: Option<u64>,
        /// The limit.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::seconds"))]
        limit: Duration,
    },
    /// A process was started, the first of its instance or a replacement.
    Started {
        /// Name of the stage.
        stage: String,
        /// The instance; the first one if the process runs several.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
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
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
        /// Process id.
        process: u32,
        /// Exit status from the kernel, if the process was a child of the controller.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "super::serialize::exit_status")
        )]
        status: Option<ExitStatus>,
        /// True if another process replaces it; otherwise the pipe stops.
        replaced: bool,
    },
    /// A process reported a problem and goes on: an object that was not read as it was, a block
    /// that is damaged, a name that was not restored. The pipe ends as
    /// [incomplete](super::Report::is_complete). Stages on threads have their problems in their
    /// reports only.
    Problem {
        /// Name of the stage.
        stage: String,
        /// The instance; the first one if the process runs several.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
        /// Description of the problem. May contain any characters.
        text: String,
    },
    /// A process of another user ([`Stage::run_as`](crate::stage::Stage::run_as)) wrote a line to
    /// its standard error. Of a line the first [`MAX_ERROR_LINE`](crate::limits::MAX_ERROR_LINE)
    /// bytes are reported, and of a process [`MAX_ERROR_LINES`](crate::limits::MAX_ERROR_LINES) in
    /// a second; then the number of the others.
    ErrorOutput {
        /// Name of the stage.
        stage: String,
        /// The instance; the first one if the process runs several.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
        /// Process id.
        process: u32,
        /// The line without its end. May contain any characters.
        text: String,
    },
    /// A process sent a message for people to read.
    StageMessage {
        /// Name of the stage.
        stage: String,
        /// The instance; the first one if the process runs several.
        #[cfg_attr(feature = "serde", serde(serialize_with = "super::serialize::index"))]
        instance: InstanceId,
        /// Text of the message. May contain any characters.
        text: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThreadStarted { stage, instance } => {
                write!(f, "{}: started", InstanceName(stage, *instance))
            }
            Self::Ended { stage, instance } => {
                write!(f, "{}: ended", InstanceName(stage, *instance))
            }
            Self::Failed {
                stage,
                instance,
                error,
            } => write!(f, "{}: failed: {error}", InstanceName(stage, *instance)),
            Self::Stopped { stage, instance } => {
                let at = InstanceName(stage, *instance);
                write!(f, "{at}: ended because the pipe was stopped")
            }
            Self::Volume { stage, volume } => write!(f, "{stage}: volume {volume}"),
            Self::Checkpoint {
                stage,
                blocks,
                bytes,
            } => write!(
                f,
                "{stage}: checkpoint: {} with {} on stable storage",
                count_of(*blocks, "block"),
                ByteCount(*bytes)
            ),
            Self::NotStarted { .. }
            | Self::Stalled { .. }
            | Self::StillWaiting { .. }
            | Self::OverLimit { .. }
            | Self::ErrorOutput { .. } => self.fmt_exception(f),
            Self::Started {
                stage,
                instance,
                process,
            } => {
                let at = InstanceName(stage, *instance);
                write!(f, "{at}: process {process} started")
            }
            Self::Attached { stage, process } => write!(f, "{stage}: process {process} attached"),
            Self::Died {
                stage,
                instance,
                process,
                status,
                replaced,
            } => {
                let at = InstanceName(stage, *instance);
                write!(f, "{at}: process {process} died")?;
                if let Some(status) = status {
                    write!(f, " ({status})")?;
                }
                f.write_str(if *replaced { " and is replaced" } else { "" })
            }
            Self::Problem {
                stage,
                instance,
                text,
            }
            | Self::StageMessage {
                stage,
                instance,
                text,
            } => {
                let at = InstanceName(stage, *instance);
                write!(f, "{at}: {}", text.escape_debug())
            }
        }
    }
}

impl Event {
    /// Writes an event of an instance that takes long, or that was not started.
    fn fmt_exception(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted {
                stage,
                instance,
                error,
            } => {
                let at = InstanceName(stage, *instance);
                write!(f, "{at}: runs with fewer threads: {error}")
            }
            Self::Stalled {
                stage,
                instance,
                block,
                time,
            } => {
                let (block, seconds) = (BlockName(*block), time.as_secs());
                let at = InstanceName(stage, *instance);
                write!(f, "{at}: on {block} for {seconds} s")
            }
            Self::StillWaiting {
                stage,
                instance,
                block,
                time,
            } => {
                let (at, seconds) = (InstanceName(stage, *instance), time.as_secs());
                write!(f, "stopped {seconds} s ago, still waiting for {at}")?;
                match block {
                    Some(block) => write!(f, ", which works on block {block}"),
                    None => Ok(()),
                }
            }
            Self::OverLimit {
                stage,
                instance,
                process,
                block,
                limit,
            } => {
                let (block, limit) = (BlockName(*block), limit.as_secs_f64());
                let at = InstanceName(stage, *instance);
                write!(
                    f,
                    "{at}: process {process} is killed, because it has worked on \
                     {block} for longer than its limit of {limit} s"
                )
            }
            Self::ErrorOutput {
                stage,
                instance,
                process,
                text,
            } => {
                let at = InstanceName(stage, *instance);
                let text = text.escape_debug();
                write!(f, "{at}: process {process} wrote: {text}")
            }
            _ => Ok(()),
        }
    }

    /// True if the event is one that an operator should look at.
    #[cfg(feature = "tracing")]
    pub(super) fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::Failed { .. }
                | Self::NotStarted { .. }
                | Self::Died { .. }
                | Self::Stalled { .. }
                | Self::StillWaiting { .. }
                | Self::OverLimit { .. }
                | Self::Problem { .. }
        )
    }
}

/// An instance in text: `zstd/1`.
struct InstanceName<'a>(&'a str, InstanceId);

impl fmt::Display for InstanceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1.index())
    }
}

/// A block in text: `block 7`, or `a block` if its number is unknown.
pub(super) struct BlockName(pub(super) Option<u64>);

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "block {number}"),
            None => f.write_str("a block"),
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
    ///
    /// With the feature `tracing` each event is also recorded there.
    pub(super) fn notify(&self, event: impl FnOnce() -> Event) {
        #[cfg(feature = "tracing")]
        let event = {
            let event = event();
            super::trace::record(&event);
            move || event
        };
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
