//! Origin of an archive: its name, and the names of the host and the program that wrote it.
//!
//! If the archive is encrypted, they are in its first block, a special header, and the archive
//! header in clear has none of them.

use crate::limits::MAX_TEXT;
use crate::wire::codec::{Bytes, Put};
use crate::wire::{ArchiveHeader, DecodeError};

/// Origin of an archive: its name, and the names of the host and the program that wrote it, each at
/// most 255 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveOrigin {
    /// Name of the archive.
    pub name: String,
    /// Name of the host that wrote it.
    pub host: String,
    /// Name of the program that wrote it.
    pub program: String,
}

impl ArchiveOrigin {
    /// Identifier of the special header that has the origin of an encrypted archive.
    pub(super) const ID: u32 = 3;

    /// The origin in the header of an archive that is not encrypted.
    pub(super) fn of_header(header: &ArchiveHeader) -> Self {
        Self {
            name: header.name.clone(),
            host: header.host.clone(),
            program: header.program.clone(),
        }
    }

    /// The bytes of its special header.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let texts = [&self.name, &self.host, &self.program];
        let mut bytes = Vec::new();
        for text in texts {
            bytes.put_u16(text.len() as u16);
        }
        bytes.put_u16(0);
        for text in texts {
            bytes.put(text.as_bytes());
        }
        bytes
    }

    /// Reads the bytes of its special header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("origin of an archive", bytes);
        let [name, host, program] = [bytes.u16()?, bytes.u16()?, bytes.u16()?];
        bytes.zeros(2)?;
        let mut text = |len: u16| match usize::from(len) {
            len if len > MAX_TEXT => {
                Err(bytes.error(format!("a text of {len} bytes, more than {MAX_TEXT}")))
            }
            len => bytes.text(len),
        };
        let [name, host, program] = [text(name)?, text(host)?, text(program)?];
        bytes.end()?;
        Ok(Self {
            name,
            host,
            program,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn origin_survives_encoding_and_nothing_else_decodes() {
        let origin = ArchiveOrigin {
            name: "näme".to_owned(),
            host: String::new(),
            program: "program 1".to_owned(),
        };
        let bytes = origin.to_bytes();
        assert_eq!(ArchiveOrigin::parse(&bytes).unwrap(), origin);
        assert!((0..bytes.len()).all(|len| ArchiveOrigin::parse(&bytes[..len]).is_err()));
        assert!(ArchiveOrigin::parse(&[&bytes[..], b"x"].concat()).is_err());
        for at in [1, 3, 6, 9] {
            let mut bad = bytes.clone();
            bad[at] ^= 0x80;
            assert!(ArchiveOrigin::parse(&bad).is_err(), "{at}");
        }
    }
}
