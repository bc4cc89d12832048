//! Keys and passphrases from files.

use std::fs;
use std::path::PathBuf;

use datapipe::crypto::{others_can_read, prevent_core_dumps};
use datapipe::interrupt::retry;
use datapipe::prelude::*;

use crate::console::{Console, Failure};
use crate::medium::{Location, identity_of};

/// Options for the secret that encrypts and decrypts an archive.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct SecretArgs {
    /// Encrypt or decrypt with the key in FILE, which has exactly 32 bytes
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Encrypt or decrypt with the passphrase in FILE; a line end after it is ignored
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl SecretArgs {
    /// Reads the secret, if one was given. Warns if other users can read or change the file. From
    /// then on, this program and the processes that it starts leave no core dump.
    ///
    /// # Errors
    ///
    /// Returns a failure if the file cannot be read, or does not hold a valid secret.
    pub fn read(&self, console: Console) -> Result<Option<Secret>, Failure> {
        if self.path().is_some() {
            prevent_core_dumps()?;
        }
        let (path, secret) = match (&self.key_file, &self.passphrase_file) {
            (Some(path), _) => (path, Secret::from(Key::from_file(path)?)),
            (None, Some(path)) => (path, Secret::from(Passphrase::from_file(path)?)),
            (None, None) => return Ok(None),
        };
        if others_can_read(path)? {
            let path = path.display();
            console.warn(&format!(
                "other users can read or change {path}: chmod 600 {path}"
            ));
        }
        Ok(Some(secret))
    }

    /// Checks that a medium that is to be written is not the file with the secret. The archive that
    /// replaced it could not be read by anyone, and neither could older ones.
    ///
    /// # Errors
    ///
    /// Returns a usage error if it is.
    pub fn check_is_not_on(&self, medium: &Location) -> Result<(), Failure> {
        let (Some(path), Some(id)) = (self.path(), self.identity()) else {
            return Ok(());
        };
        if medium.files().contains(&id) {
            let path = path.display();
            return Err(Failure::usage(format!(
                "{medium} would replace {path}, the file with the key or the passphrase, without \
                 which its archive cannot be read; name another medium"
            )));
        }
        Ok(())
    }

    /// Returns device and inode of the file with the secret. A job must not replace it.
    pub fn identity(&self) -> Option<(u64, u64)> {
        let path = self.path()?;
        let found = retry(|| fs::metadata(path)).ok()?;
        Some(identity_of(&found))
    }

    fn path(&self) -> Option<&PathBuf> {
        self.key_file.as_ref().or(self.passphrase_file.as_ref())
    }
}
