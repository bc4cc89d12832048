//! Archive header. `docs/wire-format.md`, "Archive header".

use super::codec::{Bytes, DecodeError, Put, len_u16, len_u32};
use super::extension::{Extension, encode_run, parse_run};
use super::headers::{Content, Time};
use super::unit_kind::CipherKind;
use crate::limits::{MAX_BASES, MAX_BUFFER_SIZE, MAX_EXTENSIONS, MAX_KEY_SLOTS};

/// Length in bytes of a key slot in an archive header.
pub const SLOT_LEN: usize = 128;
#[cfg(feature = "crypto")]
const _: () = assert!(crate::crypto::SLOT_LEN == SLOT_LEN, "the key slot");

/// The header of an archive.
///
/// An archive is made of its header, its blocks and its end. It depends on nothing of the session
/// that carries it, so it can be copied into another one without its key. It is never encrypted:
/// the name of the archive, and of its writer, are in the first block, which is.
///
/// Exhaustive: these are all fields of a header of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveHeader {
    /// Random bytes, the same in all headers of an archive.
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
    /// Number of the archive in its set; 0 is the main archive.
    pub part: u16,
    /// Id of the main archive of its set: its own, if it is that.
    pub set: [u8; 16],
    /// Number of the first block under this header; 0 if the archive begins with it.
    pub first: u64,
    /// SHA-256 of the identity of the header that this one continues; zeros if there is none.
    pub previous: [u8; 32],
    /// Id of the data key; zeros if the archive is not encrypted.
    pub key_id: [u8; 16],
    /// Other archives to which this one refers.
    pub bases: Vec<Base>,
    /// Extensions, which this version does not use.
    pub extensions: Vec<Extension>,
    /// Key slots; none if the archive is not encrypted.
    pub slots: Vec<[u8; SLOT_LEN]>,
}

/// An archive to which another one refers.
///
/// Exhaustive: these are all fields of a header of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its id.
    pub archive: [u8; 16],
    /// SHA-256 of the identity of its last header.
    pub header: [u8; 32],
}

impl ArchiveHeader {
    /// The bytes before the number of slots, on which the archive's key depends.
    pub fn identity(&self) -> Vec<u8> {
        let bases = self.bases.get(..MAX_BASES).unwrap_or(&self.bases);
        let extensions = encode_run(&self.extensions, MAX_EXTENSIONS);
        let mut bytes = Vec::new();
        bytes.put(&self.id);
        bytes.put(&self.salt);
        self.created.put(&mut bytes);
        bytes.put_u32(self.block_len);
        bytes.put_u8(self.content.code());
        bytes.put_u8(self.cipher.code());
        bytes.put_u16(self.part);
        bytes.put_u32(len_u32(extensions.len()));
        bytes.put(&self.set);
        bytes.put_u64(self.first);
        bytes.put(&self.previous);
        bytes.put(&self.key_id);
        bytes.put_u16(len_u16(bases.len()));
        bytes.put(&[0; 6]);
        for base in bases {
            bytes.put(&base.archive);
            bytes.put(&base.header);
        }
        bytes.put(&extensions);
        bytes
    }

    /// The body of the unit. Bases, extensions and slots beyond their limits are cut off.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.identity();
        let slots = self.slots.get(..MAX_KEY_SLOTS).unwrap_or(&self.slots);
        bytes.put_u8(u8::try_from(slots.len()).unwrap_or(u8::MAX));
        bytes.put(&[0; 7]);
        slots.iter().for_each(|slot| bytes.put(slot));
        bytes
    }

    /// Parses the body of a unit.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if a field is missing, too long, or has a value that this version does not
    /// know, or if the archive is one that this version does not read: a part of a set, a
    /// continuation, or one with bases or required extensions.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let header = Self::decode(body)?;
        match header.unread() {
            None => Ok(header),
            Some(what) => Err(DecodeError::new(
                "archive header",
                format!(
                    "archive {} {what}, which this version does not read: use a newer version",
                    hex(&header.id)
                ),
            )),
        }
    }

    /// Parses any header of the format, also of an archive that this version does not read.
    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("archive header", body);
        let (id, salt) = (bytes.array()?, bytes.array()?);
        let created = Time::parse(&mut bytes)?;
        let block_len = bytes.u32()?;
        let (content, cipher, part) = (bytes.u8()?, bytes.u8()?, bytes.u16()?);
        let extensions = usize::try_from(bytes.u32()?).unwrap_or(usize::MAX);
        let (set, first, previous) = (bytes.array()?, bytes.u64()?, bytes.array()?);
        let key_id = bytes.array()?;
        let bases = usize::from(bytes.u16()?);
        bytes.zeros(6)?;
        if bases > MAX_BASES {
            return Err(bytes.error(format!(
                "{bases} bases, but at most {MAX_BASES} are allowed"
            )));
        }
        let bases = (0..bases).map(|_| Base::parse(&mut bytes));
        let bases = bases.collect::<Result<_, _>>()?;
        let extensions = parse_run(&mut bytes, extensions, MAX_EXTENSIONS)?;
        let slots = parse_slots(&mut bytes)?;
        let header = Self {
            id,
            salt,
            created,
            block_len,
            content: Content::from_code(content)
                .ok_or_else(|| bytes.error(format!("unknown content {content}")))?,
            cipher: CipherKind::from_code(cipher)
                .ok_or_else(|| bytes.error(format!("encrypted with unknown algorithm {cipher}")))?,
            part,
            set,
            first,
            previous,
            key_id,
            bases,
            extensions,
            slots,
        };
        match header.contradiction() {
            Some(why) => Err(bytes.error(why)),
            None => bytes.end().map(|()| header),
        }
    }

    /// Returns the first fault of the fields, if there is one.
    fn contradiction(&self) -> Option<String> {
        let (id, len) = (hex(&self.id), self.block_len);
        if len > MAX_BUFFER_SIZE || len == 0 {
            return Some(format!(
                "blocks of {len} bytes, but at most {MAX_BUFFER_SIZE} are allowed"
            ));
        }
        let has_key = self.key_id != [0; 16] || !self.slots.is_empty();
        if self.cipher == CipherKind::None && has_key {
            return Some(format!(
                "archive {id} is not encrypted, but has a key id or key slots"
            ));
        }
        if self.first == 0 && self.previous != [0; 32] {
            return Some(format!(
                "archive {id} begins with block 0, but names a header that it continues"
            ));
        }
        None
    }

    /// Returns a property of the archive for which this version does not read it, if there is one.
    fn unread(&self) -> Option<String> {
        if self.first != 0 {
            return Some(format!("is a continuation from block {}", self.first));
        }
        if self.part != 0 {
            let main = hex(&self.set);
            return Some(format!(
                "is part {} of the set of archive {main}",
                self.part
            ));
        }
        if self.set != self.id {
            let main = hex(&self.set);
            return Some(format!("belongs to the set of archive {main}"));
        }
        match self.bases.len() {
            0 => None,
            1 => Some("refers to another archive".to_owned()),
            count => Some(format!("refers to {count} other archives")),
        }
    }
}

impl Base {
    fn parse(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            archive: bytes.array()?,
            header: bytes.array()?,
        })
    }
}

/// Parses the number of slots, and the slots. Their content is checked when they are opened.
fn parse_slots(bytes: &mut Bytes<'_>) -> Result<Vec<[u8; SLOT_LEN]>, DecodeError> {
    let count = usize::from(bytes.u8()?);
    bytes.zeros(7)?;
    if count > MAX_KEY_SLOTS {
        return Err(bytes.error(format!(
            "{count} key slots, but at most {MAX_KEY_SLOTS} are allowed"
        )));
    }
    (0..count).map(|_| bytes.array()).collect()
}

/// Writes an id in hexadecimal digits.
fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )]
    use super::*;
    use crate::limits::MAX_ARCHIVE_HEADER;

    fn header() -> ArchiveHeader {
        ArchiveHeader {
            id: [0xa5; 16],
            salt: [2; 32],
            created: Time::default(),
            block_len: 4096,
            content: Content::Tree,
            cipher: CipherKind::Aes256Gcm,
            part: 0,
            set: [0xa5; 16],
            first: 0,
            previous: [0; 32],
            key_id: [3; 16],
            bases: Vec::new(),
            extensions: Vec::new(),
            slots: vec![[4; SLOT_LEN]],
        }
    }

    fn base(byte: u8) -> Base {
        Base {
            archive: [byte; 16],
            header: [byte; 32],
        }
    }

    fn error(header: &ArchiveHeader) -> String {
        ArchiveHeader::parse(&header.to_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn archive_header_is_parsed_as_it_was_encoded() {
        for slots in [0, 1, 8] {
            let header = ArchiveHeader {
                slots: vec![[9; SLOT_LEN]; slots],
                ..header()
            };
            let bytes = header.to_bytes();
            assert_eq!(bytes.len() % 8, 0);
            assert_eq!(header.identity().len(), 152);
            assert_eq!(ArchiveHeader::parse(&bytes), Ok(header));
        }
    }

    #[test]
    fn identity_of_an_archive_does_not_depend_on_its_slots() {
        let none = ArchiveHeader {
            slots: Vec::new(),
            ..header()
        };
        assert_eq!(header().identity(), none.identity());
        assert!(header().to_bytes().starts_with(&none.identity()));
    }

    #[test]
    fn archive_header_of_the_largest_size_fits_its_limit() {
        let largest = ArchiveHeader {
            bases: vec![base(1); MAX_BASES],
            extensions: vec![Extension {
                id: 1,
                data: vec![0; MAX_EXTENSIONS - 4],
            }],
            slots: vec![[4; SLOT_LEN]; MAX_KEY_SLOTS],
            ..header()
        };
        let bytes = largest.to_bytes();
        assert_eq!(bytes.len(), MAX_ARCHIVE_HEADER);
        assert_eq!(ArchiveHeader::decode(&bytes), Ok(largest));
    }

    #[test]
    fn archives_that_this_version_does_not_read_are_refused_by_name() {
        let id = "a5".repeat(16);
        let all = |header: &mut ArchiveHeader| header.bases = vec![base(1); 255];
        type Change = fn(&mut ArchiveHeader);
        let cases: [(Change, &str); 6] = [
            (|header| header.first = 7, "is a continuation from block 7"),
            (
                |header| (header.first, header.previous) = (u64::MAX, [1; 32]),
                "is a continuation from block 18446744073709551615",
            ),
            (
                |header| (header.part, header.set) = (2, [0; 16]),
                "is part 2 of the set of archive 00000000000000000000000000000000",
            ),
            (
                |header| header.set = [0; 16],
                "belongs to the set of archive 00000000000000000000000000000000",
            ),
            (
                |header| header.bases = vec![base(1)],
                "refers to another archive",
            ),
            (all, "refers to 255 other archives"),
        ];
        for (change, what) in cases {
            let mut header = header();
            change(&mut header);
            let expected = format!(
                "archive header: archive {id} {what}, which this version does not read: use a \
                 newer version"
            );
            assert_eq!(error(&header), expected);
            // All of it is parsed all the same: a later version needs no other parser.
            assert_eq!(ArchiveHeader::decode(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn archive_headers_that_contradict_themselves_are_refused() {
        let mut previous = header();
        previous.previous = [1; 32];
        assert!(error(&previous).contains("begins with block 0, but names a header"));
        for (slots, key_id) in [(1, [0; 16]), (0, [1; 16])] {
            let header = ArchiveHeader {
                cipher: CipherKind::None,
                slots: vec![[0; SLOT_LEN]; slots],
                key_id,
                ..header()
            };
            let error = error(&header);
            assert!(
                error.contains("is not encrypted, but has a key id or key slots"),
                "{error}"
            );
        }
    }

    #[test]
    fn extensions_of_an_archive_belong_to_its_identity() {
        let with = |id, data: &[u8]| ArchiveHeader {
            extensions: vec![Extension {
                id,
                data: data.to_vec(),
            }],
            ..header()
        };
        let known = with(7, b"later");
        assert_eq!(ArchiveHeader::parse(&known.to_bytes()), Ok(known.clone()));
        assert_ne!(known.identity(), header().identity());
        let error = error(&with(32_768, b""));
        assert!(
            error.contains("archive header: extension 32768 is required"),
            "{error}"
        );
    }

    #[test]
    fn archive_header_with_wrong_lengths_is_refused() {
        let bytes = header().to_bytes();
        for len in 0..bytes.len() {
            assert!(ArchiveHeader::parse(&bytes[..len]).is_err(), "{len}");
        }
        let longer = [&bytes[..], &[0; 8]].concat();
        assert!(ArchiveHeader::parse(&longer).is_err());
        let with = |at: usize, value: u32| {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            ArchiveHeader::parse(&bytes).unwrap_err().to_string()
        };
        assert!(with(68, u32::MAX).contains("extensions of 4294967295 bytes"));
        assert!(with(68, 16_392).contains("up to 16384 is allowed"));
        assert!(with(68, 4).contains("extensions of 4 bytes, but a multiple of 8"));
        assert!(with(68, 8).contains("archive header"), "{}", with(68, 8));
        assert!(
            with(144, 256).contains("256 bases, but at most 255"),
            "{}",
            with(144, 256)
        );
        assert!(with(146, 1).contains("a reserved field is not zero"));
    }
}
