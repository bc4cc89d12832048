//! Records, which a medium takes: a header of 64 bytes and a piece of the stream.
//! `docs/wire-format.md`, "Records".

use super::codec::{Bytes, DecodeError, Put};
use super::header_checks::{VERSION, check_crc, check_version};
use crate::limits::MAX_RECORD;

/// Bytes of a record's header.
pub const RECORD_HEADER_LEN: usize = 64;

const MAGIC: &[u8; 4] = b"DPrc";
/// `first` of a record in which no unit begins.
const NONE: u32 = u32::MAX;

/// The kind of a record.
///
/// Exhaustive: version 1 will not get another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// The first record of a session on each volume: the session that the volume belongs to.
    Label,
    /// A piece of the stream.
    Data,
    /// The first record of a volume: its identity, which is not part of a session.
    Volume,
    /// A record of a later version, from 128 on. It is one of its session, and not a piece of the
    /// stream.
    Later(u8),
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            Self::Label => 1,
            Self::Data => 2,
            Self::Volume => 3,
            Self::Later(code) => code,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Label),
            2 => Some(Self::Data),
            3 => Some(Self::Volume),
            128.. => Some(Self::Later(code)),
            _ => None,
        }
    }
}

/// The header of a record.
///
/// Exhaustive: these are all fields of a header of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Kind of the record.
    pub kind: RecordKind,
    /// Id of the session that wrote it.
    pub session: [u8; 16],
    /// Records of the session before it.
    pub sequence: u64,
    /// Volume it was written to, from 1; 0 in a volume record.
    pub volume: u32,
    /// Bytes of content.
    pub length: u32,
    /// Offset in the stream at which the content begins.
    pub position: u64,
    /// Offset in the content of the first unit header that begins in it, if one does.
    pub first: Option<u32>,
}

impl RecordHeader {
    /// The header's bytes.
    pub fn to_bytes(&self) -> [u8; RECORD_HEADER_LEN] {
        let mut bytes = Vec::with_capacity(RECORD_HEADER_LEN);
        bytes.put(MAGIC);
        bytes.put_u8(self.kind.code());
        bytes.put_u8(VERSION);
        bytes.put_u16(0);
        bytes.put(&self.session);
        bytes.put_u64(self.sequence);
        bytes.put_u32(self.volume);
        bytes.put_u32(self.length);
        bytes.put_u64(self.position);
        bytes.put_u32(self.first.unwrap_or(NONE));
        bytes.put_u64(0);
        bytes.put_u32(crc32fast::hash(&bytes));
        bytes.try_into().expect("the fields make 64 bytes")
    }

    /// The header and the content of a whole record, without the zeros that may follow the content.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if it is not a record of this version, or is damaged.
    pub fn parse(record: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let (header, content) = record
            .split_at_checked(RECORD_HEADER_LEN)
            .unwrap_or((record, &[]));
        let header = Self::parse_header(header)?;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let Some((content, filler)) = content.split_at_checked(length) else {
            let has = content.len();
            return Err(DecodeError::new(
                "record header",
                format!("says {length} bytes of content, but has {has}"),
            ));
        };
        // Media of blocks of one length fill the last one.
        if filler.iter().any(|&byte| byte != 0) {
            return Err(DecodeError::new(
                "record",
                format!("the bytes after its {length} bytes of content are not zero"),
            ));
        }
        Ok((header, content))
    }

    /// The header of a record whose end may be gone.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if it is not that of a record of this version, or is damaged.
    pub fn parse_header(header: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("record header", header);
        if bytes.array()? != *MAGIC {
            return Err(bytes.error("does not begin with \"DPrc\""));
        }
        let kind = bytes.u8()?;
        let version = bytes.u8()?;
        let reserved = bytes.u16()?;
        let session = bytes.array()?;
        let sequence = bytes.u64()?;
        let (volume, length) = (bytes.u32()?, bytes.u32()?);
        let position = bytes.u64()?;
        let first = bytes.u32()?;
        let reserved = u64::from(reserved) | bytes.u64()?;
        let crc = bytes.u32()?;
        check_crc(&bytes, header, crc)?;
        check_version(&bytes, version)?;
        let Some(kind) = RecordKind::from_code(kind) else {
            return Err(bytes.error(format!("unknown kind {kind}")));
        };
        if reserved != 0 {
            return Err(bytes.error("a reserved field is not zero"));
        }
        let header = Self {
            kind,
            session,
            sequence,
            volume,
            length,
            position,
            first: Some(first).filter(|&first| first != NONE),
        };
        header.check_ranges(&bytes)?;
        bytes.end()?;
        Ok(header)
    }

    /// Refuses numbers that no writer gives. `bytes` is the cursor over the header.
    fn check_ranges(&self, bytes: &Bytes<'_>) -> Result<(), DecodeError> {
        let length = self.length;
        let len = usize::try_from(length).unwrap_or(usize::MAX);
        if len < 8 || !len.is_multiple_of(8) || len > MAX_RECORD.saturating_sub(RECORD_HEADER_LEN) {
            return Err(bytes.error(format!(
                "says {length} bytes of content, but a multiple of 8 up to {} is allowed",
                MAX_RECORD.saturating_sub(RECORD_HEADER_LEN)
            )));
        }
        let outside = |first: u32| first >= length || !first.is_multiple_of(8);
        if let Some(first) = self.first.filter(|&first| outside(first)) {
            return Err(bytes.error(format!(
                "its first unit begins outside of it, at byte {first} of {length}"
            )));
        }
        if self.volume == 0 && self.kind != RecordKind::Volume {
            return Err(bytes.error("volume 0, but volumes are counted from 1"));
        }
        if self.position.checked_add(length.into()).is_none() || !self.position.is_multiple_of(8) {
            return Err(bytes.error(format!("its position is out of range: {}", self.position)));
        }
        Ok(())
    }
}

/// True if `start` could be the beginning of a record: a medium asks after damage, to find the
/// next record.
pub fn looks_like_record(start: &[u8]) -> bool {
    let Some((header, _)) = start.split_at_checked(RECORD_HEADER_LEN) else {
        return false;
    };
    let Some((covered, crc)) = header.split_last_chunk::<4>() else {
        return false;
    };
    header.starts_with(MAGIC) && crc32fast::hash(covered) == u32::from_le_bytes(*crc)
}
