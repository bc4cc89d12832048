//! Entries of a file tree: objects, what belongs to them, names of owners, and the catalogue.
//! `docs/wire-format.md`, "Content of an archive".

use super::catalogue_entry::CatalogueEntry;
use super::codec::{Bytes, DecodeError, Put, len_u16, len_u32};
use super::inode_facts::InodeFacts;
use super::object::{ObjectEnd, ObjectMeta};
use super::owner_name::OwnerName;
use super::piece::{CONTINUES, EntryHeader, EntryPiece, GOES_ON, check_piece, refuse_kind};
use super::relative::RELATIVE;
use crate::limits::{MAX_ATTRIBUTE, MAX_ATTRIBUTE_NAME};

/// Bytes of an entry's header.
pub const ENTRY_HEADER_LEN: usize = 16;

/// Bytes of an extent before its data.
pub const EXTENT_HEADER_LEN: usize = ENTRY_HEADER_LEN + 8;

/// The bytes before the data of an extent, for a caller that has already read the data to its
/// final place.
///
/// # Errors
///
/// [`DecodeError`], if no file can have that data at that offset.
pub fn extent_header(
    object: u64,
    offset: u64,
    data: &[u8],
) -> Result<[u8; EXTENT_HEADER_LEN], DecodeError> {
    check_extent(offset, data.len())?;
    let mut header = [0; EXTENT_HEADER_LEN];
    header[0] = EXTENT;
    header[4..8].copy_from_slice(&len_u32(data.len().saturating_add(8)).to_le_bytes());
    header[8..16].copy_from_slice(&object.to_le_bytes());
    header[16..].copy_from_slice(&offset.to_le_bytes());
    Ok(header)
}

/// One entry of a block.
///
/// Exhaustive: every entry has an object and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Number of the object that it belongs to.
    pub object: u64,
    /// Its content.
    pub body: EntryBody<'a>,
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryBody<'a> {
    /// Metadata of the object.
    Object(ObjectMeta<'a>),
    /// An extended attribute: name and value.
    Attribute(&'a [u8], &'a [u8]),
    /// Offset in a file, and the data that begins there.
    Extent(u64, &'a [u8]),
    /// The end of the object.
    End(ObjectEnd),
    /// Flags and time of birth of the object.
    Inode(InodeFacts),
    /// The name of a user or a group. Its object is 0.
    OwnerName(OwnerName<'a>),
    /// An object's location in the archive.
    Catalogue(CatalogueEntry<'a>),
    /// The start of the catalogue's closing run. Its object is 0.
    CatalogueStart(CatalogueStart),
    /// A piece of an entry that is longer than a block.
    Piece(EntryPiece<'a>),
    /// The kind of an entry that a later version added, and that this one skips.
    Later(u8),
}

/// Counts at the start of a catalogue's closing run.
///
/// Exhaustive: these are all fields of a catalogue start of version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatalogueStart {
    /// Number of entries of the run that locate objects.
    pub objects: u64,
    /// Bytes of data that the archive has of these objects: of all extents.
    pub bytes: u64,
}

pub(super) const OBJECT: u8 = 1;
pub(super) const ATTRIBUTE: u8 = 2;
pub(super) const EXTENT: u8 = 3;
pub(super) const END: u8 = 4;
pub(super) const REFERENCE: u8 = 5;
pub(super) const SAME: u8 = 6;
pub(super) const INODE: u8 = 7;
pub(super) const OWNER_NAME: u8 = 8;
pub(super) const CATALOGUE: u8 = 16;
pub(super) const START: u8 = 17;
pub(super) const WALK: u8 = 33;
pub(super) const LINKS: u8 = 34;
pub(super) const STREAM: u8 = 35;
pub(super) const APPLICATION: u8 = 36;

impl<'a> Entry<'a> {
    /// Appends the entry's bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if a reader would refuse it: a path that is not safe, or a field that is
    /// too long. Nothing is appended then.
    pub fn append_to(&self, bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
        let start = bytes.len();
        bytes.put(&[0; 8]);
        bytes.put_u64(self.object);
        let body = bytes.len();
        let (kind, flags) = match self.put_body(bytes) {
            Ok(kind) => (kind, self.flags()),
            Err(malformed) => {
                bytes.truncate(start);
                return Err(malformed);
            }
        };
        let length = len_u32(bytes.len().saturating_sub(body));
        // Kind and length are known only now. To fill them in costs less than to write the body
        // to a buffer of its own first.
        if let Some([to, flags_to, _, _, a, b, c, d, ..]) = bytes.get_mut(start..) {
            (*to, *flags_to) = (kind, flags);
            [*a, *b, *c, *d] = length.to_le_bytes();
        }
        Ok(())
    }

    fn flags(&self) -> u8 {
        let EntryBody::Piece(piece) = &self.body else {
            return 0;
        };
        let (goes_on, continues) = (piece.goes_on, piece.continues);
        let goes_on = if goes_on { GOES_ON } else { 0 };
        goes_on | if continues { CONTINUES } else { 0 }
    }

    /// Appends the body, and returns the kind.
    fn put_body(&self, bytes: &mut Vec<u8>) -> Result<u8, DecodeError> {
        match &self.body {
            EntryBody::Object(object) => object.put(bytes).map(|()| OBJECT),
            EntryBody::Attribute(name, value) => {
                check_attribute(name.len(), value.len())?;
                bytes.put_u16(len_u16(name.len()));
                bytes.put_u16(0);
                bytes.put_u32(len_u32(value.len()));
                bytes.put(name);
                bytes.put(value);
                Ok(ATTRIBUTE)
            }
            EntryBody::Extent(offset, data) => {
                check_extent(*offset, data.len())?;
                bytes.put_u64(*offset);
                bytes.put(data);
                Ok(EXTENT)
            }
            EntryBody::End(end) => {
                end.put(bytes);
                Ok(END)
            }
            EntryBody::Inode(inode) => {
                inode.put(bytes);
                Ok(INODE)
            }
            EntryBody::OwnerName(name) => name.put(bytes).map(|()| OWNER_NAME),
            EntryBody::Catalogue(entry) => entry.put(bytes).map(|()| CATALOGUE),
            EntryBody::CatalogueStart(start) => {
                bytes.put_u64s(&[start.objects, start.bytes]);
                Ok(START)
            }
            EntryBody::Piece(piece) => {
                check_piece(&EntryHeader {
                    kind: piece.kind,
                    flags: self.flags(),
                    len: piece.body.len(),
                    object: self.object,
                })?;
                bytes.put(piece.body);
                Ok(piece.kind)
            }
            EntryBody::Later(kind) => Err(DecodeError::new(
                "entry",
                format!("kind {kind} belongs to a later version, and this one cannot write it"),
            )),
        }
    }

    /// The entry at the start of `bytes`, and the bytes that follow it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if the entry is damaged or has a value that this version does not know.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let mut rest = Bytes::new("entry", bytes);
        let header = EntryHeader::parse(&mut rest)?;
        let body = rest.take(header.len)?;
        if header.flags == RELATIVE {
            return Err(DecodeError::new(
                "entry",
                "its numbers are relative to those of the entry before: call make_absolute for the \
                 block first",
            ));
        }
        let body = match header.kind {
            later @ 128.. => EntryBody::Later(later),
            REFERENCE | SAME | 0 => return Err(refuse_kind(header.kind)),
            _ if header.flags != 0 => {
                check_piece(&header)?;
                EntryBody::Piece(EntryPiece {
                    kind: header.kind,
                    continues: header.flags & CONTINUES != 0,
                    goes_on: header.flags & GOES_ON != 0,
                    body,
                })
            }
            OBJECT => EntryBody::Object(ObjectMeta::parse(body)?),
            ATTRIBUTE => parse_attribute(body)?,
            EXTENT => {
                let mut bytes = Bytes::new("extent", body);
                let offset = bytes.u64()?;
                let data = bytes.rest();
                check_extent(offset, data.len())?;
                EntryBody::Extent(offset, data)
            }
            END => EntryBody::End(ObjectEnd::parse(body)?),
            INODE => EntryBody::Inode(InodeFacts::parse(body)?),
            OWNER_NAME => EntryBody::OwnerName(OwnerName::parse(body)?),
            CATALOGUE => EntryBody::Catalogue(CatalogueEntry::parse(body)?),
            START => EntryBody::CatalogueStart(parse_start(body)?),
            other => return Err(refuse_kind(other)),
        };
        let object = header.object;
        if object != 0 && matches!(header.kind, OWNER_NAME | START) {
            let why = format!("an entry of kind {} of object {object}", header.kind);
            return Err(DecodeError::new("entry", why));
        }
        Ok((Self { object, body }, rest.rest()))
    }
}

fn parse_start(bytes: &[u8]) -> Result<CatalogueStart, DecodeError> {
    let mut bytes = Bytes::new("start of a catalogue", bytes);
    let [objects, data] = bytes.u64s()?;
    bytes.end()?;
    Ok(CatalogueStart {
        objects,
        bytes: data,
    })
}

/// Returns the extent with this header, of [`EXTENT_HEADER_LEN`] bytes, and these data, whose
/// length the header states.
pub(super) fn parse_extent<'a>(header: &[u8], data: &'a [u8]) -> Result<Entry<'a>, DecodeError> {
    let mut bytes = Bytes::new("extent", header);
    let header = EntryHeader::parse(&mut bytes)?;
    if header.flags != 0 {
        check_piece(&header)?;
    }
    let object = header.object;
    let offset = bytes.u64()?;
    check_extent(offset, data.len())?;
    let body = EntryBody::Extent(offset, data);
    Ok(Entry { object, body })
}

fn parse_attribute(bytes: &[u8]) -> Result<EntryBody<'_>, DecodeError> {
    let mut bytes = Bytes::new("attribute", bytes);
    let name = usize::from(bytes.u16()?);
    bytes.zeros(2)?;
    let value = usize::try_from(bytes.u32()?).unwrap_or(usize::MAX);
    check_attribute(name, value)?;
    let (name, value) = (bytes.take(name)?, bytes.take(value)?);
    bytes.end()?;
    Ok(EntryBody::Attribute(name, value))
}

fn check_attribute(name: usize, value: usize) -> Result<(), DecodeError> {
    if name == 0 || name > MAX_ATTRIBUTE_NAME || value > MAX_ATTRIBUTE {
        let why = format!(
            "a name of {name} and a value of {value} bytes, but 1 to {MAX_ATTRIBUTE_NAME} and at \
             most {MAX_ATTRIBUTE} are allowed"
        );
        return Err(DecodeError::new("attribute", why));
    }
    Ok(())
}

fn check_extent(offset: u64, len: usize) -> Result<(), DecodeError> {
    let end = u64::try_from(len)
        .ok()
        .and_then(|len| offset.checked_add(len));
    if len == 0 || end.is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(DecodeError::new(
            "extent",
            format!(
                "{len} bytes at offset {offset}, but an extent has at least 1 and ends by {}",
                i64::MAX
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )]
    use super::*;
    use crate::wire::{ObjectKind, Time};

    #[test]
    fn extent_header_and_data_equal_an_extent_entry() {
        let mut whole = Vec::new();
        let entry = Entry {
            object: 7,
            body: EntryBody::Extent(1 << 40, b"data"),
        };
        entry.append_to(&mut whole).unwrap();
        assert_eq!(
            whole,
            [&extent_header(7, 1 << 40, b"data").unwrap()[..], b"data"].concat()
        );
        assert!(extent_header(7, u64::MAX, b"data").is_err());
        assert!(extent_header(7, 0, b"").is_err());
    }

    #[test]
    fn linked_flag_is_accepted_for_files_and_symlinks_only() {
        let all = [
            ObjectKind::File,
            ObjectKind::Directory,
            ObjectKind::Symlink,
            ObjectKind::HardLink,
        ];
        for (kind, linked, right) in all.into_iter().flat_map(|kind| {
            let can = matches!(kind, ObjectKind::File | ObjectKind::Symlink);
            [(kind, false, true), (kind, true, can)]
        }) {
            let (modified, path) = (Time::default(), &b"a"[..]);
            let target = if kind == ObjectKind::Symlink {
                &b"b"[..]
            } else {
                b""
            };
            let (mode, uid, gid, size, device, link) = (0, 0, 0, 0, (0, 0), 0);
            let object = ObjectMeta {
                kind,
                mode,
                uid,
                gid,
                modified,
                size,
                device,
                link,
                linked,
                path,
                target,
            };
            let entry = Entry {
                object: 1,
                body: EntryBody::Object(object),
            };
            let mut bytes = Vec::new();
            assert_eq!(entry.append_to(&mut bytes).is_ok(), right, "{kind:?}");
            if right {
                assert_eq!(Entry::parse(&bytes).unwrap(), (entry, &b""[..]));
                assert_eq!(bytes[17], u8::from(linked));
                bytes[17] = 2;
            } else {
                let plain = Entry {
                    object: 1,
                    body: EntryBody::Object(ObjectMeta {
                        linked: false,
                        ..object
                    }),
                };
                plain.append_to(&mut bytes).unwrap();
                bytes[17] = 1;
            }
            assert!(Entry::parse(&bytes).is_err(), "{kind:?}");
        }
    }
}
