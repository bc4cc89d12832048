//! Special headers: what an application records about an archive, in blocks of their own.

use crate::limits::{MAX_SPECIAL, MAX_SPECIALS};
use crate::shared_bytes::{NoMemory, SharedBytes};
use crate::wire::DecodeError;
use crate::wire::codec::{Bytes, Put, len_u32};

use super::write::PlanError;

/// A special header: bytes that an application records with an archive, before its data. It is
/// encrypted as the data, and cannot be taken out without a reader noticing.
///
/// [`Archive::special`](super::Archive::special) adds one, and
/// [`ArchiveReader::on_special`](super::ArchiveReader::on_special) returns it.
///
/// ```
/// use datapipe::archive::{ArchiveOptions, ArchiveReader, Special, StreamRestore};
/// use datapipe::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("nightly.tap");
///
/// const TICKET: u32 = Special::OWN | 1;
/// let ticket = Special::new(TICKET, "restore for INC-17 only")?;
/// let archive = ArchiveOptions::stream("nightly").plan()?.special(ticket)?;
/// let tape = VirtualTape::create(&path, VolumeOptions::default())?;
/// Pipe::builder().head(StreamHead::new(&b"data"[..])).archive(archive, tape).run()?;
///
/// let (sender, specials) = std::sync::mpsc::channel();
/// let reader = ArchiveReader::open(VirtualTape::open(&path)?, None)?;
/// let reader = reader.on_special(move |special| {
///     let _ = sender.send(special.clone());
///     special.id() == TICKET
/// });
/// reader.read().pipe.tail(StreamRestore::new(std::io::sink())).run()?;
/// drop(reader);
/// assert_eq!(specials.recv()?.bytes(), b"restore for INC-17 only");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Special {
    id: u32,
    bytes: Vec<u8>,
}

/// Kind of the entry that a block of a special header has.
const ENTRY_KIND: u8 = 32;

/// Bytes before those of the caller: the header of the entry, the identifier and a zero.
const HEADER: usize = 24;

impl Special {
    /// Bit that each identifier of an application has. The others are the format's.
    pub const OWN: u32 = 1 << 31;
    /// Bit of identifiers that a reader must know: one that does not refuses the archive.
    pub const REQUIRED: u32 = 1 << 30;

    /// Makes a special header of an application. `id` has the bit [`OWN`](Self::OWN), and
    /// [`REQUIRED`](Self::REQUIRED) if readers that do not know it must refuse the archive.
    ///
    /// # Errors
    ///
    /// [`PlanError::Special`] if `id` is one of the format's, or there are more than
    /// [`MAX_SPECIAL`] bytes.
    pub fn new(id: u32, bytes: impl Into<Vec<u8>>) -> Result<Self, PlanError> {
        let bytes = bytes.into();
        let refused = |why| Err(PlanError::Special { id, why });
        if id & Self::OWN == 0 {
            return refused("its identifier is one of the format's: set bit 31, Special::OWN");
        }
        if bytes.len() > MAX_SPECIAL {
            return refused("it has more than 65,536 bytes, the limit");
        }
        Ok(Self { id, bytes })
    }

    /// Makes a special header of the format.
    pub(super) fn of_format(id: u32, bytes: Vec<u8>) -> Self {
        Self { id, bytes }
    }

    /// The identifier.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True if a reader that does not know the identifier must refuse the archive.
    pub fn is_required(&self) -> bool {
        self.id & Self::REQUIRED != 0
    }

    /// Number of bytes of its block.
    pub(super) fn block_len(&self) -> usize {
        HEADER + self.bytes.len()
    }

    /// The data of its block.
    pub(super) fn to_block(&self) -> Vec<u8> {
        let mut block = vec![ENTRY_KIND, 0, 0, 0];
        block.put_u32(len_u32(self.bytes.len() + 8));
        block.put_u64(0);
        block.put_u32(self.id);
        block.put_u32(0);
        block.put(&self.bytes);
        block
    }

    /// Reads the data of a block. The identifier may be one of the format's.
    pub(super) fn parse(block: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("special header", block);
        let kind = bytes.u8()?;
        if kind != ENTRY_KIND {
            return Err(bytes.error(format!("an entry of kind {kind}, not {ENTRY_KIND}")));
        }
        bytes.zeros(3)?;
        let len = bytes.u32()?;
        bytes.zeros(8)?;
        if usize::try_from(len).ok() != Some(bytes.rest().len()) {
            return Err(bytes.error(format!(
                "an entry of {len} bytes in a block of {}",
                block.len()
            )));
        }
        let id = bytes.u32()?;
        bytes.zeros(4)?;
        let len = bytes.rest().len();
        if len > MAX_SPECIAL {
            return Err(bytes.error(format!("{len} bytes, more than {MAX_SPECIAL}")));
        }
        let bytes = bytes.rest().to_vec();
        Ok(Self { id, bytes })
    }

    /// As [`parse`](Self::parse), from a block that others may change. `copy` gets as many bytes as
    /// a special header has at most: the controller of a pipe reads blocks of other users, which
    /// have any length.
    ///
    /// # Errors
    ///
    /// There is no memory for the copy.
    pub(super) fn copy_of(
        block: SharedBytes<'_>,
        copy: &mut Vec<u8>,
    ) -> Result<Result<Self, DecodeError>, NoMemory> {
        let len = block.len();
        if len > HEADER + MAX_SPECIAL {
            let longest = HEADER + MAX_SPECIAL;
            let what = format!("a block of {len} bytes, more than {longest}");
            return Ok(Err(Bytes::new("special header", &[]).error(what)));
        }
        Ok(Self::parse(block.copy_into(copy)?))
    }

    /// Checks a special header that is added to `others`, in an archive with blocks of `block_len`
    /// bytes.
    pub(super) fn check_added(&self, others: &[Self], block_len: u32) -> Result<(), PlanError> {
        let why = if others.len() >= MAX_SPECIALS {
            "the archive has 16 special headers besides its origin, the limit"
        } else if self.block_len() > block_len as usize {
            "it is longer than the archive's blocks, less 24 bytes"
        } else {
            return Ok(());
        };
        Err(PlanError::Special { id: self.id, why })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn special_survives_encoding_and_nothing_else_decodes() {
        let special = Special::new(Special::OWN | 7, "abc").unwrap();
        let block = special.to_block();
        assert_eq!(block.len(), special.block_len());
        assert_eq!(Special::parse(&block).unwrap(), special);
        assert!((0..block.len()).all(|len| Special::parse(&block[..len]).is_err()));
        assert!(Special::parse(&[&block[..], b"x"].concat()).is_err());
        for at in [0, 1, 8, 20] {
            let mut bad = block.clone();
            bad[at] ^= 1;
            assert!(Special::parse(&bad).is_err(), "{at}");
        }
    }

    /// The order stage of a daemon copied blocks of 64 MiB for each pipe of each user.
    #[test]
    fn block_that_is_longer_than_a_special_header_is_not_copied() {
        let read = |block: &[u8]| {
            let mut copy = Vec::new();
            let special = Special::copy_of(block.into(), &mut copy).unwrap();
            (special, copy.capacity())
        };
        let longest = Special::new(Special::OWN, vec![1; MAX_SPECIAL]).unwrap();
        let mut block = longest.to_block();
        assert_eq!(read(&block).0.unwrap(), longest);
        block.push(0);
        let (refused, copied) = read(&block);
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("65561 bytes, more than 65560"), "{error}");
        assert_eq!(copied, 0);
    }

    #[test]
    fn special_with_an_identifier_of_the_format_is_refused() {
        let error = Special::new(3, "").unwrap_err().to_string();
        assert!(
            error.contains("00000003") && error.contains("bit 31"),
            "{error}"
        );
        assert!(Special::new(Special::OWN, vec![0; MAX_SPECIAL + 1]).is_err());
    }
}
