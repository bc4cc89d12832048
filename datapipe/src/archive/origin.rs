//! Origin of an archive: its name, and the names of the host and the program that wrote it. It is
//! the first block of each archive, and sealed as the others are.
//!
//! The plan of an archive makes that block, because the tail that writes it has no key. So the
//! blocks that a pipe sends have numbers from 1 on.

use crate::limits::MAX_TEXT;
use crate::shared_bytes::{NoMemory, SharedBytes};
use crate::wire::codec::{Bytes, DecodeError, Put, len_u16};

use super::special::Special;

/// Identifier of the special header that has the origin.
pub(super) const ORIGIN: u32 = 3;

/// Origin of an archive: its name, and the names of the host and the program that wrote it, each at
/// most 255 bytes. If the archive is encrypted, they are, too.
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
    /// The special header that has the origin. Its texts are within their limit.
    pub(super) fn to_special(&self) -> Special {
        let texts = [&self.name, &self.host, &self.program];
        let mut bytes = Vec::new();
        texts
            .iter()
            .for_each(|text| bytes.put_u16(len_u16(text.len())));
        bytes.put_u16(0);
        texts.iter().for_each(|text| bytes.put(text.as_bytes()));
        Special::of_format(ORIGIN, bytes)
    }

    /// Reads the data of block 0.
    ///
    /// # Errors
    ///
    /// If it is not an origin.
    pub(super) fn parse(block: &[u8]) -> Result<Self, DecodeError> {
        Self::of_special(&Special::parse(block)?)
    }

    /// As [`parse`](Self::parse), from a block that others may change.
    ///
    /// # Errors
    ///
    /// There is no memory for a copy of the block.
    pub(super) fn copy_of(block: SharedBytes<'_>) -> Result<Result<Self, DecodeError>, NoMemory> {
        let special = Special::copy_of(block, &mut Vec::new())?;
        Ok(special.and_then(|special| Self::of_special(&special)))
    }

    fn of_special(special: &Special) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("origin", special.bytes());
        if special.id() != ORIGIN {
            return Err(bytes.error(format!(
                "the special header {:08x}, not {ORIGIN:08x}",
                special.id()
            )));
        }
        let lens = [bytes.u16()?, bytes.u16()?, bytes.u16()?].map(usize::from);
        bytes.zeros(2)?;
        let named = ["name", "host", "program"].iter().zip(lens);
        if let Some((what, len)) = named.into_iter().find(|(_, len)| *len > MAX_TEXT) {
            return Err(bytes.error(format!("a {what} of {len} bytes, more than {MAX_TEXT}")));
        }
        let [name, host, program] = lens.map(|len| bytes.text(len));
        let origin = Self {
            name: name?,
            host: host?,
            program: program?,
        };
        bytes.end()?;
        Ok(origin)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn origin() -> ArchiveOrigin {
        ArchiveOrigin {
            name: "nämlich".to_owned(),
            host: "h".repeat(MAX_TEXT),
            program: String::new(),
        }
    }

    #[test]
    fn origin_survives_encoding_and_no_part_of_it_decodes() {
        for origin in [origin(), ArchiveOrigin::default()] {
            let block = origin.to_special().to_block();
            assert_eq!(ArchiveOrigin::parse(&block).unwrap(), origin);
            assert!((0..block.len()).all(|len| ArchiveOrigin::parse(&block[..len]).is_err()));
        }
    }

    #[test]
    fn origin_that_no_writer_writes_is_refused_with_the_reason() {
        let good = origin().to_special();
        let error = |id: u32, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.bytes().to_vec();
            change(&mut bytes);
            let block = Special::of_format(id, bytes).to_block();
            ArchiveOrigin::parse(&block).unwrap_err().to_string()
        };
        let long = error(ORIGIN, &|bytes| bytes[1] = 1);
        assert_eq!(long, "origin: a name of 264 bytes, more than 255");
        let long = error(ORIGIN, &|bytes| bytes[4..6].fill(255));
        assert_eq!(long, "origin: a program of 65535 bytes, more than 255");
        let text = error(ORIGIN, &|bytes| bytes[8] = 0xff);
        assert_eq!(text, "origin: holds a text that is not UTF-8");
        let reserved = error(ORIGIN, &|bytes| bytes[6] = 1);
        assert_eq!(reserved, "origin: a reserved field is not zero");
        let longer = error(ORIGIN, &|bytes| bytes.push(0));
        assert_eq!(longer, "origin: 1 byte too many");
        let other = error(Special::OWN | ORIGIN, &|_| {});
        assert_eq!(other, "origin: the special header 80000003, not 00000003");
    }
}
