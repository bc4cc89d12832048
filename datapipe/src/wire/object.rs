//! Objects of a file tree: their metadata, and how they ended.

use super::codec::{Bytes, DecodeError, Put, len_u32};
use super::headers::Time;
use super::object_checks::{
    MODE, check_linked, check_path, check_target, parse_mode, take_limited,
};
use super::object_kind::ObjectKind;
use crate::limits::{self, MAX_PATH, MAX_TARGET};

/// Metadata of an object: its kind, attributes and path.
///
/// Exhaustive: these are all fields of an object entry of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectMeta<'a> {
    /// File, directory and so on.
    pub kind: ObjectKind,
    /// Permission bits, setuid, setgid and sticky.
    pub mode: u32,
    /// User id of its owner.
    pub uid: u32,
    /// Id of its group.
    pub gid: u32,
    /// Time of its last modification.
    pub modified: Time,
    /// Length of a file in bytes when it was opened; otherwise 0.
    pub size: u64,
    /// Major and minor number of a device; otherwise 0.
    pub device: (u32, u32),
    /// Number of the object that a hard link is another name of; otherwise 0.
    pub link: u64,
    /// True if hard links to it may follow: a reader need not remember any other object.
    pub linked: bool,
    /// Path below the root of the archive.
    pub path: &'a [u8],
    /// Target of a symbolic link; otherwise empty.
    pub target: &'a [u8],
}

/// Bytes of the body of an object entry before the path.
pub(crate) const OBJECT_LEN: usize = 64;

/// Bytes of the digest of a file.
pub const DIGEST_LEN: usize = limits::DIGEST_LEN;

/// The end of an object: its state, length and digest.
///
/// Exhaustive: these are all fields of an end entry of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectEnd {
    /// Complete, changed or cut off.
    pub state: ObjectState,
    /// Bytes of the file as it was read.
    pub size: u64,
    /// Digest of its content and size.
    pub digest: Option<[u8; DIGEST_LEN]>,
}

/// State of an object in the archive, compared with the original.
///
/// Exhaustive: version 1 will not get another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ObjectState {
    /// The object is whole.
    #[default]
    Whole,
    /// The object changed while it was read, or has attributes that could not be read or stored.
    /// All else of it is whole.
    Changed,
    /// The object was not read to its end.
    Unread,
}

impl ObjectState {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Changed => 1,
            Self::Unread => 2,
        }
    }

    pub(super) fn parse(bytes: &Bytes<'_>, code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Whole),
            1 => Ok(Self::Changed),
            2 => Ok(Self::Unread),
            3 => Err(bytes.error(
                "an object in state 3, superseded: this version does not read archives that were \
                 continued",
            )),
            4 => Err(bytes.error(
                "an object in state 4, a part: this version does not read files that several \
                 archives have",
            )),
            5 => Err(bytes.error(
                "an object in state 5, rejected by inspection: this version does not read it",
            )),
            other => Err(bytes.error(format!("an object in unknown state {other}"))),
        }
    }
}

impl<'a> ObjectMeta<'a> {
    pub(super) fn put(&self, bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
        check_path(self.path)?;
        check_target(self.kind, self.target)?;
        check_linked(self.kind, self.linked)?;
        bytes.put_u8(self.kind.code());
        bytes.put_u8(self.linked.into());
        bytes.put(&[0; 2]);
        bytes.put_u32(self.mode & MODE);
        bytes.put_u32(self.uid);
        bytes.put_u32(self.gid);
        self.modified.put(bytes);
        bytes.put_u32(0);
        bytes.put_u64(self.size);
        bytes.put_u32(self.device.0);
        bytes.put_u32(self.device.1);
        bytes.put_u64(self.link);
        bytes.put_u32(len_u32(self.path.len()));
        bytes.put_u32(len_u32(self.target.len()));
        bytes.put(self.path);
        bytes.put(self.target);
        Ok(())
    }

    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("object", bytes);
        let kind = bytes.u8()?;
        let kind = ObjectKind::parse(&bytes, kind)?;
        let linked = match bytes.u8()? {
            0 => false,
            1 => true,
            other => return Err(bytes.error(format!("an object with unknown flags {other}"))),
        };
        bytes.zeros(2)?;
        let mode = parse_mode(&mut bytes)?;
        let (uid, gid) = (bytes.u32()?, bytes.u32()?);
        let modified = Time::parse(&mut bytes)?;
        bytes.zeros(4)?;
        let size = bytes.u64()?;
        let device = (bytes.u32()?, bytes.u32()?);
        let link = bytes.u64()?;
        let (path, target) = (bytes.u32()?, bytes.u32()?);
        let (path, target) = (
            take_limited(&mut bytes, path, MAX_PATH)?,
            take_limited(&mut bytes, target, MAX_TARGET)?,
        );
        check_path(path)?;
        check_target(kind, target)?;
        check_linked(kind, linked)?;
        bytes.end()?;
        Ok(Self {
            kind,
            mode,
            uid,
            gid,
            modified,
            size,
            device,
            link,
            linked,
            path,
            target,
        })
    }
}

impl ObjectEnd {
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.put_u8(self.state.code());
        bytes.put_u8(self.digest.is_some().into());
        bytes.put(&[0; 6]);
        bytes.put_u64(self.size);
        bytes.put(&self.digest.unwrap_or_default());
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("end of an object", bytes);
        let (state, algorithm) = (bytes.u8()?, bytes.u8()?);
        let state = ObjectState::parse(&bytes, state)?;
        bytes.zeros(6)?;
        let (size, digest) = (bytes.u64()?, bytes.array()?);
        let digest = match algorithm {
            0 if digest == [0; DIGEST_LEN] => None,
            1 => Some(digest),
            other => return Err(bytes.error(format!("a digest of unknown algorithm {other}"))),
        };
        bytes.end()?;
        Ok(Self {
            state,
            size,
            digest,
        })
    }
}
