//! Reasons why an archive cannot be opened.

use std::error::Error;
use std::fmt;

use crate::crypto::UnlockError;
use crate::media::MediumError;
use crate::wire::DecodeError;

/// Reason that an archive cannot be opened, or has no index.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The medium failed.
    Medium(MediumError),
    /// The medium has no archive, or no intact copy of its headers.
    NoArchive(String),
    /// A header has a value that no writer writes, or that only writers of later versions write.
    Malformed(DecodeError),
    /// The secret does not open the archive.
    Locked(UnlockError),
    /// The archive is encrypted, and no secret was given.
    KeyNeeded,
    /// The archive is not encrypted, although a secret was given.
    NotEncrypted,
    /// The end of the archive does not give the positions of its blocks, because the archive is
    /// incomplete or damaged there. It can be read from its start.
    NoIndex(String),
}

impl OpenError {
    pub(crate) fn no_index(why: impl Into<String>) -> Self {
        Self::NoIndex(why.into())
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium(error) => error.fmt(f),
            Self::NoIndex(why) => {
                write!(f, "the archive has no usable index of its blocks: {why}")
            }
            Self::NoArchive(why) => write!(f, "there is no archive to be read: {why}"),
            Self::Malformed(error) => error.fmt(f),
            Self::Locked(error) => error.fmt(f),
            Self::KeyNeeded => f.write_str(
                "the archive is encrypted: give its key, its passphrase, or the identity of one of \
                 its recipients",
            ),
            Self::NotEncrypted => f.write_str(
                "the archive is not encrypted, although a key was given: its origin is not \
                 proven; read it without a key if you trust it",
            ),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Medium(error) => Some(error),
            Self::Malformed(error) => Some(error),
            Self::Locked(error) => Some(error),
            Self::NoArchive(_) | Self::KeyNeeded | Self::NotEncrypted | Self::NoIndex(_) => None,
        }
    }
}

impl From<MediumError> for OpenError {
    fn from(error: MediumError) -> Self {
        Self::Medium(error)
    }
}

impl From<DecodeError> for OpenError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}
