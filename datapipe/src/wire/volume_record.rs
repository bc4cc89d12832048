//! The volume record, the first record of a volume. `docs/wire-format.md`, "Volume record".

use super::codec::{Bytes, DecodeError, Put, len_u32};
use super::extension::parse_run;
use super::headers::Time;
use super::record::{RECORD_HEADER_LEN, RecordHeader, RecordKind};
use crate::limits::MAX_VOLUME_TEXT;

/// Bytes of a volume record, header included.
pub const VOLUME_RECORD_LEN: usize = 512;

const CONTENT_LEN: usize = VOLUME_RECORD_LEN - RECORD_HEADER_LEN;
/// Offset of the checksum in the content, which covers everything before it.
const CHECKED_LEN: usize = CONTENT_LEN - 4;
/// Most bytes of the extension run.
const MAX_EXTENSIONS: usize = 248;

/// Content of a volume record: the identity of a volume, which survives everything that is written
/// to it.
///
/// Text that is longer than [`MAX_VOLUME_TEXT`] bytes is not encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeRecord {
    /// Random id of the volume.
    pub id: [u8; 16],
    /// Id that all volumes of one medium share; zeros for a volume without others.
    pub medium: [u8; 16],
    /// Time at which it was made.
    pub created: Time,
    /// Number of the volume in its medium, from 1; 0 if it has none.
    pub ordinal: u32,
    /// True if what was written must not be removed or changed.
    pub write_once: bool,
    /// Pool that the volume belongs to; empty if none.
    pub pool: String,
    /// Label of the volume, for people; empty if none.
    pub label: String,
}

impl VolumeRecord {
    /// Makes the record of a volume without pool and label that can be written again.
    pub fn new(id: [u8; 16], medium: [u8; 16], ordinal: u32, created: Time) -> Self {
        Self {
            id,
            medium,
            created,
            ordinal,
            write_once: false,
            pool: String::new(),
            label: String::new(),
        }
    }

    /// The whole record: header and content.
    ///
    /// # Panics
    ///
    /// If pool or label have more than [`MAX_VOLUME_TEXT`] bytes.
    pub fn to_bytes(&self) -> [u8; VOLUME_RECORD_LEN] {
        let header = RecordHeader {
            kind: RecordKind::Volume,
            session: self.id,
            sequence: 0,
            volume: 0,
            length: len_u32(CONTENT_LEN),
            position: 0,
            first: None,
        };
        let mut content = Vec::with_capacity(CONTENT_LEN);
        content.put(&self.id);
        content.put(&self.medium);
        self.created.put(&mut content);
        content.put_u32(self.ordinal);
        content.put_u8(self.write_once.into());
        content.put_u8(text_len(&self.pool));
        content.put_u8(text_len(&self.label));
        content.put_u8(0);
        // The extension run, which this version does not write, and a reserved word.
        content.put_u32(0);
        content.put_u64(0);
        for text in [&self.pool, &self.label] {
            let end = content.len().saturating_add(MAX_VOLUME_TEXT);
            content.put(text.as_bytes());
            content.resize(end, 0);
        }
        content.resize(CHECKED_LEN, 0);
        content.put_u32(crc32fast::hash(&content));
        let mut bytes = header.to_bytes().to_vec();
        bytes.put(&content);
        bytes.try_into().expect("the fields make 512 bytes")
    }

    /// Decodes a whole record.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if it is not a volume record, or is damaged.
    pub fn parse(record: &[u8]) -> Result<Self, DecodeError> {
        let (header, content) = RecordHeader::parse(record)?;
        let mut bytes = Bytes::new("volume record", content);
        if header.kind != RecordKind::Volume {
            return Err(bytes.error("is a record of another kind"));
        }
        if content.len() != CONTENT_LEN {
            return Err(bytes.error(format!(
                "has {} bytes of content, not {CONTENT_LEN}",
                content.len()
            )));
        }
        if !Self::is_content(content) {
            return Err(bytes.error("damaged (checksum)"));
        }
        let (id, medium) = (bytes.array()?, bytes.array()?);
        let created = Time::parse(&mut bytes)?;
        let ordinal = bytes.u32()?;
        let [once, pool_len, label_len, zero] = bytes.array()?;
        let extensions_len = usize::try_from(bytes.u32()?).unwrap_or(usize::MAX);
        bytes.zeros(8)?;
        let pool = text(&mut bytes, pool_len)?;
        let label = text(&mut bytes, label_len)?;
        let write_once = match once {
            0 => false,
            1 => true,
            other => return Err(bytes.error(format!("unknown kind of volume {other}"))),
        };
        if id != header.session {
            return Err(bytes.error("its header has another volume id"));
        }
        if zero != 0 {
            return Err(bytes.error("a reserved field is not zero"));
        }
        parse_run(&mut bytes, extensions_len, MAX_EXTENSIONS)?;
        bytes.zeros(bytes.rest().len().saturating_sub(4))?;
        Ok(Self {
            id,
            medium,
            created,
            ordinal,
            write_once,
            pool,
            label,
        })
    }

    /// True if the bytes are the content of a volume record by their checksum, with which the
    /// record is recognised when its header is damaged.
    pub fn is_content(content: &[u8]) -> bool {
        let Some((checked, crc)) = content.split_last_chunk::<4>() else {
            return false;
        };
        // A content of zeros has another checksum.
        checked.len() == CHECKED_LEN && crc32fast::hash(checked) == u32::from_le_bytes(*crc)
    }
}

fn text_len(text: &str) -> u8 {
    let len = u8::try_from(text.len()).ok();
    len.filter(|len| usize::from(*len) <= MAX_VOLUME_TEXT)
        .expect("the text was limited before")
}

/// Reads a text of `len` bytes and the zeros after it.
fn text(bytes: &mut Bytes<'_>, len: u8) -> Result<String, DecodeError> {
    let len = usize::from(len);
    let Some(after) = MAX_VOLUME_TEXT.checked_sub(len) else {
        return Err(bytes.error(format!(
            "says {len} bytes of text, but at most {MAX_VOLUME_TEXT} are allowed"
        )));
    };
    let text = bytes.text(len)?;
    bytes.zeros(after)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )]
    use super::*;

    fn full() -> VolumeRecord {
        let created = Time {
            seconds: 7,
            nanoseconds: 9,
        };
        VolumeRecord {
            write_once: true,
            pool: "p".repeat(MAX_VOLUME_TEXT),
            label: "A00002L5".to_owned(),
            ..VolumeRecord::new([1; 16], [2; 16], 3, created)
        }
    }

    /// Corrects the checksum of the content.
    fn corrected(mut bytes: [u8; VOLUME_RECORD_LEN]) -> [u8; VOLUME_RECORD_LEN] {
        let end = VOLUME_RECORD_LEN - 4;
        let crc = crc32fast::hash(&bytes[RECORD_HEADER_LEN..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn volume_record_is_decoded_as_it_was_encoded() {
        for record in [
            full(),
            VolumeRecord::new([0; 16], [0; 16], 0, Time::default()),
        ] {
            assert_eq!(VolumeRecord::parse(&record.to_bytes()), Ok(record));
        }
    }

    #[test]
    fn volume_record_with_any_changed_byte_is_refused() {
        let bytes = full().to_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 0x20;
            assert!(VolumeRecord::parse(&changed).is_err(), "byte {at}");
            assert!(VolumeRecord::parse(&bytes[..at]).is_err(), "{at} bytes");
            // One of the two halves still identifies it.
            let (header, content) = changed.split_at(RECORD_HEADER_LEN);
            let known = RecordHeader::parse_header(header).is_ok();
            assert!(known || VolumeRecord::is_content(content), "byte {at}");
        }
        assert!(!VolumeRecord::is_content(&[0; CONTENT_LEN]));
    }

    #[test]
    fn invalid_field_with_a_right_checksum_is_refused() {
        let field = |at: usize, value: u8| {
            let mut bytes = full().to_bytes();
            bytes[RECORD_HEADER_LEN + at] = value;
            VolumeRecord::parse(&corrected(bytes))
        };
        for (at, value, says) in [
            (0, 9, "another volume id"),
            (43, 0xff, "nanoseconds"),
            (48, 2, "unknown kind of volume 2"),
            (49, 65, "says 65 bytes of text"),
            (50, 3, "reserved"),
            (51, 1, "reserved"),
            (52, 4, "multiple of 8"),
            (53, 1, "multiple of 8 up to 248"),
            (56, 1, "reserved"),
            (64, 0xff, "not UTF-8"),
            (191, 1, "reserved"),
            (192, 1, "reserved"),
            (443, 1, "reserved"),
        ] {
            let error = field(at, value).unwrap_err().to_string();
            assert!(error.contains(says), "byte {at}: {error}");
        }
    }

    #[test]
    fn extensions_are_passed_over_unless_they_are_required() {
        let with = |run: &[u8]| {
            let mut bytes = full().to_bytes();
            bytes[RECORD_HEADER_LEN + 52] = u8::try_from(run.len()).unwrap();
            bytes[RECORD_HEADER_LEN + 192..][..run.len()].copy_from_slice(run);
            VolumeRecord::parse(&corrected(bytes))
        };
        let optional = [1, 0, 4, 0, 1, 2, 3, 4, 2, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(with(&optional), Ok(full()));
        for (run, says) in [
            (&[0, 0x80, 0, 0, 0, 0, 0, 0][..], "extension 32768"),
            (&[1, 0, 5, 0, 1, 2, 3, 4], "too early"),
            (&[1, 0, 0, 0, 0, 0, 0, 1], "reserved"),
        ] {
            let error = with(run).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
