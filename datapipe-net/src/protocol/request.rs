//! Requests of a client.
use datapipe::Direction;
use datapipe::limits::MAX_STAGES;

use super::fields::{Body, DecodeError, Fields, MUST_KNOW, required};
use super::numbers::{decode_direction, direction_number};
use super::role::{AttachRole, Participation};
use super::stage_request::StageRequest;
use crate::limits::{MAX_LABEL, MAX_NAME};

pub(super) const INITIATE: u16 = 1;
pub(super) const EXTEND: u16 = 2;
pub(super) const IDENTIFY: u16 = 3;
pub(super) const STOP: u16 = 4;
pub(super) const STATUS: u16 = 5;
pub(super) const LIST: u16 = 6;
pub(super) const SUBSCRIBE: u16 = 7;
pub(super) const PROBLEMS: u16 = 8;
pub(super) const HISTORY: u16 = 9;
pub(super) const METRICS: u16 = 10;

/// Request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Start a pipe.
    Initiate(Initiate),
    /// Build the half of a pipe that begins on another machine. Reserved.
    Extend,
    /// Take an unbound seat of a pipe.
    Identify {
        /// Name of the pipe.
        pipe: String,
        /// Seat that the client's process takes.
        role: AttachRole,
    },
    /// Stop a pipe.
    Stop {
        /// Name of the pipe.
        pipe: String,
    },
    /// Report the status of a pipe.
    Status {
        /// Name of the pipe.
        pipe: String,
    },
    /// List the pipes that the client may see.
    List,
    /// Send the events that happen from now on.
    Subscribe {
        /// Name of the only pipe of the subscription; `None` for all that the client may see.
        pipe: Option<String>,
    },
    /// Report the last problems of a pipe.
    Problems {
        /// Name of the pipe.
        pipe: String,
    },
    /// List the last pipes that have ended, the newest first.
    History {
        /// Number of pipes at most; `None` for all that the daemon remembers.
        limit: Option<u32>,
    },
    /// Report the daemon's metrics.
    Metrics,
}

/// Description of a pipe that the daemon is to start.
///
/// ```
/// use datapipe::stage::Arguments;
/// use datapipe_net::{Initiate, StageRequest};
///
/// let nightly = Initiate::new("nightly")
///     .stage(StageRequest::module("files").read("/srv/data"))
///     .stage(
///         StageRequest::module("zstd")
///             .arguments(Arguments::new().with("level", "3"))
///             .instances(2),
///     )
///     .stage(StageRequest::module("tape").write("/backup/nightly.tap"));
/// # let _ = nightly;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Initiate {
    /// Label of the pipe, at most [`MAX_LABEL`] bytes.
    pub label: String,
    /// Direction of flow.
    pub direction: Direction,
    /// Part that the client's process takes in the pipe.
    pub participation: Participation,
    /// Number of buffers in the pool; by default the number that suits the stages.
    pub buffers: Option<u32>,
    /// Size of a buffer in bytes; by default that of [`datapipe::PipeBuilder`].
    pub buffer_size: Option<u32>,
    /// Stages of the pipe, head first.
    pub stages: Vec<StageRequest>,
}

impl Initiate {
    /// A pipe with the label `label` and without stages.
    pub fn new(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ..Self::default()
        }
    }

    /// Adds a stage after those added so far.
    #[must_use]
    pub fn stage(mut self, stage: StageRequest) -> Self {
        self.stages.push(stage);
        self
    }

    /// Sets the part that the client's process takes. The stage must be unbound.
    #[must_use]
    pub fn participation(mut self, participation: Participation) -> Self {
        self.participation = participation;
        self
    }

    /// Sets the direction of flow.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Sets the number of buffers.
    #[must_use]
    pub fn buffers(mut self, count: u32) -> Self {
        self.buffers = Some(count);
        self
    }

    /// Sets the size of a buffer, in bytes.
    #[must_use]
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.buffer_size = Some(bytes);
        self
    }

    fn body(&self) -> Body {
        let mut body = Body::new();
        body.put_text(1 | MUST_KNOW, &self.label);
        body.put_u8(2 | MUST_KNOW, direction_number(self.direction));
        body.put_u8(3 | MUST_KNOW, self.participation.number());
        if let Some(buffers) = self.buffers {
            body.put_u32(4 | MUST_KNOW, buffers);
        }
        if let Some(bytes) = self.buffer_size {
            body.put_u32(5 | MUST_KNOW, bytes);
        }
        for stage in &self.stages {
            body.put_fields(6 | MUST_KNOW, &stage.body());
        }
        body
    }

    fn decode(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let (mut label, mut direction, mut participation) = (None, None, None);
        let mut initiate = Self::default();
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.set(&mut label, field.text(MAX_LABEL)?)?,
                2 => field.set(&mut direction, decode_direction(field)?)?,
                3 => field.set(&mut participation, Participation::decode(field)?)?,
                4 => field.set(&mut initiate.buffers, field.u32()?)?,
                5 => field.set(&mut initiate.buffer_size, field.u32()?)?,
                6 if initiate.stages.len() >= MAX_STAGES as usize => {
                    return Err(field.error(&format!("occurs more than {MAX_STAGES} times")));
                }
                6 => initiate.stages.push(StageRequest::decode(field)?),
                _ => field.skip()?,
            }
        }
        initiate.label = required("initiate", 1, label)?;
        initiate.direction = direction.unwrap_or_default();
        initiate.participation = participation.unwrap_or_default();
        Ok(initiate)
    }
}

impl Request {
    /// Number of the request's kind.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Initiate(_) => INITIATE,
            Self::Extend => EXTEND,
            Self::Identify { .. } => IDENTIFY,
            Self::Stop { .. } => STOP,
            Self::Status { .. } => STATUS,
            Self::List => LIST,
            Self::Subscribe { .. } => SUBSCRIBE,
            Self::Problems { .. } => PROBLEMS,
            Self::History { .. } => HISTORY,
            Self::Metrics => METRICS,
        }
    }

    /// Returns the bytes of the request's body. They may exceed
    /// [`MAX_BODY`](crate::limits::MAX_BODY): the sender has to check the length.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Body::new();
        match self {
            Self::Initiate(initiate) => body = initiate.body(),
            Self::Extend
            | Self::List
            | Self::Metrics
            | Self::History { limit: None }
            | Self::Subscribe { pipe: None } => {}
            Self::History { limit: Some(limit) } => body.put_u32(1 | MUST_KNOW, *limit),
            Self::Identify { pipe, role } => {
                body.put_text(1 | MUST_KNOW, pipe);
                body.put_u8(2 | MUST_KNOW, role.number());
            }
            Self::Stop { pipe }
            | Self::Status { pipe }
            | Self::Problems { pipe }
            | Self::Subscribe { pipe: Some(pipe) } => {
                body.put_text(1 | MUST_KNOW, pipe);
            }
        }
        body.into_bytes()
    }

    /// Decodes the body of a request of the kind `kind`.
    ///
    /// # Errors
    ///
    /// If the body is malformed, or the kind is unknown.
    pub fn decode(kind: u16, body: &[u8]) -> Result<Self, DecodeError> {
        match kind {
            INITIATE => Initiate::decode(Fields::new("initiate", body)).map(Self::Initiate),
            // A later version defines its fields.
            EXTEND => Ok(Self::Extend),
            IDENTIFY => {
                let (pipe, role) = decode_pipe_and_role("identify", body)?;
                let role = required("identify", 2, role)?;
                Ok(Self::Identify {
                    pipe: required("identify", 1, pipe)?,
                    role,
                })
            }
            STOP => Ok(Self::Stop {
                pipe: required("stop", 1, decode_pipe("stop", body)?)?,
            }),
            STATUS => Ok(Self::Status {
                pipe: required("status", 1, decode_pipe("status", body)?)?,
            }),
            LIST => skip_all("list", body).map(|()| Self::List),
            METRICS => skip_all("metrics", body).map(|()| Self::Metrics),
            PROBLEMS => Ok(Self::Problems {
                pipe: required("problems", 1, decode_pipe("problems", body)?)?,
            }),
            HISTORY => decode_limit(body).map(|limit| Self::History { limit }),
            SUBSCRIBE => Ok(Self::Subscribe {
                pipe: decode_pipe("subscribe", body)?,
            }),
            _ => Err(DecodeError::unknown(
                "a request",
                format!("its kind, {kind}, is unknown"),
            )),
        }
    }
}

/// Skips the fields of a request that has none in this version of the protocol.
fn skip_all(what: &'static str, body: &[u8]) -> Result<(), DecodeError> {
    let mut fields = Fields::new(what, body);
    while let Some(field) = fields.next()? {
        field.skip()?;
    }
    Ok(())
}

fn decode_limit(body: &[u8]) -> Result<Option<u32>, DecodeError> {
    let mut fields = Fields::new("history", body);
    let mut limit = None;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field.set(&mut limit, field.u32()?)?,
            _ => field.skip()?,
        }
    }
    Ok(limit)
}

fn decode_pipe(what: &'static str, body: &[u8]) -> Result<Option<String>, DecodeError> {
    let mut fields = Fields::new(what, body);
    let mut pipe = None;
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field.set(&mut pipe, field.text(MAX_NAME)?)?,
            _ => field.skip()?,
        }
    }
    Ok(pipe)
}

fn decode_pipe_and_role(
    what: &'static str,
    body: &[u8],
) -> Result<(Option<String>, Option<AttachRole>), DecodeError> {
    let mut fields = Fields::new(what, body);
    let (mut pipe, mut role) = (None, None);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field.set(&mut pipe, field.text(MAX_NAME)?)?,
            2 => field.set(&mut role, AttachRole::decode(field)?)?,
            _ => field.skip()?,
        }
    }
    Ok((pipe, role))
}
