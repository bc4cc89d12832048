//! Deadlock: a pipe in which each stage waits for another ends, and the error says for what each
//! waits.

use datapipe::prelude::*;
use datapipe::testkit::{Collected, collect, gather, numbers};
use datapipe::{Deadlock, WaitsFor};

/// Runs a pipe with 4 buffers in which a stage gathers 8, and declares that it holds `declared`.
fn gathers(declared: u32, got: &Collected) -> Result<Report, Error> {
    let pipe = Pipe::builder()
        .buffer_size(512)
        .buffers(4)
        .head(numbers(100));
    pipe.stage(gather(8).holds_in(declared))
        .tail(collect(got))
        .run()
}

#[test]
fn stage_holding_more_than_declared_is_reported() {
    let got = Collected::default();
    let error = gathers(1, &got).unwrap_err();
    assert_eq!(
        error.to_string(),
        "every stage of the pipe waits for another: \"numbers\" for a buffer, \
         \"gather\" for input with 4 inputs in hand, \"collect\" for input; \
         \"gather\" keeps more than it says, holds_in 1 and holds_out 0"
    );
    let Error::Deadlock(Deadlock { waiting, .. }) = error else {
        panic!("{error}")
    };
    let gather = &waiting[1];
    assert_eq!(
        (gather.stage.as_str(), gather.position, gather.instances),
        ("gather", 1, 1)
    );
    assert_eq!(
        (gather.waits_for, gather.inputs, gather.outputs),
        (WaitsFor::Input, 4, 0)
    );
    assert!(gather.keeps_more && !waiting[0].keeps_more && !waiting[2].keeps_more);
    assert_eq!((gather.holds_in, gather.holds_out), (1, 0));
    assert!(got.numbers().is_empty());
}

#[test]
fn stage_declaring_what_it_holds_is_rejected_or_runs() {
    let got = Collected::default();
    let refused = gathers(8, &got).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    let pipe = Pipe::builder().buffer_size(512).head(numbers(100));
    pipe.stage(gather(8)).tail(collect(&got)).run().unwrap();
    assert_eq!(got.numbers(), (0..100).collect::<Vec<_>>());
}

/// A stage that needs a buffer for each input.
struct Copy;

impl Transform for Copy {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        output.put(input.bytes())?;
        Ok(Verdict::Send)
    }
}

#[test]
fn deadlock_report_sums_up_instances() {
    let got = Collected::default();
    let pipe = Pipe::builder()
        .buffer_size(512)
        .buffers(12)
        .head(numbers(1000).inline());
    let pipe = pipe
        .stage(Stage::transform("copy", |_| Copy).instances(3))
        .stage(gather(20).holds_in(1))
        .tail(collect(&got).inline());
    let error = pipe.run().unwrap_err();
    let Error::Deadlock(Deadlock { waiting, .. }) = error else {
        panic!("{error}")
    };
    let reported: Vec<_> = waiting
        .iter()
        .map(|w| (w.position, w.instances, w.waits_for, w.inputs))
        .collect();
    // The gatherer has the blocks that arrived in order. Each copying instance has an input and no
    // buffer for its copy.
    let gathered = reported[2].3;
    assert!((2..=6).contains(&gathered), "{reported:?}");
    let (buffer, input) = (WaitsFor::Buffer, WaitsFor::Input);
    assert_eq!(
        reported,
        [
            (0, 1, buffer, 0),
            (1, 3, buffer, 3),
            (2, 1, input, gathered),
            (3, 1, input, 0)
        ]
    );
}
