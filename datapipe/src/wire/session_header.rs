//! Session header. `docs/wire-format.md`, "Session header".

use super::codec::{Bytes, DecodeError, Put, len_u16, truncate};
use super::extension::{Extension, encode_run, pad, parse_run};
use super::headers::{Framing, Time, parse_texts};
use crate::limits::{MAX_EXTENSIONS, MAX_RECORD, MAX_TEXT};

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
    /// Name of the machine that wrote it; empty unless all archives of the session are to be in
    /// clear.
    pub host: String,
    /// Name of the program that wrote it; empty as `host` is.
    pub program: String,
    /// Label that the user gave it.
    pub label: String,
    /// The sessions before it on the medium.
    pub before: SessionsBefore,
    /// Extensions, which this version does not use.
    pub extensions: Vec<Extension>,
}

/// The sessions before another one on its medium, as far as its writer knew them. All zeros: there
/// are none, or they are not known.
///
/// Exhaustive: these are all fields of a header of version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionsBefore {
    /// Number of sessions.
    pub count: u32,
    /// Id of the last of them.
    pub id: [u8; 16],
    /// Id of the volume with the record of its footer, or of its label if it has no footer.
    pub volume: [u8; 16],
    /// Records and marks before that record on the volume.
    pub record: u64,
    /// Offset in the volume's file of that record.
    pub byte: u64,
}

impl SessionHeader {
    /// The body of the unit. Texts and extensions beyond their limits are cut off.
    pub fn to_bytes(&self) -> Vec<u8> {
        let texts = [&self.host, &self.program, &self.label].map(|text| truncate(text, MAX_TEXT));
        let extensions = encode_run(&self.extensions, MAX_EXTENSIONS);
        let mut bytes = Vec::new();
        bytes.put(&self.id);
        self.created.put(&mut bytes);
        bytes.put_u32(self.record_len);
        bytes.put_u8(self.framing.code());
        bytes.put(&[0; 3]);
        texts
            .iter()
            .for_each(|text| bytes.put_u16(len_u16(text.len())));
        bytes.put_u16(len_u16(extensions.len()));
        bytes.put_u32(self.before.count);
        bytes.put(&self.before.id);
        bytes.put(&self.before.volume);
        bytes.put_u64s(&[self.before.record, self.before.byte]);
        texts.iter().for_each(|text| bytes.put(text.as_bytes()));
        pad(&mut bytes);
        bytes.put(&extensions);
        bytes
    }

    /// Parses the body of a unit.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if a field is missing, too long, or has a value that this version does not
    /// know, or if an extension is required.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("session header", body);
        let id = bytes.array()?;
        let created = Time::parse(&mut bytes)?;
        let record_len = bytes.u32()?;
        let framing = bytes.u8()?;
        bytes.zeros(3)?;
        let [host, program, label] = [bytes.u16()?, bytes.u16()?, bytes.u16()?];
        let extensions = usize::from(bytes.u16()?);
        let before = SessionsBefore {
            count: bytes.u32()?,
            id: bytes.array()?,
            volume: bytes.array()?,
            record: bytes.u64()?,
            byte: bytes.u64()?,
        };
        let [host, program, label] = parse_texts(&mut bytes, [host, program, label])?;
        let extensions = parse_run(&mut bytes, extensions, MAX_EXTENSIONS)?;
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
            before,
            extensions,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::limits::MAX_SESSION_HEADER;

    fn header(text: usize) -> SessionHeader {
        SessionHeader {
            id: [1; 16],
            created: Time::default(),
            record_len: 1 << 20,
            framing: Framing::default(),
            host: "h".repeat(text),
            program: String::new(),
            label: "l".repeat(text),
            before: SessionsBefore {
                count: 3,
                id: [2; 16],
                volume: [4; 16],
                record: 5,
                byte: 6,
            },
            extensions: Vec::new(),
        }
    }

    #[test]
    fn session_header_is_parsed_as_it_was_encoded() {
        for text in [0, 1, 4, 255] {
            let header = header(text);
            let bytes = header.to_bytes();
            assert_eq!(bytes.len() % 8, 0);
            assert_eq!(SessionHeader::parse(&bytes), Ok(header));
        }
    }

    #[test]
    fn session_header_of_the_largest_size_fits_its_limit() {
        let largest = SessionHeader {
            program: "p".repeat(MAX_TEXT),
            extensions: vec![Extension {
                id: 1,
                data: vec![0; MAX_EXTENSIONS - 4],
            }],
            ..header(MAX_TEXT)
        };
        let bytes = largest.to_bytes();
        assert_eq!(bytes.len(), MAX_SESSION_HEADER);
        assert_eq!(SessionHeader::parse(&bytes), Ok(largest));
    }

    #[test]
    fn session_header_with_a_required_extension_is_refused() {
        let data = Vec::new();
        let extensions = vec![Extension { id: 40_000, data }];
        let bytes = SessionHeader {
            extensions,
            ..header(3)
        }
        .to_bytes();
        let error = SessionHeader::parse(&bytes).unwrap_err().to_string();
        assert!(
            error.starts_with("session header: extension 40000 is required"),
            "{error}"
        );
    }

    #[test]
    fn session_header_that_is_cut_off_is_refused() {
        let bytes = header(3).to_bytes();
        for len in 0..bytes.len() {
            assert!(
                SessionHeader::parse(bytes.get(..len).unwrap()).is_err(),
                "{len}"
            );
        }
    }
}
