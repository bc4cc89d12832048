//! Logs of stages: the findings of an inspection on threads and inline. `process/logs.rs` has the
//! same in processes.

use std::io;

use datapipe::prelude::*;

/// Marks blocks that contain a zero, and rejects those that begin with one.
struct Zeros;

impl Inspect for Zeros {
    fn inspect(&mut self, data: &[u8], _: &BlockInfo) -> Result<Finding, StageError> {
        Ok(match data.iter().position(|&byte| byte == 0) {
            Some(0) => Finding::Reject,
            Some(_) => Finding::Mark,
            None => Finding::Pass,
        })
    }
}

fn pipe(stage: MiddleStage<'static>) -> PipeBuilder<'static> {
    // Blocks of 4,096 bytes: clean, with a zero, clean, beginning with a zero.
    let mut data = vec![1; 4 * 4096];
    (data[5000], data[3 * 4096]) = (0, 0);
    Pipe::builder()
        .buffer_size(4096)
        .head(StreamHead::new(io::Cursor::new(data)))
        .stage(stage)
        .tail(StreamTail::new(io::sink()))
}

#[test]
fn log_has_the_findings_of_all_instances() {
    let inspect = |log: &InspectionLog| Stage::inspect("zeros", log, |_| Zeros);
    for make in [
        (|stage| stage) as fn(MiddleStage<'static>) -> MiddleStage<'static>,
        |stage| stage.instances(3),
        Stage::inline,
    ] {
        let log = InspectionLog::new();
        pipe(make(inspect(&log))).run().unwrap();
        let outcome = log.snapshot();
        assert_eq!((outcome.marked, outcome.rejected), (vec![1], vec![3]));
        assert_eq!((outcome.marked_count, outcome.rejected_count), (1, 1));
        assert_eq!(outcome.fault, None);
    }
}

#[test]
fn inspection_without_a_module_cannot_run_in_processes() {
    let stage = Stage::inspect("zeros", &InspectionLog::new(), |_| Zeros).in_processes();
    let error = pipe(stage).run().unwrap_err().to_string();
    assert!(
        error.contains("stage \"zeros\" cannot run in processes: no module is named"),
        "{error}"
    );
}
