//! Keys and passphrases from files.

use std::path::PathBuf;

use datapipe::crypto::others_can_read;
use datapipe::prelude::*;

use crate::console::{Console, Failure};

/// What encrypts and decrypts, as arguments.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct SecretArgs {
    /// The archive is encrypted with the key in FILE, which has exactly 32 bytes
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The archive is encrypted with the passphrase in FILE; a line end behind it does not count
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl SecretArgs {
    /// Reads the secret, if one was given. Warns if others could read it too.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is none of its kind.
    pub fn read(&self, console: Console) -> Result<Option<Secret>, Failure> {
        let (path, secret) = match (&self.key_file, &self.passphrase_file) {
            (Some(path), _) => (path, Secret::from(Key::from_file(path)?)),
            (None, Some(path)) => (path, Secret::from(Passphrase::from_file(path)?)),
            (None, None) => return Ok(None),
        };
        if others_can_read(path)? {
            let path = path.display();
            console.warn(&format!(
                "{path} can be read or changed by others: chmod 600 {path}"
            ));
        }
        Ok(Some(secret))
    }
}
