//! An object of which some entries have come and others have not.

use crate::tree::digest::Digest;
use crate::wire::{Entry, EntryBody, ObjectKind, ObjectMeta};

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
    pub(super) fn new(number: u64, object_entry: &[u8], partial: Option<P>) -> Self {
        Self {
            number,
            description: ObjectDescription::new(object_entry),
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

/// Description of an object: its object entry, then its attribute entries, encoded as they came.
#[derive(Clone, Debug)]
pub(super) struct ObjectDescription {
    entries: Vec<u8>,
    /// Length of the object entry, in bytes.
    object_len: usize,
}

impl ObjectDescription {
    /// Begins with the bytes of an object entry, which the caller has parsed.
    pub(super) fn new(entry: &[u8]) -> Self {
        Self {
            entries: entry.to_vec(),
            object_len: entry.len(),
        }
    }

    /// Restores a description from its [`bytes`](Self::bytes).
    pub(super) fn from_bytes(entries: Vec<u8>) -> Self {
        let rest_len = Entry::parse(&entries).map_or(0, |(_, rest)| rest.len());
        let object_len = entries.len() - rest_len;
        Self {
            entries,
            object_len,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.entries
    }

    /// Length of all attribute entries, in bytes.
    pub(super) fn attributes_len(&self) -> usize {
        self.entries.len() - self.object_len
    }

    /// Appends the bytes of an attribute entry.
    pub(super) fn add_attribute(&mut self, entry: &[u8]) {
        self.entries.extend_from_slice(entry);
    }

    /// Parses the object entry. Returns `None` if it is not one, which cannot happen: it was parsed
    /// when it came.
    pub(super) fn object(&self) -> Option<ObjectMeta<'_>> {
        let (entry, _) = Entry::parse(&self.entries).ok()?;
        match entry.body {
            EntryBody::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Names and values of the attributes.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.entries[self.object_len..];
        std::iter::from_fn(move || {
            let (entry, following) = Entry::parse(rest).ok()?;
            rest = following;
            match entry.body {
                EntryBody::Attribute(name, value) => Some((name, value)),
                _ => None,
            }
        })
    }

    pub(super) fn path(&self) -> &[u8] {
        self.object().map_or(b"", |object| object.path)
    }

    pub(super) fn is(&self, kind: ObjectKind) -> bool {
        self.object().is_some_and(|object| object.kind == kind)
    }
}
