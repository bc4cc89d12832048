//! The error for keys and passphrases.

use std::fmt;
use std::io;

use super::unlock_error::UnlockError;

/// A key or passphrase could not be read, made or used.
#[derive(Debug)]
pub struct KeyError {
    message: String,
    io: Option<io::Error>,
}

impl KeyError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            io: None,
        }
    }

    /// The error of a system call; `what` is what was being done.
    pub(crate) fn system(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self {
            message: what.into(),
            io: Some(error.into()),
        }
    }

    /// The system's error, if one is the cause.
    pub fn io_error(&self) -> Option<&io::Error> {
        self.io.as_ref()
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.io {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

// The text is complete, so there is no source() that would repeat part of it.
impl std::error::Error for KeyError {}

impl From<UnlockError> for KeyError {
    fn from(error: UnlockError) -> Self {
        Self::new(error.to_string())
    }
}
