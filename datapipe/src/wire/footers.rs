//! Chunk and archive footer, and the locator. `docs/wire-format.md` has the drawings.

use super::codec::{Bytes, DecodeError, Put, len_u32};
use super::copy_source::CopySource;
use super::extension::{Extension, encode_run, parse_run};
use super::unit_kind::BlockKind;
use crate::limits::{MAX_CHUNK_BLOCKS, MAX_LOCATOR_CHUNKS};
use crate::position::Position;

/// The footer of a chunk, or of an archive's last chunk if there is one footer for all.
///
/// Exhaustive: these are all fields of a footer of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkFooter {
    /// Blocks that it closes.
    pub blocks: u32,
    /// Bytes of those before compression.
    pub plain: u64,
    /// Locations of the last of those blocks, which are consecutive.
    pub entries: Vec<BlockEntry>,
    /// A copy of the session header's body.
    pub session: Vec<u8>,
    /// A copy of the archive header's body.
    pub archive: Vec<u8>,
}

/// A block's location on the medium and in the stream.
///
/// Exhaustive: these are all fields of a footer's entry of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Position on the medium of the record in which its header begins.
    pub place: Position,
    /// Role of the block in the archive.
    pub block_kind: BlockKind,
    /// Offset of its header in the stream.
    pub position: u64,
}

impl ChunkFooter {
    /// The body of the unit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(self.blocks);
        bytes.put_u32(0);
        bytes.put_u64(self.plain);
        bytes.put_u32(len_u32(self.entries.len()));
        bytes.put_u32(0);
        for entry in &self.entries {
            bytes.put_u32(entry.place.volume);
            bytes.put_u8(entry.block_kind.code());
            bytes.put(&[0; 3]);
            bytes.put_u64(entry.place.record);
            bytes.put_u64(entry.place.byte);
            bytes.put_u64(entry.position);
        }
        bytes.put_u32(len_u32(self.session.len()));
        bytes.put_u32(len_u32(self.archive.len()));
        bytes.put(&self.session);
        bytes.put(&self.archive);
        bytes
    }

    /// Parses the body of a unit.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the body is damaged or too long.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("chunk footer", body);
        let blocks = bytes.u32()?;
        bytes.zeros(4)?;
        let plain = bytes.u64()?;
        let count = bytes.u32()?;
        bytes.zeros(4)?;
        let limit = u32::try_from(MAX_CHUNK_BLOCKS)
            .unwrap_or(u32::MAX)
            .min(blocks);
        if count > limit {
            return Err(bytes.error(format!("{count} entries, but at most {limit} are allowed")));
        }
        let mut entries = Vec::new();
        for _ in 0..count {
            let (volume, code) = (bytes.u32()?, bytes.u8()?);
            bytes.zeros(3)?;
            let place = Position {
                volume,
                record: bytes.u64()?,
                byte: bytes.u64()?,
            };
            let Some(block_kind) = BlockKind::from_code(code) else {
                return Err(bytes.error(format!("a block of unknown kind {code}")));
            };
            entries.push(BlockEntry {
                place,
                block_kind,
                position: bytes.u64()?,
            });
        }
        let (session, archive) = (bytes.u32()?, bytes.u32()?);
        let mut copy = |len| {
            bytes
                .take(usize::try_from(len).unwrap_or(usize::MAX))
                .map(<[u8]>::to_vec)
        };
        let (session, archive) = (copy(session)?, copy(archive)?);
        bytes.end()?;
        Ok(Self {
            blocks,
            plain,
            entries,
            session,
            archive,
        })
    }
}

/// A locator, which lists the chunks of an archive so far.
///
/// Exhaustive: these are all fields of a locator of version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locator {
    /// Position on the medium of the record in which the locator begins whose last chunk is the one
    /// before the first of `chunks`.
    pub before: Option<Position>,
    /// Number of the first block of the last checkpoint; `None` in a copy.
    pub checkpoint: Option<u64>,
    /// Number of blocks so far; in a copy also those that its source has lost.
    pub blocks: u64,
    /// Plain bytes of those blocks, as offsets count them.
    pub offset: u64,
    /// Blocks among them that inspection rejected.
    pub rejected: u64,
    /// The chunks, or the last of them.
    pub chunks: Vec<ChunkEntry>,
    /// A copy of the session header's body.
    pub session: Vec<u8>,
    /// A copy of the archive header's body.
    pub archive: Vec<u8>,
}

/// Number of a checkpoint if there is none.
const NO_CHECKPOINT: u64 = u64::MAX;

/// A chunk's location on the medium and in the stream.
///
/// Exhaustive: these are all fields of a locator's entry of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkEntry {
    /// Number of its first block.
    pub first: u64,
    /// Blocks in it.
    pub blocks: u32,
    /// Position on the medium of the record in which the first block's header begins.
    pub place: Position,
    /// Offset of that header in the stream.
    pub position: u64,
    /// Volume and number of the record in which its footer begins, if it has one.
    pub footer: Option<(u32, u64)>,
}

impl Locator {
    /// The body of the unit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let before = self.before.unwrap_or(Position {
            volume: 0,
            record: 0,
            byte: 0,
        });
        bytes.put_u32(len_u32(self.chunks.len()));
        bytes.put_u32(before.volume);
        bytes.put_u64s(&[before.record, before.byte]);
        bytes.put_u64(self.checkpoint.unwrap_or(NO_CHECKPOINT));
        bytes.put_u64s(&[self.blocks, self.offset, self.rejected]);
        bytes.put_u32(len_u32(self.session.len()));
        bytes.put_u32(len_u32(self.archive.len()));
        for chunk in &self.chunks {
            bytes.put_u64(chunk.first);
            bytes.put_u32(chunk.place.volume);
            bytes.put_u32(chunk.blocks);
            bytes.put_u64(chunk.place.record);
            bytes.put_u64(chunk.place.byte);
            bytes.put_u64(chunk.position);
            let (volume, record) = chunk.footer.unwrap_or_default();
            bytes.put_u32(volume);
            bytes.put_u32(0);
            bytes.put_u64(record);
        }
        for copy in [&self.session, &self.archive] {
            bytes.put(copy);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    /// Parses the body of a unit.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the body is damaged or too long.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("locator", body);
        let (count, volume) = (bytes.u32()?, bytes.u32()?);
        let before = match (volume, bytes.u64()?, bytes.u64()?) {
            (0, 0, 0) => None,
            (0, ..) => return Err(bytes.error("a locator before it on volume 0")),
            (volume, record, byte) => Some(Position {
                volume,
                record,
                byte,
            }),
        };
        let checkpoint = Some(bytes.u64()?).filter(|&number| number != NO_CHECKPOINT);
        let [blocks, offset, rejected] = bytes.u64s()?;
        if checkpoint.is_some_and(|number| number >= blocks) || rejected > blocks {
            return Err(bytes.error(format!(
                "{rejected} rejected blocks, and a checkpoint in block {}, of {blocks}",
                checkpoint.unwrap_or(0)
            )));
        }
        let (session, archive) = (bytes.u32()?, bytes.u32()?);
        if usize::try_from(count).unwrap_or(usize::MAX) > MAX_LOCATOR_CHUNKS {
            return Err(bytes.error(format!(
                "{count} chunks, but at most {MAX_LOCATOR_CHUNKS} are allowed"
            )));
        }
        let mut chunks = Vec::new();
        for _ in 0..count {
            let first = bytes.u64()?;
            let (volume, blocks) = (bytes.u32()?, bytes.u32()?);
            let place = Position {
                volume,
                record: bytes.u64()?,
                byte: bytes.u64()?,
            };
            let position = bytes.u64()?;
            let volume = bytes.u32()?;
            bytes.zeros(4)?;
            let footer = match (volume, bytes.u64()?) {
                (0, 0) => None,
                (0, _) => return Err(bytes.error("a chunk footer on volume 0")),
                footer => Some(footer),
            };
            chunks.push(ChunkEntry {
                first,
                blocks,
                place,
                position,
                footer,
            });
        }
        let mut copy = |len: u32| {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let copy = bytes.take(len)?.to_vec();
            bytes.zeros(len.next_multiple_of(8).saturating_sub(len))?;
            Ok::<_, DecodeError>(copy)
        };
        let (session, archive) = (copy(session)?, copy(archive)?);
        bytes.end()?;
        Ok(Self {
            before,
            checkpoint,
            blocks,
            offset,
            rejected,
            chunks,
            session,
            archive,
        })
    }
}

/// The footer of an archive.
///
/// Exhaustive: these are all fields of a footer of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveFooter {
    /// Blocks in it.
    pub blocks: u64,
    /// Bytes of those before compression.
    pub plain: u64,
    /// Blocks that inspection rejected.
    pub rejected: u64,
    /// First block of the catalogue's closing run; `blocks` if there is none.
    pub catalogue: u64,
    /// The session from which the archive was copied, if it is a copy.
    pub copy_of: Option<CopySource>,
}

impl ArchiveFooter {
    /// The body of the unit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        [self.blocks, self.plain, self.rejected, self.catalogue]
            .iter()
            .for_each(|&word| bytes.put_u64(word));
        let extensions: Vec<_> = self
            .copy_of
            .into_iter()
            .map(CopySource::extension)
            .collect();
        bytes.put(&encode_run(&extensions, usize::MAX));
        bytes
    }

    /// Parses the body of a unit. Passes over extensions that it does not know.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the body is damaged, has an extension that a reader must know, or names
    /// the source of a copy twice.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("archive footer", body);
        let [blocks, plain, rejected, catalogue] =
            [bytes.u64()?, bytes.u64()?, bytes.u64()?, bytes.u64()?];
        if catalogue > blocks || rejected > blocks {
            return Err(bytes.error(format!(
                "more blocks of a kind than there are: {rejected} rejected, catalogue from \
                 {catalogue}, of {blocks}"
            )));
        }
        if catalogue.checked_add(1) == Some(blocks) {
            let what = format!("a catalogue that begins at {catalogue}, the last block");
            return Err(bytes.error(what));
        }
        let len = bytes.rest().len();
        let extensions = parse_run(&mut bytes, len, len)?;
        let is_source = |extension: &&Extension| extension.id == CopySource::EXTENSION;
        let mut sources = extensions.iter().filter(is_source);
        let copy_of = sources.next().map(CopySource::parse).transpose()?;
        if sources.next().is_some() {
            return Err(bytes.error("two extensions with the source of a copy"));
        }
        Ok(Self {
            blocks,
            plain,
            rejected,
            catalogue,
            copy_of,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )]
    use super::super::headers::Time;
    use super::*;

    #[test]
    fn footer_passes_over_extensions_that_it_need_not_know() {
        let footer = ArchiveFooter {
            blocks: 4,
            plain: 5,
            rejected: 1,
            catalogue: 2,
            copy_of: None,
        };
        let body = footer.to_bytes();
        let with = |identifier: u16, value: &[u8], padding: usize| {
            let mut body = body.clone();
            body.put_u16(identifier);
            body.put_u16(u16::try_from(value.len()).unwrap());
            body.put(value);
            body.put(&vec![0; padding]);
            body
        };
        for (value, padding) in [(&b""[..], 4), (b"abcd", 0), (b"abcde", 7), (b"abcdef", 6)] {
            let body = with(2, value, padding);
            assert_eq!(body.len() % 8, 0);
            assert_eq!(ArchiveFooter::parse(&body).unwrap(), footer);
            assert!(ArchiveFooter::parse(&body[..body.len() - 1]).is_err());
            let twice = [&body[..], &body[32..]].concat();
            assert_eq!(ArchiveFooter::parse(&twice).unwrap(), footer);
        }
        assert!(ArchiveFooter::parse(&with(2, b"abcde", 6)).is_err());
        let error = ArchiveFooter::parse(&with(32_768, b"", 4))
            .unwrap_err()
            .to_string();
        assert!(error.contains("extension 32768"), "{error}");
    }

    #[test]
    fn footer_of_a_copy_names_its_source_once_and_whole() {
        let time = |nanoseconds| Time {
            seconds: -9,
            nanoseconds,
        };
        let footer = |nanoseconds| ArchiveFooter {
            blocks: 4,
            plain: 5,
            rejected: 0,
            catalogue: 4,
            copy_of: Some(CopySource {
                session: [7; 16],
                created: time(nanoseconds),
            }),
        };
        let body = footer(999_999_999).to_bytes();
        assert_eq!(body.len(), 64);
        assert_eq!(ArchiveFooter::parse(&body).unwrap(), footer(999_999_999));
        let error_of = |body: &[u8]| ArchiveFooter::parse(body).unwrap_err().to_string();
        let error = error_of(&footer(1_000_000_000).to_bytes());
        assert!(error.contains("1000000000"), "{error}");
        let error = error_of(&[&body[..], &body[32..]].concat());
        assert!(error.contains("two extensions"), "{error}");
        // An extension of 20 bytes, and one of 36.
        for (len, end) in [(20, 56), (36, 72)] {
            let mut other = body.clone();
            other.resize(end, 0);
            other[34] = len;
            let error = error_of(&other);
            assert!(error.contains("source of a copy"), "{error}");
        }
    }
}
