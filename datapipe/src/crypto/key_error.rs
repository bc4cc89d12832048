//! Reasons why a key or passphrase cannot be had or used.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::limits::MAX_PASSPHRASE;

use super::secret_kind::{KEY_LEN, SecretKind};
use super::text_key::{TextKey, TextKeyDefect};
use super::unlock_error::UnlockError;

/// Reason that a key or passphrase could not be read, made or used.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// The file of a secret cannot be read.
    Read {
        /// The kind of the secret.
        kind: SecretKind,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A key file does not have the length of a key.
    KeyLength {
        /// The file.
        path: PathBuf,
        /// Its length in bytes; `None` if it is longer than a key, because it is not read further.
        has: Option<usize>,
    },
    /// A passphrase has no bytes.
    EmptyPassphrase {
        /// The file that it is from, if it is from one.
        path: Option<PathBuf>,
    },
    /// A passphrase has more than [`MAX_PASSPHRASE`] bytes.
    LongPassphrase {
        /// The file that it is from, if it is from one.
        path: Option<PathBuf>,
    },
    /// The file of a recipient cannot be read.
    ReadRecipient {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A recipient or an identity is not valid.
    TextKey {
        /// The key that was expected.
        key: TextKey,
        /// The file that it is from, if it is from one.
        path: Option<PathBuf>,
        /// Its defect.
        defect: TextKeyDefect,
    },
    /// The file of a key or a passphrase has a recipient or an identity.
    OtherFile {
        /// The kind of secret that was expected.
        expected: SecretKind,
        /// The key that it has.
        found: TextKey,
        /// The file.
        path: PathBuf,
    },
    /// The data key cannot be wrapped for a secret at the given cost.
    Wrap(UnlockError),
    /// The system has no random numbers.
    Random(io::Error),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { kind, path, source } => {
                let file = file_of(*kind);
                write!(f, "cannot read {file} {}: {source}", path.display())
            }
            Self::KeyLength { path, has } => {
                let path = path.display();
                write!(
                    f,
                    "key file {path} must have exactly {KEY_LEN} bytes, but has "
                )?;
                match has {
                    Some(has) => write!(f, "{has}"),
                    None => f.write_str("more"),
                }
            }
            Self::EmptyPassphrase { path } => {
                write_passphrase(f, path.as_deref())?;
                f.write_str(" is empty: use at least one byte, better a sentence")
            }
            Self::LongPassphrase { path } => {
                write_passphrase(f, path.as_deref())?;
                write!(
                    f,
                    " has more than {MAX_PASSPHRASE} bytes: use a shorter one, or a key file"
                )
            }
            Self::ReadRecipient { path, source } => {
                write!(f, "cannot read recipient file {}: {source}", path.display())
            }
            Self::TextKey { key, path, defect } => {
                write_text_key(f, *key, path.as_deref(), *defect)
            }
            Self::OtherFile {
                expected,
                found,
                path,
            } => write_other_file(f, *expected, *found, path),
            Self::Wrap(error) => write!(f, "cannot wrap the data key: {error}"),
            Self::Random(error) => write!(f, "cannot draw random numbers: {error}"),
        }
    }
}

/// Name of a file that has a secret of this kind.
fn file_of(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::KeyFile => "key file",
        SecretKind::Passphrase => "passphrase file",
        SecretKind::Identity => "identity file",
    }
}

/// Writes the name of a passphrase, which may be from a file.
fn write_passphrase(f: &mut fmt::Formatter<'_>, path: Option<&Path>) -> fmt::Result {
    match path {
        Some(path) => write!(f, "passphrase file {}", path.display()),
        None => f.write_str("the passphrase"),
    }
}

/// Writes the defect of a recipient or an identity, which may be from a file.
fn write_text_key(
    f: &mut fmt::Formatter<'_>,
    key: TextKey,
    path: Option<&Path>,
    defect: TextKeyDefect,
) -> fmt::Result {
    match path {
        Some(path) => write!(f, "{key} file {}", path.display())?,
        None => write!(f, "the {key}")?,
    }
    match (defect, key) {
        (TextKeyDefect::Form, key) => write!(
            f,
            " must have one line, \"{}\" and 64 hexadecimal digits, but has something else",
            key.prefix()
        ),
        (TextKeyDefect::OtherKey, TextKey::Recipient) => f.write_str(
            " has the secret key of a pair, an identity: give the file with its public key",
        ),
        (TextKeyDefect::OtherKey, TextKey::Identity) => f.write_str(
            " has the public key of a pair, a recipient, which opens nothing: give the file with \
             its secret key",
        ),
        (TextKeyDefect::Range, _) => f.write_str(
            " is not a public key: its number is not below 2^255 - 19: use another copy of it",
        ),
        (TextKeyDefect::LowOrder, _) => f.write_str(
            " is not a public key that protects: its point has a low order: use another one",
        ),
    }
}

/// Writes that a file has a recipient or an identity, and not the secret that was expected.
fn write_other_file(
    f: &mut fmt::Formatter<'_>,
    expected: SecretKind,
    found: TextKey,
    path: &Path,
) -> fmt::Result {
    let (file, path) = (file_of(expected), path.display());
    let is = match found {
        TextKey::Recipient => "a recipient",
        TextKey::Identity => "an identity",
    };
    let not = match expected {
        SecretKind::KeyFile => "a key of 32 bytes".to_owned(),
        other => other.with_article(),
    };
    write!(f, "{file} {path} has {is} and not {not}: give it as {is}")
}

impl Error for KeyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read { source, .. }
            | Self::ReadRecipient { source, .. }
            | Self::Random(source) => Some(source),
            Self::Wrap(error) => Some(error),
            Self::KeyLength { .. }
            | Self::EmptyPassphrase { .. }
            | Self::LongPassphrase { .. }
            | Self::TextKey { .. }
            | Self::OtherFile { .. } => None,
        }
    }
}
