//! Errors, by who is at fault.
//!
//! The caller asked for what cannot be ([`Error::Refused`], [`Error::Key`]); a stage failed ([`Error::Stage`]); the machine would not
//! give what is needed ([`Error::Segment`], [`Error::System`]); a participant broke the shared words
//! ([`Error::Corrupt`]); somebody cancelled ([`Error::Cancelled`]).

use std::borrow::Cow;
use std::fmt;

#[cfg(not(loom))]
pub use whole::{Death, Error, NotReplaced, StageError, StageFailure};

/// The words in shared memory contradict themselves: some participant wrote where it should not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    what: Cow<'static, str>,
    queue: Option<u32>,
    buffer: Option<u32>,
}

impl Corrupt {
    pub(crate) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), queue: None, buffer: None }
    }

    /// What contradicts itself, the queue, and the buffer, for whoever passes it on to another process.
    pub(crate) fn parts(&self) -> (&str, Option<u32>, Option<u32>) {
        (&self.what, self.queue, self.buffer)
    }

    pub(crate) fn at_queue(self, queue: u32) -> Self {
        Self { queue: Some(queue), ..self }
    }

    pub(crate) fn at_buffer(self, buffer: u32) -> Self {
        Self { buffer: Some(buffer), ..self }
    }
}

impl fmt::Display for Corrupt {
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

impl std::error::Error for Corrupt {}

#[cfg(not(loom))]
mod whole {
    use std::fmt;
    use std::io;
    use std::process::ExitStatus;

    use super::Corrupt;
    use crate::memory::SegmentError;
    use crate::pool::{PortError, Refusal};

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
        /// Some participant wrote to shared memory where it should not have.
        Corrupt(Corrupt),
        /// The pipe was cancelled before its end.
        Cancelled,
    }

    impl fmt::Display for Error {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Refused { pipe, reason } => write!(f, "cannot start pipe \"{pipe}\": {reason}"),
                Self::Stage(failure) => failure.fmt(f),
                Self::Segment(error) => error.fmt(f),
                Self::System { what, source } => write!(f, "{what}: {source}"),
                Self::Key(what) | Self::Archive(what) => f.write_str(what),
                Self::Corrupt(error) => error.fmt(f),
                Self::Cancelled => f.write_str("the pipe was cancelled"),
            }
        }
    }

    // The text says all there is, so there is no source that would say it again. What is inside has its own field.
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
        Other(Box<dyn std::error::Error + Send + Sync>),
    }

    impl StageError {
        /// An error with a message: say what, where, and what to do.
        pub fn new(message: impl Into<String>) -> Self {
            Self { cause: Cause::Message(message.into()) }
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
        pub fn corrupt(&self) -> Option<&Corrupt> {
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

        /// The error that the stage returned, to be downcast; `None` for a message, a panic, a death or a port's error.
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
            Self { cause: Cause::Panic(message) }
        }

        pub(crate) fn died(death: Death) -> Self {
            Self { cause: Cause::Death(death) }
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
        /// What it was working on is no longer what it was.
        WorkedInPlace,
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
            let Self { process, status, reason } = self;
            write!(f, "its process {process} died")?;
            if let Some(status) = status {
                write!(f, " ({status})")?;
            }
            match reason {
                NotReplaced::Exited => f.write_str(" before the end of the stream, and did not say why"),
                NotReplaced::WorkedInPlace => {
                    f.write_str(", and cannot be replaced: it changes blocks in place")
                }
                NotReplaced::Stateful => f.write_str(", and cannot be replaced: it remembers earlier blocks"),
                NotReplaced::Head => {
                    f.write_str(", and cannot be replaced: what it reads may have changed since")
                }
                NotReplaced::Tail => {
                    f.write_str(", and cannot be replaced: it may have written part of a block")
                }
                NotReplaced::Together => {
                    f.write_str(", and cannot be replaced: its instances share a process")
                }
                NotReplaced::Attached => f.write_str(" before the end of the stream; it had attached"),
                NotReplaced::DeadlyBlock(number) => write!(f, " at block {number}, as one before it"),
                NotReplaced::Fruitless(count) => {
                    write!(f, ", the last of {count} in a row that died before they had taken up a block")
                }
            }
        }
    }

    impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for StageError {
        fn from(error: E) -> Self {
            let error = error.into();
            // A port's error may come through a reader or a writer, packed into an error of theirs.
            match port_error_in(error.as_ref()) {
                Some(port) => Self { cause: Cause::Port(port) },
                None => Self { cause: Cause::Other(error) },
            }
        }
    }

    /// The port's error that `error` is, or was made from.
    fn port_error_in(error: &(dyn std::error::Error + 'static)) -> Option<PortError> {
        if let Some(port) = error.downcast_ref::<PortError>() {
            return Some(port.clone());
        }
        // What an io::Error was made from is not its source: that is the source of what it was made from.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
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
