//! Session footer, and the list of volumes before it. `docs/wire-format.md`, "Session footer".

use super::codec::{Bytes, DecodeError, Put, len_u32};
use super::extension::{Extension, encode_run, parse_run};
use crate::limits::{MAX_ARCHIVES, MAX_EXTENSIONS, MAX_LISTED_VOLUMES};
use crate::position::Position;

/// The footer of a session.
///
/// Exhaustive: these are all fields of a footer of version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFooter {
    /// Position of the session's own label on the medium. Its volume is 1, as all volumes are
    /// counted from the first one of the session.
    pub label: LabelPlace,
    /// Its archives, in the order of their numbers.
    pub archives: Vec<ArchiveEntry>,
    /// Extensions, which this version does not use.
    pub extensions: Vec<Extension>,
}

/// Position of the first label of a session.
///
/// Exhaustive: these are all fields of a footer of version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelPlace {
    /// Id of its volume; zeros if it has none.
    pub volume: [u8; 16],
    /// Records and marks before it on the volume.
    pub record: u64,
    /// Offset in the volume's file.
    pub byte: u64,
}

/// The location of an archive.
///
/// Exhaustive: these are all fields of a footer's entry of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// The archive's id.
    pub id: [u8; 16],
    /// Blocks in it; of an archive that is not complete, 0.
    pub blocks: u64,
    /// Position on the medium of the record in which its footer begins. Volume 0: it has no footer,
    /// because it is not complete.
    pub place: Position,
    /// Offset of its footer in the stream; 0 if it has none.
    pub position: u64,
    /// Offset of its locator in the stream; 0 if it has none.
    pub locator: u64,
    /// Position on the medium of the record in which its header begins.
    pub header: Position,
}

impl SessionFooter {
    /// The body of the unit. Archives and extensions beyond their limits are cut off.
    pub fn to_bytes(&self) -> Vec<u8> {
        let archives = self.archives.get(..MAX_ARCHIVES).unwrap_or(&self.archives);
        let extensions = encode_run(&self.extensions, MAX_EXTENSIONS);
        let mut bytes = Vec::new();
        bytes.put_u32(len_u32(archives.len()));
        bytes.put_u32(len_u32(extensions.len()));
        bytes.put(&self.label.volume);
        bytes.put_u64s(&[self.label.record, self.label.byte]);
        for archive in archives {
            bytes.put(&archive.id);
            bytes.put_u64(archive.blocks);
            bytes.put_u32(archive.place.volume);
            bytes.put_u32(archive.header.volume);
            bytes.put_u64s(&[archive.place.record, archive.place.byte]);
            bytes.put_u64s(&[archive.position, archive.locator]);
            bytes.put_u64s(&[archive.header.record, archive.header.byte]);
        }
        bytes.put(&extensions);
        bytes
    }

    /// Parses the body of a unit.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the body is damaged or too long, or has an extension that a reader must
    /// know.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("session footer", body);
        let (count, extensions) = (bytes.u32()?, bytes.u32()?);
        let label = LabelPlace {
            volume: bytes.array()?,
            record: bytes.u64()?,
            byte: bytes.u64()?,
        };
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_ARCHIVES {
            return Err(bytes.error(format!(
                "{count} archives, but at most {MAX_ARCHIVES} are allowed"
            )));
        }
        let archives = (0..count).map(|_| ArchiveEntry::parse(&mut bytes));
        let archives = archives.collect::<Result<_, _>>()?;
        let len = usize::try_from(extensions).unwrap_or(usize::MAX);
        let extensions = parse_run(&mut bytes, len, MAX_EXTENSIONS)?;
        bytes.end()?;
        Ok(Self {
            label,
            archives,
            extensions,
        })
    }
}

impl ArchiveEntry {
    fn parse(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        let (id, blocks) = (bytes.array()?, bytes.u64()?);
        let (footer, header) = (bytes.u32()?, bytes.u32()?);
        let [record, byte, position, locator] = bytes.u64s()?;
        let [header_record, header_byte] = bytes.u64s()?;
        Ok(Self {
            id,
            blocks,
            place: Position {
                volume: footer,
                record,
                byte,
            },
            position,
            locator,
            header: Position {
                volume: header,
                record: header_record,
                byte: header_byte,
            },
        })
    }

    /// True if the archive has a footer: it is complete, as far as its writer knew.
    pub fn has_footer(&self) -> bool {
        self.place.volume > 0
    }
}

/// The last volumes of a session, by their ids.
///
/// Exhaustive: these are all fields of the unit in version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeList {
    /// Id and ordinal of each volume, in the order of the session; both are 0 if the volume has no
    /// volume record.
    pub volumes: Vec<([u8; 16], u32)>,
}

impl VolumeList {
    /// The body of the unit. Volumes beyond the limit are cut off.
    pub fn to_bytes(&self) -> Vec<u8> {
        let volumes = self.volumes.get(..MAX_LISTED_VOLUMES);
        let volumes = volumes.unwrap_or(&self.volumes);
        let mut bytes = Vec::new();
        bytes.put_u32(len_u32(volumes.len()));
        bytes.put_u32(0);
        for (id, ordinal) in volumes {
            bytes.put(id);
            bytes.put_u32(*ordinal);
            bytes.put_u32(0);
        }
        bytes
    }

    /// Parses the body of a unit.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the body is damaged or too long.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("list of volumes", body);
        let count = bytes.u32()?;
        bytes.zeros(4)?;
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_LISTED_VOLUMES {
            return Err(bytes.error(format!(
                "{count} volumes, but at most {MAX_LISTED_VOLUMES} are allowed"
            )));
        }
        let mut volumes = Vec::new();
        for _ in 0..count {
            volumes.push((bytes.array()?, bytes.u32()?));
            bytes.zeros(4)?;
        }
        bytes.end()?;
        Ok(Self { volumes })
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )]
    use super::*;

    fn at(volume: u32, record: u64, byte: u64) -> Position {
        Position {
            volume,
            record,
            byte,
        }
    }

    fn footer() -> SessionFooter {
        let whole = ArchiveEntry {
            id: [7; 16],
            blocks: 5,
            place: at(2, 3, 4),
            position: 100,
            locator: 90,
            header: at(1, 2, 520),
        };
        SessionFooter {
            label: LabelPlace {
                volume: [3; 16],
                record: 1,
                byte: 520,
            },
            archives: vec![
                whole,
                ArchiveEntry {
                    place: Position::start_of(0),
                    ..whole
                },
            ],
            extensions: Vec::new(),
        }
    }

    #[test]
    fn session_footer_is_parsed_as_it_was_encoded() {
        let footer = footer();
        let bytes = footer.to_bytes();
        assert_eq!(bytes.len(), 40 + 2 * 80);
        assert_eq!(SessionFooter::parse(&bytes).unwrap(), footer);
        assert!(footer.archives[0].has_footer() && !footer.archives[1].has_footer());
        for len in 0..bytes.len() {
            assert!(SessionFooter::parse(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn session_footer_of_too_many_archives_is_refused() {
        let mut bytes = footer().to_bytes();
        bytes[..4].copy_from_slice(&1025u32.to_le_bytes());
        let error = SessionFooter::parse(&bytes).unwrap_err().to_string();
        assert!(error.contains("1025 archives, but at most 1024"), "{error}");
    }

    #[test]
    fn session_footer_with_a_required_extension_is_refused() {
        let data = Vec::new();
        let footer = SessionFooter {
            extensions: vec![Extension { id: 40_000, data }],
            ..footer()
        };
        let error = SessionFooter::parse(&footer.to_bytes()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("extension 40000 is required"), "{error}");
    }

    #[test]
    fn list_of_volumes_is_parsed_as_it_was_encoded() {
        let list = VolumeList {
            volumes: vec![([1; 16], 1), ([0; 16], 0), ([9; 16], 999_999)],
        };
        let bytes = list.to_bytes();
        assert_eq!(bytes.len(), 8 + 3 * 24);
        assert_eq!(VolumeList::parse(&bytes).unwrap(), list);
        for len in 0..bytes.len() {
            assert!(VolumeList::parse(&bytes[..len]).is_err(), "{len}");
        }
        let mut many = bytes;
        many[..4].copy_from_slice(&65_537u32.to_le_bytes());
        let error = VolumeList::parse(&many).unwrap_err().to_string();
        assert!(error.contains("65537 volumes"), "{error}");
    }
}
