//! What the stream consists of: a header of 64 bytes and a body. `docs/wire-format.md`, "Units".

use super::VERSION;
use super::codec::{Bytes, DecodeError, Put};
use crate::block_info::{Codec, ContentClass, Marks};
use crate::limits::{MAX_BUFFER_SIZE, MAX_HEADER_BODY};

/// Bytes of a unit's header.
pub const UNIT_HEADER_LEN: usize = 64;

/// Largest body: a block of the largest size, and its tag.
pub const MAX_STORED: u32 = MAX_BUFFER_SIZE + TAG_LEN;

/// Bytes that encryption adds.
const TAG_LEN: u32 = 16;

const MAGIC: &[u8; 4] = b"DPun";

/// What a unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the format's page names them")]
pub enum UnitKind {
    SessionHeader,
    ArchiveHeader,
    ChunkHeader,
    Block,
    Options,
    ChunkFooter,
    ArchiveFooter,
    SessionFooter,
    Locator,
    Special,
    /// What a later version added, and this one skips: 128 to 255.
    Later(u8),
}

impl UnitKind {
    const CODES: [(Self, u8); 10] = [
        (Self::SessionHeader, 1),
        (Self::ArchiveHeader, 2),
        (Self::ChunkHeader, 3),
        (Self::Block, 4),
        (Self::Options, 5),
        (Self::ChunkFooter, 6),
        (Self::ArchiveFooter, 7),
        (Self::SessionFooter, 8),
        (Self::Locator, 9),
        (Self::Special, 10),
    ];

    fn code(self) -> u8 {
        match self {
            Self::Later(code) => code,
            _ => Self::CODES
                .iter()
                .find(|(kind, _)| *kind == self)
                .map_or(0, |&(_, code)| code),
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        let known = Self::CODES
            .iter()
            .find(|&&(_, known)| known == code)
            .map(|&(kind, _)| kind);
        known.or_else(|| (code >= 128).then_some(Self::Later(code)))
    }

    /// What the unit is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionHeader => "session header",
            Self::ArchiveHeader => "archive header",
            Self::ChunkHeader => "chunk header",
            Self::Block => "block",
            Self::Options => "options",
            Self::ChunkFooter => "chunk footer",
            Self::ArchiveFooter => "archive footer",
            Self::SessionFooter => "session footer",
            Self::Locator => "locator",
            Self::Special => "special header",
            Self::Later(_) => "unit of a later version",
        }
    }
}

/// How a body is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    /// It is not.
    #[default]
    None,
    /// AES-256-GCM.
    Aes256Gcm,
}

impl Cipher {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Aes256Gcm => 1,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }
}

/// What a block's data is to the archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockKind {
    /// What was archived.
    #[default]
    Data,
    /// A piece of the catalogue: of the objects that ended before it.
    Catalogue,
    /// A piece of the catalogue's closing run: of all objects.
    ClosingCatalogue,
}

impl BlockKind {
    /// Its code, also in [`BlockInfo::kind`](crate::pool::BlockInfo::kind).
    pub fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Catalogue => 1,
            Self::ClosingCatalogue => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Data),
            1 => Some(Self::Catalogue),
            2 => Some(Self::ClosingCatalogue),
            _ => None,
        }
    }
}

/// The header of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitHeader {
    /// What the unit is.
    pub kind: UnitKind,
    /// What is noted about a block: [`Marks::MARKED`] and [`Marks::REJECTED`].
    pub marks: Marks,
    /// Archive in the session, from 1; 0 outside of archives.
    pub archive: u32,
    /// Chunk in the archive, from 0.
    pub chunk: u32,
    /// Of the block; of other kinds as the format says.
    pub number: u64,
    /// Where the block's data begins in the archive's plain stream.
    pub offset: u64,
    /// Bytes of the body before compression.
    pub plain: u32,
    /// Bytes of the body as it is stored.
    pub stored: u32,
    /// How it is compressed.
    pub codec: Codec,
    /// How it is encrypted.
    pub cipher: Cipher,
    /// What content analysis says.
    pub class: ContentClass,
    /// Data or catalogue.
    pub what: BlockKind,
    /// CRC-32 of the body as it is stored.
    pub body_crc: u32,
    /// Where in the stream this header stands.
    pub position: u64,
    /// First bytes of the session's id.
    pub session: [u8; 4],
}

impl UnitHeader {
    /// A header that says nothing but what the unit is.
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
            cipher: Cipher::None,
            class: ContentClass::UNKNOWN,
            what: BlockKind::Data,
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
        bytes.put_u16(u16::from(self.marks.0 & KNOWN_MARKS.0));
        bytes.put_u32(self.archive);
        bytes.put_u32(self.chunk);
        bytes.put_u64(self.number);
        bytes.put_u64(self.offset);
        bytes.put_u32(self.plain);
        bytes.put_u32(self.stored);
        bytes.put_u8(self.codec.0);
        bytes.put_u8(self.cipher.code());
        bytes.put_u8(self.class.0);
        bytes.put_u8(self.what.code());
        bytes.put_u32(self.body_crc);
        bytes.put_u64(self.position);
        bytes.put(&self.session);
        bytes.put_u32(crc32fast::hash(&bytes));
        bytes.try_into().expect("the fields make 64 bytes")
    }

    /// What encryption authenticates beside the body: bytes 4 to 7 and 16 to 43 of the header.
    pub fn associated_data(&self) -> [u8; 32] {
        let mut data = [0; 32];
        let bytes = self.to_bytes();
        let fixed = bytes
            .iter()
            .skip(4)
            .take(4)
            .chain(bytes.iter().skip(16).take(28));
        data.iter_mut()
            .zip(fixed)
            .for_each(|(to, from)| *to = *from);
        data
    }

    /// Parses the first 64 bytes of `bytes`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if they are no header, damaged, or say what this version does not know.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header = bytes.get(..UNIT_HEADER_LEN).unwrap_or(bytes);
        let mut bytes = Bytes::new("unit header", header);
        if bytes.array()? != *MAGIC {
            return Err(bytes.wrong("does not begin as one"));
        }
        let (kind, version, flags) = (bytes.u8()?, bytes.u8()?, bytes.u16()?);
        let (archive, chunk) = (bytes.u32()?, bytes.u32()?);
        let (number, offset) = (bytes.u64()?, bytes.u64()?);
        let (plain, stored) = (bytes.u32()?, bytes.u32()?);
        let [codec, cipher, class, what] = bytes.array()?;
        let body_crc = bytes.u32()?;
        let position = bytes.u64()?;
        let session = bytes.array()?;
        let crc = bytes.u32()?;
        let covered = header
            .get(..UNIT_HEADER_LEN.saturating_sub(4))
            .unwrap_or_default();
        if crc != crc32fast::hash(covered) {
            return Err(bytes.wrong("damaged (checksum)"));
        }
        if version != VERSION {
            return Err(bytes.wrong(format!(
                "version {version}, but this reader knows {VERSION}"
            )));
        }
        let Some(kind) = UnitKind::from_code(kind) else {
            return Err(bytes.wrong(format!("unknown kind {kind}")));
        };
        let header = Self {
            kind,
            marks: marks_of(flags),
            archive,
            chunk,
            number,
            offset,
            plain,
            stored,
            codec: Codec(codec),
            cipher: Cipher::None,
            class: ContentClass(class),
            what: BlockKind::Data,
            body_crc,
            position,
            session,
        };
        if matches!(kind, UnitKind::Later(_)) {
            header.check_lengths()?;
            return Ok(header);
        }
        if u16::from(header.marks.0) != flags {
            return Err(bytes.wrong(format!("unknown flag, of {flags:#06x}")));
        }
        let Some(cipher) = Cipher::from_code(cipher) else {
            return Err(bytes.wrong(format!("encrypted with unknown algorithm {cipher}")));
        };
        let Some(what) = BlockKind::from_code(what) else {
            return Err(bytes.wrong(format!("a block of unknown meaning {what}")));
        };
        let header = Self {
            cipher,
            what,
            ..header
        };
        header.check_kind()?;
        header.check_lengths()?;
        Ok(header)
    }

    /// Bytes from this header to the next one.
    pub fn unit_len(&self) -> usize {
        let stored = usize::try_from(self.stored).unwrap_or(usize::MAX);
        UNIT_HEADER_LEN
            .saturating_add(stored)
            .saturating_add(padding_of(stored))
    }

    /// What only blocks say is zero in all others.
    fn check_kind(&self) -> Result<(), DecodeError> {
        let may_be_sealed = matches!(
            self.kind,
            UnitKind::Block | UnitKind::Options | UnitKind::ArchiveFooter
        );
        let plain = self.codec == Codec::NONE
            && self.class == ContentClass::UNKNOWN
            && self.what == BlockKind::Data
            && self.marks == Marks::default()
            && self.offset == 0;
        if (self.kind != UnitKind::Block && !plain)
            || (self.cipher != Cipher::None && !may_be_sealed)
        {
            let why = format!(
                "a {} with a field that is not zero and that it does not have",
                self.kind.name()
            );
            return Err(DecodeError::new("unit header", why));
        }
        Ok(())
    }

    /// Lengths that no writer gives are refused before anybody takes memory for them.
    fn check_lengths(&self) -> Result<(), DecodeError> {
        let tag = if self.cipher == Cipher::None {
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
            (_, Some(data)) if self.codec == Codec::NONE => data == self.plain,
            (_, Some(data)) => data <= self.plain,
        };
        if !agree || self.plain > limit {
            let (kind, plain, stored) = (self.kind.name(), self.plain, self.stored);
            let why =
                format!("a {kind} of {plain} bytes cannot be stored in {stored}, or is too long");
            return Err(DecodeError::new("unit header", why));
        }
        if self.marks.contains(Marks::REJECTED) && self.plain != 0 {
            let why = format!(
                "a rejected block of {} bytes, which should have none",
                self.plain
            );
            return Err(DecodeError::new("unit header", why));
        }
        let end = self
            .position
            .checked_add(u64::from(self.stored))
            .and_then(|end| end.checked_add(128));
        if end.is_none()
            || !self.position.is_multiple_of(8)
            || self.offset.checked_add(self.plain.into()).is_none()
        {
            return Err(DecodeError::new(
                "unit header",
                "its position or offset is out of range",
            ));
        }
        Ok(())
    }
}

/// Zero bytes behind a body of `stored` bytes.
pub fn padding_of(stored: usize) -> usize {
    stored.wrapping_neg() % 8
}

/// Marks that travel. Damage is found, not stored.
const KNOWN_MARKS: Marks = Marks(Marks::MARKED.0 | Marks::REJECTED.0);

/// The marks among the flags.
fn marks_of(flags: u16) -> Marks {
    let [low, _] = flags.to_le_bytes();
    Marks(low & KNOWN_MARKS.0)
}
