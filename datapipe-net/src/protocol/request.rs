//! What a client asks for.

use std::path::{Path, PathBuf};

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use datapipe::Direction;
use datapipe::limits::{MAX_MODULE_ARGUMENTS, MAX_STAGES};

use super::fields::{Body, DecodeError, Field, Fields, MUST_KNOW, needed};
use super::numbers::{Role, Seat, direction_number, direction_of};
use crate::limits::{MAX_LABEL, MAX_NAME, MAX_PATH, MAX_STAGE_PATHS};

pub(super) const INITIATE: u16 = 1;
pub(super) const EXTEND: u16 = 2;
pub(super) const IDENTIFY: u16 = 3;
pub(super) const STOP: u16 = 4;
pub(super) const STATUS: u16 = 5;
pub(super) const LIST: u16 = 6;
pub(super) const SUBSCRIBE: u16 = 7;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Start a pipe.
    Initiate(Initiate),
    /// Build the half of a pipe that begins on another machine. Reserved.
    Extend,
    /// Take an unbound seat of a pipe.
    Identify {
        /// The pipe's name.
        pipe: String,
        /// Which seat.
        role: Role,
    },
    /// Stop a pipe.
    Stop {
        /// Its name.
        pipe: String,
    },
    /// Say what everybody in a pipe is doing.
    Status {
        /// Its name.
        pipe: String,
    },
    /// Say which pipes there are.
    List,
    /// Tell what happens from now on.
    Subscribe {
        /// Of this pipe only.
        pipe: Option<String>,
    },
}

/// A pipe that is to be started.
///
/// ```
/// use datapipe::stage::Arguments;
/// use datapipe_net::{Initiate, StageRequest};
///
/// let nightly = Initiate::new("nightly")
///     .stage(StageRequest::module("files").read("/srv/data"))
///     .stage(StageRequest::module("zstd").arguments(Arguments::new().with("level", "3")).instances(2))
///     .stage(StageRequest::module("tape").write("/backup/nightly.tap"));
/// # let _ = nightly;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Initiate {
    /// What the pipe is called, at most [`MAX_LABEL`] bytes.
    pub label: String,
    /// Which way its data flows.
    pub direction: Direction,
    /// How the one who asks takes part.
    pub seat: Seat,
    /// Buffers in its pool; as many as the stages work well with, if nothing is said.
    pub buffers: Option<u32>,
    /// Bytes of a buffer.
    pub buffer_size: Option<u32>,
    /// Its stages, head first.
    pub stages: Vec<StageRequest>,
}

/// A stage of a pipe that is to be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageRequest {
    /// The module of the daemon's configuration that does it. Nothing for an unbound seat.
    pub module: Option<String>,
    /// What it is called in the pipe: the module's name, if nothing is said.
    pub name: Option<String>,
    /// What the module is given.
    pub arguments: Vec<u8>,
    /// How many there are: 1, if nothing is said.
    pub instances: Option<u32>,
    /// The machine on which it runs. Reserved: only this one is accepted, which is nothing.
    pub machine: Option<String>,
    /// What the module may read and write, besides what it needs to run.
    pub paths: Vec<(PathAccess, PathBuf)>,
    /// Inputs that an instance keeps before it sends or frees any, if it is a loop.
    pub holds_in: Option<u32>,
    /// Buffers that an instance allocates before it sends any, if it is a loop; 0 if it never
    /// allocates.
    pub holds_out: Option<u32>,
    /// An instance remembers something of earlier blocks, and is not replaced.
    pub stateful: bool,
}

/// What may be done with a path, and with what is below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathAccess {
    /// It is read.
    Read,
    /// It is read, written, made and removed.
    Write,
}

impl Initiate {
    /// A pipe without stages.
    pub fn new(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ..Self::default()
        }
    }

    /// Adds a stage behind those added so far.
    #[must_use]
    pub fn stage(mut self, stage: StageRequest) -> Self {
        self.stages.push(stage);
        self
    }

    /// Says how the one who asks takes part. The seat must be unbound.
    #[must_use]
    pub fn as_seat(mut self, seat: Seat) -> Self {
        self.seat = seat;
        self
    }

    /// Says which way the data flows.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Asks for `n` buffers.
    #[must_use]
    pub fn buffers(mut self, n: u32) -> Self {
        self.buffers = Some(n);
        self
    }

    /// Asks for buffers of `bytes`.
    #[must_use]
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.buffer_size = Some(bytes);
        self
    }

    fn body(&self) -> Body {
        let mut body = Body::new();
        body.put_text(1 | MUST_KNOW, &self.label);
        body.put_u8(2 | MUST_KNOW, direction_number(self.direction));
        body.put_u8(3 | MUST_KNOW, self.seat.number());
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
        let (mut label, mut direction, mut seat) = (None, None, None);
        let mut initiate = Self::default();
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.set(&mut label, field.text(MAX_LABEL)?)?,
                2 => field.set(&mut direction, direction_of(field)?)?,
                3 => field.set(&mut seat, Seat::of(field)?)?,
                4 => field.set(&mut initiate.buffers, field.u32()?)?,
                5 => field.set(&mut initiate.buffer_size, field.u32()?)?,
                6 if initiate.stages.len() >= MAX_STAGES as usize => {
                    return Err(field.wrong(&format!("stands there more than {MAX_STAGES} times")));
                }
                6 => initiate.stages.push(StageRequest::decode(field)?),
                _ => field.skip()?,
            }
        }
        initiate.label = needed("initiate", 1, label)?;
        initiate.direction = direction.unwrap_or_default();
        initiate.seat = seat.unwrap_or_default();
        Ok(initiate)
    }
}

impl StageRequest {
    /// A stage that a module of the daemon's configuration does.
    pub fn module(name: impl Into<String>) -> Self {
        Self {
            module: Some(name.into()),
            ..Self::default()
        }
    }

    /// A head or a tail that another process takes, and what it is called until then.
    pub fn unbound(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::default()
        }
    }

    /// Gives the module `arguments`, at most [`MAX_MODULE_ARGUMENTS`] bytes: those of the library's
    /// modules are [`Arguments`](datapipe::stage::Arguments).
    #[must_use]
    pub fn arguments(mut self, arguments: impl Into<Vec<u8>>) -> Self {
        self.arguments = arguments.into();
        self
    }

    /// Calls the stage something else than its module.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Runs `n` instances.
    #[must_use]
    pub fn instances(mut self, n: u32) -> Self {
        self.instances = Some(n);
        self
    }

    /// Lets the module read `path`, which must be absolute, and what is below it.
    #[must_use]
    pub fn read(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.push((PathAccess::Read, path.into()));
        self
    }

    /// Lets the module write `path`, which must be absolute, and what is below it.
    #[must_use]
    pub fn write(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.push((PathAccess::Write, path.into()));
        self
    }

    fn body(&self) -> Body {
        let mut body = Body::new();
        for (tag, text) in [(1, &self.module), (2, &self.name), (5, &self.machine)] {
            if let Some(text) = text {
                body.put_text(tag | MUST_KNOW, text);
            }
        }
        if !self.arguments.is_empty() {
            body.put(3 | MUST_KNOW, &self.arguments);
        }
        for (tag, number) in [(4, self.instances), (7, self.holds_in), (8, self.holds_out)] {
            if let Some(number) = number {
                body.put_u32(tag | MUST_KNOW, number);
            }
        }
        for (access, path) in &self.paths {
            let mut fields = Body::new();
            fields.put_u8(1 | MUST_KNOW, u8::from(*access == PathAccess::Write));
            fields.put(2 | MUST_KNOW, path.as_os_str().as_bytes());
            body.put_fields(6 | MUST_KNOW, &fields);
        }
        if self.stateful {
            body.put_u8(9 | MUST_KNOW, 1);
        }
        body
    }

    fn decode(field: Field<'_>) -> Result<Self, DecodeError> {
        let mut stage = Self::default();
        let (mut arguments, mut stateful) = (None, None);
        let mut fields = field.fields("a stage of initiate");
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.set(&mut stage.module, field.text(MAX_NAME)?)?,
                2 => field.set(&mut stage.name, field.text(MAX_NAME)?)?,
                3 => field.set(&mut arguments, field.bytes(MAX_MODULE_ARGUMENTS)?.to_vec())?,
                4 => field.set(&mut stage.instances, field.u32()?)?,
                5 => field.set(&mut stage.machine, field.text(MAX_NAME)?)?,
                6 if stage.paths.len() >= MAX_STAGE_PATHS => {
                    return Err(
                        field.wrong(&format!("stands there more than {MAX_STAGE_PATHS} times"))
                    );
                }
                6 => stage.paths.push(decode_path(field)?),
                7 => field.set(&mut stage.holds_in, field.u32()?)?,
                8 => field.set(&mut stage.holds_out, field.u32()?)?,
                9 => field.set(&mut stateful, field.flag()?)?,
                _ => field.skip()?,
            }
        }
        stage.arguments = arguments.unwrap_or_default();
        stage.stateful = stateful.unwrap_or_default();
        Ok(stage)
    }
}

fn decode_path(field: Field<'_>) -> Result<(PathAccess, PathBuf), DecodeError> {
    let what = "a path of a stage";
    let (mut write, mut path) = (None, None);
    let mut fields = field.fields(what);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field.set(&mut write, field.flag()?)?,
            2 => {
                let bytes = field.bytes(MAX_PATH)?;
                let known = Path::new(OsStr::from_bytes(bytes));
                if !known.is_absolute() || bytes.contains(&0) {
                    return Err(field.wrong("is no absolute path"));
                }
                field.set(&mut path, known.to_owned())?;
            }
            _ => field.skip()?,
        }
    }
    let access = if needed(what, 1, write)? {
        PathAccess::Write
    } else {
        PathAccess::Read
    };
    Ok((access, needed(what, 2, path)?))
}

impl Request {
    /// The number of its kind.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Initiate(_) => INITIATE,
            Self::Extend => EXTEND,
            Self::Identify { .. } => IDENTIFY,
            Self::Stop { .. } => STOP,
            Self::Status { .. } => STATUS,
            Self::List => LIST,
            Self::Subscribe { .. } => SUBSCRIBE,
        }
    }

    /// Its body. It may be longer than a message can be: who sends it has to look.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Body::new();
        match self {
            Self::Initiate(initiate) => body = initiate.body(),
            Self::Extend | Self::List | Self::Subscribe { pipe: None } => {}
            Self::Identify { pipe, role } => {
                body.put_text(1 | MUST_KNOW, pipe);
                body.put_u8(2 | MUST_KNOW, role.number());
            }
            Self::Stop { pipe } | Self::Status { pipe } | Self::Subscribe { pipe: Some(pipe) } => {
                body.put_text(1 | MUST_KNOW, pipe);
            }
        }
        body.into_bytes()
    }

    /// From the number of its kind, and its body.
    ///
    /// # Errors
    ///
    /// If the body is not as it should be, or the kind is unknown.
    pub fn decode(kind: u16, body: &[u8]) -> Result<Self, DecodeError> {
        match kind {
            INITIATE => Initiate::decode(Fields::new("initiate", body)).map(Self::Initiate),
            // What it will say is for a later version.
            EXTEND => Ok(Self::Extend),
            IDENTIFY => {
                let (pipe, role) = pipe_and_role("identify", body)?;
                let role = needed("identify", 2, role)?;
                Ok(Self::Identify {
                    pipe: needed("identify", 1, pipe)?,
                    role,
                })
            }
            STOP => Ok(Self::Stop {
                pipe: needed("stop", 1, pipe_only("stop", body)?)?,
            }),
            STATUS => Ok(Self::Status {
                pipe: needed("status", 1, pipe_only("status", body)?)?,
            }),
            LIST => {
                let mut fields = Fields::new("list", body);
                while let Some(field) = fields.next()? {
                    field.skip()?;
                }
                Ok(Self::List)
            }
            SUBSCRIBE => Ok(Self::Subscribe {
                pipe: pipe_only("subscribe", body)?,
            }),
            _ => Err(DecodeError::unknown(
                "a request",
                format!("its kind, {kind}, is unknown"),
            )),
        }
    }
}

fn pipe_only(what: &'static str, body: &[u8]) -> Result<Option<String>, DecodeError> {
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

fn pipe_and_role(
    what: &'static str,
    body: &[u8],
) -> Result<(Option<String>, Option<Role>), DecodeError> {
    let mut fields = Fields::new(what, body);
    let (mut pipe, mut role) = (None, None);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => field.set(&mut pipe, field.text(MAX_NAME)?)?,
            2 => field.set(&mut role, Role::of(field)?)?,
            _ => field.skip()?,
        }
    }
    Ok((pipe, role))
}
