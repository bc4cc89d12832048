//! Replies of the daemon: one for each request.

use super::fields::{Body, DecodeError, Fields, MUST_KNOW, required, truncated};
use super::numbers::RefusalCode;
use super::past_pipe::PastPipe;
use super::problems::PipeProblems;
use super::refusal::Refusal;
use super::request::{
    HISTORY, IDENTIFY, INITIATE, LIST, METRICS, PROBLEMS, STATUS, STOP, SUBSCRIBE,
};
use super::status::{PipeEntry, PipeStatus};
use crate::limits::{MAX_BODY, MAX_EXPLANATION, MAX_NAME, MAX_PIPES};

/// Bit that is set in the kind of a reply; the other bits are the kind of its request.
pub(super) const REPLY: u16 = 1 << 15;
/// Kind of a refusal, the negative answer to a request of any kind.
const REFUSED: u16 = REPLY;

/// Answer to a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// The daemon has started the pipe.
    Initiated {
        /// Name of the pipe.
        pipe: String,
        /// True if a control connection accompanies the reply, as a descriptor.
        control: bool,
    },
    /// The client's process has the seat. A control connection accompanies the reply, as a
    /// descriptor.
    Identified,
    /// The daemon has begun to stop the pipe. The pipe has ended when its event or its status says
    /// so.
    Stopping,
    /// Status of a pipe.
    Status(PipeStatus),
    /// Pipes that the client may see, the oldest first.
    List(Vec<PipeEntry>),
    /// The subscription has begun; events follow.
    Subscribed,
    /// Last problems of a pipe.
    Problems(PipeProblems),
    /// Pipes that have ended and that the client may see, the newest first.
    History(Vec<PastPipe>),
    /// Metrics of the daemon, as OpenMetrics text.
    Metrics(String),
    /// The daemon does not do what the client requested.
    Refused(Refusal),
}

impl Reply {
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::Initiated { .. } => INITIATE | REPLY,
            Self::Identified => IDENTIFY | REPLY,
            Self::Stopping => STOP | REPLY,
            Self::Status(_) => STATUS | REPLY,
            Self::List(_) => LIST | REPLY,
            Self::Subscribed => SUBSCRIBE | REPLY,
            Self::Problems(_) => PROBLEMS | REPLY,
            Self::History(_) => HISTORY | REPLY,
            Self::Metrics(_) => METRICS | REPLY,
            Self::Refused(_) => REFUSED,
        }
    }

    pub(super) fn body(&self) -> Body {
        let mut body = Body::new();
        match self {
            Self::Initiated { pipe, control } => {
                body.put_text(1, pipe);
                body.put_u8(2 | MUST_KNOW, u8::from(*control));
            }
            Self::Identified => body.put_u8(2 | MUST_KNOW, 1),
            Self::Stopping | Self::Subscribed => {}
            Self::Status(status) => body = status.body(),
            Self::List(entries) => entries
                .iter()
                .for_each(|entry| body.put_fields(1, &entry.body())),
            Self::Problems(problems) => body = problems.body(),
            Self::History(pipes) => pipes
                .iter()
                .for_each(|pipe| body.put_fields(1, &pipe.body())),
            Self::Metrics(text) => body.put_text(1, text),
            Self::Refused(Refusal { code, text }) => {
                body.put_u16(1, code.0);
                body.put_text(2, truncated(text, MAX_EXPLANATION));
            }
        }
        body
    }

    /// Decodes a reply of the kind `kind`; `None` if the kind is unknown.
    pub(super) fn decode(kind: u16, body: &[u8]) -> Result<Option<Self>, DecodeError> {
        if kind == REFUSED {
            return decode_refusal(Fields::new("a refusal", body)).map(Some);
        }
        if kind & REPLY == 0 {
            return Ok(None);
        }
        let reply = match kind & !REPLY {
            INITIATE => decode_initiated(Fields::new("the reply to initiate", body))?,
            IDENTIFY => decode_identified(Fields::new("the reply to identify", body))?,
            STOP => without_fields("the reply to stop", body, Self::Stopping)?,
            STATUS => Self::Status(PipeStatus::decode(Fields::new("a status", body))?),
            LIST => decode_list(Fields::new("a list", body))?,
            SUBSCRIBE => without_fields("the reply to subscribe", body, Self::Subscribed)?,
            PROBLEMS => Self::Problems(PipeProblems::decode(Fields::new("problems", body))?),
            HISTORY => Self::History(PastPipe::decode_list(Fields::new("a history", body))?),
            METRICS => decode_metrics(Fields::new("the reply to metrics", body))?,
            _ => return Ok(None),
        };
        Ok(Some(reply))
    }
}

/// Returns `reply`, whose body has no fields in this version of the protocol.
fn without_fields(what: &'static str, body: &[u8], reply: Reply) -> Result<Reply, DecodeError> {
    let mut fields = Fields::new(what, body);
    while let Some(field) = fields.next()? {
        field.skip()?;
    }
    Ok(reply)
}

fn decode_initiated(mut fields: Fields<'_>) -> Result<Reply, DecodeError> {
    let (mut pipe, mut control) = (None, None);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field.set(&mut pipe, field.text(MAX_NAME)?)?,
            2 => field.set(&mut control, field.flag()?)?,
            _ => field.skip()?,
        }
    }
    let pipe = required("the reply to initiate", 1, pipe)?;
    Ok(Reply::Initiated {
        pipe,
        control: control.unwrap_or_default(),
    })
}

fn decode_identified(mut fields: Fields<'_>) -> Result<Reply, DecodeError> {
    let mut control = None;
    while let Some(field) = fields.next()? {
        match field.number {
            2 => field.set(&mut control, field.flag()?)?,
            _ => field.skip()?,
        }
    }
    match control {
        Some(true) => Ok(Reply::Identified),
        _ => Err(DecodeError::new(
            "the reply to identify",
            "has no control connection",
        )),
    }
}

fn decode_list(mut fields: Fields<'_>) -> Result<Reply, DecodeError> {
    // Far more than a daemon of this version sends: its pipes and those that have ended.
    let most = 4 * MAX_PIPES as usize;
    let mut entries = Vec::new();
    while let Some(field) = fields.next()? {
        match field.number {
            1 if entries.len() >= most => {
                return Err(field.error(&format!("occurs more than {most} times")));
            }
            1 => entries.push(PipeEntry::decode(field.fields("an entry of a list"))?),
            _ => field.skip()?,
        }
    }
    Ok(Reply::List(entries))
}

fn decode_metrics(mut fields: Fields<'_>) -> Result<Reply, DecodeError> {
    let mut text = None;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field.set(&mut text, field.text(MAX_BODY)?)?,
            _ => field.skip()?,
        }
    }
    Ok(Reply::Metrics(required("the reply to metrics", 1, text)?))
}

fn decode_refusal(mut fields: Fields<'_>) -> Result<Reply, DecodeError> {
    let (mut code, mut text) = (None, None);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field.set(&mut code, RefusalCode(field.u16()?))?,
            2 => field.set(&mut text, field.text(MAX_EXPLANATION)?)?,
            _ => field.skip()?,
        }
    }
    let code = required("a refusal", 1, code)?;
    Ok(Reply::Refused(Refusal {
        code,
        text: text.unwrap_or_default(),
    }))
}
