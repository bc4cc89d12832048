//! The source of a copy, and what the source had lost. `docs/wire-format.md`, "Copies".

use super::codec::{Bytes, DecodeError, Put};
use super::extension::Extension;
use super::headers::Time;

/// The session from which an archive was copied. The archive footer of the copy has it.
///
/// Exhaustive: these are all fields of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// Id of the session.
    pub session: [u8; 16],
    /// Time at which that session was begun.
    pub created: Time,
}

impl CopySource {
    /// Identifier of the extension.
    pub(super) const EXTENSION: u16 = 1;

    /// The extension of the archive footer.
    pub(super) fn extension(self) -> Extension {
        Extension {
            id: Self::EXTENSION,
            data: self.to_bytes(),
        }
    }

    /// Parses the extension of an archive footer.
    pub(super) fn parse(extension: &Extension) -> Result<Self, DecodeError> {
        Self::from_bytes(&extension.data)
    }

    /// The data of the extension, 28 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put(&self.session);
        self.created.put(&mut bytes);
        bytes
    }

    /// Parses the data of the extension.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the data are not 28 bytes, or the time has a second of nanoseconds or
    /// more.
    pub fn from_bytes(data: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("source of a copy", data);
        let session = bytes.array()?;
        let created = Time::parse(&mut bytes)?;
        bytes.end()?;
        Ok(Self { session, created })
    }
}

/// Blocks that the source of a copy had lost. The unit precedes the block after them, and its
/// header has the number of the first.
///
/// Exhaustive: these are all fields of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostBlocks {
    /// Number of the blocks, at least 1.
    pub count: u64,
}

impl LostBlocks {
    /// The body of the unit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u64(self.count);
        bytes
    }

    /// Parses the body of a unit.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the body is not 8 bytes, or counts no block.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("unit of lost blocks", body);
        let count = bytes.u64()?;
        if count == 0 {
            return Err(bytes.error("no lost block"));
        }
        bytes.end()?;
        Ok(Self { count })
    }
}
