//! Causes of errors: the pipe's error leads to what a stage of an adopter met.

use std::error::Error as StdError;
use std::fs::OpenOptions;
use std::{fmt, io};

use datapipe::prelude::*;

/// An error type as those of anyhow and eyre: every error converts into it, it converts into a
/// boxed error, and it does not implement `Error`.
struct Anyhow(Box<dyn StdError + Send + Sync>);

impl<E: StdError + Send + Sync + 'static> From<E> for Anyhow {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl From<Anyhow> for Box<dyn StdError + Send + Sync> {
    fn from(Anyhow(error): Anyhow) -> Self {
        error
    }
}

/// An error with a context, whose text does not include its cause.
#[derive(Debug)]
struct Context(&'static str, io::Error);

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Context {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.1)
    }
}

fn settings() -> Result<(), Anyhow> {
    Err(Context(
        "cannot read the settings",
        io::Error::from_raw_os_error(2),
    ))?
}

/// Runs a pipe with a stage that returns this error.
fn run(error: impl Fn() -> Result<(), StageError> + Send + Sync) -> Error {
    let stage = Stage::port("broken", |port| {
        port.receive()?;
        error()
    });
    Pipe::builder()
        .head(StreamHead::new(&b"some data"[..]))
        .stage(stage)
        .tail(StreamTail::new(io::sink()))
        .run()
        .unwrap_err()
}

/// Returns the first cause of this type.
fn find<T: StdError + 'static>(error: &Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[test]
fn error_of_another_crate_keeps_its_chain() {
    let error = run(|| settings().map_err(|error| StageError::from_boxed(error.into())));
    assert_eq!(
        error.to_string(),
        "stage \"broken\": cannot read the settings: No such file or directory (os error 2)"
    );
    assert!(find::<Context>(&error).is_some());
    assert_eq!(find::<io::Error>(&error).unwrap().raw_os_error(), Some(2));
    let printed = error.to_string();
    assert_eq!(printed.matches("os error 2").count(), 1, "{printed}");
}

#[test]
fn message_keeps_its_source() {
    let error = run(|| {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        Err(StageError::with_source("cannot open the scanner", denied))
    });
    assert_eq!(
        error.to_string(),
        "stage \"broken\": cannot open the scanner: permission denied"
    );
    let denied = find::<io::Error>(&error).unwrap();
    assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn full_destination_keeps_its_system_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = Pipe::builder()
        .head(StreamHead::new(&b"some data"[..]))
        .tail(StreamTail::new(full))
        .run()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "stage \"stream-tail\": cannot write to the destination at byte 0: \
         No space left on device (ENOSPC)"
    );
    let full = find::<io::Error>(&error).unwrap();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn stop_through_a_writer_is_not_a_failure_with_a_cause() {
    // The head fails in a write that the stop has ended; the tail is at fault.
    let head = Stage::head_port("writer", |port| {
        let mut writer = BlockWriter::new(port);
        loop {
            io::Write::write_all(&mut writer, &[7; 4096])
                .map_err(|error| StageError::with_source("cannot write", error))?;
        }
    });
    let tail = Stage::tail_port("tail", |_| Err(StageError::new("no more space")));
    let error = Pipe::builder().head(head).tail(tail).run().unwrap_err();
    assert_eq!(error.to_string(), "stage \"tail\": no more space");
}

#[test]
fn stage_error_converts_into_errors_of_other_crates() {
    fn boxed() -> Result<(), Box<dyn StdError>> {
        Ok(failed()?)
    }
    fn anyhow() -> Result<(), Anyhow> {
        Ok(failed().map_err(StageError::into_error)?)
    }
    fn failed() -> Result<(), StageError> {
        "x".parse::<u8>()?;
        Ok(())
    }
    for error in [boxed().unwrap_err(), anyhow().err().unwrap().0] {
        assert!(error.source().unwrap().is::<std::num::ParseIntError>());
    }
}
