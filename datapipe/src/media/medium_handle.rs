//! A handle that carries a medium to another process: open descriptors, or a module's arguments.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use zeroize::Zeroizing;

use crate::words::limit_advice;

use crate::limits::MAX_VOLUMES;
use crate::wire::codec::{Bytes, DecodeError, Put};

use super::{VolumeId, VolumeOptions};

/// A handle from which another process reopens a medium. Returned by
/// [`MediumWriter::handle`](super::MediumWriter::handle) and
/// [`MediumReader::handle`](super::MediumReader::handle).
///
/// The handle of a [`VirtualTape`](super::VirtualTape) or a
/// [`VolumeDirectory`](super::VolumeDirectory) has open descriptors. So the other process needs no
/// right to open the medium by its path, and gets this medium even if another file has taken the
/// path since. The handle of a medium of your own names the module that opens it in the other
/// process ([`MediumHandle::of_module`]).
#[derive(Debug)]
pub struct MediumHandle {
    pub(crate) origin: Origin,
    /// Files to write: the file of the volume to write, its directory, and the file with the lock:
    /// that of the directory, or the tape that is replaced, or the tape itself. Files to read: the
    /// tape's file, or the directory of volumes. A module: descriptors of its caller.
    pub(crate) descriptors: Vec<Arc<OwnedFd>>,
}

impl MediumHandle {
    /// Makes the handle of a medium that module `name` of the other process opens from `arguments`:
    /// [`Modules::with_medium`](crate::host::Modules::with_medium) adds it there.
    ///
    /// The name has at most 200 bytes. The arguments may contain credentials: they are sent through
    /// a kernel socket, and erased from memory afterwards. Together with what the archive's stage
    /// needs they have at most [`MAX_MODULE_ARGUMENTS`](crate::limits::MAX_MODULE_ARGUMENTS) bytes.
    ///
    /// ```
    /// use datapipe::media::MediumHandle;
    /// use datapipe::stage::Arguments;
    ///
    /// let arguments = Arguments::new().with("bucket", "nightly").with_flag("write", true);
    /// let handle = MediumHandle::of_module("object-storage", arguments);
    /// # let _ = handle;
    /// ```
    pub fn of_module(name: impl Into<String>, arguments: impl Into<Vec<u8>>) -> Self {
        Self {
            origin: Origin::Module {
                name: name.into(),
                arguments: Zeroizing::new(arguments.into()),
            },
            descriptors: Vec::new(),
        }
    }

    /// Adds a descriptor that the module gets
    /// ([`MediumArgs::descriptor`](crate::archive::MediumArgs::descriptor)), counted from 0 in the
    /// order of these calls. At most 7: an archive's stage may need one itself, and all together
    /// are at most [`MAX_MODULE_DESCRIPTORS`](crate::limits::MAX_MODULE_DESCRIPTORS).
    #[must_use]
    pub fn with_descriptor(mut self, descriptor: OwnedFd) -> Self {
        self.descriptors.push(Arc::new(descriptor));
        self
    }
}

/// Parts of a handle beside the descriptors.
pub(crate) enum Origin {
    /// Files in the layout of volumes.
    Files {
        form: Form,
        /// For messages.
        path: PathBuf,
        /// Options of volumes to write: sizes, texts and `allow_empty`.
        options: VolumeOptions,
        /// Old content that is to be replaced, if there is some.
        replacing: Option<Replacing>,
        /// Content after which is written, if there is some.
        continued: Option<VolumeEnd>,
    },
    /// A module of the other process.
    Module {
        name: String,
        /// May contain credentials.
        arguments: Zeroizing<Vec<u8>>,
    },
}

impl Origin {
    /// Those of files that are read.
    pub(super) fn to_read(form: Form, path: &Path) -> Self {
        Self::Files {
            form,
            path: path.to_owned(),
            options: VolumeOptions::default().allow_empty(true),
            replacing: None,
            continued: None,
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { form, path, .. } => write!(f, "{form:?}({})", path.display()),
            Self::Module { name, arguments } => {
                write!(f, "Module({name:?}, {} bytes)", arguments.len())
            }
        }
    }
}

/// The end of the content of a volume, after which a medium goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeEnd {
    /// Number of the volume.
    pub(super) volume: u32,
    pub(super) id: VolumeId,
    /// Id of the medium.
    pub(super) medium: [u8; 16],
    /// Bytes, records and marks of the volume that stay.
    pub(super) used: u64,
    pub(super) items: u64,
    /// Bytes follow that the first write removes.
    pub(super) is_torn: bool,
    /// Frames that the first write puts before its own, and their number.
    pub(super) prefix: (Vec<u8>, u64),
}

impl VolumeEnd {
    /// The end, for another process.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(self.volume);
        bytes.put(&self.id.id);
        bytes.put_u32(self.id.ordinal);
        bytes.put(&self.medium);
        let (prefix, items) = &self.prefix;
        bytes.put_u64s(&[self.used, self.items, *items]);
        bytes.put_u8(self.is_torn.into());
        bytes.put_prefixed(prefix);
        bytes
    }

    /// Decodes what [`to_bytes`](Self::to_bytes) returned.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("a module's end of a volume", bytes);
        let (volume, id, ordinal) = (bytes.u32()?, bytes.array()?, bytes.u32()?);
        let (medium, [used, items, prefix_items]) = (bytes.array()?, bytes.u64s()?);
        let is_torn = bytes.u8()? != 0;
        let prefix = bytes.prefixed()?.to_vec();
        if !(1..=MAX_VOLUMES).contains(&volume) || used.max(items).max(prefix_items) > u64::MAX / 2
        {
            return Err(bytes.error("a number out of range"));
        }
        bytes.end()?;
        Ok(Self {
            volume,
            id: VolumeId::new(id, ordinal),
            medium,
            used,
            items,
            is_torn,
            prefix: (prefix, prefix_items),
        })
    }
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
                 VolumeDirectory on the file system, or implement `handle` for your own",
            ),
            Self::Written => f.write_str(
                "its medium has been written to already: create the medium anew, or open it to \
                 append",
            ),
            Self::Io { source } => {
                let advice = limit_advice(source);
                write!(
                    f,
                    "its medium cannot be given to another process: {source}{advice}"
                )
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn end_of_a_volume_survives_encoding() {
        let end = VolumeEnd {
            volume: 3,
            id: VolumeId::new([7; 16], 3),
            medium: [9; 16],
            used: 1000,
            items: 12,
            is_torn: true,
            prefix: (vec![0; 8], 2),
        };
        let bytes = end.to_bytes();
        assert_eq!(VolumeEnd::parse(&bytes).unwrap(), end);
        assert!((0..bytes.len()).all(|len| VolumeEnd::parse(&bytes[..len]).is_err()));
        let nowhere = VolumeEnd { volume: 0, ..end };
        assert!(VolumeEnd::parse(&nowhere.to_bytes()).is_err());
    }
}
