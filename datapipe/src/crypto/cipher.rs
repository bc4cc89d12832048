//! AES-256-GCM in place, with a detached tag, by either of two implementations that give the same
//! bytes.
//!
//! Source: NIST SP 800-38D, with nonces of 96 bits and tags of 128.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use zeroize::Zeroize;

use super::clean_stack::{on_clean_cipher_stack, on_clean_stack};
use super::data_key::SubKey;
use super::secret_kind::KEY_LEN;
use super::undumped::Undumped;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of a tag.
pub const TAG_LEN: usize = 16;

/// The nonce of block `number`: the number in eight bytes, little endian, then four zeros. Nothing
/// but blocks is sealed.
pub fn nonce(number: u64) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// An implementation of AES-256-GCM. All give the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The aes-gcm crate: Rust only, in every build.
    RustCrypto,
    /// AWS-LC, in builds with the feature `aws-lc`, where it is the default.
    #[cfg(feature = "aws-lc")]
    AwsLc,
}

impl Backend {
    /// All backends of this build, the default last.
    pub const ALL: &[Self] = &[
        Self::RustCrypto,
        #[cfg(feature = "aws-lc")]
        Self::AwsLc,
    ];
}

impl Default for Backend {
    /// The fastest backend of this build.
    fn default() -> Self {
        #[cfg(feature = "aws-lc")]
        return Self::AwsLc;
        #[cfg(not(feature = "aws-lc"))]
        Self::RustCrypto
    }
}

/// Seals and opens data under one key. Any number of threads may share a cipher.
pub struct Cipher(BackendKey);

enum BackendKey {
    RustCrypto(Undumped<aes_gcm::Aes256Gcm>),
    #[cfg(feature = "aws-lc")]
    AwsLc(aws_lc_rs::aead::LessSafeKey),
}

impl Cipher {
    /// A cipher with the default backend.
    pub fn new(key: &SubKey) -> Self {
        Self::with_backend(key, Backend::default())
    }

    /// A cipher with this backend.
    pub fn with_backend(key: &SubKey, backend: Backend) -> Self {
        Self::with_key_bytes(key.bytes(), backend)
    }

    pub(super) fn with_key_bytes(key: &[u8; KEY_LEN], backend: Backend) -> Self {
        // The key schedule begins with the key.
        on_clean_stack(|| Self::schedule(key, backend))
    }

    fn schedule(key: &[u8; KEY_LEN], backend: Backend) -> Self {
        Self(match backend {
            Backend::RustCrypto => {
                BackendKey::RustCrypto(Undumped::new(aes_gcm::Aes256Gcm::new(key.into())))
            }
            #[cfg(feature = "aws-lc")]
            Backend::AwsLc => {
                let key = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM, key);
                BackendKey::AwsLc(aws_lc_rs::aead::LessSafeKey::new(
                    key.expect("the key has the length that it must have"),
                ))
            }
        })
    }

    /// Encrypts `data` in place and returns the tag, which also covers `aad`. A nonce must never be
    /// passed to this method twice under one key: see [`nonce`].
    ///
    /// # Errors
    ///
    /// [`TooLong`] if the data is longer than one nonce can seal: 64 GiB.
    pub fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
    ) -> Result<[u8; TAG_LEN], TooLong> {
        let too_long = TooLong { len: data.len() };
        on_clean_cipher_stack(|| match &self.0 {
            BackendKey::RustCrypto(cipher) => cipher
                .encrypt_inout_detached(nonce.into(), aad, data.into())
                .map(Into::into)
                .map_err(|_| too_long),
            #[cfg(feature = "aws-lc")]
            BackendKey::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let sealed = key.seal_in_place_separate_tag(
                    Nonce::assume_unique_for_key(*nonce),
                    Aad::from(aad),
                    data,
                );
                sealed
                    .ok()
                    .and_then(|tag| tag.as_ref().try_into().ok())
                    .ok_or(too_long)
            }
        })
    }

    /// Decrypts `data` in place, if it was sealed with this nonce, `aad` and tag. If not, `data` is
    /// all zeros afterwards, so that no caller sees bytes that were not authenticated.
    ///
    /// # Errors
    ///
    /// [`Unauthentic`] if key, nonce, `aad`, data or tag differs from that at sealing.
    pub fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Unauthentic> {
        let authentic = on_clean_cipher_stack(|| match &self.0 {
            BackendKey::RustCrypto(cipher) => cipher
                .decrypt_inout_detached(nonce.into(), aad, (&mut *data).into(), tag.into())
                .is_ok(),
            #[cfg(feature = "aws-lc")]
            BackendKey::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(*nonce);
                key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, data)
                    .is_ok()
            }
        });
        if authentic {
            return Ok(());
        }
        data.zeroize();
        Err(Unauthentic)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(secret)")
    }
}

/// Error of data that does not authenticate: it is damaged, misplaced, or sealed with another key.
///
/// Exhaustive: the cipher does not say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct Unauthentic;

impl fmt::Display for Unauthentic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("does not authenticate: it is damaged or misplaced, or the key is another")
    }
}

impl std::error::Error for Unauthentic {}

/// Error of more data than AES-GCM can seal with one nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooLong {
    /// Length of the data in bytes.
    pub len: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes are too many for one nonce: cut them into shorter blocks",
            self.len
        )
    }
}

impl std::error::Error for TooLong {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Random;

    /// Random numbers for the tests that compare backends. `DATAPIPE_SEED` repeats a run.
    fn random() -> Random {
        let seed = std::env::var("DATAPIPE_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("DATAPIPE_SEED={seed}");
        Random::new(seed)
    }

    fn bytes(random: &mut Random, most: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(random.below(most + 1)).unwrap()];
        random.fill(&mut bytes);
        bytes
    }

    fn ciphers(random: &mut Random) -> Vec<Cipher> {
        let mut key = [0; 32];
        random.fill(&mut key);
        Backend::ALL
            .iter()
            .map(|backend| Cipher::with_key_bytes(&key, *backend))
            .collect()
    }

    #[test]
    fn nonce_has_the_number_and_zeros() {
        assert_eq!(
            nonce(0x0102_0304_0506_0708),
            [8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0]
        );
    }

    #[test]
    fn default_backend_is_the_last_of_all() {
        assert_eq!(Backend::ALL.last(), Some(&Backend::default()));
    }

    #[test]
    fn sealed_data_opens_with_every_backend() {
        let mut random = random();
        let round_lengths = [0, 1, 15, 16, 17, 31, 32, 33, 4096, 65_536];
        for round in 0..60 {
            let ciphers = ciphers(&mut random);
            let mut plain = bytes(&mut random, 70_000);
            if let Some(len) = round_lengths.get(round) {
                plain.resize(*len, 7);
            }
            let aad = bytes(&mut random, 100);
            let nonce = nonce(random.bits());
            let mut sealed = Vec::new();
            for cipher in &ciphers {
                let mut data = plain.clone();
                let tag = cipher.seal(&nonce, &aad, &mut data).unwrap();
                assert!(plain.len() < 16 || data != plain);
                sealed.push((data, tag));
            }
            for (data, tag) in &sealed {
                assert_eq!(
                    (data, tag),
                    (&sealed[0].0, &sealed[0].1),
                    "the same bytes from all"
                );
                for cipher in &ciphers {
                    let mut opened = data.clone();
                    cipher.open(&nonce, &aad, &mut opened, tag).unwrap();
                    assert!(opened == plain);
                }
            }
        }
    }

    #[test]
    fn tampered_data_is_refused_by_every_backend_and_zeroed() {
        let mut random = random();
        for _ in 0..60 {
            let ciphers = ciphers(&mut random);
            let plain = [&bytes(&mut random, 3000)[..], b"x"].concat();
            let aad = [&bytes(&mut random, 100)[..], b"x"].concat();
            let nonce = nonce(random.bits());
            let mut data = plain.clone();
            let tag = ciphers[0].seal(&nonce, &aad, &mut data).unwrap();
            let mut flip = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                let bit = usize::try_from(random.below(bytes.len() as u64 * 8)).unwrap();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            };
            let tampered = [
                (nonce, aad.clone(), flip(&data), tag),
                (nonce, flip(&aad), data.clone(), tag),
                (
                    flip(&nonce).try_into().unwrap(),
                    aad.clone(),
                    data.clone(),
                    tag,
                ),
                (
                    nonce,
                    aad.clone(),
                    data.clone(),
                    flip(&tag).try_into().unwrap(),
                ),
                (nonce, aad.clone(), data[..data.len() - 1].to_vec(), tag),
                (nonce, aad[..aad.len() - 1].to_vec(), data.clone(), tag),
            ];
            for cipher in &ciphers {
                for (nonce, aad, data, tag) in &tampered {
                    let mut opened = data.clone();
                    assert_eq!(cipher.open(nonce, aad, &mut opened, tag), Err(Unauthentic));
                    assert!(
                        opened.iter().all(|byte| *byte == 0),
                        "unauthenticated bytes were left"
                    );
                }
                let mut opened = data.clone();
                assert_eq!(cipher.open(&nonce, &aad, &mut opened, &tag), Ok(()));
            }
        }
    }

    #[test]
    fn cipher_is_shared_between_threads_and_not_printed() {
        fn shared<T: Send + Sync>(_: &T) {}
        for backend in Backend::ALL {
            let cipher = Cipher::with_key_bytes(&[7; 32], *backend);
            shared(&cipher);
            assert_eq!(format!("{cipher:?}"), "Cipher(secret)");
        }
    }
}
