//! Fields: the one way to write what a message says, and the one cursor over what somebody else
//! wrote.

use std::fmt;

use bytes::{Buf, BufMut};

/// Set in the tag of a field that its receiver must know, or refuse the message.
pub(super) const MUST_KNOW: u16 = 1 << 15;

/// Bytes that are no message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeError {
    /// What was being read.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
    /// It is well formed, but says something that this version does not know and must not pass
    /// over.
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

/// A run of fields, each given once.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    what: &'static str,
    /// Its tag without [`MUST_KNOW`].
    pub(super) number: u16,
    must_know: bool,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `what` is being read: for error messages.
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// The next field, or nothing at the end.
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
            let why = format!("field {number} claims {len} bytes, but only {left} are left");
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
            other => Err(self.wrong(&format!("is {other}, neither 0 nor 1"))),
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

    /// UTF-8, at most `max` bytes.
    pub(super) fn text(self, max: usize) -> Result<String, DecodeError> {
        match std::str::from_utf8(self.bytes(max)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.wrong("is a text that is not UTF-8")),
        }
    }

    /// At most `max` bytes.
    pub(super) fn bytes(self, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.bytes.len();
        if len > max {
            return Err(self.wrong(&format!("has {len} bytes, more than {max}")));
        }
        Ok(self.bytes)
    }

    /// The fields in it.
    pub(super) fn fields(self, what: &'static str) -> Fields<'a> {
        Fields::new(what, self.bytes)
    }

    /// For a number that is not known here.
    pub(super) fn skip(self) -> Result<(), DecodeError> {
        if self.must_know {
            let why = format!(
                "field {} is unknown here, and must not be passed over",
                self.number
            );
            return Err(DecodeError::unknown(self.what, why));
        }
        Ok(())
    }

    /// Puts a value in its place, which must be empty.
    pub(super) fn set<T>(self, place: &mut Option<T>, value: T) -> Result<(), DecodeError> {
        if place.replace(value).is_some() {
            return Err(self.wrong("stands there twice"));
        }
        Ok(())
    }

    pub(super) fn wrong(self, why: &str) -> DecodeError {
        DecodeError::new(self.what, format!("field {} {why}", self.number))
    }

    fn array<const N: usize>(self) -> Result<[u8; N], DecodeError> {
        let len = self.bytes.len();
        <[u8; N]>::try_from(self.bytes)
            .map_err(|_| self.wrong(&format!("has {len} bytes instead of {N}")))
    }
}

/// A value that has to be there.
pub(super) fn needed<T>(
    what: &'static str,
    number: u16,
    value: Option<T>,
) -> Result<T, DecodeError> {
    value.ok_or_else(|| DecodeError::new(what, format!("field {number} is missing")))
}

/// Fields that are to be written. Their numbers may carry [`MUST_KNOW`].
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn put(&mut self, tag: u16, bytes: &[u8]) {
        // Longer than that is longer than a message, and is refused there: the length is not looked
        // at.
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

/// As much of `text` as fits in `max` bytes, cut at a character.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    text.split_at(text.floor_char_boundary(max)).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_not_known_are_passed_over_unless_they_must_be_known() {
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
    fn errors_say_which_field_and_what_is_wrong() {
        let error = |bytes: &[u8]| Fields::new("a test", bytes).next().unwrap_err().to_string();
        assert_eq!(
            error(&[1, 0, 4, 0, 0]),
            "a test: ends within the head of a field"
        );
        assert_eq!(
            error(&[1, 0x80, 4, 0, 0, 0, 9]),
            "a test: field 1 claims 4 bytes, but only 1 are left"
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
                "field 3 is a text that is not UTF-8",
            ),
            (
                field.bytes(1).unwrap_err(),
                "field 3 has 2 bytes, more than 1",
            ),
            (
                field.set(&mut Some(1), 1).unwrap_err(),
                "field 3 stands there twice",
            ),
            (
                needed::<()>("a test", 3, None).unwrap_err(),
                "field 3 is missing",
            ),
        ] {
            assert_eq!(error.to_string(), format!("a test: {why}"));
        }
    }
}
