//! Failures of stages: the error names the stage, the pipe stops, and an incomplete stream never
//! looks complete.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datapipe::InstanceId;
use datapipe::prelude::*;
use datapipe::stage::StageError;
use datapipe::testkit::{Collected, collect, fail_at, numbers, panic_at, pass};

use crate::fixture::{all, small};

#[test]
fn failure_names_its_stage_and_frees_every_buffer() {
    let run = |bad: MiddleStage<'static>| {
        let got = Collected::default();
        let result = small()
            .head(numbers(1_000_000))
            .stage(pass(1).instances(2))
            .stage(bad.instances(3))
            .stage(pass(2).instances(2))
            .tail(collect(&got))
            .run();
        assert!(!got.finished(), "the tail does not finish");
        assert_eq!(
            got.numbers(),
            all(got.numbers().len() as u64),
            "earlier blocks are whole and in order"
        );
        result.unwrap_err()
    };
    let failed = run(fail_at(77)).to_string();
    assert!(failed.starts_with("stage \"fail\" (instance "), "{failed}");
    assert!(
        failed.ends_with(" of 3): failed at 77, as asked"),
        "{failed}"
    );
    let panicked = run(panic_at(33));
    let Error::Stage(failure) = &panicked else {
        panic!("{panicked}")
    };
    assert!(failure.error.is_panic());
    assert!(panicked.to_string().contains("panicked: "), "{panicked}");
    let inline = run(panic_at(5).inline()).to_string();
    assert!(inline.contains("panicked as asked"), "{inline}");
}

#[test]
fn head_and_tail_failures_are_reported() {
    struct Bad;
    impl Read for Bad {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is on fire"))
        }
    }
    impl Write for Bad {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the tape is torn"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = small()
        .head(StreamHead::new(Bad))
        .tail(collect(&Collected::default()))
        .run()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "stage \"stream-head\": cannot read the source at byte 0: the disk is on fire"
    );
    let error = small()
        .head(numbers(9))
        .tail(StreamTail::new(Bad))
        .run()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "stage \"stream-tail\": cannot write to the destination at byte 0: the tape is torn"
    );
}

/// The other head first sent all it had, and would have continued for ever.
#[test]
fn first_failure_stops_inline_stages() {
    struct Endless(u32);
    impl Head for Endless {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            if self.0 == 0 {
                return Err(StageError::new("no such disk"));
            }
            block.put(&[1])?;
            Ok(Fill::Block)
        }
    }
    let head = Stage::head("endless", |id| Endless(id.index()))
        .instances(2)
        .inline();
    let tail: TailStage<'_> = StreamTail::new(std::io::sink()).into();
    let error = small()
        .head(head)
        .tail(tail.inline())
        .run()
        .unwrap_err()
        .to_string();
    assert_eq!(error, "stage \"endless\" (instance 1 of 2): no such disk");
}

#[test]
fn panics_in_factories_and_destructors_are_reported() {
    struct Bomb(&'static str);
    impl InPlace for Bomb {
        fn transform(&mut self, _: &mut Block) -> Result<Verdict, StageError> {
            if self.0 == "work" {
                Err(StageError::new("the real cause"))
            } else {
                Ok(Verdict::Send)
            }
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    for (at, text) in [("work", "the real cause"), ("drop", "panicked: dropped")] {
        for inline in [false, true] {
            let bomb = Stage::in_place("bomb", move |_| Bomb(at));
            let bomb = if inline { bomb.inline() } else { bomb };
            let pipe = small()
                .head(numbers(3))
                .stage(bomb)
                .tail(StreamTail::new(std::io::sink()));
            let pipe = pipe.start().unwrap();
            while pipe.status_every(Duration::from_millis(50)).is_some() {}
            assert_eq!(
                pipe.wait().unwrap_err().to_string(),
                format!("stage \"bomb\": {text}"),
                "inline: {inline}"
            );
        }
    }
    let factory = Stage::in_place("factory", |_| -> Bomb { panic!("no license") });
    let error = small()
        .head(numbers(3))
        .stage(factory)
        .tail(StreamTail::new(std::io::sink()))
        .run()
        .unwrap_err();
    assert_eq!(error.to_string(), "stage \"factory\": panicked: no license");
}

/// The pipe waited for such a loop for ever. With a short stream, the error was corrupt shared
/// memory.
#[test]
fn early_return_of_a_port_loop_is_reported() {
    let text =
        "the stage broke the rules of its port: the stage returned before the end of its input";
    for blocks in [2, 100_000] {
        let early = Stage::tail_port("early", |port| Ok(port.receive().map(drop)?));
        let error = small()
            .head(numbers(blocks))
            .tail(early)
            .run()
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("stage \"early\": {text}"));
        let early = Stage::port("early", |port| Ok(port.receive().map(drop)?));
        let got = Collected::default();
        let error = small()
            .head(numbers(blocks))
            .stage(early)
            .tail(collect(&got))
            .run()
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("stage \"early\": {text}"));
    }
}

/// A stage that ran a pipe of its own and returned its error took over the error of the inner
/// stage's port, as if it had broken the rules of its own port: names and text were lost.
#[test]
fn error_of_an_inner_pipe_keeps_its_stage_and_text() {
    struct RunsPipe;
    impl Head for RunsPipe {
        fn fill(&mut self, _: &mut Block) -> Result<Fill, StageError> {
            let early = Stage::tail_port("inner", |port| Ok(port.receive().map(drop)?));
            small().head(numbers(2)).tail(early).run()?;
            Ok(Fill::End)
        }
    }
    let error = small()
        .head(Stage::head("outer", |_| RunsPipe))
        .tail(StreamTail::new(std::io::sink()))
        .run()
        .unwrap_err();
    let text = "stage \"outer\": stage \"inner\": the stage broke the rules of its port: the stage \
                returned before the end of its input";
    assert_eq!(error.to_string(), text);
    let Error::Stage(failure) = error else {
        panic!("{error:?}");
    };
    let cause = failure.error.source().expect("the error of the inner pipe");
    assert!(cause.is::<Error>(), "{cause:?}");
}

/// The content of a block that was returned with `Fill::End` was dropped, and the run reported
/// success.
#[test]
fn filled_block_at_the_end_is_an_error() {
    struct Careless(bool);
    impl Head for Careless {
        fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
            block.put(&[7; 100])?;
            Ok(if std::mem::replace(&mut self.0, true) {
                Fill::End
            } else {
                Fill::Block
            })
        }
    }
    let error = small()
        .head(Careless(false))
        .tail(StreamTail::new(std::io::sink()))
        .run()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("returned Fill::End with 100 bytes in the block"),
        "{error}"
    );
}

/// A tail that had seen the end finished, and then another instance of the same stage failed at its
/// last block.
#[test]
fn tail_finishes_only_if_every_instance_succeeds() {
    struct Half {
        instance: InstanceId,
        finished: Collected,
        broken: Arc<Mutex<bool>>,
        inline: bool,
    }
    impl Tail for Half {
        fn write(&mut self, _: &Block) -> Result<(), StageError> {
            if self.instance.index() == 0 {
                *self.broken.lock().unwrap() = true;
                std::thread::sleep(Duration::from_millis(30));
                return Err(StageError::new("this drive is broken"));
            }
            // Wait, so that the other instance takes a block, too.
            while !self.inline && !*self.broken.lock().unwrap() {
                std::thread::yield_now();
            }
            Ok(())
        }
        fn finish(&mut self) -> Result<(), StageError> {
            self.finished.finish();
            Ok(())
        }
    }
    let run = |inline: bool| {
        let finished = Collected::default();
        let broken = Arc::default();
        let half = |instance| Half {
            instance,
            finished: finished.clone(),
            broken: Arc::clone(&broken),
            inline,
        };
        let tail = Stage::tail("drive", half).instances(2);
        let tail = if inline { tail.inline() } else { tail };
        let head = if inline {
            numbers(6).inline()
        } else {
            numbers(6)
        };
        let error = small().head(head).tail(tail).run().unwrap_err().to_string();
        assert_eq!(
            error,
            "stage \"drive\" (instance 1 of 2): this drive is broken"
        );
        assert!(!finished.finished(), "inline: {inline}");
    };
    run(false);
    run(true);
}

/// 5,000 bytes were written, 4,096 arrived, and the run reported success.
#[test]
fn block_writer_dropped_with_data_fails_its_stage() {
    let run = |finish: bool| {
        let mut back = Vec::new();
        let head = Stage::head_port("writer", move |port| {
            let mut writer = BlockWriter::new(port);
            writer.write_all(&[7; 5000])?;
            if finish { writer.finish() } else { Ok(()) }
        });
        let result = small().head(head).tail(StreamTail::new(&mut back)).run();
        (result.map_err(|error| error.to_string()), back.len())
    };
    assert!(
        run(false)
            .0
            .unwrap_err()
            .contains("a writer was dropped before it had sent")
    );
    let (result, len) = run(true);
    assert!(result.is_ok() && len == 5000);
}

#[test]
fn stop_through_a_block_writer_stays_a_stop() {
    let head = Stage::head_port("writer", |port| {
        let mut writer = BlockWriter::new(port);
        loop {
            if let Err(error) = writer.write_all(&[7; 5000]) {
                let error = StageError::from(error);
                assert!(error.is_stopped(), "{error}");
                return Err(error);
            }
        }
    });
    let pipe = small()
        .head(head)
        .tail(StreamTail::new(std::io::sink()))
        .start()
        .unwrap();
    pipe.cancel();
    assert!(matches!(pipe.wait(), Err(Error::Cancelled)));
}

/// A stage whose drop takes long has given its seat back, but its error comes later. The others
/// wait for it all the time.
#[test]
fn late_error_of_a_stage_is_not_taken_for_corruption() {
    struct Slow;
    impl InPlace for Slow {
        fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
            match block.number().get() {
                5 => Err(StageError::new("no more")),
                _ => Ok(Verdict::Send),
            }
        }
    }
    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(1200)); // several checks of the controller
        }
    }
    let stage = Stage::in_place("slow", |_| Slow);
    let pipe = small().head(numbers(1_000_000)).stage(stage);
    let error = pipe.tail(collect(&Collected::default())).run().unwrap_err();
    assert_eq!(error.to_string(), "stage \"slow\": no more");
}
