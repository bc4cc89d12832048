//! AES-256-GCM, both ways, in place: each block is sealed by itself, so any number of instances work in parallel.
//!
//! A writer draws a random salt when it starts, and derives its own key from it with HKDF-SHA256 (RFC 5869), so no
//! nonce can ever come twice under one key. The nonce is the block's number, and number, codec and length are
//! authenticated with the data: a block that was changed, moved, repeated or dropped does not open.

use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::{AeadInOut, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::crypto::{Key, fill_random};
use crate::error::{Error, StageError};
use crate::pool::{Block, BlockInfo};

use super::{InPlace, MiddleStage, Stage, Verdict};

/// Bytes of a key.
const KEY_LEN: usize = 32;
/// Bytes of the salt that a writer draws.
pub const SALT_LEN: usize = 32;
/// Bytes that sealing adds to a block, behind the data.
const TAG_LEN: usize = 16;
/// What the derived keys are for: HKDF's `info`.
const PURPOSE: &[u8] = b"datapipe block encryption";

/// A key for one stream, and the stages that seal and open its blocks.
///
/// ```
/// use datapipe::prelude::*;
///
/// let key = Key::from_bytes([7; 32]);
/// let writer = Aes256Gcm::new(&key)?;
/// let seal = writer.seal().instances(2);
/// // The salt is not secret. It travels with the stream, and the reader gets the same key from it.
/// let open = Aes256Gcm::with_salt(&key, writer.salt()).open();
/// # let _ = (seal, open);
/// # Ok::<(), datapipe::Error>(())
/// ```
#[derive(Clone)]
pub struct Aes256Gcm {
    cipher: Arc<aes_gcm::Aes256Gcm>,
    salt: [u8; SALT_LEN],
}

impl Aes256Gcm {
    /// A key for a new stream, derived from `key` and a fresh random salt.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn new(key: &Key) -> Result<Self, Error> {
        let mut salt = [0; SALT_LEN];
        fill_random(&mut salt)?;
        Ok(Self::with_salt(key, salt))
    }

    /// The key of a stream whose salt is known: to read it. Never write a second stream with it.
    pub fn with_salt(key: &Key, salt: [u8; SALT_LEN]) -> Self {
        let mut derived = Zeroizing::new([0; KEY_LEN]);
        let expanded = Hkdf::<Sha256>::new(Some(&salt), key.bytes()).expand(PURPOSE, derived.as_mut());
        expanded.expect("HKDF-SHA256 gives up to 255 times 32 bytes");
        let cipher = Arc::new(aes_gcm::Aes256Gcm::new((&*derived).into()));
        Self { cipher, salt }
    }

    /// The salt, to be stored with the stream.
    pub fn salt(&self) -> [u8; SALT_LEN] {
        self.salt
    }

    /// A stage that encrypts each block. It needs 16 bytes of tailroom. A block that is encrypted already is an
    /// error, and so is one that a stage before has dropped: put a loop over a port between the two.
    pub fn seal<'a>(&self) -> MiddleStage<'a> {
        let cipher = self.cipher.clone();
        Stage::in_place("aes-256-gcm", move |_| Seal(cipher.clone()))
    }

    /// A stage that decrypts each block. A block that is not encrypted, or not with this key, is an error.
    pub fn open<'a>(&self) -> MiddleStage<'a> {
        let cipher = self.cipher.clone();
        Stage::in_place("aes-256-gcm-open", move |_| Open(cipher.clone()))
    }
}

impl fmt::Debug for Aes256Gcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes256Gcm(secret)")
    }
}

struct Seal(Arc<aes_gcm::Aes256Gcm>);

impl InPlace for Seal {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let number = block.number();
        let (nonce, data) = (nonce(number), associated_data(block));
        let mut info = block.info();
        if info.sealed {
            // A second time under the same key and nonce would lay the first key stream bare.
            return Err(StageError::new(format!("block {number} is encrypted already")));
        }
        let sealed = self.0.encrypt_inout_detached(&nonce.into(), &data, block.bytes_mut().into());
        let tag = sealed.map_err(|_| StageError::new("a block is too long to be encrypted"))?;
        let room = block.grow(TAG_LEN).map_err(|no_room| {
            StageError::new(format!(
                "encryption needs {TAG_LEN} bytes of tailroom in every buffer: {no_room}"
            ))
        })?;
        room.copy_from_slice(&tag);
        info.sealed = true;
        block.set_info(info);
        Ok(Verdict::Send)
    }

    /// The reader counts the blocks that it gets, so those behind a gap would not open.
    fn missed(&mut self, number: u64) -> Result<(), StageError> {
        Err(StageError::new(format!(
            "block {number} was dropped before encryption, which numbers blocks without gaps; drop blocks behind it, \
             or put a loop over a port between, behind which numbers begin anew"
        )))
    }
}

struct Open(Arc<aes_gcm::Aes256Gcm>);

impl InPlace for Open {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let number = block.number();
        let mut info = block.info();
        let Some(len) = block.len().checked_sub(TAG_LEN).filter(|_| info.sealed) else {
            return Err(StageError::new(format!(
                "block {number} is not encrypted, although a key was given"
            )));
        };
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&block.bytes()[len..]);
        block.truncate(len);
        let (nonce, data) = (nonce(number), associated_data(block));
        self.0.decrypt_inout_detached(&nonce.into(), &data, block.bytes_mut().into(), &tag.into()).map_err(
            |_| {
                let what = "does not authenticate: it is damaged or misplaced, or the key is another";
                StageError::new(format!("block {number} {what}"))
            },
        )?;
        info.sealed = false;
        block.set_info(info);
        Ok(Verdict::Send)
    }
}

/// The block's number, eight bytes, then zeros.
fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// What must not change about a block besides its data: number, codec, length before compression.
fn associated_data(block: &Block) -> [u8; 13] {
    let BlockInfo { codec, plain_len, .. } = block.info();
    let mut data = [0; 13];
    data[..8].copy_from_slice(&block.number().to_le_bytes());
    data[8] = codec.0;
    data[9..].copy_from_slice(&plain_len.to_le_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_writer_has_a_key_of_its_own() {
        let key = Key::from_bytes([3; 32]);
        assert_ne!(Aes256Gcm::new(&key).unwrap().salt(), Aes256Gcm::new(&key).unwrap().salt());
    }
}
