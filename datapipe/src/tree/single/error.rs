//! Reasons why a tree cannot be listed, or a file of it cannot be read.

use std::error::Error;
use std::fmt;
use std::io;

use crate::controller;
use crate::media::MediumError;
use crate::tree::read::TreeError;
use crate::wire::ObjectKind;

/// Reason that a [`TreeReader`](super::TreeReader) did not list a tree or read a file to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum TreeReadError {
    /// The archive contains a stream and not a tree.
    NotATree,
    /// The medium failed.
    Medium(MediumError),
    /// A pattern is invalid.
    Pattern(TreeError),
    /// No object in the archive has this path.
    NotFound {
        /// The path.
        path: Vec<u8>,
    },
    /// The object at this path has no data.
    NotAFile {
        /// The path.
        path: Vec<u8>,
        /// Kind of the object; for another name of an object, the kind of that object.
        kind: ObjectKind,
    },
    /// The file was not read to its end when it was archived, or was rejected by inspection.
    Unread {
        /// The path.
        path: Vec<u8>,
    },
    /// The data of the file that the archive has are not those that it had.
    Damaged {
        /// The path.
        path: Vec<u8>,
        /// Description of the damage.
        what: String,
    },
    /// The caller's writer failed.
    Write(io::Error),
    /// The pipe that read the archive failed: at damage, if the reader has no log, or because the
    /// caller's function returned an error.
    Pipe(controller::Error),
}

impl fmt::Display for TreeReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATree => f.write_str(
                "the archive contains a stream and not a tree: read it with StreamRestore",
            ),
            Self::Medium(error) => error.fmt(f),
            Self::Pattern(error) => error.fmt(f),
            Self::NotFound { path } => {
                write!(f, "\"{}\": not found in the archive", path.escape_ascii())
            }
            Self::NotAFile { path, kind } => {
                let path = path.escape_ascii();
                write!(
                    f,
                    "\"{path}\": has no data to be read: it is a {}",
                    noun(*kind)
                )
            }
            Self::Unread { path } => write!(
                f,
                "\"{}\": was not read to its end when it was archived",
                path.escape_ascii()
            ),
            Self::Damaged { path, what } => {
                write!(f, "\"{}\": {what}", path.escape_ascii())
            }
            Self::Write(error) => write!(f, "cannot write the data of the file: {error}"),
            Self::Pipe(error) => error.fmt(f),
        }
    }
}

impl Error for TreeReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Medium(error) => Some(error),
            Self::Pattern(error) => Some(error),
            Self::Write(error) => Some(error),
            Self::Pipe(error) => Some(error),
            Self::NotATree
            | Self::NotFound { .. }
            | Self::NotAFile { .. }
            | Self::Unread { .. }
            | Self::Damaged { .. } => None,
        }
    }
}

impl From<MediumError> for TreeReadError {
    fn from(error: MediumError) -> Self {
        Self::Medium(error)
    }
}

impl From<controller::Error> for TreeReadError {
    fn from(error: controller::Error) -> Self {
        Self::Pipe(error)
    }
}

fn noun(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::File => "file",
        ObjectKind::Directory => "directory",
        ObjectKind::Symlink => "symbolic link",
        ObjectKind::HardLink => "hard link",
        ObjectKind::Fifo => "fifo",
        ObjectKind::CharacterDevice => "character device",
        ObjectKind::BlockDevice => "block device",
    }
}
