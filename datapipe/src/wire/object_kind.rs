//! Kinds of objects of a file tree.

use super::codec::{Bytes, DecodeError};

/// The kind of an object.
///
/// Exhaustive: version 1 will not get another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "their names say it")]
pub enum ObjectKind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharacterDevice,
    BlockDevice,
}

impl ObjectKind {
    const CODES: [(Self, u8); 7] = [
        (Self::File, 1),
        (Self::Directory, 2),
        (Self::Symlink, 3),
        (Self::HardLink, 4),
        (Self::Fifo, 5),
        (Self::CharacterDevice, 6),
        (Self::BlockDevice, 7),
    ];

    pub(super) fn code(self) -> u8 {
        Self::CODES
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or(0, |&(_, code)| code)
    }

    pub(super) fn parse(bytes: &Bytes<'_>, code: u8) -> Result<Self, DecodeError> {
        let known = Self::CODES
            .iter()
            .find(|&&(_, known)| known == code)
            .map(|&(kind, _)| kind);
        known.ok_or_else(|| bytes.error(format!("an object of unknown type {code}")))
    }
}
