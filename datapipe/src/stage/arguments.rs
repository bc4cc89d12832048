//! The arguments of a module: named fields, encoded as bytes that can be sent to another process.
//!
//! A field is the length of its name (8 bits), its name, the length of its value (32 bits, little
//! endian), and its value. A name can occur several times. `docs/host-protocol.md` lists the fields
//! of the library's modules.

use std::ffi::OsStr;
use std::fmt;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::error::StageError;
use crate::wire::codec::{Bytes, Put, len_u32};

/// Encoder of fields: the arguments of a [module](super::Stage::module).
///
/// ```
/// use datapipe::stage::{Arguments, Fields};
///
/// let arguments = Arguments::new().with_all("source", ["/srv", "/home"]).with("level", "3");
/// let bytes: Vec<u8> = arguments.into();
/// let mut fields = Fields::read(&bytes)?;
/// assert_eq!(fields.all("source"), [b"/srv".as_slice(), b"/home"]);
/// assert_eq!(fields.number::<u32>("level")?, 3);
/// fields.end()?; // an error if a field was not used
/// # Ok::<(), datapipe::StageError>(())
/// ```
#[derive(Clone, Default)]
pub struct Arguments(Zeroizing<Vec<u8>>);

impl Arguments {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    ///
    /// # Panics
    ///
    /// If the name is longer than 255 bytes, or the value than 4 GiB.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let len = self.0.len() + name.len() + value.len() + 5;
        if len > self.0.capacity() {
            // The bytes may contain a key. Moving them by hand to a larger buffer wipes the old
            // one; a growing Vec would leave a copy.
            let mut bytes = Zeroizing::new(Vec::with_capacity(len.max(2 * self.0.len())));
            bytes.put(&self.0);
            self.0 = bytes;
        }
        self.0
            .put_u8(u8::try_from(name.len()).expect("the name of a field is short"));
        self.0.put(name.as_bytes());
        self.0.put_u32(len_u32(value.len()));
        self.0.put(value);
        self
    }

    /// Adds a field for each value.
    #[must_use]
    pub fn with_all<V: AsRef<[u8]>>(self, name: &str, values: impl IntoIterator<Item = V>) -> Self {
        values
            .into_iter()
            .fold(self, |arguments, value| arguments.with(name, value))
    }

    /// Adds a field without a value if `is_so` is true.
    #[must_use]
    pub fn with_flag(self, name: &str, is_so: bool) -> Self {
        if is_so { self.with(name, "") } else { self }
    }
}

impl From<Arguments> for Vec<u8> {
    fn from(mut arguments: Arguments) -> Self {
        std::mem::take(&mut *arguments.0)
    }
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arguments({} bytes)", self.0.len())
    }
}

/// Decoder of fields. Each can be taken once.
pub struct Fields<'b>(Vec<(&'b [u8], &'b [u8])>);

impl<'b> Fields<'b> {
    /// Decodes the bytes that [`Arguments`] encoded.
    ///
    /// # Errors
    ///
    /// If the bytes are not a sequence of whole fields.
    pub fn read(bytes: &'b [u8]) -> Result<Self, StageError> {
        let mut bytes = Bytes::new("a module's arguments", bytes);
        let mut fields = Vec::new();
        while !bytes.rest().is_empty() {
            let len = bytes.u8()?;
            let name = bytes.take(len.into())?;
            let len = bytes.u32()? as usize;
            fields.push((name, bytes.take(len)?));
        }
        Ok(Self(fields))
    }

    /// Takes all values of the fields called `name`, in order.
    pub fn all(&mut self, name: &str) -> Vec<&'b [u8]> {
        let taken = self
            .0
            .extract_if(.., |(named, _)| *named == name.as_bytes());
        taken.map(|(_, value)| value).collect()
    }

    /// Takes all values of the fields called `name` as paths.
    pub fn paths(&mut self, name: &str) -> Vec<PathBuf> {
        self.all(name)
            .into_iter()
            .map(|path| PathBuf::from(OsStr::from_bytes(path)))
            .collect()
    }

    /// Takes the value of the field called `name` as a path, if the field is present.
    ///
    /// # Errors
    ///
    /// As [`optional`](Self::optional).
    pub fn path(&mut self, name: &str) -> Result<Option<PathBuf>, StageError> {
        Ok(self
            .optional(name)?
            .map(|path| PathBuf::from(OsStr::from_bytes(path))))
    }

    /// Takes the value of the field called `name`, if the field is present.
    ///
    /// # Errors
    ///
    /// If there are several such fields.
    pub fn optional(&mut self, name: &str) -> Result<Option<&'b [u8]>, StageError> {
        match self.all(name)[..] {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(StageError::new(format!("repeated field `{name}`"))),
        }
    }

    /// Takes the value of the field called `name`.
    ///
    /// # Errors
    ///
    /// If there is no such field, or several.
    pub fn one(&mut self, name: &str) -> Result<&'b [u8], StageError> {
        self.optional(name)?
            .ok_or_else(|| StageError::new(format!("missing field `{name}`")))
    }

    /// Takes the value of the field called `name` as text.
    ///
    /// # Errors
    ///
    /// As [`one`](Self::one), and if it is not UTF-8.
    pub fn text(&mut self, name: &str) -> Result<&'b str, StageError> {
        str::from_utf8(self.one(name)?).map_err(|error| {
            StageError::with_source(format!("the value of field `{name}` is not text"), error)
        })
    }

    /// Takes the value of the field called `name` as a number in decimal digits.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text), and if it is not a number of type `N`.
    pub fn number<N: FromStr>(&mut self, name: &str) -> Result<N, StageError> {
        let text = self.text(name)?;
        text.parse().map_err(|_| {
            let value = text.escape_debug();
            StageError::new(format!("invalid value \"{value}\" for field `{name}`"))
        })
    }

    /// Takes the value of the field called `name` as a number in decimal digits, within `range`.
    ///
    /// # Errors
    ///
    /// As [`number`](Self::number), and if the number is outside of the range.
    pub(crate) fn number_in<N>(
        &mut self,
        name: &str,
        range: RangeInclusive<N>,
    ) -> Result<N, StageError>
    where
        N: FromStr + PartialOrd + fmt::Display,
    {
        Self::check_range(name, self.number(name)?, range)
    }

    /// Returns the number of the field called `name`, if it is within `range`.
    ///
    /// # Errors
    ///
    /// If it is not.
    pub(crate) fn check_range<N: PartialOrd + fmt::Display>(
        name: &str,
        number: N,
        range: RangeInclusive<N>,
    ) -> Result<N, StageError> {
        if range.contains(&number) {
            return Ok(number);
        }
        let (first, last) = (range.start(), range.end());
        Err(StageError::new(format!(
            "invalid value {number} for field `{name}`: use {first} to {last}"
        )))
    }

    /// Takes the value of the field called `name` as a number in decimal digits, or returns
    /// `otherwise` if the field is missing.
    ///
    /// # Errors
    ///
    /// As [`number`](Self::number), except for a missing field.
    pub fn number_or<N: FromStr>(&mut self, name: &str, otherwise: N) -> Result<N, StageError> {
        let is_there = self.0.iter().any(|(named, _)| *named == name.as_bytes());
        if is_there {
            self.number(name)
        } else {
            Ok(otherwise)
        }
    }

    /// Takes a field without a value. Returns true if the field is present.
    ///
    /// # Errors
    ///
    /// As [`optional`](Self::optional).
    pub fn flag(&mut self, name: &str) -> Result<bool, StageError> {
        Ok(self.optional(name)?.is_some())
    }

    /// Ends decoding: every field must have been taken.
    ///
    /// # Errors
    ///
    /// If a field is left over, which the module does not know.
    pub fn end(self) -> Result<(), StageError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(StageError::new(format!(
                "unknown field `{}`",
                name.escape_ascii()
            ))),
        }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(
                self.0
                    .iter()
                    .map(|(name, _)| name.escape_ascii().to_string()),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn missing_repeated_and_unknown_fields_are_rejected() {
        let bytes = Vec::from(
            Arguments::new()
                .with("a", [0, 255])
                .with_all("b", ["1", "x"])
                .with_flag("c", true),
        );
        let fields = || Fields::read(&bytes).unwrap();
        let rejected = |result: Result<(), StageError>, why: &str| {
            assert_eq!(result.unwrap_err().to_string(), why);
        };
        rejected(fields().one("d").map(drop), "missing field `d`");
        rejected(fields().one("b").map(drop), "repeated field `b`");
        assert!(
            fields()
                .text("a")
                .unwrap_err()
                .to_string()
                .contains("`a` is not text")
        );
        rejected(
            fields().number::<u8>("c").map(drop),
            "invalid value \"\" for field `c`",
        );
        rejected(fields().end(), "unknown field `a`");
        rejected(fields().number_or("b", 7).map(drop), "repeated field `b`");
        assert_eq!(fields().number_or("d", 7).unwrap(), 7);
        rejected(fields().path("b").map(drop), "repeated field `b`");
        assert_eq!(fields().path("d").unwrap(), None);
        assert!(fields().flag("c").unwrap() && !fields().flag("d").unwrap());
        assert_eq!(
            fields().paths("b"),
            [PathBuf::from("1"), PathBuf::from("x")]
        );
    }

    #[test]
    fn truncated_arguments_are_rejected() {
        let bytes = Vec::from(Arguments::new().with("name", "value"));
        assert_eq!(Fields::read(&bytes).unwrap().text("name").unwrap(), "value");
        for len in 1..bytes.len() {
            assert!(Fields::read(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(Fields::read(&[]).unwrap().end().is_ok());
    }
}
