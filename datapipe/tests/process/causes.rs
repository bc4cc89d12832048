//! Causes of errors in processes: each crosses with its text and its system code.

use std::error::Error as StdError;
use std::fs::OpenOptions;
use std::{fmt, io};

use datapipe::error::ProcessCause;
use datapipe::host::Modules;
use datapipe::prelude::*;

const MODULE: &str = "test.broken-settings";

/// An error of an adopter, whose text does not include its cause.
#[derive(Debug)]
struct Context(&'static str, Box<dyn StdError + Send + Sync>);

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Context {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.1.as_ref())
    }
}

struct Broken;

impl Analyze for Broken {
    fn analyze(&mut self, _: &[u8], _: &mut BlockInfo) -> Result<(), StageError> {
        let root = io::Error::from_raw_os_error(2);
        let middle = Context("cannot read the settings", Box::new(root));
        Err(Context("the scanner did not start", Box::new(middle)).into())
    }
}

fn broken() -> MiddleStage<'static> {
    Stage::analyze("broken", |_| Broken).module(MODULE, "")
}

/// Adds the modules of this file.
pub(crate) fn add(modules: Modules) -> Modules {
    modules.with(MODULE, |_| Ok(broken()))
}

/// Returns the texts of an error and all its causes.
fn texts(error: &Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts
}

pub(crate) fn causes_cross_with_their_texts_and_codes() {
    let run = |stage: MiddleStage<'static>| {
        let head = StreamHead::new(&b"some data"[..]);
        let pipe = Pipe::builder().head(head).stage(stage);
        pipe.tail(StreamTail::new(io::sink())).run().unwrap_err()
    };
    let (thread, process) = (run(broken()), run(broken().in_processes()));
    let all = "stage \"broken\": the scanner did not start: cannot read the settings: \
               No such file or directory (os error 2)";
    assert_eq!(
        texts(&thread),
        [
            all,
            all,
            "the scanner did not start",
            "cannot read the settings",
            "No such file or directory (os error 2)",
        ]
    );
    assert_eq!(texts(&process), texts(&thread));
    for error in [thread, process] {
        let Error::Stage(failure) = error else {
            panic!("{error}");
        };
        assert_eq!(failure.error.raw_os_error(), Some(2));
        let kind = failure.error.io_error_kind();
        assert_eq!(kind, Some(io::ErrorKind::NotFound));
    }
}

pub(crate) fn full_destination_in_a_process_keeps_its_system_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let tail = TailStage::from(StreamTail::file(full)).in_processes();
    let head = StreamHead::new(&b"some data"[..]);
    let error = Pipe::builder().head(head).tail(tail).run().unwrap_err();
    assert_eq!(
        error.to_string(),
        "stage \"stream-tail\": cannot write to the destination at byte 0: \
         No space left on device (ENOSPC)"
    );
    let cause = error.source().and_then(StdError::source).unwrap();
    let cause = cause.downcast_ref::<ProcessCause>().unwrap();
    assert_eq!(cause.raw_os_error(), Some(28));
    assert_eq!(cause.kind(), Some(io::ErrorKind::StorageFull));
}
