//! Errors of a medium.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::words::open_files_advice;

use super::{Position, Writer};

/// Error of a medium.
#[derive(Debug)]
#[non_exhaustive]
pub enum MediumError {
    /// The record does not fit in this volume any more, and nothing of it was written. This is not
    /// a failure: write a last mark and go to the next volume.
    EndOfVolume {
        /// The volume that has ended.
        volume: u32,
    },
    /// There is no room for another volume.
    Full {
        /// The tape or the directory.
        path: PathBuf,
        /// The reason, and the remedy.
        what: String,
    },
    /// The medium has content, and the options do not allow overwriting.
    NotEmpty {
        /// The tape or the volume that has content.
        path: PathBuf,
    },
    /// The content that is to be overwritten in place has another name, a hard link, under which it
    /// would be lost, too.
    OtherNames {
        /// The tape.
        path: PathBuf,
        /// Number of names of its file, 2 or more.
        names: u64,
    },
    /// Another writer has the medium.
    InUse {
        /// The tape or the directory.
        path: PathBuf,
        /// The process that writes it.
        writer: Writer,
    },
    /// A file was removed, renamed or replaced while it was written, or while its successor was:
    /// what was written is not at this path.
    Displaced {
        /// The tape or the volume.
        path: PathBuf,
    },
    /// The directory has no volumes.
    NoVolumes {
        /// The directory.
        path: PathBuf,
    },
    /// A volume before the last one is missing.
    MissingVolume {
        /// The missing file.
        path: PathBuf,
        /// Its number.
        volume: u32,
        /// The highest number among the volumes.
        last: u32,
    },
    /// The file with the number of a volume holds a volume of another medium, as its record says.
    WrongVolume {
        /// The file.
        path: PathBuf,
        /// Number of the volume that it should be.
        volume: u32,
        /// The highest number among the volumes.
        last: u32,
        /// Description of the volume that it is.
        found: String,
    },
    /// A volume that has content cannot be continued.
    CannotAppend {
        /// The tape or the volume.
        path: PathBuf,
        /// The reason, and the remedy.
        what: String,
    },
    /// The medium does not have the position of a seek.
    NoSuchPosition {
        /// The tape or the directory.
        path: PathBuf,
        /// The position of the seek.
        to: Position,
        /// The range that the medium has.
        what: String,
    },
    /// A record is longer than any volume of this medium can take.
    TooLong {
        /// Its bytes.
        len: usize,
        /// The most bytes that this medium takes.
        max: usize,
    },
    /// A pipe reads the archive from this medium, with the same
    /// [`ArchiveReader`](crate::archive::ArchiveReader).
    BeingRead,
    /// A record has no bytes. The layout cannot store it: its length word would be a mark.
    Empty,
    /// The volume size in the options is too small.
    VolumeTooSmall {
        /// The size in bytes.
        size: u64,
        /// The smallest size that is allowed.
        min: u64,
    },
    /// The label or the pool of a volume is too long.
    TextTooLong {
        /// The text: "label" or "pool".
        what: &'static str,
        /// Its bytes.
        len: usize,
        /// The most bytes that are allowed.
        max: usize,
    },
    /// There is no memory for a block that is read.
    NoMemory {
        /// The bytes that it needs.
        len: usize,
    },
    /// An earlier write or sync failed in a way that leaves the end of the volume unknown.
    Broken {
        /// The volume's file.
        path: PathBuf,
    },
    /// The storage failed.
    Io {
        /// The operation, a verb.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Error of the storage.
        source: io::Error,
    },
}

impl MediumError {
    /// Returns a function for `map_err`, which adds the operation and the path.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

impl MediumError {
    /// Describes a conflict with other content or another program.
    fn fmt_conflict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty { path } => {
                write!(
                    f,
                    "{} is not empty; choose another path, or allow it to be overwritten",
                    path.display()
                )
            }
            Self::OtherNames { path, names } => write!(
                f,
                "{} has {names} names (hard links), and overwriting in place would destroy its \
                 content under all of them; remove {} first, or do not overwrite in place",
                path.display(),
                path.display()
            ),
            Self::InUse { path, writer } => write!(
                f,
                "{} is being written by {writer}; wait until it has ended, or write elsewhere",
                path.display()
            ),
            Self::Displaced { path } => write!(
                f,
                "{} was removed or replaced by another program while it was written; keep others \
                 from changing it, and write it again",
                path.display()
            ),
            Self::WrongVolume {
                path,
                volume,
                last,
                found,
            } => write!(
                f,
                "the wrong volume: {} is {found}, and not volume {volume} of {last}; put the \
                 right one in its place, or continue after it",
                path.display()
            ),
            Self::CannotAppend { path, what } => {
                write!(f, "cannot append to {}: {what}", path.display())
            }
            _ => Ok(()),
        }
    }
}

/// Error of a change that an attribute of the file or its directory forbids, also to root.
const EPERM: i32 = rustix::io::Errno::PERM.raw_os_error();

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
            Self::NotEmpty { .. }
            | Self::OtherNames { .. }
            | Self::InUse { .. }
            | Self::Displaced { .. }
            | Self::WrongVolume { .. }
            | Self::CannotAppend { .. } => self.fmt_conflict(f),
            Self::NoVolumes { path } => {
                write!(
                    f,
                    "{} has no volumes (000001.tap, 000002.tap, ...); name another",
                    path.display()
                )
            }
            Self::MissingVolume { path, volume, last } => write!(
                f,
                "volume {volume} of {last} is missing; put {} back, or continue after it",
                path.display()
            ),
            Self::NoSuchPosition { path, to, what } => {
                write!(f, "{} cannot be read from {to} on: {what}", path.display())
            }
            Self::Broken { path } => write!(
                f,
                "{} failed before, and the data written since its last sync may be lost; \
                 write it again elsewhere",
                path.display()
            ),
            Self::Io {
                doing,
                path,
                source,
            } => {
                write!(f, "cannot {doing} {}: {source}", path.display())?;
                match source.raw_os_error() {
                    // Without write permission the error would be another one.
                    Some(EPERM) => f.write_str(
                        "; the file or its directory may be immutable or append-only: see lsattr, \
                         and remove the attribute with chattr -i or chattr -a",
                    ),
                    _ => f.write_str(open_files_advice(source)),
                }
            }
            Self::NoMemory { len } => write!(
                f,
                "there is no memory for a block of at least {len} bytes; free some, or raise the \
                 limit of this process (ulimit -v)"
            ),
            Self::TooLong { .. }
            | Self::BeingRead
            | Self::Empty
            | Self::VolumeTooSmall { .. }
            | Self::TextTooLong { .. } => self.fmt_misuse(f),
        }
    }
}

impl MediumError {
    /// Writes an error of the caller, which the medium itself has no part in.
    fn fmt_misuse(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => {
                write!(
                    f,
                    "a record of {len} bytes is longer than the {max} that this medium takes; \
                     write shorter ones"
                )
            }
            Self::BeingRead => f.write_str(
                "another pipe reads this archive with the same reader; run one after the other, or \
                 open the medium again with a reader of its own",
            ),
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
            Self::TextTooLong { what, len, max } => {
                write!(
                    f,
                    "a {what} of {len} bytes is too long; use one of {max} bytes or fewer"
                )
            }
            _ => Ok(()),
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
