//! The errors of a stage: its own failure, the death of its process, and what it waited for when
//! no stage could go on.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitStatus;

use crate::memory::{Corruption, InstanceId, ParticipantId, TableIndex};
use crate::pool::{PortError, Tally};

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
    Message(String),
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
            cause: Cause::Message(message.into()),
        }
    }

    /// An error with a boxed error as its cause.
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

    /// The cause of this error, to be downcast: the error that the stage returned, a [`PortError`]
    /// or a [`Death`]. `None` for a message, a panic, or a stage that ended in a
    /// [`Deadlock`](crate::Deadlock).
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Message(_) | Cause::Panic(_) | Cause::Deadlock(_) => None,
            Cause::Port(error) => Some(error),
            Cause::Death(death) => Some(death),
            Cause::Other(error) => Some(error.as_ref()),
        }
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
    if let Some(port) = error.downcast_ref::<PortError>() {
        return Some(port.clone());
    }
    if error.is::<StageFailure>() {
        return None;
    }
    // The error that an io::Error was made from is not its source(): that returns the source of
    // the error that it was made from.
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
            Cause::Deadlock(_) => f.write_str("every stage of the pipe waits for another"),
            Cause::Other(error) => error.fmt(f),
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
}

/// Reason that a process which died was not replaced, and the pipe stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReplaced {
    /// It ended by itself before its stream did, and reported no error.
    Exited,
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
    /// This many died one after the other before any of them had taken up a block.
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
        let reason = match reason {
            NotReplaced::Exited => " before the end of the stream, and did not say why",
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
