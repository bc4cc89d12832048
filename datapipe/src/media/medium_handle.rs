//! How a medium gets into another process: by what is open of it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What another process makes a medium from, which [`Medium::passage`](super::Medium::passage)
/// gives: a [`VirtualTape`](super::VirtualTape) or a [`VolumeDirectory`](super::VolumeDirectory) as it is open
/// here.
///
/// It has descriptors, so the other process may lack the right to open the medium, and gets this
/// one, whatever has taken its name since.
#[derive(Debug)]
pub struct MediumHandle {
    pub(crate) form: Form,
    /// For messages.
    pub(crate) path: PathBuf,
    pub(crate) volume_size: Option<u64>,
    /// To write: the file of volume 1, and its directory. To read: the tape's file, or the
    /// directory of volumes.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// The two forms of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A [`VirtualTape`](super::VirtualTape).
    Tape,
    /// A [`Directory`](super::VolumeDirectory).
    Directory,
}

impl MediumHandle {
    /// Why a medium has none that nobody knows more of.
    pub(super) const NONE: &str = "its medium is none that another process can use: take a VirtualTape or a VolumeDirectory on the file system";

    /// Why a medium has none that has been written to.
    pub(super) const BEGUN: &str =
        "something was written to its medium already: create the medium anew";
}
