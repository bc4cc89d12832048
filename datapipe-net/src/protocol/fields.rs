//! Fields of a message's body: the writer for all messages, and the cursor over bytes of the peer.

use std::fmt;

use bytes::{Buf, BufMut};

/// Bit in the tag of a field that its receiver must know; a receiver that does not know the field
/// refuses the message.
pub(super) const MUST_KNOW: u16 = 1 << 15;

/// Error for bytes that are not a message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeError {
    /// Name of the message or part that was being decoded.
    pub what: &'static str,
    /// Violation of the protocol, with the field's number and its value or length.
    pub why: String,
    /// True if the bytes are well formed, but have a kind or a field that this version does not
    /// know and must not skip.
    pub unknown: bool,
}

impl DecodeError {
    pub(super) fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self {
            what,
            why: why.into(),
            unknown: false,
        }
    }

    pub(super) fn unknown(what: &'static str, why: impl Into<String>) -> Self {
        Self {
            what,
            why: why.into(),
            unknown: true,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for DecodeError {}

/// Cursor over a run of fields. It yields each field once.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

/// One field of a received message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    what: &'static str,
    /// Tag of the field without [`MUST_KNOW`].
    pub(super) number: u16,
    must_know: bool,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// A cursor over `bytes`; `what` names the message or part in errors.
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// Returns the next field, or `None` at the end.
    ///
    /// The length of a field comes from the peer: it is compared with the remaining bytes before
    /// it is used.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let short = |_| DecodeError::new(self.what, "ends within the head of a field");
        let mut rest = self.rest;
        let tag = rest.try_get_u16_le().map_err(short)?;
        let len = rest.try_get_u32_le().map_err(short)?;
        let number = tag & !MUST_KNOW;
        let Some((bytes, rest)) = usize::try_from(len)
            .ok()
            .and_then(|len| rest.split_at_checked(len))
        else {
            let left = rest.len();
            let why = format!("field {number} announces {len} bytes, but only {left} follow");
            return Err(DecodeError::new(self.what, why));
        };
        self.rest = rest;
        Ok(Some(Field {
            what: self.what,
            number,
            must_know: tag != number,
            bytes,
        }))
    }
}

impl<'a> Field<'a> {
    pub(super) fn u8(self) -> Result<u8, DecodeError> {
        let [value] = self.array()?;
        Ok(value)
    }

    pub(super) fn flag(self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(&format!("is {other}, and must be 0 or 1"))),
        }
    }

    pub(super) fn u16(self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Text in UTF-8 of at most `max` bytes.
    pub(super) fn text(self, max: usize) -> Result<String, DecodeError> {
        match std::str::from_utf8(self.bytes(max)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.error("is text that is not UTF-8")),
        }
    }

    /// The value, of at most `max` bytes.
    pub(super) fn bytes(self, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.bytes.len();
        if len > max {
            return Err(self.error(&format!("has {len} bytes, more than {max}")));
        }
        Ok(self.bytes)
    }

    /// The fields within the value.
    pub(super) fn fields(self, what: &'static str) -> Fields<'a> {
        Fields::new(what, self.bytes)
    }

    /// Skips a field whose number is unknown, unless its sender forbids that.
    pub(super) fn skip(self) -> Result<(), DecodeError> {
        if self.must_know {
            let why = format!(
                "field {} is unknown here, and must not be skipped",
                self.number
            );
            return Err(DecodeError::unknown(self.what, why));
        }
        Ok(())
    }

    /// Stores the field's value in `target`.
    ///
    /// # Errors
    ///
    /// If `target` has a value: then the message contains the field twice.
    pub(super) fn set<T>(self, target: &mut Option<T>, value: T) -> Result<(), DecodeError> {
        if target.replace(value).is_some() {
            return Err(self.error("occurs twice"));
        }
        Ok(())
    }

    /// An error about this field; `why` follows its number.
    pub(super) fn error(self, why: &str) -> DecodeError {
        DecodeError::new(self.what, format!("field {} {why}", self.number))
    }

    fn array<const N: usize>(self) -> Result<[u8; N], DecodeError> {
        let len = self.bytes.len();
        <[u8; N]>::try_from(self.bytes)
            .map_err(|_| self.error(&format!("has {len} bytes instead of {N}")))
    }
}

/// Returns the value of field `number`, which a message must contain.
pub(super) fn required<T>(
    what: &'static str,
    number: u16,
    value: Option<T>,
) -> Result<T, DecodeError> {
    value.ok_or_else(|| DecodeError::new(what, format!("field {number} is missing")))
}

/// Body of a message that is being written. Tags are field numbers, with or without
/// [`MUST_KNOW`].
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn put(&mut self, tag: u16, bytes: &[u8]) {
        // A longer value also exceeds the limit of a body. The channel refuses to send such a
        // body, so no receiver ever reads the saturated length.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.put_u16_le(tag);
        self.0.put_u32_le(len);
        self.0.put_slice(bytes);
    }

    pub(super) fn put_u8(&mut self, tag: u16, value: u8) {
        self.put(tag, &value.to_le_bytes());
    }

    pub(super) fn put_u16(&mut self, tag: u16, value: u16) {
        self.put(tag, &value.to_le_bytes());
    }

    pub(super) fn put_u32(&mut self, tag: u16, value: u32) {
        self.put(tag, &value.to_le_bytes());
    }

    pub(super) fn put_u64(&mut self, tag: u16, value: u64) {
        self.put(tag, &value.to_le_bytes());
    }

    pub(super) fn put_text(&mut self, tag: u16, text: &str) {
        self.put(tag, text.as_bytes());
    }

    pub(super) fn put_fields(&mut self, tag: u16, fields: &Self) {
        self.put(tag, &fields.0);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Longest prefix of `text` that fits in `max` bytes and ends at a character boundary.
pub(crate) fn truncated(text: &str, max: usize) -> &str {
    text.split_at(text.floor_char_boundary(max)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_skipped_unless_they_must_be_known() {
        let mut body = Body::new();
        body.put_u32(7, 1);
        body.put_u32(7 | MUST_KNOW, 1);
        let bytes = body.into_bytes();
        let mut fields = Fields::new("a test", &bytes);
        let field = fields.next().unwrap().unwrap();
        assert_eq!((field.number, field.u32()), (7, Ok(1)));
        field.skip().unwrap();
        let error = fields.next().unwrap().unwrap().skip().unwrap_err();
        assert!(error.unknown, "{error}");
        assert!(fields.next().unwrap().is_none());
    }

    #[test]
    fn errors_name_the_field_and_the_violation() {
        let error = |bytes: &[u8]| Fields::new("a test", bytes).next().unwrap_err().to_string();
        assert_eq!(
            error(&[1, 0, 4, 0, 0]),
            "a test: ends within the head of a field"
        );
        assert_eq!(
            error(&[1, 0x80, 4, 0, 0, 0, 9]),
            "a test: field 1 announces 4 bytes, but only 1 follow"
        );
        assert!(error(&[1, 0, 255, 255, 255, 255]).contains("4294967295"));
        let mut body = Body::new();
        body.put(3, b"\xff\xff");
        let bytes = body.into_bytes();
        let field = Fields::new("a test", &bytes).next().unwrap().unwrap();
        for (error, why) in [
            (field.u32().unwrap_err(), "field 3 has 2 bytes instead of 4"),
            (
                field.text(9).unwrap_err(),
                "field 3 is text that is not UTF-8",
            ),
            (
                field.bytes(1).unwrap_err(),
                "field 3 has 2 bytes, more than 1",
            ),
            (
                field.set(&mut Some(1), 1).unwrap_err(),
                "field 3 occurs twice",
            ),
            (
                required::<()>("a test", 3, None).unwrap_err(),
                "field 3 is missing",
            ),
        ] {
            assert_eq!(error.to_string(), format!("a test: {why}"));
        }
    }
}
