//! The errors of a stage: its own failure, the death of its process, and what it waited for when
//! no stage could go on.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use crate::limits::MAX_CAUSES;
use crate::memory::{Corruption, InstanceId, ParticipantId, TableIndex};
use crate::pool::{PortError, Tally};

use super::cause::{ProcessCause, SystemCode, causes, text_with_causes};

/// An error that a stage returns when it cannot go on.
///
/// Any error converts into one, so that `?` works in a stage. A message converts by
/// [`new`](Self::new), and a boxed error by [`from_boxed`](Self::from_boxed):
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
///
/// For that reason it does not implement [`Error`] itself: the conversion would collide with the
/// one of a type into itself. It converts into a boxed error instead, so that `?` also works in a
/// function that returns one, and [`into_error`](Self::into_error) makes an error of it for a
/// function that takes any other:
///
/// ```
/// # use std::error::Error;
/// use datapipe::StageError;
/// # fn parse(text: &str) -> Result<u32, StageError> {
/// #     Ok(text.parse::<u32>()?)
/// # }
///
/// fn doubled(text: &str) -> Result<u32, Box<dyn Error + Send + Sync>> {
///     Ok(2 * parse(text)?)
/// }
/// let error = doubled("x").unwrap_err();
/// assert!(error.source().unwrap().is::<std::num::ParseIntError>());
/// ```
pub struct StageError {
    cause: Cause,
}

enum Cause {
    Message {
        text: String,
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    Panic(String),
    Port(PortError),
    Death(Death),
    Deadlock(WaitingInstance),
    Other(Box<dyn Error + Send + Sync>),
}

impl StageError {
    /// An error with a message: say what, where, and what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            cause: Cause::Message {
                text: message.into(),
                source: None,
            },
        }
    }

    /// An error with a message and its cause. The message does not repeat the cause, whose text
    /// follows it.
    ///
    /// ```
    /// use std::io;
    ///
    /// use datapipe::StageError;
    ///
    /// let full = io::Error::from_raw_os_error(28);
    /// let error = StageError::with_source("cannot write the index", full);
    /// assert_eq!(
    ///     error.to_string(),
    ///     "cannot write the index: No space left on device (os error 28)"
    /// );
    /// assert!(error.source().unwrap().is::<io::Error>());
    /// ```
    ///
    /// If the cause is an error of the stage's port, the new error is that error, as for
    /// [`from_boxed`](Self::from_boxed): the stop of the pipe is not a failure of the stage.
    pub fn with_source(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        let cause = match port_error_in(source.as_ref()) {
            Some(port) => Cause::Port(port),
            None => Cause::Message {
                text: message.into(),
                source: Some(source),
            },
        };
        Self { cause }
    }

    /// An error that a process has sent: its whole text, and its causes.
    pub(crate) fn from_process(text: String, cause: Option<ProcessCause>) -> Self {
        Self {
            cause: Cause::Message {
                text,
                source: cause.map(|cause| Box::new(cause) as _),
            },
        }
    }

    /// An error with a boxed error as its cause. For an error that only converts into a box, such
    /// as `anyhow::Error`: `.map_err(|error| StageError::from_boxed(error.into()))?`
    pub fn from_boxed(error: Box<dyn Error + Send + Sync>) -> Self {
        // An error that came from a stage, by the conversion into a boxed error, is unpacked.
        let error = match error.downcast::<StageErrorBox>() {
            Ok(boxed) => return boxed.0,
            Err(error) => error,
        };
        // A port's error may come through a reader or a writer, packed into an error of theirs.
        let cause = match port_error_in(error.as_ref()) {
            Some(port) => Cause::Port(port),
            None => Cause::Other(error),
        };
        Self { cause }
    }

    /// Makes an error that implements [`Error`], with the same text and with
    /// [`source`](Self::source): for `map_err` in a function that returns an error type of another
    /// crate, such as `anyhow::Error`.
    pub fn into_error(self) -> impl Error + Send + Sync + 'static {
        StageErrorBox(self)
    }

    /// The cause of this error, to be downcast: the error that the stage returned or named as the
    /// [source](Self::with_source) of a message, a [`PortError`], a [`Death`], or a
    /// [`ProcessCause`] if the stage ran in a process. `None` for a message alone, a panic, or a
    /// stage that ended in a [`Deadlock`](crate::Deadlock).
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Message { source, .. } => source.as_deref().map(|source| source as _),
            Cause::Panic(_) | Cause::Deadlock(_) => None,
            Cause::Port(error) => Some(error),
            Cause::Death(death) => Some(death),
            Cause::Other(error) => Some(error.as_ref()),
        }
    }

    /// Error number of the system, of the first cause that has one. It is the same if the stage ran
    /// in a process.
    pub fn raw_os_error(&self) -> Option<i32> {
        causes(self.source()).find_map(|cause| SystemCode::of(cause).errno)
    }

    /// Kind of the first [`io::Error`] among the causes. It is the same if the stage ran in a
    /// process.
    pub fn io_error_kind(&self) -> Option<io::ErrorKind> {
        causes(self.source()).find_map(|cause| SystemCode::of(cause).kind)
    }

    /// True if the stage did not fail, but ended because the pipe was stopped.
    pub fn is_stopped(&self) -> bool {
        matches!(self.cause, Cause::Port(PortError::Stopped))
    }

    /// True if the stage panicked.
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

    /// The death of the process that ran the stage, if it died and was not replaced.
    pub fn death(&self) -> Option<&Death> {
        match &self.cause {
            Cause::Death(death) => Some(death),
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

    pub(crate) fn deadlock(waiting: WaitingInstance) -> Self {
        Self {
            cause: Cause::Deadlock(waiting),
        }
    }

    /// State of the instance, if it ended because every stage of the pipe waited for another.
    pub(crate) fn waiting(&self) -> Option<WaitingInstance> {
        match self.cause {
            Cause::Deadlock(waiting) => Some(waiting),
            _ => None,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for StageError {
    fn from(error: E) -> Self {
        Self::from_boxed(Box::new(error))
    }
}

impl From<StageError> for Box<dyn Error + Send + Sync> {
    fn from(error: StageError) -> Self {
        Box::new(StageErrorBox(error))
    }
}

impl From<StageError> for Box<dyn Error> {
    fn from(error: StageError) -> Self {
        Box::new(StageErrorBox(error))
    }
}

/// A stage's error as a type that implements [`Error`]. It has no name outside of this file.
struct StageErrorBox(StageError);

impl fmt::Display for StageErrorBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StageErrorBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Error for StageErrorBox {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Failure of one instance of one stage.
#[derive(Debug)]
#[non_exhaustive]
pub struct StageFailure {
    /// Name of the stage.
    pub stage: String,
    /// The instance.
    pub instance: InstanceId,
    /// Number of instances of the stage.
    pub instances: u32,
    /// The error.
    pub error: StageError,
}

impl fmt::Display for StageFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage \"{}\"", self.stage)?;
        if self.instances > 1 {
            write!(
                f,
                " (instance {} of {})",
                self.instance.index() + 1,
                self.instances
            )?;
        }
        write!(f, ": {}", self.error)
    }
}

impl Error for StageFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The port's error that `error` is, or was made from. The port of another pipe, which this stage
/// ran, does not count: its failure is an error like any other here, and keeps its text.
fn port_error_in(error: &(dyn Error + 'static)) -> Option<PortError> {
    let mut cause = Some(error);
    // Bounded: the causes of an error of another crate may never end.
    for _ in 0..MAX_CAUSES {
        let error = cause?;
        if let Some(port) = error.downcast_ref::<PortError>() {
            return Some(port.clone());
        }
        if error.is::<StageFailure>() {
            return None;
        }
        // The error that an io::Error was made from is not its source(): that returns the source
        // of the error that it was made from.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Message { text, source } => {
                let source = source.as_deref().map(|source| source as _);
                f.write_str(&text_with_causes(text.clone(), source))
            }
            Cause::Panic(message) => write!(f, "panicked: {message}"),
            Cause::Port(error) => error.fmt(f),
            Cause::Death(death) => death.fmt(f),
            Cause::Deadlock(_) => f.write_str("every stage of the pipe waits for another"),
            Cause::Other(error) => {
                f.write_str(&text_with_causes(error.to_string(), error.source()))
            }
        }
    }
}

impl fmt::Debug for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StageError({self})")
    }
}

/// Death of an instance's process, and the reason that it was not replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// Its process id.
    pub process: u32,
    /// Its exit status as the kernel reports it, if it was a child of the controller.
    pub status: Option<ExitStatus>,
    /// Reason that there was no replacement.
    pub reason: NotReplaced,
    /// The stage's [`work_limit`](super::Stage::work_limit), if the controller killed the process
    /// because it had worked on one block for longer.
    pub over_limit: Option<Duration>,
}

/// Reason that a process which died was not replaced, and the pipe stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReplaced {
    /// It ended by itself before its stream did, and reported no error.
    Exited,
    /// It ended by itself, and had not taken its launch request: its program does not call
    /// [`serve`](crate::host::serve), or does something else first.
    NotServed,
    /// It remembered something of blocks that are gone.
    Stateful,
    /// It was the head: one that reads again may see something else.
    Head,
    /// It was the tail: it is unknown how much of the last block it has written.
    Tail,
    /// It ran several instances, which shared something.
    Together,
    /// It had attached: the controller does not know how to start it again.
    Attached,
    /// It worked on the block with this number, as an earlier one did that died.
    PoisonBlock(u64),
    /// This many died one after the other before any of them had taken up a block; of a
    /// [replaceable](super::Stage::replaceable) stage, before any of them had begun.
    Fruitless(u32),
    /// This many of a [replaceable](super::Stage::replaceable) stage died one after the other, and
    /// its first block was not sent, or freed, in between.
    Futile(u32),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            process,
            status,
            reason,
            over_limit,
        } = self;
        write!(f, "its process {process} died")?;
        match (status, over_limit) {
            (_, Some(limit)) => write!(
                f,
                " (killed after more than {} s on one block)",
                limit.as_secs_f64()
            )?,
            (Some(status), None) => write!(f, " ({status})")?,
            (None, None) => {}
        }
        let reason = match reason {
            NotReplaced::Exited => " before the end of the stream, and did not say why",
            NotReplaced::NotServed => {
                " and left its launch request: \
                 does the program's main call datapipe::host::serve first?"
            }
            NotReplaced::Stateful => ", and cannot be replaced: it remembers earlier blocks",
            NotReplaced::Head => ", and cannot be replaced: what it reads may have changed since",
            NotReplaced::Tail => ", and cannot be replaced: it may have written part of a block",
            NotReplaced::Together => ", and cannot be replaced: its instances share a process",
            NotReplaced::Attached => " before the end of the stream; it had attached",
            NotReplaced::PoisonBlock(number) => {
                return write!(f, " at block {number}, as one before it");
            }
            NotReplaced::Fruitless(count) => {
                return write!(
                    f,
                    ", the last of {count} in a row that died before they had taken up a block"
                );
            }
            NotReplaced::Futile(count) => {
                return write!(
                    f,
                    ", the last of {count} in a row during which the stage moved no block on"
                );
            }
        };
        f.write_str(reason)
    }
}

impl Error for Death {}

/// Thing that an instance waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsFor {
    /// A buffer.
    Buffer,
    /// Input.
    Input,
}

/// State of one instance that cannot go on: what it waits for, and the buffers that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitingInstance {
    pub(crate) waits_for: WaitsFor,
    pub(crate) inputs: u32,
    pub(crate) outputs: u32,
}

impl WaitingInstance {
    pub(crate) fn of(tally: &Tally, participant: ParticipantId, waits_for: WaitsFor) -> Self {
        let (held, outputs) = (
            tally.held[participant.as_index()],
            tally.unsent[participant.as_index()],
        );
        Self {
            waits_for,
            inputs: held.saturating_sub(outputs),
            outputs,
        }
    }

    /// True if the instance holds more than it may while it waits for that: one more input
    /// makes `holds_in`, one more buffer `holds_out`.
    pub(crate) fn keeps_more(self, holds_in: u32, holds_out: u32) -> bool {
        let (inputs, outputs) = match self.waits_for {
            WaitsFor::Input => (holds_in.saturating_sub(1), holds_out),
            WaitsFor::Buffer => (holds_in, holds_out.saturating_sub(1)),
        };
        self.inputs > inputs || self.outputs > outputs
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::num::ParseIntError;

    use super::*;

    fn failed() -> Result<(), StageError> {
        "x".parse::<u8>()?;
        Ok(())
    }

    #[test]
    fn stage_error_converts_into_boxed_errors_and_back() {
        fn local() -> Result<(), Box<dyn Error>> {
            Ok(failed()?)
        }
        fn sendable() -> Result<(), Box<dyn Error + Send + Sync>> {
            Ok(failed()?)
        }
        fn of_another_crate() -> Result<(), io::Error> {
            failed().map_err(|error| io::Error::other(error.into_error()))
        }
        let text = failed().unwrap_err().to_string();
        for error in [
            local().unwrap_err(),
            sendable().unwrap_err(),
            Box::new(of_another_crate().unwrap_err()),
        ] {
            assert_eq!(error.to_string(), text);
            assert!(error.source().unwrap().is::<ParseIntError>());
        }
        let back = StageError::from_boxed(sendable().unwrap_err());
        assert!(back.source().unwrap().is::<ParseIntError>());
        // `?` in a stage on the error of another stage does not hide that it panicked.
        let panicked = StageError::panicked("out of range".to_owned());
        assert!(StageError::from(panicked.into_error()).is_panic());
        let stopped = io::Error::other(StageError::from(PortError::Stopped).into_error());
        assert!(StageError::from(stopped).is_stopped());
    }
}
