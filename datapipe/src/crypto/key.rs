//! Secrets with which a user unlocks an archive: the content of a key file, a passphrase, or the
//! identity of a recipient.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::interrupt::retry;
use crate::limits::MAX_PASSPHRASE;

use super::key_bytes::KeyBytes;
use super::key_error::KeyError;
use super::recipient::Identity;
use super::secret_kind::{KEY_LEN, SecretKind};
use super::text_key::TextKey;
use super::undumped::Undumped;

/// A key of 256 bits. It is on the heap, where moving it leaves no copy, left out of core dumps,
/// and erased from memory when it is dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key(KeyBytes);

impl Key {
    /// A key of these bytes. The caller's copy of them is not erased.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(KeyBytes::copy_of(&Zeroizing::new(bytes)))
    }

    /// A key of a copy of these bytes, which is made from where they are to the heap: no other copy
    /// is left in memory. The bytes themselves are not erased.
    pub fn copy_of(bytes: &[u8; KEY_LEN]) -> Self {
        Self(KeyBytes::copy_of(bytes))
    }

    /// Reads a key file, which is exactly 32 bytes long. Does not check the file's permissions; see
    /// [`others_can_read`].
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it cannot be read or has another length.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let bytes = read_at_most(path, KEY_LEN).map_err(|source| KeyError::Read {
            kind: SecretKind::KeyFile,
            path: path.to_owned(),
            source,
        })?;
        if let Ok(key) = bytes.as_slice().try_into() {
            return Ok(Self(KeyBytes::copy_of(key)));
        }
        let path = path.to_owned();
        Err(match TextKey::of_prefix(&bytes) {
            Some(found) => KeyError::OtherFile {
                expected: SecretKind::KeyFile,
                found,
                path,
            },
            None => KeyError::KeyLength {
                path,
                has: Some(bytes.len()).filter(|&has| has <= KEY_LEN),
            },
        })
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// A passphrase: 1 to [`MAX_PASSPHRASE`] bytes of any value. Left out of core dumps, and erased
/// from memory when it is dropped; never printed.
pub struct Passphrase {
    bytes: Undumped<Zeroizing<[u8; MAX_PASSPHRASE]>>,
    len: usize,
}

impl Passphrase {
    /// A passphrase of exactly these bytes: a line end is not removed.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if there is none, or if there are more than [`MAX_PASSPHRASE`].
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self, KeyError> {
        Self::checked(&Zeroizing::new(bytes.into()), None)
    }

    /// Reads a passphrase file of at most [`MAX_PASSPHRASE`] bytes. All of it is the passphrase,
    /// except for one line end, `"\n"` or `"\r\n"`, at its end.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it cannot be read, is longer, or has nothing but a line end; also if it is
    /// the file of a recipient, whose text others know, or of an identity.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let mut bytes = read_at_most(path, MAX_PASSPHRASE).map_err(|source| KeyError::Read {
            kind: SecretKind::Passphrase,
            path: path.to_owned(),
            source,
        })?;
        if let Some(found) = TextKey::of_line(&bytes) {
            return Err(KeyError::OtherFile {
                expected: SecretKind::Passphrase,
                found,
                path: path.to_owned(),
            });
        }
        // The limit is one of the file's length, so that it does not depend on the line end.
        if bytes.len() <= MAX_PASSPHRASE && bytes.ends_with(b"\n") {
            let end = if bytes.ends_with(b"\r\n") { 2 } else { 1 };
            let len = bytes.len() - end;
            bytes.truncate(len);
        }
        Self::checked(&bytes, Some(path))
    }

    /// Checks the length. `path` is the file that the passphrase is from, if it is from one.
    fn checked(bytes: &[u8], path: Option<&Path>) -> Result<Self, KeyError> {
        let path = path.map(Path::to_owned);
        if bytes.is_empty() {
            return Err(KeyError::EmptyPassphrase { path });
        }
        if bytes.len() > MAX_PASSPHRASE {
            return Err(KeyError::LongPassphrase { path });
        }
        Ok(Self::copy_of(bytes))
    }

    /// A copy of at most [`MAX_PASSPHRASE`] bytes.
    fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Undumped::new(Zeroizing::new([0; MAX_PASSPHRASE]));
        copy[..bytes.len()].copy_from_slice(bytes);
        let len = bytes.len();
        Self { bytes: copy, len }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Clone for Passphrase {
    /// A derived one would leave a copy on the stack.
    fn clone(&self) -> Self {
        Self::copy_of(self.bytes())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(secret)")
    }
}

/// A secret with which a user unlocks an archive.
///
/// Exhaustive: version 1 of the format has key slots for these three kinds.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum Secret {
    /// The content of a key file.
    Key(Key),
    /// A passphrase.
    Passphrase(Passphrase),
    /// The secret key of a recipient. An archive that is encrypted with it is encrypted for the
    /// recipient.
    Identity(Identity),
}

impl Secret {
    /// The kind of this secret.
    pub fn kind(&self) -> SecretKind {
        match self {
            Self::Key(_) => SecretKind::KeyFile,
            Self::Passphrase(_) => SecretKind::Passphrase,
            Self::Identity(_) => SecretKind::Identity,
        }
    }
}

impl From<Key> for Secret {
    fn from(key: Key) -> Self {
        Self::Key(key)
    }
}

impl From<Passphrase> for Secret {
    fn from(passphrase: Passphrase) -> Self {
        Self::Passphrase(passphrase)
    }
}

impl From<Identity> for Secret {
    fn from(identity: Identity) -> Self {
        Self::Identity(identity)
    }
}

/// True if a file's mode gives the group or all others any right: for a file with a key or a
/// passphrase, a program should then warn and suggest `chmod 600`.
///
/// # Errors
///
/// An error of the system, if the file's mode cannot be read.
pub fn others_can_read(path: impl AsRef<Path>) -> io::Result<bool> {
    let found = retry(|| std::fs::metadata(&path))?;
    Ok(found.permissions().mode() & 0o077 != 0)
}

/// True if a file's mode lets the group or all others change it: for the file of a recipient, a
/// program should then warn, because the archives that follow could be encrypted for another one.
///
/// # Errors
///
/// An error of the system, if the file's mode cannot be read.
pub fn others_can_change(path: impl AsRef<Path>) -> io::Result<bool> {
    let found = retry(|| std::fs::metadata(&path))?;
    Ok(found.permissions().mode() & 0o022 != 0)
}

/// Reads a file, or its first `most + 1` bytes: enough to know that it is too long.
pub(super) fn read_at_most(path: &Path, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // The capacity is for all of it from the start, so that a growing vector leaves no copy of the
    // secret in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    File::open(path)?
        .take(most as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn key_file_of_another_length_than_32_bytes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 31, 33, 100_000] {
            let path = dir.path().join(format!("key-{len}"));
            fs::write(&path, vec![1; len]).unwrap();
            let text = Key::from_file(&path).unwrap_err().to_string();
            assert!(text.contains("must have exactly 32 bytes"), "{text}");
        }
        let path = dir.path().join("key");
        fs::write(&path, [1; 32]).unwrap();
        assert_eq!(*Key::from_file(&path).unwrap().0, [1; 32]);
        let text = Key::from_file(dir.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("cannot read key file"), "{text}");
    }

    #[test]
    fn passphrase_file_loses_one_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        let read = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            Passphrase::from_file(&path)
        };
        for (content, passphrase) in [
            (&b"two words"[..], &b"two words"[..]),
            (b"two words\n", b"two words"),
            (b"two words\r\n", b"two words"),
            (b"two words\n\n", b"two words\n"),
            (b"two words\r", b"two words\r"),
            (b" \n", b" "),
            (b"\n\r\n", b"\n"),
            (&[b'x'; MAX_PASSPHRASE], &[b'x'; MAX_PASSPHRASE]),
        ] {
            assert_eq!(read(content).unwrap().bytes(), passphrase);
        }
        for empty in [&b""[..], b"\n", b"\r\n"] {
            let text = read(empty).unwrap_err().to_string();
            assert!(text.contains("is empty"), "{text}");
        }
        let longest = [&[b'x'; MAX_PASSPHRASE][..], b"\n"].concat();
        for long in [longest, vec![b'x'; 100_000]] {
            let text = read(&long).unwrap_err().to_string();
            assert!(text.contains("more than 4096 bytes"), "{text}");
        }
        let text = Passphrase::from_file(dir.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("cannot read passphrase file"), "{text}");
    }

    #[test]
    fn passphrase_from_bytes_keeps_its_line_end() {
        assert_eq!(
            Passphrase::from_bytes("two words\n").unwrap().bytes(),
            b"two words\n"
        );
        assert!(Passphrase::from_bytes("").is_err());
        assert!(Passphrase::from_bytes(vec![1; MAX_PASSPHRASE + 1]).is_err());
    }

    #[test]
    fn file_modes_with_rights_for_others_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, [1; 32]).unwrap();
        for (mode, others, change) in [
            (0o600, false, false),
            (0o400, false, false),
            (0o640, true, false),
            (0o604, true, false),
            (0o620, true, true),
            (0o602, true, true),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(others_can_read(&path).unwrap(), others, "{mode:o}");
            assert_eq!(others_can_change(&path).unwrap(), change, "{mode:o}");
        }
        assert!(others_can_read(dir.path().join("none")).is_err());
        assert!(others_can_change(dir.path().join("none")).is_err());
    }

    #[test]
    fn secret_is_not_printed() {
        let key = Secret::from(Key::from_bytes(*b"abcdefghijklmnopqrstuvwxyz012345"));
        assert_eq!(format!("{key:?}"), "Key(Key(secret))");
        let passphrase = Secret::from(Passphrase::from_bytes("open sesame").unwrap());
        assert_eq!(format!("{passphrase:?}"), "Passphrase(Passphrase(secret))");
        assert_eq!(format!("{passphrase:#?}").matches("sesame").count(), 0);
        let identity = Secret::from(Identity::from_bytes([0xab; 32]));
        assert_eq!(format!("{identity:?}"), "Identity(Identity(secret))");
    }
}
