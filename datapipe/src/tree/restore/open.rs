//! An object of which not all entries have come yet.

use crate::tree::digest::Digest;
use crate::wire::{Entry, EntryBody, ObjectKind, ObjectMeta};

/// An object that is open.
#[derive(Debug)]
pub(super) struct Open<M> {
    pub(super) number: u64,
    pub(super) what: Described,
    /// What was made of it; none if its entries are only passed over.
    pub(super) made: Option<M>,
    pub(super) digest: Digest,
    /// Byte of the file behind its last extent.
    pub(super) end: u64,
    /// Bytes of data.
    pub(super) bytes: u64,
    /// Whether an extent has come, so that no attribute may.
    pub(super) has_data: bool,
    /// Whether blocks were lost since it began: its digest tells whether something of it was in
    /// them.
    pub(super) doubtful: bool,
}

impl<M> Open<M> {
    /// Takes an extent into account.
    pub(super) fn extend(&mut self, offset: u64, data: &[u8]) {
        let len = data.len() as u64;
        self.digest.add(offset, data);
        self.end = offset + len;
        self.bytes += len;
        self.has_data = true;
    }
}

/// What an object is, as its entries say: the object, then its attributes.
#[derive(Clone, Debug)]
pub(super) struct Described {
    entries: Vec<u8>,
    /// Bytes of the first entry, which has been parsed once.
    object: usize,
}

impl Described {
    /// From the bytes of an entry that is an object.
    pub(super) fn new(entry: &[u8]) -> Self {
        Self {
            entries: entry.to_vec(),
            object: entry.len(),
        }
    }

    /// From [`bytes`](Self::bytes).
    pub(super) fn from_bytes(entries: Vec<u8>) -> Self {
        let behind = Entry::parse(&entries).map_or(0, |(_, rest)| rest.len());
        let object = entries.len() - behind;
        Self { entries, object }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.entries
    }

    /// Bytes of all attributes.
    pub(super) fn attribute_bytes(&self) -> usize {
        self.entries.len() - self.object
    }

    /// Adds the bytes of an entry that is an attribute.
    pub(super) fn add_attribute(&mut self, entry: &[u8]) {
        self.entries.extend_from_slice(entry);
    }

    /// None if the bytes are no object's, which they were when they came.
    pub(super) fn object(&self) -> Option<ObjectMeta<'_>> {
        match Entry::parse(&self.entries) {
            Ok((
                Entry {
                    body: EntryBody::Object(object),
                    ..
                },
                _,
            )) => Some(object),
            _ => None,
        }
    }

    /// Names and values.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.entries[self.object..];
        std::iter::from_fn(move || {
            let (entry, behind) = Entry::parse(rest).ok()?;
            rest = behind;
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
