//! Keys, passphrases, identities and recipients from files.

use std::fs;
use std::path::{Path, PathBuf};

use datapipe::crypto::{
    Identity, Recipient, others_can_change, others_can_read, prevent_core_dumps,
};
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

/// Options for those who can open an archive that is written.
#[derive(Debug, clap::Args)]
pub struct EncryptArgs {
    #[command(flatten)]
    secret: SecretArgs,
    /// Encrypt for the recipient in FILE, a public key that datapipe-key has printed. Only its
    /// identity, the secret key, opens the archive; this machine needs neither. Can be given
    /// several times, and together with a key or a passphrase: each of them opens the archive
    #[arg(long, value_name = "FILE")]
    recipient: Vec<PathBuf>,
}

/// Options for the secret that opens an archive.
#[derive(Debug, clap::Args)]
pub struct DecryptArgs {
    #[command(flatten)]
    secret: SecretArgs,
    /// Decrypt with the identity in FILE, a secret key that datapipe-key has made. It opens
    /// archives that were written for its recipient, but does not prove who has written them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key_file", "passphrase_file"])]
    identity: Option<PathBuf>,
}

impl SecretArgs {
    fn read(&self, console: Console) -> Result<Option<Secret>, Failure> {
        let (path, secret) = match (&self.key_file, &self.passphrase_file) {
            (Some(path), _) => (path, Secret::from(Key::from_file(path)?)),
            (None, Some(path)) => (path, Secret::from(Passphrase::from_file(path)?)),
            (None, None) => return Ok(None),
        };
        warn_if_others_can_read(path, console)?;
        Ok(Some(secret))
    }

    fn path(&self) -> Option<&PathBuf> {
        self.key_file.as_ref().or(self.passphrase_file.as_ref())
    }
}

impl EncryptArgs {
    /// Reads the secret, if one was given. Warns if other users can read or change the file. If the
    /// archive is to be encrypted, this program and the processes that it starts leave no core dump
    /// from then on.
    ///
    /// # Errors
    ///
    /// Returns a failure if the file cannot be read, or does not hold a valid secret.
    pub fn read(&self, console: Console) -> Result<Option<Secret>, Failure> {
        if self.secret.path().is_some() || !self.recipient.is_empty() {
            prevent_core_dumps()?;
        }
        self.secret.read(console)
    }

    /// Reads the recipients. Warns if other users can change one of the files.
    ///
    /// # Errors
    ///
    /// Returns a failure if a file cannot be read, or does not hold a valid recipient.
    pub fn read_recipients(&self, console: Console) -> Result<Vec<Recipient>, Failure> {
        let mut recipients = Vec::with_capacity(self.recipient.len());
        for path in &self.recipient {
            recipients.push(Recipient::from_file(path)?);
            if others_can_change(path)? {
                let path = path.display();
                console.warn(&format!(
                    "other users can change {path}, and so get archives encrypted for a key of \
                     theirs: chmod go-w {path}"
                ));
            }
        }
        Ok(recipients)
    }

    /// Checks that a medium that is to be written is not the file with the secret, or that of a
    /// recipient. The archive that replaced the first could not be read by anyone, and neither
    /// could older ones.
    ///
    /// # Errors
    ///
    /// Returns a usage error if it is.
    pub fn check_is_not_on(&self, medium: &Location) -> Result<(), Failure> {
        if let Some(path) = self.secret.path()
            && is_on(path, medium)
        {
            let path = path.display();
            return Err(Failure::usage(format!(
                "{medium} would replace {path}, the file with the key or the passphrase, without \
                 which its archive cannot be read; name another medium"
            )));
        }
        match self.recipient.iter().find(|path| is_on(path, medium)) {
            None => Ok(()),
            Some(path) => Err(Failure::usage(format!(
                "{medium} would replace {}, the file of a recipient; name another medium",
                path.display()
            ))),
        }
    }
}

impl DecryptArgs {
    /// Reads the secret, if one was given. Warns if other users can read or change the file. From
    /// then on, this program and the processes that it starts leave no core dump.
    ///
    /// # Errors
    ///
    /// Returns a failure if the file cannot be read, or does not hold a valid secret.
    pub fn read(&self, console: Console) -> Result<Option<Secret>, Failure> {
        if self.identity.is_some() || self.secret.path().is_some() {
            prevent_core_dumps()?;
        }
        let Some(path) = &self.identity else {
            return self.secret.read(console);
        };
        let identity = Identity::from_file(path)?;
        warn_if_others_can_read(path, console)?;
        Ok(Some(identity.into()))
    }

    /// Returns device and inode of the file with the secret. A job must not replace it.
    pub fn file_identity(&self) -> Option<(u64, u64)> {
        file_identity(self.identity.as_ref().or_else(|| self.secret.path())?)
    }
}

fn warn_if_others_can_read(path: &Path, console: Console) -> Result<(), Failure> {
    if others_can_read(path)? {
        let path = path.display();
        console.warn(&format!(
            "other users can read or change {path}: chmod 600 {path}"
        ));
    }
    Ok(())
}

/// True if a file is one of a medium.
fn is_on(path: &Path, medium: &Location) -> bool {
    file_identity(path).is_some_and(|id| medium.files().contains(&id))
}

/// Returns device and inode of a file, if it can be inspected.
fn file_identity(path: &Path) -> Option<(u64, u64)> {
    let found = retry(|| fs::metadata(path)).ok()?;
    Some(identity_of(&found))
}
