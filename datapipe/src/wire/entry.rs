//! What a file tree consists of: objects, their attributes, extents and ends, and the catalogue.
//! `docs/wire-format.md`, "What is in an archive".

use super::codec::{Bytes, DecodeError, Put, len_u16, len_u32};
use super::headers::Time;
use crate::limits::{MAX_ATTRIBUTE, MAX_ATTRIBUTE_NAME, MAX_PATH, MAX_TARGET};

/// Bytes of an entry's header.
pub const ENTRY_HEADER_LEN: usize = 16;

/// Bytes of an extent before its data.
pub const EXTENT_HEADER_LEN: usize = ENTRY_HEADER_LEN + 8;

/// What stands before the data of an extent, for whoever has read the data to where it belongs
/// already.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The object that it belongs to, by its number.
    pub object: u64,
    /// What it says.
    pub body: EntryBody<'a>,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryBody<'a> {
    /// What the object is.
    Object(Object<'a>),
    /// An extended attribute: name and value.
    Attribute(&'a [u8], &'a [u8]),
    /// Data of a file, from an offset on.
    Extent(u64, &'a [u8]),
    /// There is no more of the object.
    End(End),
    /// Where an object is.
    Catalogue(CatalogueEntry<'a>),
    /// What a later version added, and this one skips: its kind.
    Later(u8),
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    /// File, directory, ...
    pub kind: ObjectKind,
    /// Permission bits, setuid, setgid and sticky.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was last modified.
    pub modified: Time,
    /// Bytes of a file when it was opened.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// The object that a hard link is another name of.
    pub link: u64,
    /// Whether hard links to it may follow: a reader need not remember any other object.
    pub linked: bool,
    /// Where it is, below the root of the archive.
    pub path: &'a [u8],
    /// What a symbolic link says.
    pub target: &'a [u8],
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub enum ObjectKind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    CharacterDevice,
    BlockDevice,
}

impl ObjectKind {
    const CODES: [(Self, u8); 7] = [
        (Self::File, 1),
        (Self::Directory, 2),
        (Self::Symlink, 3),
        (Self::HardLink, 4),
        (Self::Fifo, 5),
        (Self::CharacterDevice, 6),
        (Self::BlockDevice, 7),
    ];

    fn code(self) -> u8 {
        Self::CODES
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or(0, |&(_, code)| code)
    }

    fn parse(bytes: &Bytes<'_>, code: u8) -> Result<Self, DecodeError> {
        let known = Self::CODES
            .iter()
            .find(|&&(_, known)| known == code)
            .map(|&(kind, _)| kind);
        known.ok_or_else(|| bytes.wrong(format!("an object of unknown type {code}")))
    }
}

/// Bytes of the digest of a file.
pub const DIGEST_LEN: usize = 16;

/// How an object ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether it is whole.
    pub state: State,
    /// Bytes of the file as it was read.
    pub size: u64,
    /// Of its extents: the first bytes of a BLAKE3.
    pub digest: Option<[u8; DIGEST_LEN]>,
}

/// Whether an object is what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is whole.
    #[default]
    Whole,
    /// It changed while it was read.
    Changed,
    /// It was not read to its end.
    Unread,
}

impl State {
    fn code(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Changed => 1,
            Self::Unread => 2,
        }
    }

    fn parse(bytes: &Bytes<'_>, code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Whole),
            1 => Ok(Self::Changed),
            2 => Ok(Self::Unread),
            other => Err(bytes.wrong(format!("an object in unknown state {other}"))),
        }
    }
}

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogueEntry<'a> {
    /// File, directory, ...
    pub kind: ObjectKind,
    /// Whether it is whole.
    pub state: State,
    /// Permission bits, setuid, setgid and sticky.
    pub mode: u32,
    /// Bytes of a file, otherwise 0.
    pub size: u64,
    /// Of a hard link: the object that it is another name of; otherwise 0.
    pub link: u64,
    /// When it was last modified.
    pub modified: Time,
    /// Number of the block in which its first entry stands, and of that with its end.
    pub blocks: (u64, u64),
    /// Where in the first block's data its first entry stands.
    pub offset: u32,
    /// Where it is, below the root of the archive.
    pub path: &'a [u8],
    /// What a symbolic link says.
    pub target: &'a [u8],
}

const OBJECT: u8 = 1;
const ATTRIBUTE: u8 = 2;
const EXTENT: u8 = 3;
const END: u8 = 4;
const CATALOGUE: u8 = 16;

impl<'a> Entry<'a> {
    /// Appends the entry's bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], if a reader would refuse it: a path that is not safe, or something that is
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
        // Known only now, and less than to write the body somewhere else first.
        if let Some([to, _, _, _, a, b, c, d, ..]) = bytes.get_mut(start..) {
            *to = kind;
            [*a, *b, *c, *d] = length.to_le_bytes();
        }
        Ok(())
    }

    /// Appends the body, and returns the kind.
    fn put_body(&self, bytes: &mut Vec<u8>) -> Result<u8, DecodeError> {
        match &self.body {
            EntryBody::Object(object) => object.put(bytes),
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
            EntryBody::End(end) => Ok(end.put(bytes)),
            EntryBody::Catalogue(entry) => entry.put(bytes),
            EntryBody::Later(kind) => Err(DecodeError::new(
                "entry",
                format!("kind {kind} is not ours to write"),
            )),
        }
    }

    /// The entry at the start of `bytes`, and what stands behind it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let mut header = Bytes::new("entry", bytes);
        let kind = header.u8()?;
        header.zeros(3)?;
        let length = header.u32()?;
        let object = header.u64()?;
        let bytes = header.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let body = match kind {
            OBJECT => EntryBody::Object(Object::parse(bytes)?),
            ATTRIBUTE => parse_attribute(bytes)?,
            EXTENT => {
                let mut bytes = Bytes::new("extent", bytes);
                let offset = bytes.u64()?;
                let data = bytes.rest();
                check_extent(offset, data.len())?;
                EntryBody::Extent(offset, data)
            }
            END => EntryBody::End(End::parse(bytes)?),
            CATALOGUE => EntryBody::Catalogue(CatalogueEntry::parse(bytes)?),
            later @ 128.. => EntryBody::Later(later),
            other => return Err(header.wrong(format!("unknown kind {other}"))),
        };
        Ok((Self { object, body }, header.rest()))
    }
}

impl<'a> Object<'a> {
    fn put(&self, bytes: &mut Vec<u8>) -> Result<u8, DecodeError> {
        check_path(self.path)?;
        check_target(self.kind, self.target)?;
        check_linked(self.kind, self.linked)?;
        bytes.put_u8(self.kind.code());
        bytes.put_u8(self.linked.into());
        bytes.put(&[0; 2]);
        bytes.put_u32(self.mode & MODE);
        bytes.put_u32(self.uid);
        bytes.put_u32(self.gid);
        self.modified.put(bytes);
        bytes.put_u32(0);
        bytes.put_u64(self.size);
        bytes.put_u32(self.device.0);
        bytes.put_u32(self.device.1);
        bytes.put_u64(self.link);
        bytes.put_u32(len_u32(self.path.len()));
        bytes.put_u32(len_u32(self.target.len()));
        bytes.put(self.path);
        bytes.put(self.target);
        Ok(OBJECT)
    }

    fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("object", bytes);
        let kind = bytes.u8()?;
        let kind = ObjectKind::parse(&bytes, kind)?;
        let linked = match bytes.u8()? {
            0 => false,
            1 => true,
            other => return Err(bytes.wrong(format!("an object with unknown flags {other}"))),
        };
        bytes.zeros(2)?;
        let mode = parse_mode(&mut bytes)?;
        let (uid, gid) = (bytes.u32()?, bytes.u32()?);
        let modified = Time::parse(&mut bytes)?;
        bytes.zeros(4)?;
        let size = bytes.u64()?;
        let device = (bytes.u32()?, bytes.u32()?);
        let link = bytes.u64()?;
        let (path, target) = (bytes.u32()?, bytes.u32()?);
        let (path, target) = (
            take_limited(&mut bytes, path, MAX_PATH)?,
            take_limited(&mut bytes, target, MAX_TARGET)?,
        );
        check_path(path)?;
        check_target(kind, target)?;
        check_linked(kind, linked)?;
        bytes.end()?;
        Ok(Self {
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
        })
    }
}

impl End {
    fn put(&self, bytes: &mut Vec<u8>) -> u8 {
        bytes.put_u8(self.state.code());
        bytes.put_u8(self.digest.is_some().into());
        bytes.put(&[0; 6]);
        bytes.put_u64(self.size);
        bytes.put(&self.digest.unwrap_or_default());
        END
    }

    fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("end of an object", bytes);
        let (state, algorithm) = (bytes.u8()?, bytes.u8()?);
        let state = State::parse(&bytes, state)?;
        bytes.zeros(6)?;
        let (size, digest) = (bytes.u64()?, bytes.array()?);
        let digest = match algorithm {
            0 if digest == [0; DIGEST_LEN] => None,
            1 => Some(digest),
            other => return Err(bytes.wrong(format!("a digest of unknown algorithm {other}"))),
        };
        bytes.end()?;
        Ok(Self {
            state,
            size,
            digest,
        })
    }
}

impl<'a> CatalogueEntry<'a> {
    fn put(&self, bytes: &mut Vec<u8>) -> Result<u8, DecodeError> {
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
        bytes.put(self.path);
        bytes.put(self.target);
        Ok(CATALOGUE)
    }

    fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new("catalogue entry", bytes);
        let (kind, state) = (bytes.u8()?, bytes.u8()?);
        let (kind, state) = (
            ObjectKind::parse(&bytes, kind)?,
            State::parse(&bytes, state)?,
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
        let (path, target) = (
            take_limited(&mut bytes, path, MAX_PATH)?,
            take_limited(&mut bytes, target, MAX_TARGET)?,
        );
        check_path(path)?;
        check_target(kind, target)?;
        if blocks.0 > blocks.1 {
            return Err(bytes.wrong("an object that ends before it begins"));
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
            path,
            target,
        })
    }
}

/// The bits of a mode that travel.
const MODE: u32 = 0o7777;

fn parse_mode(bytes: &mut Bytes<'_>) -> Result<u32, DecodeError> {
    let mode = bytes.u32()?;
    if mode & !MODE != 0 {
        return Err(bytes.wrong(format!("a mode of {mode:o}")));
    }
    Ok(mode)
}

fn take_limited<'a>(bytes: &mut Bytes<'a>, len: u32, max: usize) -> Result<&'a [u8], DecodeError> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > max {
        return Err(bytes.wrong(format!(
            "a path or target of {len} bytes, but at most {max} are allowed"
        )));
    }
    bytes.take(len)
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
        let why = format!("a name of {name} and a value of {value} bytes, which none has");
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
            format!("{len} bytes at offset {offset}, which no file has"),
        ));
    }
    Ok(())
}

/// A path leads to one place below the root, and nowhere else.
fn check_path(path: &[u8]) -> Result<(), DecodeError> {
    let unsafe_component = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
    if path.len() > MAX_PATH
        || path.contains(&0)
        || path.split(|&byte| byte == b'/').any(unsafe_component)
    {
        let shown = path.split_at(path.len().min(200)).0.escape_ascii();
        return Err(DecodeError::new("path", format!("unsafe: \"{shown}\"")));
    }
    Ok(())
}

fn check_target(kind: ObjectKind, target: &[u8]) -> Result<(), DecodeError> {
    let wanted = kind == ObjectKind::Symlink;
    if target.len() > MAX_TARGET || target.contains(&0) || target.is_empty() == wanted {
        let why = format!("a target of {} bytes, which it cannot have", target.len());
        return Err(DecodeError::new("object", why));
    }
    Ok(())
}

/// Directories have one name, and a hard link is told of by the object that it is another name of.
fn check_linked(kind: ObjectKind, linked: bool) -> Result<(), DecodeError> {
    if linked && matches!(kind, ObjectKind::Directory | ObjectKind::HardLink) {
        return Err(DecodeError::new(
            "object",
            "a directory or a hard link that has other names",
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

    #[test]
    fn a_header_and_its_data_are_an_extent() {
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
    fn only_what_can_have_other_names_says_so() {
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
            let object = Object {
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
                    body: EntryBody::Object(Object {
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
