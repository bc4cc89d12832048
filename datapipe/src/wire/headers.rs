//! Session and archive header. `docs/wire-format.md`, "Session header" and "Archive header".

use std::fmt;
use std::str::FromStr;

use super::codec::{Bytes, DecodeError, Put, len_u16, truncate};
use super::unit_kind::CipherKind;
use crate::limits::{MAX_BUFFER_SIZE, MAX_KEY_SLOTS, MAX_RECORD, MAX_TEXT};

/// Length in bytes of a key slot in a session header.
pub const SLOT_LEN: usize = 128;
#[cfg(feature = "crypto")]
const _: () = assert!(crate::crypto::SLOT_LEN == SLOT_LEN, "the key slot");

/// A point in time.
///
/// Exhaustive: the format stores exactly these two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970; negative before it.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Time {
    pub(super) fn put(self, bytes: &mut Vec<u8>) {
        bytes.put_i64(self.seconds);
        bytes.put_u32(self.nanoseconds);
    }

    pub(super) fn parse(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        let (seconds, nanoseconds) = (bytes.i64()?, bytes.u32()?);
        if nanoseconds >= 1_000_000_000 {
            return Err(bytes.error(format!(
                "a time has {nanoseconds} nanoseconds, but at most 999999999 are allowed"
            )));
        }
        Ok(Self {
            seconds,
            nanoseconds,
        })
    }
}

/// Headers and footers that the chunks of a session have.
///
/// Written and parsed as `header`, `once` and `header-footer`.
///
/// Exhaustive: version 1 will not get another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// A header before every chunk.
    Header,
    /// One header, many chunks, one footer.
    Once,
    /// Header and footer around every chunk.
    #[default]
    HeaderFooter,
}

impl Framing {
    fn code(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Once => 2,
            Self::HeaderFooter => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Header, Self::Once, Self::HeaderFooter]
            .into_iter()
            .find(|framing| framing.code() == code)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Once => "once",
            Self::HeaderFooter => "header-footer",
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Framing {
    type Err = UnknownFraming;

    fn from_str(name: &str) -> Result<Self, UnknownFraming> {
        [Self::Header, Self::Once, Self::HeaderFooter]
            .into_iter()
            .find(|framing| framing.name() == name)
            .ok_or_else(|| UnknownFraming {
                name: name.to_owned(),
            })
    }
}

/// Error of a name that [`Framing`] does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownFraming {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown framing {:?}: use \"header\", \"once\" or \"header-footer\"",
            self.name
        )
    }
}

impl std::error::Error for UnknownFraming {}

/// Content of an archive.
///
/// Exhaustive: version 1 will not get another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// One stream of bytes.
    #[default]
    Stream,
    /// Files and directories, with a catalogue.
    Tree,
}

impl Content {
    fn code(self) -> u8 {
        match self {
            Self::Stream => 1,
            Self::Tree => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Stream, Self::Tree]
            .into_iter()
            .find(|content| content.code() == code)
    }
}

/// The header of a session, of which each of its volumes has a copy.
///
/// Exhaustive: these are all fields of a header of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionHeader {
    /// Random bytes that every record repeats.
    pub id: [u8; 16],
    /// Time at which the session began.
    pub created: Time,
    /// Length of the records, header included, in bytes; the last before a file mark may be
    /// shorter.
    pub record_len: u32,
    /// Headers and footers of its chunks.
    pub framing: Framing,
    /// Name of the machine that wrote it.
    pub host: String,
    /// Name of the program that wrote it.
    pub program: String,
    /// Label that the user gave it.
    pub label: String,
    /// Key slots; none if nothing is encrypted.
    pub slots: Vec<[u8; SLOT_LEN]>,
}

impl SessionHeader {
    /// The bytes before the number of slots, on which the keys of its archives depend.
    pub fn identity(&self) -> Vec<u8> {
        let (host, program, label) = (
            truncate(&self.host, MAX_TEXT),
            truncate(&self.program, MAX_TEXT),
            truncate(&self.label, MAX_TEXT),
        );
        let mut bytes = Vec::new();
        bytes.put(&self.id);
        self.created.put(&mut bytes);
        bytes.put_u32(self.record_len);
        bytes.put_u8(self.framing.code());
        bytes.put(&[0; 3]);
        bytes.put_u16(len_u16(host.len()));
        bytes.put_u16(len_u16(program.len()));
        bytes.put_u16(len_u16(label.len()));
        bytes.put(host.as_bytes());
        bytes.put(program.as_bytes());
        bytes.put(label.as_bytes());
        bytes
    }

    /// The body of the unit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.identity();
        let slots = self.slots.get(..MAX_KEY_SLOTS).unwrap_or(&self.slots);
        bytes.put_u8(u8::try_from(slots.len()).unwrap_or(u8::MAX));
        slots.iter().for_each(|slot| bytes.put(slot));
        bytes
    }

    /// Parses the body of a unit.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if a field is missing, too long, or has a value that this version does not
    /// know.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("session header", body);
        let id = bytes.array()?;
        let created = Time::parse(&mut bytes)?;
        let record_len = bytes.u32()?;
        let framing = bytes.u8()?;
        bytes.zeros(3)?;
        let [host, program, label] = [bytes.u16()?, bytes.u16()?, bytes.u16()?].map(usize::from);
        if [host, program, label].iter().any(|&len| len > MAX_TEXT) {
            return Err(bytes.error(format!("a text is longer than {MAX_TEXT} bytes")));
        }
        let (host, program, label) = (bytes.text(host)?, bytes.text(program)?, bytes.text(label)?);
        let count = usize::from(bytes.u8()?);
        if count > MAX_KEY_SLOTS {
            return Err(bytes.error(format!(
                "{count} key slots, but at most {MAX_KEY_SLOTS} are allowed"
            )));
        }
        let slots = (0..count)
            .map(|_| bytes.array())
            .collect::<Result<_, _>>()?;
        let Some(framing) = Framing::from_code(framing) else {
            return Err(bytes.error(format!("unknown framing {framing}")));
        };
        if usize::try_from(record_len).unwrap_or(usize::MAX) > MAX_RECORD || record_len < 72 {
            return Err(bytes.error(format!(
                "records of {record_len} bytes, but 72 to {MAX_RECORD} are allowed"
            )));
        }
        bytes.end()?;
        Ok(Self {
            id,
            created,
            record_len,
            framing,
            host,
            program,
            label,
            slots,
        })
    }
}

/// The header of an archive.
///
/// Exhaustive: these are all fields of a header of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveHeader {
    /// Random bytes.
    pub id: [u8; 16],
    /// Random bytes, drawn at each start of a writer.
    pub salt: [u8; 32],
    /// Time at which the archive began.
    pub created: Time,
    /// Largest plain length of a block, in bytes.
    pub block_len: u32,
    /// Stream or file tree.
    pub content: Content,
    /// Encryption of all its blocks.
    pub cipher: CipherKind,
    /// Name that the user gave it.
    pub name: String,
}

impl ArchiveHeader {
    /// The body of the unit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let name = truncate(&self.name, MAX_TEXT);
        let mut bytes = Vec::new();
        bytes.put(&self.id);
        bytes.put(&self.salt);
        self.created.put(&mut bytes);
        bytes.put_u32(self.block_len);
        bytes.put_u8(self.content.code());
        bytes.put_u8(self.cipher.code());
        bytes.put_u16(len_u16(name.len()));
        bytes.put_u32(0);
        bytes.put(name.as_bytes());
        bytes
    }

    /// Parses the body of a unit.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if a field is missing, too long, or has a value that this version does not
    /// know.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("archive header", body);
        let (id, salt) = (bytes.array()?, bytes.array()?);
        let created = Time::parse(&mut bytes)?;
        let block_len = bytes.u32()?;
        let (content, cipher, name) = (bytes.u8()?, bytes.u8()?, usize::from(bytes.u16()?));
        bytes.zeros(4)?;
        if name > MAX_TEXT {
            return Err(bytes.error(format!("a name longer than {MAX_TEXT} bytes")));
        }
        let name = bytes.text(name)?;
        let Some(content) = Content::from_code(content) else {
            return Err(bytes.error(format!("unknown content {content}")));
        };
        let Some(cipher) = CipherKind::from_code(cipher) else {
            return Err(bytes.error(format!("encrypted with unknown algorithm {cipher}")));
        };
        if block_len > MAX_BUFFER_SIZE || block_len == 0 {
            return Err(bytes.error(format!(
                "blocks of {block_len} bytes, but at most {MAX_BUFFER_SIZE} are allowed"
            )));
        }
        bytes.end()?;
        Ok(Self {
            id,
            salt,
            created,
            block_len,
            content,
            cipher,
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn framing_names_are_parsed_as_they_are_displayed() {
        for framing in [Framing::Header, Framing::Once, Framing::HeaderFooter] {
            assert_eq!(framing.to_string().parse(), Ok(framing));
        }
        let error = "Once".parse::<Framing>().unwrap_err().to_string();
        assert!(
            error.starts_with("unknown framing \"Once\": use"),
            "{error}"
        );
    }
}
