//! What the daemon says: replies, refusals, events.

use std::fmt;

use super::fields::{Body, DecodeError, Fields, MUST_KNOW, cut, needed};
use super::numbers::{EventKind, PipeState, RefusalCode};
use super::request::{IDENTIFY, INITIATE, LIST, STATUS, STOP, SUBSCRIBE};
use super::status::{PipeEntry, PipeStatus};
use crate::limits::{MAX_EXPLANATION, MAX_NAME, MAX_PIPES};

/// Set in the kind of a reply beside the request's.
const REPLY: u16 = 1 << 15;
const REFUSED: u16 = REPLY;
const EVENT: u16 = 0x4001;

/// Anything that the daemon says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// To a request: each gets one.
    Reply(Reply),
    /// To a subscription.
    Event(PipeEvent),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// The pipe was started.
    Initiated {
        /// Its name.
        pipe: String,
        /// A control connection comes along as a descriptor.
        control: bool,
    },
    /// The seat is taken. A control connection comes along as a descriptor.
    Identified,
    /// The pipe was told to stop. It is over when the event says so, or its status.
    Stopping,
    /// What everybody is doing.
    Status(PipeStatus),
    /// Which pipes there are, the oldest first.
    List(Vec<PipeEntry>),
    /// Events come from now on.
    Subscribed,
    /// It is not done.
    Refused(Refusal),
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The reason, for programs.
    pub code: RefusalCode,
    /// The reason, for people: what, where, what to do.
    pub text: String,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeEvent {
    /// What it is.
    pub kind: EventKind,
    /// The pipe's name. Empty for events that were lost.
    pub pipe: String,
    /// The stage, where it is about one.
    pub stage: Option<String>,
    /// The instance, counted from 0.
    pub instance: Option<u32>,
    /// The process.
    pub process: Option<u32>,
    /// Whether another instance takes the place of the one that died.
    pub replaced: Option<bool>,
    /// How the pipe stands, where that has changed.
    pub state: Option<PipeState>,
    /// How it happened, why it failed, or the label of a new pipe.
    pub text: Option<String>,
    /// What a module has told: any bytes.
    pub note: Option<Vec<u8>>,
    /// How many events were lost before this one.
    pub lost: Option<u64>,
}

impl Refusal {
    /// A refusal that says why.
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(malformed: DecodeError) -> Self {
        let code = if malformed.unknown {
            RefusalCode::UNSUPPORTED
        } else {
            RefusalCode::MALFORMED
        };
        Self::new(code, malformed.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            write!(f, "refused: {}", self.code)
        } else {
            f.write_str(&self.text)
        }
    }
}

impl std::error::Error for Refusal {}

impl PipeEvent {
    /// An event of a pipe.
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
        }
    }

    fn body(&self) -> Body {
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
            body.put_text(8, cut(text, MAX_EXPLANATION));
        }
        if let Some(note) = &self.note {
            body.put(9, note);
        }
        if let Some(lost) = self.lost {
            body.put_u64(10, lost);
        }
        body
    }

    fn decode(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
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
                9 => field.set(
                    &mut event.note,
                    field.bytes(crate::limits::MAX_BODY)?.to_vec(),
                )?,
                10 => field.set(&mut event.lost, field.u64()?)?,
                _ => field.skip()?,
            }
        }
        event.kind = needed("an event", 1, kind)?;
        event.pipe = needed("an event", 2, pipe)?;
        Ok(event)
    }
}

impl Answer {
    /// The number of its kind.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Event(_) => EVENT,
            Self::Reply(reply) => match reply {
                Reply::Initiated { .. } => INITIATE | REPLY,
                Reply::Identified => IDENTIFY | REPLY,
                Reply::Stopping => STOP | REPLY,
                Reply::Status(_) => STATUS | REPLY,
                Reply::List(_) => LIST | REPLY,
                Reply::Subscribed => SUBSCRIBE | REPLY,
                Reply::Refused(_) => REFUSED,
            },
        }
    }

    /// Whether a descriptor comes along.
    pub fn brings_descriptor(&self) -> bool {
        matches!(
            self,
            Self::Reply(Reply::Identified | Reply::Initiated { control: true, .. })
        )
    }

    /// Its body. It may be longer than a message can be: who sends it has to look.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Body::new();
        match self {
            Self::Event(event) => body = event.body(),
            Self::Reply(reply) => match reply {
                Reply::Initiated { pipe, control } => {
                    body.put_text(1, pipe);
                    body.put_u8(2 | MUST_KNOW, u8::from(*control));
                }
                Reply::Identified => body.put_u8(2 | MUST_KNOW, 1),
                Reply::Stopping | Reply::Subscribed => {}
                Reply::Status(status) => body = status.body(),
                Reply::List(entries) => entries
                    .iter()
                    .for_each(|entry| body.put_fields(1, &entry.body())),
                Reply::Refused(Refusal { code, text }) => {
                    body.put_u16(1, code.0);
                    body.put_text(2, cut(text, MAX_EXPLANATION));
                }
            },
        }
        body.into_bytes()
    }

    /// From the number of its kind, and its body.
    ///
    /// # Errors
    ///
    /// If the body is not as it should be, or the kind is unknown.
    pub fn decode(kind: u16, body: &[u8]) -> Result<Self, DecodeError> {
        let reply = match kind {
            EVENT => return PipeEvent::decode(Fields::new("an event", body)).map(Self::Event),
            REFUSED => decode_refusal(Fields::new("a refusal", body))?,
            _ if kind & REPLY == 0 => return Err(unknown(kind)),
            _ => match kind & !REPLY {
                INITIATE => decode_initiated(Fields::new("the reply to initiate", body))?,
                IDENTIFY => decode_identified(Fields::new("the reply to identify", body))?,
                STOP => nothing("the reply to stop", body, Reply::Stopping)?,
                STATUS => Reply::Status(PipeStatus::decode(Fields::new("a status", body))?),
                LIST => decode_list(Fields::new("a list", body))?,
                SUBSCRIBE => nothing("the reply to subscribe", body, Reply::Subscribed)?,
                _ => return Err(unknown(kind)),
            },
        };
        Ok(Self::Reply(reply))
    }
}

fn unknown(kind: u16) -> DecodeError {
    DecodeError::unknown("an answer", format!("its kind, {kind:#x}, is unknown"))
}

fn nothing(what: &'static str, body: &[u8], reply: Reply) -> Result<Reply, DecodeError> {
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
    let pipe = needed("the reply to initiate", 1, pipe)?;
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
            "brings no control connection",
        )),
    }
}

fn decode_list(mut fields: Fields<'_>) -> Result<Reply, DecodeError> {
    let mut entries = Vec::new();
    while let Some(field) = fields.next()? {
        match field.number {
            1 if entries.len() >= 4 * MAX_PIPES as usize => {
                return Err(field.wrong("stands there too often"));
            }
            1 => entries.push(PipeEntry::decode(field.fields("an entry of a list"))?),
            _ => field.skip()?,
        }
    }
    Ok(Reply::List(entries))
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
    let code = needed("a refusal", 1, code)?;
    Ok(Reply::Refused(Refusal {
        code,
        text: text.unwrap_or_default(),
    }))
}
