//! Events that the daemon sends to subscribers.

use super::fields::{Body, DecodeError, Fields, required, truncated};
use super::numbers::{EventKind, PipeState};
use crate::limits::{MAX_BODY, MAX_EXPLANATION, MAX_NAME};

/// Event of a pipe, or the loss of events.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeEvent {
    /// Kind of the event.
    pub kind: EventKind,
    /// Name of the pipe; empty for [`EventKind::LOST`].
    pub pipe: String,
    /// Name of the stage, for an event of a stage.
    pub stage: Option<String>,
    /// Number of the instance, from 0.
    pub instance: Option<u32>,
    /// Id of the process.
    pub process: Option<u32>,
    /// True if the controller replaces the process that died.
    pub replaced: Option<bool>,
    /// State of the pipe, if the event changed it.
    pub state: Option<PipeState>,
    /// Text for people: the label of a new pipe, how a process ended, a module's message, or the
    /// cause of a failure.
    pub text: Option<String>,
    /// Message of a module for programs: any bytes.
    pub note: Option<Vec<u8>>,
    /// Number of events that were lost before this one.
    pub lost: Option<u64>,
    /// Number of problems of a pipe that has ended, or 1 if the text is that of a problem.
    pub problems: Option<u64>,
}

impl PipeEvent {
    /// An event of the pipe named `pipe`, without further fields.
    pub fn new(kind: EventKind, pipe: impl Into<String>) -> Self {
        Self {
            kind,
            pipe: pipe.into(),
            stage: None,
            instance: None,
            process: None,
            replaced: None,
            state: None,
            text: None,
            note: None,
            lost: None,
            problems: None,
        }
    }

    pub(super) fn body(&self) -> Body {
        let mut body = Body::new();
        body.put_u16(1, self.kind.0);
        body.put_text(2, &self.pipe);
        if let Some(stage) = &self.stage {
            body.put_text(3, stage);
        }
        if let Some(instance) = self.instance {
            body.put_u32(4, instance);
        }
        if let Some(process) = self.process {
            body.put_u32(5, process);
        }
        if let Some(replaced) = self.replaced {
            body.put_u8(6, u8::from(replaced));
        }
        if let Some(state) = self.state {
            body.put_u8(7, state.0);
        }
        if let Some(text) = &self.text {
            body.put_text(8, truncated(text, MAX_EXPLANATION));
        }
        if let Some(note) = &self.note {
            body.put(9, note);
        }
        if let Some(lost) = self.lost {
            body.put_u64(10, lost);
        }
        if let Some(problems) = self.problems {
            body.put_u64(11, problems);
        }
        body
    }

    pub(super) fn decode(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let (mut kind, mut pipe) = (None, None);
        let mut event = Self::new(EventKind::OTHER, "");
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.set(&mut kind, EventKind(field.u16()?))?,
                2 => field.set(&mut pipe, field.text(MAX_NAME)?)?,
                3 => field.set(&mut event.stage, field.text(MAX_NAME)?)?,
                4 => field.set(&mut event.instance, field.u32()?)?,
                5 => field.set(&mut event.process, field.u32()?)?,
                6 => field.set(&mut event.replaced, field.flag()?)?,
                7 => field.set(&mut event.state, PipeState(field.u8()?))?,
                8 => field.set(&mut event.text, field.text(MAX_EXPLANATION)?)?,
                9 => field.set(&mut event.note, field.bytes(MAX_BODY)?.to_vec())?,
                10 => field.set(&mut event.lost, field.u64()?)?,
                11 => field.set(&mut event.problems, field.u64()?)?,
                _ => field.skip()?,
            }
        }
        event.kind = required("an event", 1, kind)?;
        event.pipe = required("an event", 2, pipe)?;
        Ok(event)
    }
}
