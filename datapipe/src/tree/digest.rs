//! The digest of a file's extents, as `docs/wire-format.md` defines it for entries of kind 4.

use blake3::Hasher;

use crate::wire::DIGEST_LEN;

/// State of a digest: it hashes the data of the extents, and their offsets and lengths.
#[derive(Clone, Debug)]
pub(super) struct Digest(Box<Hashers>);

#[derive(Clone, Debug)]
struct Hashers {
    data: Hasher,
    layout: Hasher,
}

impl Digest {
    pub(super) fn new() -> Self {
        Self(Box::new(Hashers {
            data: Hasher::new(),
            layout: Hasher::new(),
        }))
    }

    /// Adds the next extent.
    pub(super) fn add(&mut self, offset: u64, data: &[u8]) {
        self.0
            .layout
            .update(&offset.to_le_bytes())
            .update(&(data.len() as u64).to_le_bytes());
        self.0.data.update(data);
    }

    /// Returns the digest of the extents added so far: that of their data, then of the hash of
    /// their layout.
    pub(super) fn finish(&self) -> [u8; DIGEST_LEN] {
        let layout = self.0.layout.finalize();
        let mut digest = [0; DIGEST_LEN];
        self.0
            .data
            .clone()
            .update(layout.as_bytes())
            .finalize_xof()
            .fill(&mut digest);
        digest
    }
}
