//! An object of which some entries have come and others have not.

use crate::cells::Digest;
use crate::wire::{Entry, EntryBody, InodeFacts, ObjectKind, ObjectMeta};

/// An open object: its object entry has come, its end entry has not.
#[derive(Debug)]
pub(super) struct ObjectInProgress<P> {
    pub(super) number: u64,
    pub(super) description: ObjectDescription,
    /// The sink's state of the object. `None` if its remaining entries are skipped: it is not
    /// wanted, was refused, or is damaged.
    pub(super) partial: Option<P>,
    pub(super) digest: Digest,
    /// End of the file's last extent, as an offset in the file.
    pub(super) end: u64,
    /// Number of data bytes so far, holes not counted.
    pub(super) bytes: u64,
    /// True once an extent has come. No attribute may follow it.
    pub(super) has_data: bool,
    /// True if blocks were lost since the object began. The digest then decides whether part of it
    /// was in them.
    pub(super) is_doubtful: bool,
}

impl<P> ObjectInProgress<P> {
    /// Opens an object, of which only its object entry has come.
    pub(super) fn new(
        number: u64,
        object: &ObjectMeta<'_>,
        object_entry: &[u8],
        partial: Option<P>,
    ) -> Self {
        Self {
            number,
            description: ObjectDescription::new(object, object_entry),
            partial,
            digest: Digest::new(),
            end: 0,
            bytes: 0,
            has_data: false,
            is_doubtful: false,
        }
    }

    /// Adds an extent to the digest and the counts.
    pub(super) fn extend(&mut self, offset: u64, data: &[u8]) {
        let len = data.len() as u64;
        self.digest.add(offset, data);
        self.end = offset + len;
        self.bytes += len;
        self.has_data = true;
    }
}

/// Description of an object: its object entry, then those of its inode and its attributes, encoded
/// as they came.
#[derive(Clone, Debug)]
pub(super) struct ObjectDescription {
    entries: Vec<u8>,
    /// Length of the object entry, in bytes.
    object_len: usize,
    /// Length of the entry of the inode, in bytes; 0 if none has come.
    inode_len: usize,
    /// The parsed object entry, without path and target, which are at its end.
    object: ObjectMeta<'static>,
    path_len: usize,
    target_len: usize,
}

impl ObjectDescription {
    /// Begins with an object, and the bytes of the entry from which the caller has parsed it.
    pub(super) fn new(object: &ObjectMeta<'_>, entry: &[u8]) -> Self {
        Self::of(object, entry.to_vec(), entry.len())
    }

    fn of(object: &ObjectMeta<'_>, entries: Vec<u8>, object_len: usize) -> Self {
        Self {
            entries,
            object_len,
            inode_len: 0,
            path_len: object.path.len(),
            target_len: object.target.len(),
            object: ObjectMeta {
                path: b"",
                target: b"",
                ..*object
            },
        }
    }

    /// Restores a description from its [`bytes`](Self::bytes). Returns `None` for other bytes.
    pub(super) fn from_bytes(entries: Vec<u8>) -> Option<Self> {
        let (entry, rest) = Entry::parse(&entries).ok()?;
        let EntryBody::Object(object) = entry.body else {
            return None;
        };
        let object_len = entries.len() - rest.len();
        let inode_len = match Entry::parse(rest) {
            Ok((entry, after)) if matches!(entry.body, EntryBody::Inode(_)) => {
                rest.len() - after.len()
            }
            _ => 0,
        };
        let empty = Self::of(&object, Vec::new(), object_len);
        Some(Self {
            entries,
            inode_len,
            ..empty
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.entries
    }

    /// Length of all entries of attributes, in bytes.
    pub(super) fn attributes_len(&self) -> usize {
        self.entries.len() - self.object_len - self.inode_len
    }

    /// True if the entry of the inode, or of an attribute, has come.
    pub(super) fn has_properties(&self) -> bool {
        self.entries.len() > self.object_len
    }

    /// Appends the bytes of the entry of the inode, the first after the object entry.
    pub(super) fn add_inode(&mut self, entry: &[u8]) {
        self.inode_len = entry.len();
        self.add(entry);
    }

    /// Appends the bytes of the entry of an attribute.
    pub(super) fn add(&mut self, entry: &[u8]) {
        self.entries.extend_from_slice(entry);
    }

    /// The object, as it was parsed when its entry came.
    pub(super) fn object(&self) -> ObjectMeta<'_> {
        let target = self.object_len - self.target_len;
        ObjectMeta {
            path: self.path(),
            target: &self.entries[target..self.object_len],
            ..self.object
        }
    }

    /// Names and values of the attributes.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.added().filter_map(|body| match body {
            EntryBody::Attribute(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// Flags and time of birth, if the archive has them.
    pub(super) fn inode(&self) -> Option<InodeFacts> {
        self.added().find_map(|body| match body {
            EntryBody::Inode(inode) => Some(inode),
            _ => None,
        })
    }

    /// The entries after the first.
    fn added(&self) -> impl Iterator<Item = EntryBody<'_>> {
        let mut rest = &self.entries[self.object_len..];
        std::iter::from_fn(move || {
            let (entry, following) = Entry::parse(rest).ok()?;
            rest = following;
            Some(entry.body)
        })
    }

    pub(super) fn path(&self) -> &[u8] {
        let end = self.object_len - self.target_len;
        &self.entries[end - self.path_len..end]
    }

    pub(super) fn is(&self, kind: ObjectKind) -> bool {
        self.object.kind == kind
    }
}
