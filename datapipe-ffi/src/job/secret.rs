//! Secrets and recipients of a job.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use datapipe::crypto::{Recipient, others_can_change, others_can_read};
use datapipe::interrupt::retry;
use datapipe::prelude::*;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::log_sink::log;
use crate::status::{DP_ERR_ARGUMENT, DP_LOG_WARNING};

/// Source of a secret.
#[derive(Debug)]
pub(crate) enum SecretSource {
    KeyFile(PathBuf),
    PassphraseFile(PathBuf),
    IdentityFile(PathBuf),
    Key(Zeroizing<Vec<u8>>),
    Passphrase(Zeroizing<Vec<u8>>),
    Identity(Zeroizing<Vec<u8>>),
}

impl SecretSource {
    /// Reads the secret. Logs a warning if other users can read its file.
    pub(super) fn read(&self) -> Result<Secret, Failure> {
        if let Some(path) = self.path() {
            warn_if_others_can_read(path);
        }
        Ok(match self {
            Self::KeyFile(path) => Key::from_file(path)?.into(),
            Self::PassphraseFile(path) => Passphrase::from_file(path)?.into(),
            Self::IdentityFile(path) => Identity::from_file(path)?.into(),
            Self::Key(bytes) => Key::copy_of(array(bytes, "a key")?).into(),
            Self::Passphrase(bytes) => Passphrase::from_bytes(bytes.to_vec())?.into(),
            Self::Identity(bytes) => Identity::copy_of(array(bytes, "an identity")?).into(),
        })
    }

    /// True if the secret can only open archives, and not encrypt them.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::IdentityFile(_) | Self::Identity(_))
    }

    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::KeyFile(path) | Self::PassphraseFile(path) | Self::IdentityFile(path) => {
                Some(path)
            }
            _ => None,
        }
    }

    /// Device and inode of the file, which no job may replace.
    pub(super) fn file_identity(&self) -> Option<(u64, u64)> {
        file_identity(self.path()?)
    }
}

/// Device and inode of a file, if it can be inspected.
pub(super) fn file_identity(path: &Path) -> Option<(u64, u64)> {
    let found = retry(|| fs::metadata(path)).ok()?;
    Some((found.dev(), found.ino()))
}

/// The bytes of a key where they are: a copy on the stack would stay there.
fn array<'b>(bytes: &'b [u8], what: &str) -> Result<&'b [u8; 32], Failure> {
    bytes.try_into().map_err(|_| {
        let text = format!("{what} has 32 bytes, and not {}", bytes.len());
        Failure::new(DP_ERR_ARGUMENT, text)
    })
}

/// Reads recipients from their files. Logs a warning if other users can change one.
pub(crate) fn read_recipients(files: &[PathBuf]) -> Result<Vec<Recipient>, Failure> {
    let mut recipients = Vec::with_capacity(files.len());
    for path in files {
        recipients.push(Recipient::from_file(path)?);
        if others_can_change(path)? {
            let path = path.display();
            let text = format!(
                "other users can change {path}, and so get archives encrypted for a key of theirs: \
                 chmod go-w {path}"
            );
            log(DP_LOG_WARNING, &text);
        }
    }
    Ok(recipients)
}

fn warn_if_others_can_read(path: &Path) {
    if matches!(others_can_read(path), Ok(true)) {
        let path = path.display();
        let text = format!("other users can read or change {path}: chmod 600 {path}");
        log(DP_LOG_WARNING, &text);
    }
}
