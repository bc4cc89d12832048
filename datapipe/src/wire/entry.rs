//! Entries of a file tree: objects, their attributes, extents and ends, and the catalogue.
//! `docs/wire-format.md`, "Content of an archive".

use super::catalogue_entry::CatalogueEntry;
use super::codec::{Bytes, DecodeError, Put, len_u16, len_u32};
use super::object::{ObjectEnd, ObjectMeta};
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
    /// An object's location in the archive.
    Catalogue(CatalogueEntry<'a>),
    /// The kind of an entry that a later version added, and that this one skips.
    Later(u8),
}

const OBJECT: u8 = 1;
const ATTRIBUTE: u8 = 2;
pub(super) const EXTENT: u8 = 3;
const END: u8 = 4;
const CATALOGUE: u8 = 16;

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
        let kind = match self.put_body(bytes) {
            Ok(kind) => kind,
            Err(malformed) => {
                bytes.truncate(start);
                return Err(malformed);
            }
        };
        let length = len_u32(bytes.len().saturating_sub(body));
        // Kind and length are known only now. To fill them in costs less than to write the body
        // to a buffer of its own first.
        if let Some([to, _, _, _, a, b, c, d, ..]) = bytes.get_mut(start..) {
            *to = kind;
            [*a, *b, *c, *d] = length.to_le_bytes();
        }
        Ok(())
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
            EntryBody::Catalogue(entry) => entry.put(bytes).map(|()| CATALOGUE),
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
        let mut header = Bytes::new("entry", bytes);
        let EntryHeader { kind, len, object } = EntryHeader::parse(&mut header)?;
        let bytes = header.take(len)?;
        let body = match kind {
            OBJECT => EntryBody::Object(ObjectMeta::parse(bytes)?),
            ATTRIBUTE => parse_attribute(bytes)?,
            EXTENT => {
                let mut bytes = Bytes::new("extent", bytes);
                let offset = bytes.u64()?;
                let data = bytes.rest();
                check_extent(offset, data.len())?;
                EntryBody::Extent(offset, data)
            }
            END => EntryBody::End(ObjectEnd::parse(bytes)?),
            CATALOGUE => EntryBody::Catalogue(CatalogueEntry::parse(bytes)?),
            later @ 128.. => EntryBody::Later(later),
            other => return Err(header.error(format!("unknown kind {other}"))),
        };
        Ok((Self { object, body }, header.rest()))
    }
}

/// Header of an entry.
pub(super) struct EntryHeader {
    pub(super) kind: u8,
    /// Length of the body in bytes.
    pub(super) len: usize,
    object: u64,
}

impl EntryHeader {
    pub(super) fn parse(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        let kind = bytes.u8()?;
        bytes.zeros(3)?;
        let len = usize::try_from(bytes.u32()?).unwrap_or(usize::MAX);
        let object = bytes.u64()?;
        Ok(Self { kind, len, object })
    }
}

/// Returns the extent with this header, of [`EXTENT_HEADER_LEN`] bytes, and these data, whose
/// length the header states.
pub(super) fn parse_extent<'a>(header: &[u8], data: &'a [u8]) -> Result<Entry<'a>, DecodeError> {
    let mut bytes = Bytes::new("extent", header);
    let EntryHeader { object, .. } = EntryHeader::parse(&mut bytes)?;
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
