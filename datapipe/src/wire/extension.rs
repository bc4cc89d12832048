//! Extensions of headers: fields that later versions of a writer add. `docs/wire-format.md`,
//! "Extensions".

use super::codec::{Bytes, DecodeError, Put, len_u16};
use super::unit::padding_of;

/// Smallest identifier of the extensions that a reader must know.
const REQUIRED: u16 = 32_768;

/// Bytes of identifier and length.
const HEADER_LEN: usize = 4;

/// An extension of a header.
///
/// A reader that does not know an identifier from 32,768 on refuses the header. It passes over all
/// others that it does not know.
///
/// Exhaustive: these are all fields of an extension of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Identifier.
    pub id: u16,
    /// Content.
    pub data: Vec<u8>,
}

impl Extension {
    /// Bytes that it takes in a run, padding included.
    fn run_len(&self) -> usize {
        let len = self.data.len().saturating_add(HEADER_LEN);
        len.saturating_add(padding_of(len))
    }
}

/// Encodes a run of extensions. It ends before the first one with which it would be longer than
/// `most` bytes, and its length is a multiple of 8.
pub(super) fn encode_run(extensions: &[Extension], most: usize) -> Vec<u8> {
    let mut run = Vec::new();
    for extension in extensions {
        if run.len().saturating_add(extension.run_len()) > most {
            break;
        }
        let Extension { id, data } = extension;
        run.put_u16(*id);
        run.put_u16(len_u16(data.len()));
        run.put(data);
        pad(&mut run);
    }
    run
}

/// Appends zeros up to the next multiple of 8.
pub(super) fn pad(bytes: &mut Vec<u8>) {
    let padding = padding_of(bytes.len());
    bytes.resize(bytes.len().saturating_add(padding), 0);
}

/// Parses a run of `len` bytes.
///
/// # Errors
///
/// [`DecodeError`], if the run is longer than `most`, if an extension exceeds it, or if one is
/// required: this version knows none.
pub(super) fn parse_run(
    bytes: &mut Bytes<'_>,
    len: usize,
    most: usize,
) -> Result<Vec<Extension>, DecodeError> {
    if len > most || !len.is_multiple_of(8) {
        return Err(bytes.error(format!(
            "extensions of {len} bytes, but a multiple of 8 up to {most} is allowed"
        )));
    }
    let mut run = bytes.part(len)?;
    let mut extensions = Vec::new();
    while !run.rest().is_empty() {
        let (id, len) = (run.u16()?, usize::from(run.u16()?));
        let data = run.take(len)?.to_vec();
        if id >= REQUIRED {
            return Err(run.error(format!(
                "extension {id} is required, but this version does not know it: use a newer version"
            )));
        }
        run.zeros(padding_of(len.saturating_add(HEADER_LEN)))?;
        extensions.push(Extension { id, data });
    }
    Ok(extensions)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )]
    use super::*;

    fn extension(id: u16, len: usize) -> Extension {
        let data = vec![7; len];
        Extension { id, data }
    }

    fn parse(run: &[u8]) -> Result<Vec<Extension>, String> {
        let mut bytes = Bytes::new("a header", run);
        let parsed = parse_run(&mut bytes, run.len(), 64).map_err(|error| error.to_string())?;
        bytes.end().unwrap();
        Ok(parsed)
    }

    #[test]
    fn extensions_that_are_not_required_are_kept() {
        for lens in [&[][..], &[0], &[4], &[5, 0, 3], &[60]] {
            let extensions: Vec<_> = (0..)
                .zip(lens)
                .map(|(id, len)| extension(id, *len))
                .collect();
            let run = encode_run(&extensions, 64);
            assert_eq!(run.len() % 8, 0);
            assert_eq!(parse(&run), Ok(extensions));
        }
        let last = extension(REQUIRED - 1, 1);
        let run = encode_run(std::slice::from_ref(&last), 64);
        assert_eq!(parse(&run), Ok(vec![last]));
    }

    #[test]
    fn required_extension_is_refused_by_its_number() {
        for id in [REQUIRED, u16::MAX] {
            let error = parse(&encode_run(&[extension(3, 2), extension(id, 0)], 64)).unwrap_err();
            let expected = format!("a header: extension {id} is required, but this version");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn malformed_runs_are_refused() {
        let good = encode_run(&[extension(3, 2)], 64);
        let refused = |at: usize, value: u8| {
            let mut run = good.clone();
            *run.get_mut(at).unwrap() = value;
            parse(&run).unwrap_err()
        };
        assert!(refused(2, 5).contains("ends 1 byte too early"));
        assert!(refused(3, 255).contains("too early"));
        assert!(refused(7, 1).contains("a reserved field is not zero"));
        assert!(parse(&good[..4]).unwrap_err().contains("a multiple of 8"));
        assert!(
            parse(&[0; 72])
                .unwrap_err()
                .contains("extensions of 72 bytes")
        );
        let mut short = Bytes::new("a header", &good);
        assert!(parse_run(&mut short, 16, 64).is_err());
    }

    #[test]
    fn encoded_run_ends_before_its_limit() {
        let extensions = [extension(1, 28), extension(2, 28), extension(3, 0)];
        assert_eq!(encode_run(&extensions, 64).len(), 64);
        assert_eq!(encode_run(&[extension(1, 100_000)], 64), []);
    }
}
