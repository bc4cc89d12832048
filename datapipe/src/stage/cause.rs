//! Causes of an error: the walk along [`source`](Error::source), the text of a whole chain, and the
//! copy of a cause that a process has sent.

use std::error::Error;
use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::limits::MAX_CAUSES;
use crate::words::errno_of;

/// A cause of an error in another process: its text, and its code if it was an error of the system.
/// The error itself, with its type, stayed in the process.
///
/// It follows a [`StageError`](crate::StageError) that came from a process, for each error that
/// [`source`](Error::source) led to there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessCause {
    text: String,
    code: SystemCode,
    source: Option<Box<Self>>,
}

impl ProcessCause {
    pub(crate) fn new(text: String, code: SystemCode, source: Option<Self>) -> Self {
        Self {
            text,
            code,
            source: source.map(Box::new),
        }
    }

    /// Error number of the system, if this was an [`io::Error`] that has one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.code.errno
    }

    /// Kind of the error, if this was an [`io::Error`].
    pub fn kind(&self) -> Option<io::ErrorKind> {
        self.code.kind
    }
}

impl fmt::Display for ProcessCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for ProcessCause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

/// Code of an error of the system; empty for all other errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemCode {
    pub(crate) errno: Option<i32>,
    pub(crate) kind: Option<io::ErrorKind>,
}

impl SystemCode {
    /// Code of `error` itself, without its causes.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Self {
                errno: errno_of(error),
                kind: Some(error.kind()),
            };
        }
        if let Some(errno) = error.downcast_ref::<Errno>() {
            return Self::from_errno(errno.raw_os_error());
        }
        match error.downcast_ref::<ProcessCause>() {
            Some(cause) => cause.code,
            None => Self::default(),
        }
    }

    pub(crate) fn from_errno(errno: i32) -> Self {
        Self {
            errno: Some(errno),
            kind: Some(io::Error::from_raw_os_error(errno).kind()),
        }
    }
}

/// Returns `error` and its causes, at most [`MAX_CAUSES`] in all: the `source` of an error of
/// another crate may never end.
pub(crate) fn causes<'e>(
    error: Option<&'e (dyn Error + 'static)>,
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let next = |error: &&'e (dyn Error + 'static)| {
        let error: &'e (dyn Error + 'static) = *error;
        error.source()
    };
    std::iter::successors(error, next).take(MAX_CAUSES)
}

/// Returns `text`, followed by the text of each cause that is not part of it yet: "a: b: c".
pub(crate) fn text_with_causes(text: String, cause: Option<&(dyn Error + 'static)>) -> String {
    causes(cause).fold(text, |text, cause| {
        let more = cause.to_string();
        match text.contains(&more) {
            true => text,
            false => format!("{text}: {more}"),
        }
    })
}
