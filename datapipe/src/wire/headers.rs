//! Values of session and archive headers: times, framings, contents.

use std::fmt;
use std::str::FromStr;

use super::codec::{Bytes, DecodeError, Put};
use super::unit::padding_of;
use crate::limits::MAX_TEXT;

/// A point in time.
///
/// Exhaustive: the format stores exactly these two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970; negative before it.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Time {
    pub(super) fn put(self, bytes: &mut Vec<u8>) {
        bytes.put_i64(self.seconds);
        bytes.put_u32(self.nanoseconds);
    }

    pub(super) fn parse(bytes: &mut Bytes<'_>) -> Result<Self, DecodeError> {
        let (seconds, nanoseconds) = (bytes.i64()?, bytes.u32()?);
        if nanoseconds >= 1_000_000_000 {
            return Err(bytes.error(format!(
                "a time has {nanoseconds} nanoseconds, but at most 999999999 are allowed"
            )));
        }
        Ok(Self {
            seconds,
            nanoseconds,
        })
    }
}

/// Headers and footers that the chunks of a session have.
///
/// Written and parsed as `header`, `once` and `header-footer`.
///
/// Exhaustive: version 1 will not get another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// A header before every chunk.
    Header,
    /// One header, many chunks, one footer.
    Once,
    /// Header and footer around every chunk.
    #[default]
    HeaderFooter,
}

impl Framing {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Once => 2,
            Self::HeaderFooter => 3,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Header, Self::Once, Self::HeaderFooter]
            .into_iter()
            .find(|framing| framing.code() == code)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Once => "once",
            Self::HeaderFooter => "header-footer",
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Framing {
    type Err = UnknownFraming;

    fn from_str(name: &str) -> Result<Self, UnknownFraming> {
        [Self::Header, Self::Once, Self::HeaderFooter]
            .into_iter()
            .find(|framing| framing.name() == name)
            .ok_or_else(|| UnknownFraming {
                name: name.to_owned(),
            })
    }
}

/// Error of a name that [`Framing`] does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownFraming {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown framing {:?}: use \"header\", \"once\" or \"header-footer\"",
            self.name
        )
    }
}

impl std::error::Error for UnknownFraming {}

/// Content of an archive.
///
/// Exhaustive: version 1 will not get another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// One stream of bytes.
    #[default]
    Stream,
    /// Files and directories, with a catalogue.
    Tree,
}

impl Content {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Stream => 1,
            Self::Tree => 2,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Stream, Self::Tree]
            .into_iter()
            .find(|content| content.code() == code)
    }
}

/// Parses three texts of these lengths, and the zeros after them.
pub(super) fn parse_texts(
    bytes: &mut Bytes<'_>,
    lens: [u16; 3],
) -> Result<[String; 3], DecodeError> {
    let lens = lens.map(usize::from);
    if lens.iter().any(|&len| len > MAX_TEXT) {
        return Err(bytes.error(format!("a text is longer than {MAX_TEXT} bytes")));
    }
    let [a, b, c] = lens;
    let texts = [bytes.text(a)?, bytes.text(b)?, bytes.text(c)?];
    bytes.zeros(padding_of(lens.iter().sum()))?;
    Ok(texts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn framing_names_are_parsed_as_they_are_displayed() {
        for framing in [Framing::Header, Framing::Once, Framing::HeaderFooter] {
            assert_eq!(framing.to_string().parse(), Ok(framing));
        }
        let error = "Once".parse::<Framing>().unwrap_err().to_string();
        assert!(
            error.starts_with("unknown framing \"Once\": use"),
            "{error}"
        );
    }
}
