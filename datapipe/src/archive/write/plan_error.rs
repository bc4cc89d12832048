//! Reasons why an archive cannot be planned.

use std::error::Error;
use std::fmt;

use crate::crypto::KeyError;
use crate::limits::{MAX_BUFFER_SIZE, MAX_KEY_SLOTS, MAX_TEXT};

/// Reason that an archive cannot be written with its options.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// A text is longer than a header can store.
    TextTooLong {
        /// The option: "name", "label" or "program".
        what: &'static str,
        /// The text. Its limit is [`MAX_TEXT`] bytes.
        text: String,
    },
    /// Blocks cannot have this length.
    BlockLength {
        /// The length in bytes. Its limits are 1 and [`MAX_BUFFER_SIZE`].
        len: u32,
    },
    /// The names of the archive, its host and its program do not fit into a block.
    OriginTooLong {
        /// Bytes of the block that they need.
        len: usize,
        /// Length of the archive's blocks in bytes.
        block_len: u32,
    },
    /// There are more secrets and recipients than an archive has key slots.
    TooManySecrets {
        /// Number of the secrets and recipients. Its limit is [`MAX_KEY_SLOTS`].
        count: usize,
    },
    /// A special header cannot be written.
    Special {
        /// Its identifier.
        id: u32,
        /// The reason, with the limit.
        why: &'static str,
    },
    /// A key could not be made or wrapped, or the system has no random numbers.
    Key(KeyError),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TextTooLong { what, text } => write!(
                f,
                "the {what} \"{}\" has {} bytes, but may have at most {MAX_TEXT}",
                text.escape_debug(),
                text.len()
            ),
            Self::BlockLength { len } => write!(
                f,
                "blocks of {len} bytes cannot be written; use 1 to {MAX_BUFFER_SIZE} bytes"
            ),
            Self::OriginTooLong { len, block_len } => write!(
                f,
                "the names of the archive, its host and its program need a block of {len} bytes, \
                 but blocks have {block_len}: use longer blocks, or shorter names"
            ),
            Self::TooManySecrets { count } => write!(
                f,
                "{count} secrets and recipients, but an archive has slots for {MAX_KEY_SLOTS}: \
                 leave some out"
            ),
            Self::Special { id, why } => write!(f, "the special header {id:08x}: {why}"),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl Error for PlanError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Key(error) => Some(error),
            Self::TextTooLong { .. }
            | Self::BlockLength { .. }
            | Self::OriginTooLong { .. }
            | Self::TooManySecrets { .. }
            | Self::Special { .. } => None,
        }
    }
}

impl From<KeyError> for PlanError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}
