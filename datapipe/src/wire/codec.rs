//! A cursor over bytes from outside, which may be anything, and the trait that writes such bytes.

use std::fmt;

use crate::words::len_of;

/// Error of bytes that do not have the form that the format demands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeError {
    /// Name of the part that was being read.
    pub what: &'static str,
    /// Description of the fault.
    pub why: String,
}

impl DecodeError {
    pub(crate) fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self {
            what,
            why: why.into(),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, why } = self;
        write!(f, "{what}: {why}")
    }
}

impl std::error::Error for DecodeError {}

/// A cursor that returns each byte once.
#[derive(Clone, Debug)]
pub(crate) struct Bytes<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// A cursor over `bytes`; `what` names them in error messages.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.error(format!(
                "ends {} too early",
                len_of(len.saturating_sub(self.rest.len()), "byte")
            )));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64s<const N: usize>(&mut self) -> Result<[u64; N], DecodeError> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.u64()?;
        }
        Ok(numbers)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// The next `len` bytes, which must be UTF-8.
    pub(crate) fn text(&mut self, len: usize) -> Result<String, DecodeError> {
        let bytes = self.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.error("holds a text that is not UTF-8")),
        }
    }

    /// Bytes that [`Put::put_prefixed`] appended.
    pub(crate) fn prefixed(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        self.take(len)
    }

    /// Bytes that [`Put::put_prefixed`] appended, which must be UTF-8.
    pub(crate) fn prefixed_text(&mut self) -> Result<String, DecodeError> {
        let len = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        self.text(len)
    }

    /// The bytes that are left, which must be UTF-8.
    pub(crate) fn rest_as_text(mut self) -> Result<String, DecodeError> {
        self.text(self.rest.len())
    }

    /// A cursor over the next `len` bytes.
    pub(crate) fn part(&mut self, len: usize) -> Result<Self, DecodeError> {
        let (what, rest) = (self.what, self.take(len)?);
        Ok(Self { what, rest })
    }

    /// Skips `len` bytes, which must be zero.
    pub(crate) fn zeros(&mut self, len: usize) -> Result<(), DecodeError> {
        if self.take(len)?.iter().any(|&byte| byte != 0) {
            return Err(self.error("a reserved field is not zero"));
        }
        Ok(())
    }

    /// Refuses bytes that are left.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.error(format!("{} too many", len_of(left, "byte")))),
        }
    }

    /// The bytes that are left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error about the part that is being read.
    pub(crate) fn error(&self, why: impl Into<String>) -> DecodeError {
        DecodeError::new(self.what, why)
    }
}

/// Appends numbers, little endian, to bytes that are being written.
pub(crate) trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&value.to_le_bytes());
    }
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    fn put_u64s(&mut self, values: &[u64]) {
        values.iter().for_each(|value| self.put_u64(*value));
    }
    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }

    /// Appends the length of `bytes` in 32 bits, then the bytes.
    fn put_prefixed(&mut self, bytes: &[u8]) {
        self.put_u32(len_u32(bytes.len()));
        self.put(bytes);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A length in 16 bits. The caller has limited every text before.
pub(crate) fn len_u16(len: usize) -> u16 {
    u16::try_from(len).expect("texts are cut to their limit")
}

/// A length in 32 bits. The caller has limited every body before.
pub(crate) fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("bodies are limited to less than 4 GiB")
}

/// As much of `text` as fits in `max` bytes, cut between two characters.
pub(crate) fn truncate(text: &str, max: usize) -> &str {
    text.split_at(text.floor_char_boundary(max)).0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn decode_errors_name_the_part_and_the_missing_bytes() {
        let mut bytes = Bytes::new("a footer", &[1, 2, 3]);
        assert_eq!(bytes.u16(), Ok(0x0201));
        assert_eq!(
            bytes.u32().unwrap_err().to_string(),
            "a footer: ends 3 bytes too early"
        );
        assert_eq!(
            bytes.clone().end().unwrap_err().to_string(),
            "a footer: 1 byte too many"
        );
        assert!(bytes.zeros(1).unwrap_err().to_string().contains("reserved"));
        assert!(Bytes::new("x", &[0xff]).text(1).is_err());
    }

    #[test]
    fn truncated_text_ends_between_two_characters() {
        assert_eq!(truncate("aé", 2), "a");
        assert_eq!(truncate("aé", 3), "aé");
    }
}
