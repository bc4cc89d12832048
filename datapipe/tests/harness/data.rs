//! Test data, keys and settings that several test targets share.

#![allow(dead_code, reason = "each target uses some of it")]

use datapipe::crypto::{Key, Secret};
use datapipe::testkit::Random;

/// Returns the secret of a key file of 32 times `byte`.
pub(crate) fn key(byte: u8) -> Secret {
    Secret::Key(Key::from_bytes([byte; 32]))
}

/// Returns `len` random bytes without zeros, so that a block of zeros is a lost block.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..len).map(|_| 1 + random.below(255) as u8).collect()
}

/// Returns `len` bytes in blocks of `block`: they differ from each other, have no zeros, and every
/// second one is compressible.
pub(crate) fn blocks(len: usize, block: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let byte = |i: usize| {
        let noise = 1 + random.below(255) as u8;
        if (i / block).is_multiple_of(2) {
            noise
        } else {
            1 + (i / 64 % 255) as u8
        }
    };
    (0..len).map(byte).collect()
}

/// Returns the number in the environment variable `name`, or `default` if there is none.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    number(name).unwrap_or(default)
}

/// Returns the number in the environment variable `name`, if there is one.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
}
