//! Kinds of secrets, and the length of keys.

use std::fmt;

/// Bytes of a key of any kind.
pub(super) const KEY_LEN: usize = 32;

/// The kind of a [`Secret`](super::Secret).
///
/// Exhaustive: version 1 of the format has key slots for these three kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum SecretKind {
    /// The content of a key file.
    KeyFile,
    /// A passphrase.
    Passphrase,
    /// The secret key of a recipient.
    Identity,
}

impl SecretKind {
    /// The name with its article.
    pub(super) fn with_article(self) -> String {
        let article = match self {
            Self::KeyFile | Self::Passphrase => "a",
            Self::Identity => "an",
        };
        format!("{article} {self}")
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyFile => "key file",
            Self::Passphrase => "passphrase",
            Self::Identity => "identity",
        })
    }
}
