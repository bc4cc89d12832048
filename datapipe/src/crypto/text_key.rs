//! Text form of the keys of a recipient: one line, so that a user sees which of the two it is.

use std::fmt;

use super::key_bytes::KeyBytes;
use super::secret_kind::KEY_LEN;

/// Longest file of such a key: its line, with a line end of two bytes.
pub(super) const MAX_FILE: usize = PREFIX_LEN + 2 * KEY_LEN + 2;

const PREFIX_LEN: usize = 18;

/// The two keys of a recipient, of which each has a text form.
///
/// Exhaustive: a key pair has two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum TextKey {
    /// The public key: a [`Recipient`](super::Recipient).
    Recipient,
    /// The secret key: an [`Identity`](super::Identity).
    Identity,
}

impl TextKey {
    /// The beginning of the line.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Recipient => "datapipe-public-1 ",
            Self::Identity => "datapipe-secret-1 ",
        }
    }

    /// Returns the key that a line begins like, if it does.
    pub(super) fn of_prefix(line: &[u8]) -> Option<Self> {
        [Self::Recipient, Self::Identity]
            .into_iter()
            .find(|key| line.starts_with(key.prefix().as_bytes()))
    }

    /// Returns the key that `line` is the whole text of, if it is one. It may have a line end.
    pub(super) fn of_line(line: &[u8]) -> Option<Self> {
        let key = Self::of_prefix(line)?;
        key.decode(line).is_ok().then_some(key)
    }

    /// Decodes the bytes of a key from its line, which may have a line end.
    ///
    /// # Errors
    ///
    /// [`TextKeyDefect::OtherKey`] or [`TextKeyDefect::Form`].
    pub(super) fn decode(self, line: &[u8]) -> Result<KeyBytes, TextKeyDefect> {
        match Self::of_prefix(line) {
            None => return Err(TextKeyDefect::Form),
            Some(other) if other != self => return Err(TextKeyDefect::OtherKey),
            Some(_) => {}
        }
        let line = match line.strip_suffix(b"\n") {
            Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
            None => line,
        };
        let digits = &line[PREFIX_LEN..];
        if digits.len() != 2 * KEY_LEN {
            return Err(TextKeyDefect::Form);
        }
        let mut bytes = KeyBytes::zeros();
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(bytes)
    }
}

impl fmt::Display for TextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recipient => "recipient",
            Self::Identity => "identity",
        })
    }
}

/// Defect of a recipient or an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextKeyDefect {
    /// It is not one line of the right form.
    Form,
    /// It is the other key of a pair.
    OtherKey,
    /// The number of a recipient is not below 2^255 - 19.
    Range,
    /// A recipient gives the same shared secret with every key, which protects nothing.
    LowOrder,
}

/// Value of a hexadecimal digit.
fn digit(byte: u8) -> Result<u8, TextKeyDefect> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(TextKeyDefect::Form),
    }
}

const _: () = assert!(
    MAX_FILE > KEY_LEN + 1,
    "no file of a text key is a key file"
);

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFf";

    #[test]
    fn text_keys_are_decoded_with_and_without_a_line_end() {
        for key in [TextKey::Recipient, TextKey::Identity] {
            assert_eq!(key.prefix().len(), PREFIX_LEN);
            for end in ["", "\n", "\r\n"] {
                let line = format!("{}{DIGITS}{end}", key.prefix());
                let bytes = key.decode(line.as_bytes()).unwrap();
                assert_eq!((bytes[0], bytes[1], bytes[31]), (0, 1, 0xff));
                assert_eq!(TextKey::of_line(line.as_bytes()), Some(key));
            }
        }
    }

    #[test]
    fn malformed_text_keys_are_refused() {
        let decode = |line: &str| TextKey::Identity.decode(line.as_bytes()).err();
        let good = format!("datapipe-secret-1 {DIGITS}");
        assert_eq!(decode(&good), None);
        let public = format!("datapipe-public-1 {DIGITS}");
        assert_eq!(decode(&public), Some(TextKeyDefect::OtherKey));
        for bad in [
            String::new(),
            good.to_uppercase(),
            good.replace("-1 ", "-2 "),
            good.replace("1 0", "1  0"),
            format!(" {good}"),
            format!("{good} "),
            format!("{good}\n\n"),
            format!("{good}\r"),
            format!("{good}00"),
            good[..good.len() - 1].to_owned(),
            good.replace("1eFf", "1eFg"),
            good.replace("1eFf", "1e-1"),
            "datapipe-secret-1 ".to_owned(),
        ] {
            assert_eq!(decode(&bad), Some(TextKeyDefect::Form), "{bad:?}");
            assert_eq!(TextKey::of_line(bad.as_bytes()), None);
        }
    }
}
