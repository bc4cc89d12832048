//! Units, which the stream consists of: a header of 64 bytes and a body. `docs/wire-format.md`,
//! "Units".

use super::codec::{Bytes, DecodeError, Put};
use super::header_checks::{VERSION, check_crc, check_version};
use super::unit_kind::{BlockKind, CipherKind, UnitKind};
use crate::block_info::{Codec, ContentClass, Marks};
use crate::limits::{MAX_BUFFER_SIZE, MAX_HEADER_BODY};

/// Bytes of a unit's header.
pub const UNIT_HEADER_LEN: usize = 64;

/// Largest body: a block of the largest size, and its tag.
pub const MAX_STORED: u32 = MAX_BUFFER_SIZE + TAG_LEN;

/// Bytes that encryption adds: the tag.
const TAG_LEN: u32 = 16;
#[cfg(feature = "crypto")]
const _: () = assert!(crate::crypto::TAG_LEN == 16, "the cipher's tag");

const MAGIC: &[u8; 4] = b"DPun";

/// Marks that the format stores. The others describe damage that a reader has found, or the end of
/// a chunk, which the stream shows.
const STORED_MARKS: Marks = Marks(Marks::MARKED.0 | Marks::REJECTED.0 | Marks::LAST.0);

/// The header of a unit.
///
/// Exhaustive: these are all fields of a header of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitHeader {
    /// Kind of the unit.
    pub kind: UnitKind,
    /// Marks of a block: [`Marks::MARKED`], [`Marks::REJECTED`] and [`Marks::LAST`].
    pub marks: Marks,
    /// Archive in the session, from 1; 0 outside of archives.
    pub archive: u32,
    /// Chunk in the archive, from 0.
    pub chunk: u32,
    /// Number of the block; for other kinds see the format's page.
    pub number: u64,
    /// Offset in the archive's plain stream at which the block's data begins.
    pub offset: u64,
    /// Bytes of the body before compression.
    pub plain: u32,
    /// Bytes of the body as it is stored.
    pub stored: u32,
    /// Compression of the body.
    pub codec: Codec,
    /// Encryption of the body.
    pub cipher: CipherKind,
    /// Result of content analysis.
    pub class: ContentClass,
    /// Role of the block in the archive.
    pub block_kind: BlockKind,
    /// CRC-32 of the body as it is stored.
    pub body_crc: u32,
    /// Offset of this header in the stream.
    pub position: u64,
    /// First bytes of the session's id.
    pub session: [u8; 4],
}

impl UnitHeader {
    /// A header of this kind, with zero in every other field.
    pub fn new(kind: UnitKind) -> Self {
        Self {
            kind,
            marks: Marks::default(),
            archive: 0,
            chunk: 0,
            number: 0,
            offset: 0,
            plain: 0,
            stored: 0,
            codec: Codec::NONE,
            cipher: CipherKind::None,
            class: ContentClass::UNKNOWN,
            block_kind: BlockKind::Data,
            body_crc: 0,
            position: 0,
            session: [0; 4],
        }
    }

    /// The header's bytes.
    pub fn to_bytes(&self) -> [u8; UNIT_HEADER_LEN] {
        let mut bytes = Vec::with_capacity(UNIT_HEADER_LEN);
        bytes.put(MAGIC);
        bytes.put_u8(self.kind.code());
        bytes.put_u8(VERSION);
        bytes.put_u16(u16::from((self.marks & STORED_MARKS).0));
        bytes.put_u32(self.archive);
        bytes.put_u32(self.chunk);
        bytes.put_u64(self.number);
        bytes.put_u64(self.offset);
        bytes.put_u32(self.plain);
        bytes.put_u32(self.stored);
        bytes.put_u8(self.codec.0);
        bytes.put_u8(self.cipher.code());
        bytes.put_u8(self.class.0);
        bytes.put_u8(self.block_kind.code());
        bytes.put_u32(self.body_crc);
        bytes.put_u64(self.position);
        bytes.put(&self.session);
        bytes.put_u32(crc32fast::hash(&bytes));
        bytes.try_into().expect("the fields make 64 bytes")
    }

    /// The data that encryption authenticates beside the body: bytes 4 to 7, 16 to 23 and 32 to 43
    /// of the header. The offset is not among them.
    pub fn associated_data(&self) -> [u8; 24] {
        let mut data = [0; 24];
        let bytes = self.to_bytes();
        let range = |first, len| bytes.iter().skip(first).take(len);
        let fixed = range(4, 4).chain(range(16, 8)).chain(range(32, 12));
        data.iter_mut()
            .zip(fixed)
            .for_each(|(to, from)| *to = *from);
        data
    }

    /// Parses the first 64 bytes of `bytes`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if they are not a header, are damaged, or have a value that this version
    /// does not know.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header = bytes.get(..UNIT_HEADER_LEN).unwrap_or(bytes);
        let mut bytes = Bytes::new("unit header", header);
        if bytes.array()? != *MAGIC {
            return Err(bytes.error("does not begin with \"DPun\""));
        }
        let raw = RawHeader::read(&mut bytes)?;
        check_crc(&bytes, header, raw.crc)?;
        check_version(&bytes, raw.version)?;
        let header = raw.decode(&bytes)?;
        header.check_lengths()?;
        header.check_marks()?;
        header.check_ranges()?;
        Ok(header)
    }

    /// Bytes from this header to the next one.
    pub fn unit_len(&self) -> usize {
        let stored = usize::try_from(self.stored).unwrap_or(usize::MAX);
        UNIT_HEADER_LEN
            .saturating_add(stored)
            .saturating_add(padding_of(stored))
    }

    /// Refuses a value other than zero in a field that only blocks have, if this is another kind
    /// of unit.
    fn check_kind(&self) -> Result<(), DecodeError> {
        let plain = self.codec == Codec::NONE
            && self.cipher == CipherKind::None
            && self.class == ContentClass::UNKNOWN
            && self.block_kind == BlockKind::Data
            && self.marks == Marks::default()
            && self.offset == 0;
        if self.kind != UnitKind::Block && !plain {
            let why = format!(
                "a {} with a value in a field that only other kinds have",
                self.kind.name()
            );
            return Err(DecodeError::new("unit header", why));
        }
        Ok(())
    }

    /// Refuses lengths that no writer gives, before the reader takes memory for them.
    ///
    /// Without compression the body, less its tag, has the plain length. With compression it is at
    /// most as long: a block that would not shrink is stored as it is. A rejected block has no body
    /// but the tag, and keeps its plain length. The plain length of a unit of a later version may
    /// mean anything, so only its stored length is compared with the limit.
    pub(crate) fn check_lengths(&self) -> Result<(), DecodeError> {
        let tag = if self.cipher == CipherKind::None {
            0
        } else {
            TAG_LEN
        };
        let data = self.stored.checked_sub(tag);
        let limit = if self.kind == UnitKind::Block {
            MAX_BUFFER_SIZE
        } else {
            MAX_HEADER_BODY
        };
        let agree = match (self.kind, data) {
            (_, None) => false,
            (UnitKind::Later(_), Some(data)) => data <= MAX_HEADER_BODY,
            (UnitKind::Block, Some(data)) if self.marks.contains(Marks::REJECTED) => data == 0,
            (_, Some(data)) if self.codec == Codec::NONE => data == self.plain,
            (_, Some(data)) => data <= self.plain,
        };
        if agree && self.plain <= limit {
            return Ok(());
        }
        let (kind, plain, stored) = (self.kind.name(), self.plain, self.stored);
        let why = format!("a {kind} of {plain} bytes cannot be stored in {stored}, or is too long");
        Err(DecodeError::new("unit header", why))
    }

    /// Refuses a rejected block with a compression, and a last block that is not of kind data: a
    /// rejected block has no data, and the last one belongs to no other kind.
    fn check_marks(&self) -> Result<(), DecodeError> {
        let why = if self.marks.contains(Marks::REJECTED) && self.codec != Codec::NONE {
            format!("a rejected block, compressed by {}", self.codec)
        } else if self.marks.contains(Marks::LAST) && self.block_kind != BlockKind::Data {
            format!("a last block of kind {}", self.block_kind.code())
        } else {
            return Ok(());
        };
        Err(DecodeError::new("unit header", why))
    }

    /// Refuses a position that is not divisible by 8, and a position or an offset near the end of
    /// 64 bits. The 128 bytes are this header and a bound for the padding, so that a reader can
    /// add the unit's length to its position without overflow.
    fn check_ranges(&self) -> Result<(), DecodeError> {
        let end = self
            .position
            .checked_add(u64::from(self.stored))
            .and_then(|end| end.checked_add(128));
        if end.is_none()
            || !self.position.is_multiple_of(8)
            || self.offset.checked_add(self.plain.into()).is_none()
        {
            let (position, offset) = (self.position, self.offset);
            let why = format!("its position {position} or offset {offset} is out of range");
            return Err(DecodeError::new("unit header", why));
        }
        Ok(())
    }
}

/// A header as it is stored: its codes are not decoded yet.
struct RawHeader {
    kind: u8,
    version: u8,
    flags: u16,
    cipher: u8,
    block_kind: u8,
    crc: u32,
    /// The fields that need no decoding. The others have the values of [`UnitHeader::new`].
    fields: UnitHeader,
}

impl RawHeader {
    /// Reads all fields after the magic.
    fn read(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        let (kind, version, flags) = (bytes.u8()?, bytes.u8()?, bytes.u16()?);
        let (archive, chunk) = (bytes.u32()?, bytes.u32()?);
        let (number, offset) = (bytes.u64()?, bytes.u64()?);
        let (plain, stored) = (bytes.u32()?, bytes.u32()?);
        let [codec, cipher, class, block_kind] = bytes.array()?;
        let body_crc = bytes.u32()?;
        let position = bytes.u64()?;
        let session = bytes.array()?;
        let crc = bytes.u32()?;
        let [low_flags, _] = flags.to_le_bytes();
        Ok(Self {
            kind,
            version,
            flags,
            cipher,
            block_kind,
            crc,
            fields: UnitHeader {
                marks: Marks(low_flags) & STORED_MARKS,
                archive,
                chunk,
                number,
                offset,
                plain,
                stored,
                codec: Codec(codec),
                class: ContentClass(class),
                body_crc,
                position,
                session,
                ..UnitHeader::new(UnitKind::Later(kind))
            },
        })
    }

    /// Decodes kind, flags, encryption and block kind. `bytes` is the cursor over the header.
    ///
    /// A unit of a later version keeps the values of [`UnitHeader::new`] for the last two, because
    /// a reader skips it: only its length and its position matter.
    fn decode(&self, bytes: &Bytes<'_>) -> Result<UnitHeader, DecodeError> {
        let Some(kind) = UnitKind::from_code(self.kind) else {
            return Err(bytes.error(format!("unknown kind {}", self.kind)));
        };
        let header = UnitHeader {
            kind,
            ..self.fields
        };
        if matches!(kind, UnitKind::Later(_)) {
            return Ok(header);
        }
        if u16::from(header.marks.0) != self.flags {
            return Err(bytes.error(format!("unknown flag, of {:#06x}", self.flags)));
        }
        let Some(cipher) = CipherKind::from_code(self.cipher) else {
            let code = self.cipher;
            return Err(bytes.error(format!("encrypted with unknown algorithm {code}")));
        };
        let Some(block_kind) = BlockKind::from_code(self.block_kind) else {
            let code = self.block_kind;
            return Err(bytes.error(format!("a block of unknown kind {code}")));
        };
        let header = UnitHeader {
            cipher,
            block_kind,
            ..header
        };
        header.check_kind()?;
        Ok(header)
    }
}

/// Zero bytes that follow a body of `stored` bytes.
pub fn padding_of(stored: usize) -> usize {
    stored.wrapping_neg() % 8
}
