//! What can be wrong with a medium.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Position;

/// Why a medium did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum MediumError {
    /// The record does not fit this volume any more, and nothing of it is there. Not a failure: put
    /// a last mark and go to the next volume.
    EndOfVolume {
        /// The volume that has ended.
        volume: u32,
    },
    /// There is no place for another volume.
    Full {
        /// The tape or the directory.
        path: PathBuf,
        /// Why, and what to do.
        what: String,
    },
    /// There is something on it, and it was not to be overwritten.
    NotEmpty {
        /// The tape or the volume that has content.
        path: PathBuf,
    },
    /// There are no volumes in a directory.
    NoVolumes {
        /// The directory.
        path: PathBuf,
    },
    /// A volume between the others, or the first, is not there.
    MissingVolume {
        /// The file that was looked for.
        path: PathBuf,
        /// Its number.
        volume: u32,
        /// The highest number that is there.
        last: u32,
    },
    /// There is no such place on the medium.
    NoSuchPlace {
        /// The tape or the directory.
        path: PathBuf,
        /// Where it was to go.
        to: Position,
        /// What there is instead.
        what: String,
    },
    /// A record is longer than a volume can take.
    TooLong {
        /// Its bytes.
        len: usize,
        /// The most bytes that this medium takes.
        max: usize,
    },
    /// A record has no bytes. The layout has no such thing: its length would be that of a mark.
    Empty,
    /// The size that was asked for the volumes is too small.
    VolumeTooSmall {
        /// Bytes that were asked for.
        size: u64,
        /// Fewest bytes that are allowed.
        min: u64,
    },
    /// It is open to write and was to be read, or the other way round.
    WrongDirection {
        /// What was asked for.
        doing: &'static str,
        /// What it is open for.
        open_to: &'static str,
    },
    /// An earlier write or sync failed in a way that leaves the end of the volume unknown.
    Broken {
        /// The volume's file.
        path: PathBuf,
    },
    /// The storage failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the storage said.
        source: io::Error,
    },
}

impl MediumError {
    /// It was to be read.
    pub(super) const NOT_TO_READ: Self = Self::WrongDirection {
        doing: "read",
        open_to: "write",
    };

    /// For `map_err`: what was being done, and to what.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

impl fmt::Display for MediumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndOfVolume { volume } => {
                write!(
                    f,
                    "volume {volume} has no room for this record; go on in the next volume"
                )
            }
            Self::Full { path, what } => write!(f, "{} is full: {what}", path.display()),
            Self::NotEmpty { path } => {
                write!(
                    f,
                    "{} is not empty; take another place, or ask to overwrite it",
                    path.display()
                )
            }
            Self::NoVolumes { path } => {
                write!(
                    f,
                    "{} has no volumes (000001.tap, 000002.tap, ...); name another",
                    path.display()
                )
            }
            Self::MissingVolume { path, volume, last } => write!(
                f,
                "volume {volume} of {last} is missing; put {} back, or go on behind it",
                path.display()
            ),
            Self::NoSuchPlace { path, to, what } => {
                write!(f, "{} cannot be read from {to} on: {what}", path.display())
            }
            Self::TooLong { len, max } => {
                write!(
                    f,
                    "a record of {len} bytes is longer than the {max} that this medium takes; write shorter ones"
                )
            }
            Self::Empty => write!(
                f,
                "a record of no bytes cannot be written; write a mark if one was meant"
            ),
            Self::VolumeTooSmall { size, min } => {
                write!(
                    f,
                    "volumes of {size} bytes are too small; ask for {min} or more"
                )
            }
            Self::WrongDirection { doing, open_to } => {
                write!(
                    f,
                    "cannot {doing} a medium that is open to {open_to}; open it again to {doing}"
                )
            }
            Self::Broken { path } => write!(
                f,
                "{} failed before, and what was written since its last sync may be lost; write it again elsewhere",
                path.display()
            ),
            Self::Io {
                doing,
                path,
                source,
            } => write!(f, "cannot {doing} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for MediumError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
