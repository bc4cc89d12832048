//! Keys of one direction of a connection, between the handshake and the record layer.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Algorithm, CHACHA20_POLY1305, NONCE_LEN};
use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroizing;

/// Longest key of a cipher, in bytes.
const MAX_KEY_LEN: usize = 32;

/// Cipher of a TLS 1.3 connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsCipher {
    /// AES in Galois/Counter Mode with a key of 16 bytes.
    Aes128Gcm,
    /// AES in Galois/Counter Mode with a key of 32 bytes.
    Aes256Gcm,
    /// ChaCha20 and Poly1305, with a key of 32 bytes.
    ChaCha20Poly1305,
}

impl TlsCipher {
    /// Length of a key, in bytes.
    pub fn key_len(self) -> usize {
        self.algorithm().key_len()
    }

    pub(super) fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

/// Key of one direction of a connection, with the number of the record that is next. It is not
/// cloned: two users of one key would repeat numbers. It is erased from memory when it is dropped.
pub struct TrafficKeys {
    cipher: TlsCipher,
    /// The first [`TlsCipher::key_len`] bytes are the key.
    key: Zeroizing<[u8; MAX_KEY_LEN]>,
    pub(super) iv: Zeroizing<[u8; NONCE_LEN]>,
    pub(super) sequence: u64,
}

/// Key whose length is not that of its cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLengthError {
    cipher: TlsCipher,
    len: usize,
}

impl TrafficKeys {
    /// Keys for records from the number `sequence` on.
    ///
    /// # Errors
    ///
    /// If `key` does not have the length of [`TlsCipher::key_len`].
    pub fn new(
        cipher: TlsCipher,
        key: &[u8],
        iv: [u8; NONCE_LEN],
        sequence: u64,
    ) -> Result<Self, KeyLengthError> {
        let len = key.len();
        if len != cipher.key_len() {
            return Err(KeyLengthError { cipher, len });
        }
        let mut bytes = Zeroizing::new([0; MAX_KEY_LEN]);
        bytes[..len].copy_from_slice(key);
        Ok(Self {
            cipher,
            key: bytes,
            iv: Zeroizing::new(iv),
            sequence,
        })
    }

    /// Keys of one direction of a handshake. `None` if the cipher is not one of [`TlsCipher`].
    pub(super) fn from_handshake(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Option<Self> {
        let (cipher, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (TlsCipher::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (TlsCipher::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (TlsCipher::ChaCha20Poly1305, key, iv)
            }
            _ => return None,
        };
        // rustls makes each key in an array of 32 bytes; the length of AES-128's is set.
        let iv = iv.as_ref().try_into().ok()?;
        Self::new(cipher, key.as_ref(), iv, sequence).ok()
    }

    /// Cipher of the key.
    pub fn cipher(&self) -> TlsCipher {
        self.cipher
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key[..self.cipher.key_len()]
    }
}

impl fmt::Debug for TrafficKeys {
    /// Prints no key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficKeys")
            .field("cipher", &self.cipher)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for KeyLengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cipher, len } = self;
        let needed = cipher.key_len();
        write!(
            f,
            "a key of {len} bytes for {cipher:?}, which needs {needed} bytes"
        )
    }
}

impl std::error::Error for KeyLengthError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_another_length_is_refused() {
        let error = TrafficKeys::new(TlsCipher::Aes128Gcm, &[7; 32], [0; 12], 0);
        assert_eq!(
            error.map(|_| ()).map_err(|error| error.to_string()),
            Err("a key of 32 bytes for Aes128Gcm, which needs 16 bytes".to_owned())
        );
    }

    #[test]
    fn key_is_not_printed() {
        let keys =
            TrafficKeys::new(TlsCipher::Aes256Gcm, &[0xab; 32], [0xcd; 12], 5).expect("32 bytes");
        let text = format!("{keys:?}");
        assert!(!text.contains("171") && !text.contains("205") && text.contains("sequence: 5"));
    }
}
