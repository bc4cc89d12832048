//! Keys, passphrases and identities.

use zeroize::Zeroizing;

use crate::boundary::{Bytes, In, Text, check_reserved, versioned};
use crate::failure::Failure;
use crate::job::SecretSource;
use crate::status::DP_ERR_ARGUMENT;

/// Kind of a secret: the key in a file, which has exactly 32 bytes.
pub const DP_SECRET_KEY_FILE: i32 = 1;
/// Kind of a secret: the passphrase in a file; a line end after it is ignored.
pub const DP_SECRET_PASSPHRASE_FILE: i32 = 2;
/// Kind of a secret: the identity in a file, a secret key that `datapipe-key` has made. It opens
/// archives for its recipient, and cannot encrypt any.
pub const DP_SECRET_IDENTITY_FILE: i32 = 3;
/// Kind of a secret: a key of 32 bytes in memory.
pub const DP_SECRET_KEY: i32 = 4;
/// Kind of a secret: a passphrase in memory, of any bytes.
pub const DP_SECRET_PASSPHRASE: i32 = 5;
/// Kind of a secret: an identity of 32 bytes in memory.
pub const DP_SECRET_IDENTITY: i32 = 6;

/// A secret that encrypts an archive, or opens one.
///
/// The library erases its copies when the job has ended. The program erases its own, and decides
/// whether it leaves core dumps (`setrlimit`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_secret {
    /// `sizeof(dp_secret)`.
    pub size: usize,
    /// For the kinds with a file: its path. Else NULL.
    pub path: Text,
    /// For the other kinds: the bytes. Else NULL.
    pub bytes: Bytes,
    /// Number of the bytes.
    pub bytes_len: usize,
    /// `DP_SECRET_...`.
    pub kind: i32,
    /// Set to 0.
    pub reserved: u32,
}

versioned!(dp_secret, first: 40, { size, path, bytes, bytes_len, kind, reserved });

/// Copies a secret. `None` for a null pointer.
pub(super) fn secret_of(secret: In<dp_secret>) -> Result<Option<SecretSource>, Failure> {
    let Some(secret) = secret.read()? else {
        return Ok(None);
    };
    check_reserved("dp_secret", secret.reserved)?;
    let path = || secret.path.needed_path("secret.path");
    let bytes = || {
        secret
            .bytes
            .read(secret.bytes_len, "secret.bytes")
            .map(Zeroizing::new)
    };
    Ok(Some(match secret.kind {
        DP_SECRET_KEY_FILE => SecretSource::KeyFile(path()?),
        DP_SECRET_PASSPHRASE_FILE => SecretSource::PassphraseFile(path()?),
        DP_SECRET_IDENTITY_FILE => SecretSource::IdentityFile(path()?),
        DP_SECRET_KEY => SecretSource::Key(bytes()?),
        DP_SECRET_PASSPHRASE => SecretSource::Passphrase(bytes()?),
        DP_SECRET_IDENTITY => SecretSource::Identity(bytes()?),
        kind => return Err(unknown("secret.kind", kind, "DP_SECRET_")),
    }))
}

/// Failure because of a number that is not one of the constants with this prefix.
pub(super) fn unknown(what: &str, number: i32, prefix: &str) -> Failure {
    Failure::new(
        DP_ERR_ARGUMENT,
        format!(
            "{what} is {number}, which this version of the library does not know: use {prefix}..."
        ),
    )
}
