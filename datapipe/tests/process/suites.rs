//! The suites of the testkit with processes, on good and bad stages.

use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use datapipe::host::Modules;
use datapipe::prelude::*;
use datapipe::testkit::{Suite, check_stage};

use crate::stages::{content, counting};

/// Runs a suite that must fail, and returns its message.
pub(crate) fn failure(suite: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(suite)).expect_err("the suite must fail");
    panic.downcast_ref::<String>().expect("a text").clone()
}

fn blocks() -> Vec<Vec<u8>> {
    (0..40).map(content).collect()
}

/// Adds a byte to each block of a loop, in processes `added` and otherwise 1.
fn adding(byte: u8) -> MiddleStage<'static> {
    Stage::port("adding", move |port| {
        while let Some(mut block) = port.receive()? {
            block.put(&[byte])?;
            port.forward(block)?;
        }
        Ok(())
    })
    .holds_out(0)
}

/// A tail that writes to a file at a path.
fn filing(path: &Path) -> TailStage<'static> {
    let text = path.to_str().unwrap().to_owned();
    let file = fs::File::create(path).unwrap();
    TailStage::from(StreamTail::new(file)).module("test.filing", text)
}

/// Changes the first byte of each block to the number of blocks so far, and is not declared
/// stateful.
struct Counter(u8);

impl InPlace for Counter {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        self.0 += 1;
        block.bytes_mut()[0] = self.0;
        Ok(Verdict::Send)
    }
}

/// Adds the modules of this file.
pub(crate) fn add(modules: Modules) -> Modules {
    modules
        .with("test.adding", |call| Ok(adding(call.text()?.parse()?)))
        .with("test.filing", |call| Ok(filing(Path::new(call.text()?))))
        .with("test.counter", |_| {
            Ok(Stage::in_place("counter", |_| Counter(0)))
        })
}

pub(crate) fn suites_of_good_stages_pass_in_processes() {
    let suite = Suite::with_processes();
    let head = || counting(40, &Arc::default()).module("test.counting", "40");
    // The longest block of the head has 540 bytes.
    suite
        .clone()
        .buffer_sizes([1024, 65_536])
        .head(&blocks().concat(), head);
    let added = suite.port(&blocks(), || adding(1).module("test.adding", "1"));
    assert_eq!(added[3], [content(3), vec![1]].concat());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    suite.tail(&blocks(), || filing(&path), || fs::read(&path).unwrap());
}

pub(crate) fn suites_of_bad_stages_fail_in_processes() {
    let suite = Suite::with_processes();
    // The process makes another head than the thread.
    let head = || counting(40, &Arc::default()).module("test.counting", "39");
    let suite_of_heads = suite.clone().buffer_sizes([1024]);
    let text = failure(|| suite_of_heads.head(&blocks().concat(), head));
    assert!(text.contains("count, in a process"), "{text}");
    assert!(text.contains("a head gives its data in order"), "{text}");

    let text = failure(|| drop(suite.port(&blocks(), || adding(1).module("test.adding", "2"))));
    assert!(text.contains("adding, in a process"), "{text}");
    assert!(text.contains("02 instead of 01"), "{text}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let other = dir.path().join("other").to_str().unwrap().to_owned();
    let tail = || filing(&path).module("test.filing", other.clone());
    let text = failure(|| suite.tail(&blocks(), tail, || fs::read(&path).unwrap()));
    assert!(text.contains("in a process"), "{text}");
    assert!(text.contains("a tail writes its data in order"), "{text}");

    let counter = || Stage::in_place("counter", |_| Counter(0)).module("test.counter", "");
    let text = failure(|| drop(check_stage(&blocks(), counter)));
    assert!(text.contains("depends on this block only"), "{text}");
}

/// A stage that cannot be made in a process does not pass as if it could.
pub(crate) fn suites_demand_a_module() {
    let suite = Suite::with_processes();
    let text = failure(|| drop(suite.port(&blocks(), || adding(1))));
    assert!(
        text.contains("the stage can be made in a process"),
        "{text}"
    );
    assert!(text.contains("it names no module"), "{text}");
    let text = failure(|| suite.head(b"data", || StreamHead::new(Cursor::new(b"data"))));
    assert!(
        text.contains("the stage can be made in a process"),
        "{text}"
    );
}
