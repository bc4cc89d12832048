//! Entries of the catalogue, which locate the objects of an archive.

use super::codec::{Bytes, DecodeError, Put, len_u32};
use super::headers::Time;
use super::object::ObjectState;
use super::object_checks::{MODE, check_path, check_target, parse_mode, take_limited};
use super::object_kind::ObjectKind;
use crate::limits::{MAX_PATH, MAX_TARGET};

/// An object's location in the archive, with the metadata that a list shows.
///
/// Exhaustive: these are all fields of a catalogue entry of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueEntry<'a> {
    /// File, directory and so on.
    pub kind: ObjectKind,
    /// Complete, changed or cut off.
    pub state: ObjectState,
    /// Permission bits, setuid, setgid and sticky.
    pub mode: u32,
    /// Bytes of a file; otherwise 0.
    pub size: u64,
    /// Number of the object that a hard link is another name of; otherwise 0.
    pub link: u64,
    /// Time of its last modification.
    pub modified: Time,
    /// Numbers of the block with its first entry and of the block with its end.
    pub blocks: (u64, u64),
    /// Offset of its first entry in the first block's data.
    pub offset: u32,
    /// Time of the last change of its inode; that of its last modification if it is not known.
    pub changed: Time,
    /// Number of its inode; 0 if it is not known.
    pub inode: u64,
    /// Path below the root of the archive.
    pub path: &'a [u8],
    /// Target of a symbolic link; otherwise empty.
    pub target: &'a [u8],
}

impl<'a> CatalogueEntry<'a> {
    pub(super) fn put(&self, bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
        check_path(self.path)?;
        check_target(self.kind, self.target)?;
        bytes.put_u8(self.kind.code());
        bytes.put_u8(self.state.code());
        bytes.put_u16(0);
        bytes.put_u32(self.mode & MODE);
        bytes.put_u64(if self.kind == ObjectKind::HardLink {
            self.link
        } else {
            self.size
        });
        self.modified.put(bytes);
        bytes.put_u32(len_u32(self.path.len()));
        bytes.put_u64(self.blocks.0);
        bytes.put_u64(self.blocks.1);
        bytes.put_u32(self.offset);
        bytes.put_u32(len_u32(self.target.len()));
        // Mostly it is that of the last modification. Zeros cost a compressor less than the same.
        let is_same = self.changed == self.modified;
        let changed = if is_same {
            Time::default()
        } else {
            self.changed
        };
        changed.put(bytes);
        bytes.put_u32(0);
        bytes.put_u64(self.inode);
        bytes.put(self.path);
        bytes.put(self.target);
        Ok(())
    }

    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("catalogue entry", bytes);
        let (kind, state) = (bytes.u8()?, bytes.u8()?);
        let (kind, state) = (
            ObjectKind::parse(&bytes, kind)?,
            ObjectState::parse(&bytes, state)?,
        );
        bytes.zeros(2)?;
        let mode = parse_mode(&mut bytes)?;
        let word = bytes.u64()?;
        let (size, link) = if kind == ObjectKind::HardLink {
            (0, word)
        } else {
            (word, 0)
        };
        let modified = Time::parse(&mut bytes)?;
        let path = bytes.u32()?;
        let blocks = (bytes.u64()?, bytes.u64()?);
        let (offset, target) = (bytes.u32()?, bytes.u32()?);
        let changed = match Time::parse(&mut bytes)? {
            same if same == Time::default() => modified,
            changed => changed,
        };
        parse_references(&mut bytes)?;
        let inode = bytes.u64()?;
        let (path, target) = (
            take_limited(&mut bytes, path, MAX_PATH)?,
            take_limited(&mut bytes, target, MAX_TARGET)?,
        );
        check_path(path)?;
        check_target(kind, target)?;
        if blocks.0 > blocks.1 {
            return Err(bytes.error(format!(
                "an object that ends in block {} before it begins in block {}",
                blocks.1, blocks.0
            )));
        }
        bytes.end()?;
        Ok(Self {
            kind,
            state,
            mode,
            size,
            link,
            modified,
            blocks,
            offset,
            changed,
            inode,
            path,
            target,
        })
    }
}

/// Reads the fields of an object whose data are elsewhere, and refuses it.
fn parse_references(bytes: &mut Bytes<'_>) -> Result<(), DecodeError> {
    match bytes.u8()? {
        0 => bytes.zeros(3),
        1 => Err(bytes.error(
            "an object with references (1): this version does not read archives that leave \
             duplicates out",
        )),
        2 => Err(bytes.error(
            "an object whose data another archive has (2): this version does not read incremental \
             archives",
        )),
        other => Err(bytes.error(format!("references of unknown kind {other}"))),
    }
}
