//! A handle that carries a medium to another process, as open descriptors.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// A handle from which another process reopens a [`VirtualTape`](super::VirtualTape) or a
/// [`VolumeDirectory`](super::VolumeDirectory). Returned by
/// [`Medium::handle`](super::Medium::handle).
///
/// The handle has open descriptors. So the other process needs no right to open the medium by its
/// path, and gets this medium even if another file has taken the path since.
#[derive(Debug)]
pub struct MediumHandle {
    pub(crate) form: Form,
    /// For messages.
    pub(crate) path: PathBuf,
    pub(crate) volume_size: Option<u64>,
    /// Old content that is to be replaced, if there is some.
    pub(crate) replacing: Option<Replacing>,
    pub(crate) allow_empty: bool,
    /// To write: the file of volume 1, its directory, and the file with the lock: that of the
    /// directory, or the tape that is replaced, or the tape itself. To read: the tape's file, or
    /// the directory of volumes.
    pub(crate) descriptors: Vec<Arc<OwnedFd>>,
}

/// The two forms of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A [`VirtualTape`](super::VirtualTape).
    Tape,
    /// A [`VolumeDirectory`](super::VolumeDirectory).
    Directory,
}

/// The descriptors that a medium has given to another process, if they still exist.
///
/// A description of a stage that is to run there owns them, and the medium may be dropped as soon
/// as the description is made. The other process then removes what the medium would remove
/// when it is dropped.
#[derive(Debug, Default)]
pub(super) struct GivenAway(Mutex<Weak<OwnedFd>>);

impl GivenAway {
    /// Shares descriptors, of which there is at least one, and remembers them.
    pub(super) fn share(&self, descriptors: Vec<OwnedFd>) -> Vec<Arc<OwnedFd>> {
        let shared: Vec<_> = descriptors.into_iter().map(Arc::new).collect();
        if let Some(first) = shared.first() {
            *self.0.lock() = Arc::downgrade(first);
        }
        shared
    }

    /// True if another owner has the descriptors.
    pub(super) fn is_given(&self) -> bool {
        self.0.lock().strong_count() > 0
    }
}

/// The two ways to replace old content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replacing {
    /// The new content is written beside it, and takes its place at the end.
    Beside,
    /// The first write removes it.
    InPlace,
}

/// Reason why a medium has no handle for another process.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandleError {
    /// The medium, or the storage that it is on, has no descriptors.
    Unsupported,
    /// The medium has been written to.
    Written,
    /// The system refused to open or duplicate a descriptor.
    Io {
        /// Error of the system.
        source: io::Error,
    },
}

impl From<io::Error> for HandleError {
    fn from(source: io::Error) -> Self {
        Self::Io { source }
    }
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str(
                "its medium cannot be used by another process: take a VirtualTape or a \
                 VolumeDirectory on the file system",
            ),
            Self::Written => {
                f.write_str("its medium has been written to already: create the medium anew")
            }
            Self::Io { source } => {
                write!(f, "its medium cannot be given to another process: {source}")
            }
        }
    }
}

impl Error for HandleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source } => Some(source),
            _ => None,
        }
    }
}
