//! The errors of a pipe, by the party that is at fault.

use std::error;
use std::fmt;
use std::io;

use crate::memory::{Corruption, SegmentError};
use crate::pool::Refusal;
use crate::stage::{StageFailure, WaitsFor};
use crate::words::{count_of, open_files_advice};

/// Reason that a pipe could not be started, or did not end well.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The pipe as it was described cannot work.
    Refused {
        /// The pipe's label.
        pipe: String,
        /// The fault in its description, and what to do.
        reason: Refusal,
    },
    /// A stage failed. Everything else was stopped.
    Stage(StageFailure),
    /// The shared memory could not be made or mapped.
    Segment(SegmentError),
    /// The operating system refused something else.
    System {
        /// The request to the system.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
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
            Self::System { what, source } => {
                write!(f, "{what}: {source}{}", open_files_advice(source))
            }
            Self::Deadlock(deadlock) => deadlock.fmt(f),
            Self::Corrupt(error) => error.fmt(f),
            Self::Cancelled => f.write_str("the pipe was cancelled"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            Self::Stage(failure) => Some(failure),
            Self::Segment(error) => Some(error),
            Self::System { source, .. } => Some(source),
            Self::Deadlock(deadlock) => Some(deadlock),
            Self::Corrupt(error) => Some(error),
            Self::Cancelled => None,
        }
    }
}

impl From<SegmentError> for Error {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error)
    }
}

/// State of every stage of a pipe in which none could go on, because each waited for another.
///
/// Admission refuses a pipe that could come to this, going by what its stages say that they
/// keep ([`Stage::holds_in`](crate::stage::Stage::holds_in),
/// [`Stage::holds_out`](crate::stage::Stage::holds_out)). So at least one of them keeps more
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
    /// Position of the stage in the chain, from 0 for the head.
    pub position: u32,
    /// Its name.
    pub stage: String,
    /// Number of instances that waited.
    pub instances: u32,
    /// Thing that they waited for.
    pub waits_for: WaitsFor,
    /// Inputs that they held, all together.
    pub inputs: u32,
    /// Buffers that they had allocated and not sent yet, all together.
    pub outputs: u32,
    /// Inputs that the stage says each instance keeps, including the one it works on.
    pub holds_in: u32,
    /// Buffers that the stage says each instance allocates before it sends any.
    pub holds_out: u32,
    /// True if any of them keeps more than that.
    pub keeps_more: bool,
}

impl Deadlock {
    /// Adds instances of a stage.
    pub(crate) fn add(&mut self, more: WaitingStage) {
        let key = |waiting: &WaitingStage| (waiting.position, waiting.waits_for == WaitsFor::Input);
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
        } in self.waiting.iter().filter(|waiting| waiting.keeps_more)
        {
            write!(f, "; \"{stage}\" keeps more than it says, ")?;
            write!(f, "holds_in {holds_in} and holds_out {holds_out}")?;
        }
        Ok(())
    }
}

impl error::Error for Deadlock {}

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
        let (ins, outs) = (count_of(*inputs, "input"), count_of(*outputs, "output"));
        match (inputs, outputs) {
            (0, 0) => Ok(()),
            (_, 0) => write!(f, " with {ins} in hand"),
            (0, _) => write!(f, " with {outs} in hand"),
            _ => write!(f, " with {ins} and {outs} in hand"),
        }
    }
}
