//! Stages of a pipe that a client initiates.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use datapipe::limits::MAX_MODULE_ARGUMENTS;
use zeroize::{Zeroize as _, Zeroizing};

use super::fields::{Body, DecodeError, Field, MUST_KNOW, required};
use crate::limits::{MAX_NAME, MAX_PATH, MAX_STAGE_PATHS};

/// Description of a stage of a pipe that the daemon is to start. Its arguments, which may contain a
/// key, are erased from memory when it is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageRequest {
    /// Name of the module in the daemon's configuration; `None` for an unbound stage.
    pub module: Option<String>,
    /// Name of the stage; by default the module's name.
    pub name: Option<String>,
    /// Arguments of the module, which defines their meaning.
    pub arguments: Vec<u8>,
    /// Number of instances; 1 by default.
    pub instances: Option<u32>,
    /// Machine on which the stage runs. Reserved: the daemon accepts only `None`, its own machine.
    pub machine: Option<String>,
    /// Paths that the module may open, besides those that its configuration always allows.
    pub paths: Vec<(PathAccess, PathBuf)>,
    /// For a loop: number of inputs that an instance holds before it sends or frees any.
    pub holds_in: Option<u32>,
    /// For a loop: number of buffers that an instance allocates before it sends any; 0 if it never
    /// allocates.
    pub holds_out: Option<u32>,
    /// True if an instance keeps state of earlier blocks, so that the controller does not replace
    /// one that is killed.
    pub stateful: bool,
}

/// Access to a path and to everything beneath it.
///
/// Exhaustive: the protocol has a flag for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathAccess {
    /// The module reads.
    Read,
    /// The module reads, writes, creates and removes.
    Write,
}

impl StageRequest {
    /// A stage that runs the module `name` of the daemon's configuration.
    pub fn module(name: impl Into<String>) -> Self {
        let mut stage = Self::default();
        stage.module = Some(name.into());
        stage
    }

    /// An unbound head or tail named `name`, to which another process attaches.
    pub fn unbound(name: impl Into<String>) -> Self {
        let mut stage = Self::default();
        stage.name = Some(name.into());
        stage
    }

    /// Sets the arguments of the module, at most [`MAX_MODULE_ARGUMENTS`] bytes. Those of the
    /// library's modules are [`Arguments`](datapipe::stage::Arguments).
    #[must_use]
    pub fn arguments(mut self, arguments: impl Into<Vec<u8>>) -> Self {
        self.arguments.zeroize();
        self.arguments = arguments.into();
        self
    }

    /// Gives the stage another name than its module's.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the number of instances.
    #[must_use]
    pub fn instances(mut self, count: u32) -> Self {
        self.instances = Some(count);
        self
    }

    /// Lets the module read `path`, which must be absolute, and everything beneath it.
    #[must_use]
    pub fn read(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.push((PathAccess::Read, path.into()));
        self
    }

    /// Lets the module write `path`, which must be absolute, and everything beneath it.
    #[must_use]
    pub fn write(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.push((PathAccess::Write, path.into()));
        self
    }

    pub(super) fn body(&self) -> Body {
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

    pub(super) fn decode(field: Field<'_>) -> Result<Self, DecodeError> {
        let mut stage = Self::default();
        let (mut arguments, mut stateful) = (None, None);
        let mut fields = field.fields("a stage of initiate");
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.set(&mut stage.module, field.text(MAX_NAME)?)?,
                2 => field.set(&mut stage.name, field.text(MAX_NAME)?)?,
                3 => {
                    let bytes = field.bytes(MAX_MODULE_ARGUMENTS)?.to_vec();
                    field.set(&mut arguments, Zeroizing::new(bytes))?;
                }
                4 => field.set(&mut stage.instances, field.u32()?)?,
                5 => field.set(&mut stage.machine, field.text(MAX_NAME)?)?,
                6 if stage.paths.len() >= MAX_STAGE_PATHS => {
                    return Err(field.error(&format!("occurs more than {MAX_STAGE_PATHS} times")));
                }
                6 => stage.paths.push(decode_path(field)?),
                7 => field.set(&mut stage.holds_in, field.u32()?)?,
                8 => field.set(&mut stage.holds_out, field.u32()?)?,
                9 => field.set(&mut stateful, field.flag()?)?,
                _ => field.skip()?,
            }
        }
        stage.arguments = std::mem::take(&mut arguments.unwrap_or_default());
        stage.stateful = stateful.unwrap_or_default();
        Ok(stage)
    }
}

impl Drop for StageRequest {
    fn drop(&mut self) {
        self.arguments.zeroize();
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
                let named = Path::new(OsStr::from_bytes(bytes));
                if !named.is_absolute() || bytes.contains(&0) {
                    return Err(field.error("is not an absolute path"));
                }
                field.set(&mut path, named.to_owned())?;
            }
            _ => field.skip()?,
        }
    }
    let access = if required(what, 1, write)? {
        PathAccess::Write
    } else {
        PathAccess::Read
    };
    Ok((access, required(what, 2, path)?))
}
