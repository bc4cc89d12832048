//! The digest of a file: of its extents, as `docs/wire-format.md` says of entries of kind 4.

use blake3::Hasher;

/// A digest in the making.
#[derive(Debug)]
pub(super) struct Digest(Box<Hasher>);

impl Digest {
    pub(super) fn new() -> Self {
        Self(Box::new(Hasher::new()))
    }

    /// The next extent.
    pub(super) fn add(&mut self, offset: u64, data: &[u8]) {
        self.0.update(&offset.to_le_bytes()).update(&(data.len() as u64).to_le_bytes()).update(data);
    }

    pub(super) fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}
