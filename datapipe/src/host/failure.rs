//! The failure of an instance as a process sends it: a text, and the causes of the error.
//!
//! The controller refuses a failure that has more causes or longer texts than the limits allow.

use std::io::ErrorKind;

use crate::error::{ProcessCause, StageError};
use crate::limits::{MAX_CAUSES, MAX_CAUSES_LEN, MAX_FAILURE_TEXT};
use crate::stage::{SystemCode, causes};
use crate::wire::codec::{Bytes, DecodeError, Put, len_u16, truncate};

/// Greatest error number of the system.
const MAX_ERRNO: i32 = 4095;

/// Bytes of a cause before its text: error number, kind, length of the text.
const CAUSE_FIELDS: usize = 5;

/// Kinds of errors of the system. The code of a kind is its position, from 1.
const KINDS: [ErrorKind; 39] = [
    ErrorKind::NotFound,
    ErrorKind::PermissionDenied,
    ErrorKind::ConnectionRefused,
    ErrorKind::ConnectionReset,
    ErrorKind::HostUnreachable,
    ErrorKind::NetworkUnreachable,
    ErrorKind::ConnectionAborted,
    ErrorKind::NotConnected,
    ErrorKind::AddrInUse,
    ErrorKind::AddrNotAvailable,
    ErrorKind::NetworkDown,
    ErrorKind::BrokenPipe,
    ErrorKind::AlreadyExists,
    ErrorKind::WouldBlock,
    ErrorKind::NotADirectory,
    ErrorKind::IsADirectory,
    ErrorKind::DirectoryNotEmpty,
    ErrorKind::ReadOnlyFilesystem,
    ErrorKind::StaleNetworkFileHandle,
    ErrorKind::InvalidInput,
    ErrorKind::InvalidData,
    ErrorKind::TimedOut,
    ErrorKind::WriteZero,
    ErrorKind::StorageFull,
    ErrorKind::NotSeekable,
    ErrorKind::QuotaExceeded,
    ErrorKind::FileTooLarge,
    ErrorKind::ResourceBusy,
    ErrorKind::ExecutableFileBusy,
    ErrorKind::Deadlock,
    ErrorKind::CrossesDevices,
    ErrorKind::TooManyLinks,
    ErrorKind::InvalidFilename,
    ErrorKind::ArgumentListTooLong,
    ErrorKind::Interrupted,
    ErrorKind::Unsupported,
    ErrorKind::UnexpectedEof,
    ErrorKind::OutOfMemory,
    ErrorKind::Other,
];

/// Appends the text of `error` and its causes. Texts that are too long are truncated.
pub(super) fn put_failure(bytes: &mut Vec<u8>, error: &StageError) {
    put_text(bytes, &error.to_string(), MAX_FAILURE_TEXT);
    let causes: Vec<_> = causes(error.source()).collect();
    bytes.put_u8(causes.len() as u8);
    // Each gets the same part of the space, so that the last, often the most important, has some.
    let limit = MAX_CAUSES_LEN / causes.len().max(1) - CAUSE_FIELDS;
    for cause in causes {
        let SystemCode { errno, kind } = SystemCode::of(cause);
        let errno = errno.filter(|errno| (1..=MAX_ERRNO).contains(errno));
        let kind = kind.filter(|_| errno.is_none());
        let code = kind.and_then(|kind| KINDS.iter().position(|&known| known == kind));
        bytes.put_u16(errno.unwrap_or(0) as u16);
        bytes.put_u8(code.map_or(0, |code| code as u8 + 1));
        put_text(bytes, &cause.to_string(), limit.min(MAX_FAILURE_TEXT));
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str, limit: usize) {
    let text = truncate(text, limit);
    bytes.put_u16(len_u16(text.len()));
    bytes.put(text.as_bytes());
}

/// Reads what [`put_failure`] wrote, up to the end of `bytes`.
pub(super) fn read_failure(mut bytes: Bytes<'_>) -> Result<StageError, DecodeError> {
    let text = read_text(&mut bytes)?;
    let count = usize::from(bytes.u8()?);
    if count > MAX_CAUSES {
        return Err(bytes.error(format!(
            "its failure has {count} causes, the limit is {MAX_CAUSES}"
        )));
    }
    let mut causes = Vec::with_capacity(count);
    for _ in 0..count {
        let code = read_code(&mut bytes)?;
        causes.push((read_text(&mut bytes)?, code));
    }
    bytes.end()?;
    let link = |source, (text, code)| Some(ProcessCause::new(text, code, source));
    Ok(StageError::from_process(
        text,
        causes.into_iter().rev().fold(None, link),
    ))
}

fn read_code(bytes: &mut Bytes<'_>) -> Result<SystemCode, DecodeError> {
    let (errno, kind) = (i32::from(bytes.u16()?), bytes.u8()?);
    let known = usize::from(kind)
        .checked_sub(1)
        .map(|position| KINDS.get(position).copied());
    match (errno, known) {
        (0, None) => Ok(SystemCode::default()),
        (0, Some(Some(kind))) => Ok(SystemCode {
            errno: None,
            kind: Some(kind),
        }),
        (1..=MAX_ERRNO, None) => Ok(SystemCode::from_errno(errno)),
        _ => Err(bytes.error(format!(
            "its failure has an invalid cause, error number {errno} and kind {kind}"
        ))),
    }
}

fn read_text(bytes: &mut Bytes<'_>) -> Result<String, DecodeError> {
    let len = usize::from(bytes.u16()?);
    if len > MAX_FAILURE_TEXT {
        return Err(bytes.error(format!(
            "its failure has a text of {len} bytes, the limit is {MAX_FAILURE_TEXT}"
        )));
    }
    bytes.text(len)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::error::Error;
    use std::{fmt, io};

    use super::*;

    /// An error with a cause, whose text does not include the cause's.
    #[derive(Debug)]
    struct Link(String, Option<Box<dyn Error + Send + Sync>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    /// An error whose causes never end.
    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&"x".repeat(5000))
        }
    }

    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    fn chain(root: io::Error) -> StageError {
        let middle = Link("loading settings".to_owned(), Some(Box::new(root)));
        StageError::from(Link("starting".to_owned(), Some(Box::new(middle))))
    }

    fn bytes_of(error: &StageError) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_failure(&mut bytes, error);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<StageError, DecodeError> {
        read_failure(Bytes::new("a message", bytes))
    }

    fn round_trip(error: &StageError) -> StageError {
        read(&bytes_of(error)).unwrap()
    }

    fn texts(error: &StageError) -> Vec<String> {
        causes(error.source()).map(ToString::to_string).collect()
    }

    #[test]
    fn causes_keep_their_texts_and_codes() {
        for root in [
            io::Error::from_raw_os_error(28),
            ErrorKind::UnexpectedEof.into(),
            io::Error::other("no more"),
        ] {
            let (errno, kind) = (root.raw_os_error(), root.kind());
            let text = format!("starting: loading settings: {root}");
            let sent = chain(root);
            // The second time as a process of a process sends it.
            let once = round_trip(&sent);
            for received in [&once, &round_trip(&once)] {
                assert_eq!(received.to_string(), text);
                assert_eq!(texts(received), texts(&sent));
                assert_eq!(received.raw_os_error(), errno);
                assert_eq!(received.io_error_kind(), Some(kind));
                let last = causes(received.source()).last().unwrap();
                let last = last.downcast_ref::<ProcessCause>().unwrap();
                assert_eq!((last.raw_os_error(), last.kind()), (errno, Some(kind)));
            }
        }
        let message = round_trip(&StageError::new("the block is empty"));
        assert!(message.source().is_none() && message.io_error_kind().is_none());
    }

    #[test]
    fn kind_of_each_code_survives() {
        for kind in KINDS {
            let received = round_trip(&StageError::from(io::Error::from(kind)));
            assert_eq!(received.io_error_kind(), Some(kind));
        }
    }

    #[test]
    fn endless_causes_are_cut_to_the_limits() {
        let sent = StageError::from(Endless);
        let bytes = bytes_of(&sent);
        assert!(bytes.len() <= 2 + MAX_FAILURE_TEXT + 1 + MAX_CAUSES_LEN);
        let received = read(&bytes).unwrap();
        assert_eq!(texts(&received).len(), MAX_CAUSES);
        assert_eq!(received.to_string().len(), MAX_FAILURE_TEXT);
    }

    #[test]
    fn malformed_failures_are_rejected() {
        let whole = bytes_of(&chain(ErrorKind::NotFound.into()));
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).is_err(), "{len} bytes");
        }
        let too_long = [&whole[..], &[0]].concat();
        let long = (MAX_FAILURE_TEXT as u16 + 1).to_le_bytes();
        let long = [&long[..], &[b'x'; MAX_FAILURE_TEXT + 1], &[0]].concat();
        for (bytes, why) in [
            (&too_long[..], "1 byte too many"),
            (&[0, 0, 33], "33 causes, the limit is 32"),
            (&long, "a text of 4097 bytes, the limit is 4096"),
            (&[1, 0, 0xff, 0], "not UTF-8"),
            (&[0, 0, 1, 0, 0x10, 0, 0, 0], "error number 4096 and kind 0"),
            (&[0, 0, 1, 0, 0, 40, 0, 0], "error number 0 and kind 40"),
            (&[0, 0, 1, 2, 0, 1, 0, 0], "error number 2 and kind 1"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
