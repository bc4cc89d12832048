//! The errors of the library, by the party that is at fault.
//!
//! A pipe ends with an [`Error`]. The caller asked for the impossible ([`Error::Refused`]); a stage
//! failed ([`Error::Stage`]), or keeps more than it says ([`Error::Deadlock`]); the machine refused
//! what is needed ([`Error::Segment`], [`Error::System`]); a participant broke the shared words
//! ([`Error::Corrupt`]); the user cancelled ([`Error::Cancelled`]). What is done before a pipe has
//! errors of its own, such as [`KeyError`], `archive::PlanError` and `tree::TreeError`.
//!
//! # Texts and causes
//!
//! The text of an error is complete: it has the text of its cause in it, so that a program that
//! prints `{error}`, a log and a report to another process lose nothing: "stage \"copy\": cannot
//! write to the destination at byte 0: No space left on device (os error 28)". `source()` returns
//! the cause all the same, for a caller that matches or downcasts it. A program that prints a whole
//! chain leaves out each cause whose text it has printed already.
//!
//! The error that a stage returned is the source of [`StageFailure`], with its own causes. A stage
//! in a process sends the texts of the causes and their system codes, and each is a
//! [`ProcessCause`] in the caller's process. [`StageError::raw_os_error`] and
//! [`StageError::io_error_kind`] are the same for both.
//!
//! Each error is defined in the layer that it belongs to. This module only names them in one place.

#[cfg(not(loom))]
pub use crate::controller::{Deadlock, Error, WaitingStage};
#[cfg(all(not(loom), feature = "crypto"))]
pub use crate::crypto::KeyError;
pub use crate::memory::Corruption;
#[cfg(not(loom))]
pub(crate) use crate::stage::WaitingInstance;
#[cfg(not(loom))]
pub use crate::stage::{Death, NotReplaced, ProcessCause, StageError, StageFailure, WaitsFor};

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::error::Error as StdError;
    use std::fmt::Debug;
    use std::io;

    use super::*;
    use crate::archive::{OpenError, PlanError};
    use crate::controller::AdmitError;
    use crate::crypto::{SecretKind, TooLong, Unauthentic, UnlockError};
    use crate::host::AttachError;
    use crate::media::{HandleError, MediumError};
    use crate::memory::{PipeNameError, SegmentError, ShapeError, StageId};
    use crate::pool::{AuditFinding, Blocked, NoRoom, PortError, Refusal, TryError, UnknownCodec};
    use crate::sequence::Rejected;
    use crate::tree::{TreeError, TreeReadError};
    use crate::wire::{DecodeError, UnknownFraming};

    const fn is_error<T: StdError + Send + Sync + 'static>() {}

    // Every error type of the library can be sent to another thread, kept, and downcast. A test of
    // the style (`tests/tidy`) compares this list with the sources.
    const _: () = {
        is_error::<AdmitError>();
        is_error::<AttachError>();
        is_error::<AuditFinding>();
        is_error::<Blocked>();
        is_error::<Corruption>();
        is_error::<Deadlock>();
        is_error::<Death>();
        is_error::<DecodeError>();
        is_error::<Error>();
        is_error::<HandleError>();
        is_error::<KeyError>();
        is_error::<MediumError>();
        is_error::<NoRoom>();
        is_error::<OpenError>();
        is_error::<PipeNameError>();
        is_error::<PlanError>();
        is_error::<PortError>();
        is_error::<Refusal>();
        is_error::<ProcessCause>();
        is_error::<Rejected<u64>>();
        is_error::<SegmentError>();
        is_error::<ShapeError>();
        is_error::<StageFailure>();
        is_error::<TooLong>();
        is_error::<TreeError>();
        is_error::<TreeReadError>();
        is_error::<TryError>();
        is_error::<Unauthentic>();
        is_error::<UnknownCodec>();
        is_error::<UnknownFraming>();
        is_error::<UnlockError>();
    };
    const fn is_send_and_sync<T: Debug + Send + Sync + 'static>() {}
    const _: () = is_send_and_sync::<StageError>();

    /// Walks the causes of `error`. The last one is a `Root`, `depth` causes after the error
    /// itself, and each has its text in the text of the error before it.
    fn check<Root: StdError + 'static>(error: impl StdError + 'static, depth: usize) {
        let mut last: &(dyn StdError + 'static) = &error;
        let mut count = 0;
        while let Some(cause) = last.source() {
            let (outer, inner) = (last.to_string(), cause.to_string());
            assert!(outer.contains(&inner), "{outer:?} has no {inner:?}");
            (last, count) = (cause, count + 1);
        }
        assert_eq!(count, depth, "causes of {error:?}");
        assert!(last.is::<Root>(), "{error:?} ends with {last:?}");
    }

    fn denied() -> io::Error {
        io::ErrorKind::PermissionDenied.into()
    }

    fn shape() -> ShapeError {
        ShapeError {
            what: "number of buffers",
            value: 0,
            min: 1,
            max: 4096,
        }
    }

    fn stage(error: impl Into<StageError>) -> Error {
        Error::Stage(StageFailure {
            stage: "zstd".to_owned(),
            instance: StageId::new(1).instance(1),
            instances: 2,
            error: error.into(),
        })
    }

    #[test]
    fn causes_of_a_pipes_errors_are_reachable() {
        let refused = |reason| Error::Refused {
            pipe: "nightly".to_owned(),
            reason,
        };
        let system = Error::System {
            what: "cannot start a thread",
            source: denied(),
        };
        let segment = |source| SegmentError::System {
            call: "mmap",
            source,
        };
        let named = SegmentError::Named {
            call: "open",
            source: Box::new(denied()),
        };
        check::<ShapeError>(refused(Refusal::Range(shape())), 2);
        check::<Refusal>(refused(Refusal::Stages("it has no head".to_owned())), 1);
        check::<io::Error>(system, 1);
        check::<io::Error>(Error::Segment(segment(denied())), 2);
        check::<io::Error>(Error::Segment(named), 2);
        check::<ShapeError>(Error::Segment(SegmentError::Shape(shape())), 2);
        check::<SegmentError>(Error::Segment(SegmentError::NotReady), 1);
        check::<Deadlock>(Error::Deadlock(Deadlock::default()), 1);
        check::<Corruption>(Error::Corrupt(Corruption::new("two holders")), 1);
        check::<Error>(Error::Cancelled, 0);
        check::<io::Error>(AdmitError::System(denied()), 1);
        check::<AdmitError>(AdmitError::Ended, 0);
        check::<io::Error>(AdmitError::Socket(denied()), 1);
        check::<io::Error>(AttachError::System(denied()), 1);
        check::<io::Error>(AttachError::Socket(denied()), 1);
        let unpacked = StageError::from(segment(denied()));
        check::<io::Error>(AttachError::Request(unpacked.into()), 3);
    }

    #[test]
    fn causes_of_a_stages_failure_are_reachable() {
        let corrupt = PortError::Corrupt(Corruption::new("two holders"));
        let death = Death {
            process: 7,
            status: None,
            over_limit: None,
            reason: NotReplaced::Stateful,
        };
        let full = MediumError::Io {
            doing: "write",
            path: "tape".into(),
            source: io::ErrorKind::StorageFull.into(),
        };
        check::<io::Error>(stage(full), 3);
        check::<Corruption>(stage(corrupt), 3);
        check::<Death>(stage(StageError::died(death)), 2);
        check::<std::num::ParseIntError>(stage("x".parse::<u8>().unwrap_err()), 2);
        check::<StageFailure>(stage(StageError::new("the block is empty")), 1);
        check::<StageFailure>(stage(StageError::panicked("out of range".to_owned())), 1);
    }

    #[test]
    fn causes_of_errors_outside_of_a_pipe_are_reachable() {
        let path = || std::path::PathBuf::from("/nowhere");
        let read = KeyError::Read {
            kind: SecretKind::KeyFile,
            path: path(),
            source: denied(),
        };
        let io = MediumError::Io {
            doing: "open",
            path: path(),
            source: denied(),
        };
        let tree = TreeError::Source {
            path: path(),
            source: denied(),
        };
        let malformed = DecodeError::new("archive header", "unknown content 9");
        check::<io::Error>(PlanError::Key(KeyError::Random(denied())), 2);
        check::<UnlockError>(PlanError::Key(KeyError::Wrap(UnlockError::Damaged)), 2);
        check::<PlanError>(PlanError::BlockLength { len: 0 }, 0);
        check::<io::Error>(read, 1);
        check::<KeyError>(KeyError::EmptyPassphrase { path: None }, 0);
        check::<io::Error>(OpenError::Medium(io), 2);
        check::<DecodeError>(OpenError::Malformed(malformed), 1);
        check::<UnlockError>(OpenError::Locked(UnlockError::Damaged), 1);
        check::<OpenError>(OpenError::KeyNeeded, 0);
        check::<io::Error>(HandleError::from(denied()), 1);
        check::<io::Error>(tree, 1);
    }
}
