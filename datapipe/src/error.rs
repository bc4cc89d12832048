//! Errors, by who is at fault.
//!
//! The caller asked for what cannot be ([`Error::Refused`], [`Error::Key`]); a stage failed
//! ([`Error::Stage`]), or keeps more than it says ([`Error::Deadlock`]); the machine would not
//! give what is needed ([`Error::Segment`], [`Error::System`]); a participant broke the shared
//! words ([`Error::Corrupt`]); somebody cancelled ([`Error::Cancelled`]).

use std::borrow::Cow;
use std::fmt;

#[cfg(not(loom))]
pub(crate) use whole::WaitingInstance;
#[cfg(not(loom))]
pub use whole::{
    Deadlock, Death, Error, NotReplaced, StageError, StageFailure, WaitingStage, WaitsFor,
};

/// The words in shared memory contradict themselves: some participant wrote where it should not
/// have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    what: Cow<'static, str>,
    queue: Option<u32>,
    buffer: Option<u32>,
}

impl Corruption {
    pub(crate) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            what: what.into(),
            queue: None,
            buffer: None,
        }
    }

    /// What contradicts itself, the queue, and the buffer, for whoever passes it on to another
    /// process.
    pub(crate) fn parts(&self) -> (&str, Option<u32>, Option<u32>) {
        (&self.what, self.queue, self.buffer)
    }

    pub(crate) fn at_queue(self, queue: u32) -> Self {
        Self {
            queue: Some(queue),
            ..self
        }
    }

    pub(crate) fn at_buffer(self, buffer: u32) -> Self {
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

#[cfg(not(loom))]
mod whole {
    use std::fmt;
    use std::io;
    use std::process::ExitStatus;

    use super::Corruption;
    use crate::memory::SegmentError;
    use crate::pool::{PortError, Refusal, Tally};

    /// Why a pipe could not be started, or did not end well.
    #[derive(Debug)]
    #[non_exhaustive]
    pub enum Error {
        /// The pipe as it was described cannot work.
        Refused {
            /// The pipe's label.
            pipe: String,
            /// What is wrong with it, and what to do.
            reason: Refusal,
        },
        /// A stage failed. Everything else was stopped.
        Stage(StageFailure),
        /// The shared memory could not be had.
        Segment(SegmentError),
        /// The operating system refused something else.
        System {
            /// What was asked of it.
            what: &'static str,
            /// What it said.
            source: io::Error,
        },
        /// A key could not be had. Says from where, and why.
        Key(String),
        /// An archive cannot be as it was asked for. Says why.
        Archive(String),
        /// Every stage waited for another, so the pipe was stopped. Some stage keeps more blocks
        /// than it says.
        Deadlock(Deadlock),
        /// Some participant wrote to shared memory where it should not have.
        Corrupt(Corruption),
        /// The pipe was cancelled before its end.
        Cancelled,
    }

    impl fmt::Display for Error {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Refused { pipe, reason } => {
                    write!(f, "cannot start pipe \"{pipe}\": {reason}")
                }
                Self::Stage(failure) => failure.fmt(f),
                Self::Segment(error) => error.fmt(f),
                Self::System { what, source } => write!(f, "{what}: {source}"),
                Self::Key(what) | Self::Archive(what) => f.write_str(what),
                Self::Deadlock(standstill) => standstill.fmt(f),
                Self::Corrupt(error) => error.fmt(f),
                Self::Cancelled => f.write_str("the pipe was cancelled"),
            }
        }
    }

    // The text says all there is, so there is no source that would say it again. What is inside has
    // its own field.
    impl std::error::Error for Error {}

    impl From<SegmentError> for Error {
        fn from(error: SegmentError) -> Self {
            Self::Segment(error)
        }
    }

    /// Which instance of which stage failed, and why.
    #[derive(Debug)]
    #[non_exhaustive]
    pub struct StageFailure {
        /// Name of the stage.
        pub stage: String,
        /// Which of its instances, counted from 0.
        pub instance: u32,
        /// How many instances it has.
        pub instances: u32,
        /// What happened.
        pub error: StageError,
    }

    impl fmt::Display for StageFailure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "stage \"{}\"", self.stage)?;
            if self.instances > 1 {
                write!(f, " (instance {} of {})", self.instance + 1, self.instances)?;
            }
            write!(f, ": {}", self.error)
        }
    }

    /// What every stage of a pipe waited for when none of them could go on.
    ///
    /// Admission refuses a pipe that could come to this, going by what its stages say that they
    /// keep ([`Stage::holds_in`](crate::stage::Stage::holds_in),
    /// [`Stage::holds_out`](crate::stage::Stage::holds_out)). So one of them at least keeps more
    /// than it says, and is marked; it has to say more, or to keep less.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    #[non_exhaustive]
    pub struct Deadlock {
        /// The stages that had not ended, head first; a stage twice, if its instances waited for
        /// different things.
        pub waiting: Vec<WaitingStage>,
    }

    /// Instances of one stage that waited for the same.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub struct WaitingStage {
        /// Which stage, counted from 0 for the head.
        pub position: u32,
        /// Its name.
        pub stage: String,
        /// How many of its instances.
        pub instances: u32,
        /// For what.
        pub waits_for: WaitsFor,
        /// Inputs that they had in their hands, all together.
        pub inputs: u32,
        /// Buffers that they had allocated and not sent yet, all together.
        pub outputs: u32,
        /// How many inputs the stage says that each instance keeps, the one it works on counted.
        pub holds_in: u32,
        /// How many buffers the stage says that each instance allocates before it sends any.
        pub holds_out: u32,
        /// Whether any of them keeps more than that.
        pub keeps_more: bool,
    }

    /// What an instance waits for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum WaitsFor {
        /// A buffer.
        Buffer,
        /// Input.
        Input,
    }

    /// What one instance waits for that cannot go on, and what it has in its hands.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct WaitingInstance {
        pub(crate) waits_for: WaitsFor,
        pub(crate) inputs: u32,
        pub(crate) outputs: u32,
    }

    impl WaitingInstance {
        pub(crate) fn of(tally: &Tally, participant: u32, waits_for: WaitsFor) -> Self {
            let (held, outputs) = (
                tally.held[participant as usize],
                tally.unsent[participant as usize],
            );
            Self {
                waits_for,
                inputs: held.saturating_sub(outputs),
                outputs,
            }
        }

        /// Whether the instance keeps more than it may while it waits for that: one more input
        /// makes `holds_in`, one more buffer `holds_out`.
        pub(crate) fn keeps_more(self, holds_in: u32, holds_out: u32) -> bool {
            let (inputs, outputs) = match self.waits_for {
                WaitsFor::Input => (holds_in.saturating_sub(1), holds_out),
                WaitsFor::Buffer => (holds_in, holds_out.saturating_sub(1)),
            };
            self.inputs > inputs || self.outputs > outputs
        }
    }

    impl Deadlock {
        /// Adds instances of a stage.
        pub(crate) fn add(&mut self, more: WaitingStage) {
            let key =
                |waiting: &WaitingStage| (waiting.position, waiting.waits_for == WaitsFor::Input);
            match self.waiting.binary_search_by_key(&key(&more), key) {
                Ok(at) => {
                    self.waiting[at].instances += more.instances;
                    self.waiting[at].inputs += more.inputs;
                    self.waiting[at].outputs += more.outputs;
                    self.waiting[at].keeps_more |= more.keeps_more;
                }
                Err(at) => self.waiting.insert(at, more),
            }
        }
    }

    impl fmt::Display for Deadlock {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("every stage of the pipe waits for another: ")?;
            for (position, waiting) in self.waiting.iter().enumerate() {
                f.write_str(if position > 0 { ", " } else { "" })?;
                waiting.fmt(f)?;
            }
            for WaitingStage {
                stage,
                holds_in,
                holds_out,
                ..
            } in self.waiting.iter().filter(|w| w.keeps_more)
            {
                write!(
                    f,
                    "; \"{stage}\" keeps more than it says, holds_in {holds_in} and holds_out {holds_out}"
                )?;
            }
            Ok(())
        }
    }

    impl fmt::Display for WaitingStage {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self {
                stage,
                instances,
                inputs,
                outputs,
                ..
            } = self;
            write!(f, "\"{stage}\"")?;
            if *instances > 1 {
                write!(f, " x{instances}")?;
            }
            f.write_str(match self.waits_for {
                WaitsFor::Buffer => " for a buffer",
                WaitsFor::Input => " for input",
            })?;
            match (inputs, outputs) {
                (0, 0) => Ok(()),
                (_, 0) => write!(f, " with {inputs} inputs in hand"),
                (0, _) => write!(f, " with {outputs} outputs in hand"),
                _ => write!(f, " with {inputs} inputs and {outputs} outputs in hand"),
            }
        }
    }

    /// What a stage returns when it cannot go on.
    ///
    /// Anything that is an error converts into one, so that `?` works in a stage:
    ///
    /// ```
    /// use datapipe::StageError;
    ///
    /// fn parse(text: &str) -> Result<u32, StageError> {
    ///     if text.is_empty() {
    ///         return Err(StageError::new("the block is empty"));
    ///     }
    ///     Ok(text.parse::<u32>()?)
    /// }
    /// assert_eq!(parse("").unwrap_err().to_string(), "the block is empty");
    /// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
    /// ```
    pub struct StageError {
        cause: Cause,
    }

    enum Cause {
        Message(String),
        Panic(String),
        Port(PortError),
        Death(Death),
        WaitingInstance(WaitingInstance),
        Other(Box<dyn std::error::Error + Send + Sync>),
    }

    impl StageError {
        /// An error with a message: say what, where, and what to do.
        pub fn new(message: impl Into<String>) -> Self {
            Self {
                cause: Cause::Message(message.into()),
            }
        }

        /// Whether the stage did not fail, but was told to stop.
        pub fn is_stopped(&self) -> bool {
            matches!(self.cause, Cause::Port(PortError::Stopped))
        }

        /// Whether the stage panicked.
        pub fn is_panic(&self) -> bool {
            self.panic_message().is_some()
        }

        pub(crate) fn panic_message(&self) -> Option<&str> {
            match &self.cause {
                Cause::Panic(message) => Some(message),
                _ => None,
            }
        }

        /// The contradiction in shared memory that the stage ran into, if that is what happened.
        pub fn corrupt(&self) -> Option<&Corruption> {
            match &self.cause {
                Cause::Port(PortError::Corrupt(corrupt)) => Some(corrupt),
                _ => None,
            }
        }

        /// How the process died that ran the stage, if it did and was not replaced.
        pub fn death(&self) -> Option<&Death> {
            match &self.cause {
                Cause::Death(death) => Some(death),
                _ => None,
            }
        }

        /// The error that the stage returned, to be downcast; `None` for a message, a panic, a
        /// death or a port's error.
        pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
            match &self.cause {
                Cause::Other(error) => Some(error.as_ref()),
                _ => None,
            }
        }

        pub(crate) fn panic(payload: &(dyn std::any::Any + Send)) -> Self {
            let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Self::panicked(text.unwrap_or_else(|| "a panic without a message".to_owned()))
        }

        pub(crate) fn panicked(message: String) -> Self {
            Self {
                cause: Cause::Panic(message),
            }
        }

        pub(crate) fn died(death: Death) -> Self {
            Self {
                cause: Cause::Death(death),
            }
        }

        pub(crate) fn standstill(stuck: WaitingInstance) -> Self {
            Self {
                cause: Cause::WaitingInstance(stuck),
            }
        }

        /// What the instance waits for, if it ended because nobody can go on.
        pub(crate) fn stuck(&self) -> Option<WaitingInstance> {
            match self.cause {
                Cause::WaitingInstance(stuck) => Some(stuck),
                _ => None,
            }
        }
    }

    /// How the process of an instance died, and why it was not replaced.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub struct Death {
        /// Its process id.
        pub process: u32,
        /// What the kernel says of its end, if it was a child of the controller.
        pub status: Option<ExitStatus>,
        /// Why there was no replacement.
        pub reason: NotReplaced,
    }

    /// Why a process that died was not replaced, and the pipe stopped.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum NotReplaced {
        /// It ended by itself before its stream did, and did not say why.
        Exited,
        /// It remembered something of blocks that are gone.
        Stateful,
        /// It was the head: one that reads again may see something else.
        Head,
        /// It was the tail: nobody knows how much of the last block it has written.
        Tail,
        /// It ran several instances, which shared something.
        Together,
        /// It had attached: nobody knows how to start it again.
        Attached,
        /// It worked on the block with this number, as another one did that died.
        DeadlyBlock(u64),
        /// So many died one after the other before any of them had taken up a block.
        Fruitless(u32),
    }

    impl fmt::Display for Death {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self {
                process,
                status,
                reason,
            } = self;
            write!(f, "its process {process} died")?;
            if let Some(status) = status {
                write!(f, " ({status})")?;
            }
            match reason {
                NotReplaced::Exited => {
                    f.write_str(" before the end of the stream, and did not say why")
                }
                NotReplaced::Stateful => {
                    f.write_str(", and cannot be replaced: it remembers earlier blocks")
                }
                NotReplaced::Head => {
                    f.write_str(", and cannot be replaced: what it reads may have changed since")
                }
                NotReplaced::Tail => {
                    f.write_str(", and cannot be replaced: it may have written part of a block")
                }
                NotReplaced::Together => {
                    f.write_str(", and cannot be replaced: its instances share a process")
                }
                NotReplaced::Attached => {
                    f.write_str(" before the end of the stream; it had attached")
                }
                NotReplaced::DeadlyBlock(number) => {
                    write!(f, " at block {number}, as one before it")
                }
                NotReplaced::Fruitless(count) => {
                    write!(
                        f,
                        ", the last of {count} in a row that died before they had taken up a block"
                    )
                }
            }
        }
    }

    impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for StageError {
        fn from(error: E) -> Self {
            let error = error.into();
            // A port's error may come through a reader or a writer, packed into an error of theirs.
            match port_error_in(error.as_ref()) {
                Some(port) => Self {
                    cause: Cause::Port(port),
                },
                None => Self {
                    cause: Cause::Other(error),
                },
            }
        }
    }

    /// The port's error that `error` is, or was made from.
    fn port_error_in(error: &(dyn std::error::Error + 'static)) -> Option<PortError> {
        if let Some(port) = error.downcast_ref::<PortError>() {
            return Some(port.clone());
        }
        // What an io::Error was made from is not its source: that is the source of what it was made
        // from.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match inner {
            Some(inner) => port_error_in(inner),
            None => error.source().and_then(port_error_in),
        }
    }

    impl fmt::Display for StageError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match &self.cause {
                Cause::Message(message) => f.write_str(message),
                Cause::Panic(message) => write!(f, "panicked: {message}"),
                Cause::Port(error) => error.fmt(f),
                Cause::Death(death) => death.fmt(f),
                Cause::WaitingInstance(_) => {
                    f.write_str("every stage of the pipe waits for another")
                }
                Cause::Other(error) => error.fmt(f),
            }
        }
    }

    impl fmt::Debug for StageError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "StageError({self})")
        }
    }
}
