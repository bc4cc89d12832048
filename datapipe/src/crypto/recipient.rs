//! Recipients: an archive is encrypted for a public key, and opened with the secret one.
//!
//! A machine that has recipients only can write archives and cannot read them.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::exchange::{public_key, shared_secret};
use super::key::read_at_most;
use super::key_bytes::KeyBytes;
use super::key_error::KeyError;
use super::random::fill_random;
use super::secret_kind::{KEY_LEN, SecretKind};
use super::text_key::{MAX_FILE, TextKey, TextKeyDefect};

/// A public key for which archives are encrypted. The [`Identity`] that belongs to it opens them.
///
/// Its text form, which [`Display`](fmt::Display) writes and [`FromStr`] reads, is one line:
/// `datapipe-public-1 ` and 64 hexadecimal digits.
///
/// ```
/// use datapipe::crypto::{Identity, Recipient};
///
/// let identity = Identity::random()?;
/// let line = identity.recipient().to_string();
/// assert!(line.starts_with("datapipe-public-1 "));
/// assert_eq!(line.parse::<Recipient>()?, identity.recipient());
/// # Ok::<(), datapipe::error::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient([u8; KEY_LEN]);

impl Recipient {
    /// The recipient with this X25519 public key.
    ///
    /// # Errors
    ///
    /// [`KeyError::TextKey`] if the number is not below 2^255 - 19, or is one that gives the same
    /// secret with every key.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Result<Self, KeyError> {
        Self::checked(bytes).map_err(|defect| KeyError::TextKey {
            key: TextKey::Recipient,
            path: None,
            defect,
        })
    }

    /// Reads the file of a recipient, which has its text form.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it cannot be read or has something else.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let line = read_at_most(path, MAX_FILE).map_err(|source| KeyError::ReadRecipient {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&line, Some(path))
    }

    /// The bytes of the public key.
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Parses the text form. `path` is the file that it is from, if it is from one.
    fn parse(line: &[u8], path: Option<&Path>) -> Result<Self, KeyError> {
        let decoded = TextKey::Recipient.decode(line);
        let checked = decoded.and_then(|bytes| Self::checked(*bytes));
        checked.map_err(|defect| KeyError::TextKey {
            key: TextKey::Recipient,
            path: path.map(Path::to_owned),
            defect,
        })
    }

    /// Checks the number.
    fn checked(bytes: [u8; KEY_LEN]) -> Result<Self, TextKeyDefect> {
        // 2^255 - 19 is 7f ff .. ff ed, from its last byte to its first.
        let [first, middle @ .., last] = &bytes;
        let is_large = *last == 0x7f && middle.iter().all(|byte| *byte == 0xff) && *first >= 0xed;
        if *last > 0x7f || is_large {
            return Err(TextKeyDefect::Range);
        }
        // A point of low order gives zero with every secret key.
        match shared_secret(&[1; KEY_LEN], &bytes) {
            Some(_) => Ok(Self(bytes)),
            None => Err(TextKeyDefect::LowOrder),
        }
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(line: &str) -> Result<Self, KeyError> {
        Self::parse(line.as_bytes(), None)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TextKey::Recipient.prefix())?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

/// The secret key of a recipient, which opens the archives that were encrypted for it. Erased from
/// memory when it is dropped; never printed.
///
/// Its text form is one line: `datapipe-secret-1 ` and 64 hexadecimal digits.
///
/// An archive that it opens proves nothing about its writer: every party that knows the recipient
/// can have made it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Identity(KeyBytes);

impl Identity {
    /// A new identity.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the system has no random numbers.
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = KeyBytes::zeros();
        fill_random(&mut bytes[..])?;
        Ok(Self(bytes))
    }

    /// The identity with this X25519 secret key. The caller's copy of it is not erased.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(KeyBytes::copy_of(&Zeroizing::new(bytes)))
    }

    /// The identity with a copy of this X25519 secret key, which is made from where the bytes are
    /// to the heap: no other copy is left in memory. The bytes themselves are not erased.
    pub fn copy_of(bytes: &[u8; KEY_LEN]) -> Self {
        Self(KeyBytes::copy_of(bytes))
    }

    /// Reads the file of an identity, which has its text form. Does not check the file's
    /// permissions; see [`others_can_read`](super::others_can_read).
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it cannot be read or has something else.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let line = read_at_most(path, MAX_FILE).map_err(|source| KeyError::Read {
            kind: SecretKind::Identity,
            path: path.to_owned(),
            source,
        })?;
        let decoded = TextKey::Identity.decode(&line);
        decoded.map(Self).map_err(|defect| KeyError::TextKey {
            key: TextKey::Identity,
            path: Some(path.to_owned()),
            defect,
        })
    }

    /// Writes the text form with a line end, which [`from_file`](Self::from_file) reads. Create the
    /// file with a mode that lets its owner only read it.
    ///
    /// # Errors
    ///
    /// An error of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        // It has its capacity from the start, so that no copy is left in freed memory.
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_FILE));
        line.extend_from_slice(TextKey::Identity.prefix().as_bytes());
        for byte in self.0.iter() {
            line.extend(
                [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]),
            );
        }
        line.push(b'\n');
        out.write_all(&line)
    }

    /// The recipient whose archives it opens.
    pub fn recipient(&self) -> Recipient {
        Recipient(public_key(&self.0))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(secret)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::exchange::tests::LOW_ORDER;
    use super::super::key::{Key, Passphrase};
    use super::super::known_answers::hex;
    use super::*;

    fn text(identity: &Identity) -> String {
        let mut text = Vec::new();
        identity.write_to(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn key_files_of_a_pair_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, public) = (dir.path().join("secret"), dir.path().join("public"));
        let identity = Identity::random().unwrap();
        fs::write(&secret, text(&identity)).unwrap();
        fs::write(&public, format!("{}\n", identity.recipient())).unwrap();
        assert_eq!(
            Identity::from_file(&secret).unwrap().bytes(),
            identity.bytes()
        );
        assert_eq!(Recipient::from_file(&public).unwrap(), identity.recipient());
        assert_ne!(Identity::random().unwrap().bytes(), identity.bytes());
    }

    #[test]
    fn file_of_one_key_is_not_taken_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, public) = (dir.path().join("secret"), dir.path().join("public"));
        let identity = Identity::random().unwrap();
        fs::write(&secret, text(&identity)).unwrap();
        fs::write(&public, format!("{}\n", identity.recipient())).unwrap();
        let raw = dir.path().join("raw");
        fs::write(&raw, [7; 32]).unwrap();
        let identity = |path| Identity::from_file(path).unwrap_err().to_string();
        let recipient = |path| Recipient::from_file(path).unwrap_err().to_string();
        let key = |path| Key::from_file(path).unwrap_err().to_string();
        let passphrase = |path| Passphrase::from_file(path).unwrap_err().to_string();
        for (error, path, says) in [
            (identity(&public), &public, "has the public key of a pair"),
            (recipient(&secret), &secret, "has the secret key of a pair"),
            (
                identity(&raw),
                &raw,
                "\"datapipe-secret-1 \" and 64 hexadecimal digits",
            ),
            (
                recipient(&raw),
                &raw,
                "\"datapipe-public-1 \" and 64 hexadecimal digits",
            ),
            (key(&secret), &secret, "has an identity and not a key"),
            (key(&public), &public, "has a recipient and not a key"),
            (
                passphrase(&secret),
                &secret,
                "has an identity and not a passphrase",
            ),
            (
                passphrase(&public),
                &public,
                "has a recipient and not a passphrase",
            ),
        ] {
            assert!(error.contains(&*path.to_string_lossy()), "{error}");
            assert!(error.contains(says), "{says}: {error}");
        }
        let none = dir.path().join("none");
        assert!(identity(&none).starts_with("cannot read identity file"));
        assert!(recipient(&none).starts_with("cannot read recipient file"));
    }

    #[test]
    fn long_file_is_not_a_text_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        let line = text(&Identity::random().unwrap());
        fs::write(&path, format!("{line}{}", "\n".repeat(100_000))).unwrap();
        assert!(Identity::from_file(&path).is_err());
    }

    #[test]
    fn public_keys_that_protect_nothing_are_refused() {
        for low in LOW_ORDER {
            let bytes: [u8; KEY_LEN] = hex(low).try_into().unwrap();
            let error = Recipient::from_bytes(bytes).unwrap_err().to_string();
            let is_large = bytes[31] == 0x7f && bytes[0] >= 0xed;
            let says = if is_large { "2^255 - 19" } else { "low order" };
            assert!(error.contains(says), "{low}: {error}");
        }
    }

    #[test]
    fn public_key_out_of_range_is_refused() {
        let mut most = [0xff; KEY_LEN];
        (most[0], most[31]) = (0xeb, 0x7f);
        assert!(Recipient::from_bytes(most).is_ok(), "2^255 - 21");
        for (first, last) in [(0xed, 0x7f), (0xff, 0x7f), (9, 0x80), (9, 0xff)] {
            let mut bytes = most;
            (bytes[0], bytes[31]) = (first, last);
            let error = Recipient::from_bytes(bytes).unwrap_err().to_string();
            assert!(error.contains("is not below 2^255 - 19"), "{error}");
        }
        let mut base = [0; KEY_LEN];
        (base[0], base[31]) = (9, 0x80);
        let line = format!(
            "datapipe-public-1 {}",
            base.map(|byte| format!("{byte:02x}")).concat()
        );
        let error = line.parse::<Recipient>().unwrap_err().to_string();
        assert!(error.contains("is not below 2^255 - 19"), "{error}");
    }

    #[test]
    fn identity_is_not_printed() {
        let identity = Identity::from_bytes([0xab; KEY_LEN]);
        assert_eq!(format!("{identity:?}"), "Identity(secret)");
        let recipient = identity.recipient();
        assert_eq!(format!("{recipient:?}"), format!("Recipient({recipient})"));
    }
}
